"""`keras.applications.resnet50`: the one network, and its functions."""

from keras_resnet.applications.resnet import ResNet50, decode_predictions, preprocess_input

__all__ = ["ResNet50", "decode_predictions", "preprocess_input"]
