"""Weights of finished networks: published ones by name, files of several frameworks, checks."""

from keras_resnet.weights.files import find_weights, load_weights, save_torch_weights
from keras_resnet.weights.registry import PRETRAINED, Preprocessing, PretrainedWeights
from keras_resnet.weights.transfer import assign_weights, copy_weights, layer_weights

__all__ = [
    "PRETRAINED",
    "Preprocessing",
    "PretrainedWeights",
    "assign_weights",
    "copy_weights",
    "find_weights",
    "layer_weights",
    "load_weights",
    "save_torch_weights",
]
