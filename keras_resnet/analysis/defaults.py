"""Defaults of comparisons and timings. Light to import: no Keras, no TensorFlow."""

# Depth with shortcuts, against the networks before and after it.
DEFAULT_MODELS = (
    *("ResNet18", "ResNet34", "ResNet50", "ResNet101", "ResNet152"),
    *("VGG16", "VGG19", "InceptionV3", "Xception", "DenseNet121", "DenseNet201"),
    *("MobileNet", "MobileNetV2", "EfficientNetB0"),
)
# Forms of a network that are timed, and batches of each.
FORMS = ("keras", "saved_model", "tflite", "onnx")
ROUNDS = 20
