"""A warning of images in another range than the weights expect: once, and nowhere else."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet import ImageRangeWarning
from keras_resnet.network import warn_of_range
from keras_resnet.preprocessing import KERAS_CAFFE, KERAS_TF, Preprocessing

SHAPE = (16, 16, 3)
# Images as people have them.
PIXELS = np.random.default_rng(0).integers(0, 256, (4, *SHAPE)).astype("float32")
IMAGES = {
    "pixels": PIXELS,
    "bytes": PIXELS.astype("uint8"),
    "[0, 1]": PIXELS / 255,
    "[-1, 1]": PIXELS / 127.5 - 1,
    "imagenet": Preprocessing().standardize(PIXELS),
    "caffe": KERAS_CAFFE.standardize(PIXELS),
}
# What weights may want, and which of these are right or at least not wrong for certain.
WANTED = {
    "inside": (None, {"pixels", "bytes"}),
    "imagenet": (Preprocessing(), {"imagenet", "[-1, 1]"}),
    "caffe": (KERAS_CAFFE, {"caffe"}),
    "tf": (KERAS_TF, {"[-1, 1]"}),
    "[0, 1]": (Preprocessing((0.0,) * 3, (255.0,) * 3), {"[0, 1]"}),
}


def network(wanted=None, **options):
    model = keras_resnet.CifarResNet(
        8, input_shape=SHAPE, include_preprocessing=wanted is None, **options
    )
    if wanted is not None:
        model.remember(dataclasses.replace(model.network, preprocessing=wanted))
    return model


@pytest.fixture(scope="module")
def models():
    return {name: network(wanted) for name, (wanted, _) in WANTED.items()}


@contextlib.contextmanager
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("wanted", WANTED)
def test_right_and_wrong_ranges(models, wanted, images):
    model = models[wanted]
    model._warned = False
    if images in WANTED[wanted][1]:
        with no_warning():
            model(IMAGES[images])
        return
    with pytest.warns(
        ImageRangeWarning, match=r"resnet8 expects .* Received: images of "
    ) as caught:
        model(IMAGES[images])
    assert caught[0].filename == __file__
    with no_warning():  # once
        model(IMAGES[images])


def test_every_way_of_giving_images():
    labels = np.zeros(4, "int32")
    ways = [
        lambda model: model.predict(IMAGES["[0, 1]"], verbose=0),
        lambda model: model.evaluate(IMAGES["[0, 1]"], labels, verbose=0),
        lambda model: model.fit(x=IMAGES["[0, 1]"], y=labels, verbose=0),
        lambda model: model(tf.constant(IMAGES["[0, 1]"]), training=True),
    ]
    model = network(KERAS_CAFFE)
    model.compile("sgd", "sparse_categorical_crossentropy")
    for way in ways:
        model._warned = False
        with pytest.warns(ImageRangeWarning, match="applications.resnet.preprocess_input"):
            way(model)
        with no_warning():
            way(model)


def test_nothing_is_said_where_nothing_is_known():
    wrong = IMAGES["[0, 1]"]
    unknown = keras_resnet.CifarResNet(8, input_shape=SHAPE)
    inputs = keras.Input(SHAPE)
    on_tensor = keras_resnet.CifarResNet(
        8, input_tensor=keras.layers.Rescaling(255)(inputs), include_preprocessing=True
    )
    black = np.zeros_like(wrong)
    plain = keras_resnet.CifarResNet(8, input_shape=SHAPE, include_preprocessing=True)
    known = network(KERAS_CAFFE)
    with no_warning():
        unknown(wrong)
        on_tensor(wrong)
        known(black)
        plain(250 + 5 * wrong)  # a wall
        warn_of_range(known, black[:0])
        # A graph has no values, even of a tensor outside that has.
        outside = tf.constant(wrong)
        tf.function(lambda x: known(x))(outside)
        tf.function(lambda: known(outside))()
        known.predict(tf.data.Dataset.from_tensor_slices(wrong).batch(2), verbose=0)


def test_it_can_be_turned_off_and_is_not_saved(tmp_path):
    model = network(KERAS_TF)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=ImageRangeWarning)
        model(IMAGES["pixels"])
    model.save(tmp_path / "model.keras")
    for other in (keras.models.load_model(tmp_path / "model.keras"), network(KERAS_TF)):
        with pytest.warns(ImageRangeWarning):
            other(IMAGES["pixels"])


def test_methods_keep_their_signatures():

    for name in ("fit", "evaluate", "predict", "__call__"):
        found, expected = (getattr(kind, name) for kind in (type(network()), keras.Model))
        assert inspect.signature(found) == inspect.signature(expected)
        assert found.__doc__ == expected.__doc__
