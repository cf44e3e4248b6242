"""Forms of a network."""

from unittest import mock

import keras
import numpy as np
import pytest

from keras_resnet.experiment import forms
from tests.helpers import images, refused


def tiny():
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(2, 3)(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))


def test_forms_give_the_outputs_of_the_network(tmp_path):
    model, x = tiny(), images(2, 6, 6, 3, low=0, high=255)
    opened = forms.open_forms(model, tmp_path, ("tflite", "keras"), image_size=6)
    assert list(opened) == ["tflite", "keras"]
    for form in opened.values():
        np.testing.assert_allclose(form(x), model(x), atol=1e-5)


@pytest.mark.parametrize("wrong", [("pth",), ("keras", "keras")])
def test_wrong_forms_are_refused(tmp_path, wrong):
    with refused("forms", wrong[0]):
        forms.open_forms(tiny(), tmp_path, wrong)
    assert list(tmp_path.iterdir()) == []


def test_forms_of_open_sides_are_timed_at_the_size():
    form = mock.Mock(image_shape=(None, None, 3))
    next(forms.time_forms({"form": form}, [2], image_size="6x8", rounds=3))
    assert {call.args[0].shape for call in form.call_args_list} == {(2, 6, 8, 3)}


def test_a_training_step_needs_class_scores():
    inputs = keras.Input((8, 8, 3))
    maps = keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs))
    with refused("train"):
        next(forms.time_forms({}, [1], trained=maps))
