"""Warnings point at the line of the caller of the package."""

from __future__ import annotations

import warnings

import keras
import numpy as np

from keras_resnet.utils.callers import warn_caller
from keras_resnet.weights.saved import warn_unless_finite


def test_a_warning_points_at_the_first_line_outside_of_the_package():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.set_weights([np.full((2, 1), np.nan), np.zeros(1)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_caller("at once", DeprecationWarning)
        warn_unless_finite(model, "deeper")
    assert [one.category for one in caught] == [DeprecationWarning, UserWarning]
    assert [one.filename for one in caught] == [__file__, __file__]
    assert caught[1].lineno == caught[0].lineno + 1
