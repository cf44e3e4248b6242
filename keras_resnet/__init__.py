"""Deep residual learning for Keras 3: every network of He et al. 2015, built, trained, explained.

import keras_resnet

model = keras_resnet.ResNet50(input_shape=(224, 224, 3))
"""

from keras_resnet.deepen import deepen
from keras_resnet.models import (
    CifarResNet,
    PlainNet18,
    PlainNet20,
    PlainNet32,
    PlainNet34,
    PlainNet44,
    PlainNet56,
    PlainNet110,
    ResNet,
    ResNet18,
    ResNet20,
    ResNet32,
    ResNet34,
    ResNet44,
    ResNet50,
    ResNet56,
    ResNet101,
    ResNet110,
    ResNet152,
    ResNet1202,
    build,
)
from keras_resnet.preprocessing import decode_predictions, preprocess_input
from keras_resnet.version import __version__
from keras_resnet.weights import copy_weights

__all__ = [
    "CifarResNet",
    "PlainNet110",
    "PlainNet18",
    "PlainNet20",
    "PlainNet32",
    "PlainNet34",
    "PlainNet44",
    "PlainNet56",
    "ResNet",
    "ResNet101",
    "ResNet110",
    "ResNet1202",
    "ResNet152",
    "ResNet18",
    "ResNet20",
    "ResNet32",
    "ResNet34",
    "ResNet44",
    "ResNet50",
    "ResNet56",
    "__version__",
    "build",
    "copy_weights",
    "decode_predictions",
    "deepen",
    "preprocess_input",
]
