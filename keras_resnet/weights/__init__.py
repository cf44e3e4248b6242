"""Weights of trained networks: published ones by name, and files of several frameworks."""

from typing import TYPE_CHECKING

from keras_resnet.utils.deferral import deferred

if TYPE_CHECKING or not deferred(__name__):
    from keras_resnet.preprocessing import Preprocessing
    from keras_resnet.weights.files import find_weights, load_weights, save_torch_weights
    from keras_resnet.weights.registry import PRETRAINED, PretrainedWeights, preprocess_input
    from keras_resnet.weights.saving import load_model, save_model
    from keras_resnet.weights.transfer import assign_weights, copy_weights, layer_weights

__all__ = [
    "PRETRAINED",
    "Preprocessing",
    "PretrainedWeights",
    "assign_weights",
    "copy_weights",
    "find_weights",
    "layer_weights",
    "load_model",
    "load_weights",
    "preprocess_input",
    "save_model",
    "save_torch_weights",
]
