"""Networks of the table as functional Keras models: general builders, named ones, the list."""

from typing import TYPE_CHECKING

from keras_resnet.architectures import ARCHITECTURES
from keras_resnet.utils.deferral import deferred

if TYPE_CHECKING or not deferred(__name__):
    from keras_resnet.models.builders import CifarDenseNet, CifarResNet, CifarWideResNet, build
    from keras_resnet.models.densenet import DenseNet
    from keras_resnet.models.hub import load_model
    from keras_resnet.models.named import *  # noqa: F403
    from keras_resnet.models.resnet import ResNet
    from keras_resnet.models.zoo import ModelInfo, list_models, models_table

__all__ = [
    "CifarDenseNet",
    "CifarResNet",
    "CifarWideResNet",
    "DenseNet",
    "ModelInfo",
    "ResNet",
    "build",
    "list_models",
    "load_model",
    "models_table",
    *ARCHITECTURES,
]
