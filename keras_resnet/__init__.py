"""Deep residual learning for Keras 3: every network of He et al. 2015, built, trained, explained.

import keras_resnet

model = keras_resnet.ResNet50(input_shape=(224, 224, 3))
"""

from keras_resnet.utils.deferral import deferred  # isort: skip, since it handles signals

from typing import TYPE_CHECKING

from keras_resnet import models
from keras_resnet.version import __version__

if TYPE_CHECKING or not deferred(__name__):
    from keras_resnet import applications
    from keras_resnet.models import *  # noqa: F403
    from keras_resnet.models.named import *  # noqa: F403
    from keras_resnet.network import ImageRangeWarning
    from keras_resnet.preprocessing import decode_predictions
    from keras_resnet.surgery import (
        Backbone,
        backbone,
        deepen,
        dilate,
        freeze,
        replace_classifier,
        slim,
        stage_rates,
    )
    from keras_resnet.weights import copy_weights, preprocess_input

__all__ = [
    "Backbone",
    "ImageRangeWarning",
    "__version__",
    "applications",
    "backbone",
    "copy_weights",
    "decode_predictions",
    "deepen",
    "dilate",
    "freeze",
    "preprocess_input",
    "replace_classifier",
    "slim",
    "stage_rates",
    *models.__all__,
]
