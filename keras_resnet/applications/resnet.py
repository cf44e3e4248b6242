"""`keras.applications.resnet`: images in BGR, less their mean."""

from keras.applications.resnet import decode_predictions, preprocess_input

from keras_resnet.applications.builders import application
from keras_resnet.weights import PRETRAINED

__all__ = ["ResNet50", "ResNet101", "ResNet152", "decode_predictions", "preprocess_input"]

ResNet50 = application("ResNet50", PRETRAINED["keras/resnet50"], conv_bias=True)
ResNet101 = application("ResNet101", PRETRAINED["keras/resnet101"], conv_bias=True)
ResNet152 = application("ResNet152", PRETRAINED["keras/resnet152"], conv_bias=True)
