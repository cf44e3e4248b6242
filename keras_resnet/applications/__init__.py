"""Networks of `keras.applications` under its names, arguments and conventions.

Put `keras_resnet.applications` in place of `keras.applications` in an import: the networks take
images as that module's `preprocess_input` returns them, and have the same weights in the same order
and the same outputs.
"""

from typing import TYPE_CHECKING

from keras_resnet.utils.deferral import deferred

if TYPE_CHECKING or not deferred(__name__):
    from keras.applications import imagenet_utils

    from keras_resnet.applications import resnet50
    from keras_resnet.applications.densenet import DenseNet121, DenseNet169, DenseNet201
    from keras_resnet.applications.resnet import ResNet50, ResNet101, ResNet152
    from keras_resnet.applications.resnet_v2 import ResNet50V2, ResNet101V2, ResNet152V2

__all__ = [
    "DenseNet121",
    "DenseNet169",
    "DenseNet201",
    "ResNet50",
    "ResNet50V2",
    "ResNet101",
    "ResNet101V2",
    "ResNet152",
    "ResNet152V2",
    "imagenet_utils",
    "resnet50",
]
