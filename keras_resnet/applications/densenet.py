"""`keras.applications.densenet`: images in RGB, less their mean, divided by their deviation."""

from keras.applications.densenet import decode_predictions, preprocess_input

from keras_resnet.applications.builders import application
from keras_resnet.weights import PRETRAINED

__all__ = ["DenseNet121", "DenseNet169", "DenseNet201", "decode_predictions", "preprocess_input"]

DenseNet121 = application("DenseNet121", PRETRAINED["keras/densenet121"])
DenseNet169 = application("DenseNet169", PRETRAINED["keras/densenet169"])
DenseNet201 = application("DenseNet201", PRETRAINED["keras/densenet201"])
