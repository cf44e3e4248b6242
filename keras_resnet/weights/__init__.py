"""Weights of finished networks: reading, checking and moving them between models."""

from keras_resnet.weights.files import load_weights
from keras_resnet.weights.transfer import assign_weights, copy_weights, layer_weights

__all__ = ["assign_weights", "copy_weights", "layer_weights", "load_weights"]
