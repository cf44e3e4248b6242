"""Calls that `keras.applications` accepts or refuses, and published weights by name."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
from keras.src.applications.resnet import BASE_WEIGHTS_PATH, WEIGHTS_HASHES

import keras_resnet
from keras_resnet import applications
from keras_resnet.applications import densenet, resnet, resnet50, resnet_v2
from keras_resnet.utils import download
from keras_resnet.weights import PretrainedWeights
from tests.applications.conftest import SHAPE, drawn
from tests.helpers import distance

MODULES = {"resnet": resnet, "resnet50": resnet50, "resnet_v2": resnet_v2, "densenet": densenet}
SIZED = {"weights": None, "input_shape": (32, 32, 3)}


def public(module):
    return {name for name in dir(module) if callable(getattr(module, name)) and name[0] != "_"}


@pytest.mark.parametrize("name", MODULES)
def test_names_and_signatures_are_theirs(name):
    theirs = getattr(keras.applications, name)
    assert set(MODULES[name].__all__) == public(theirs)
    for function in MODULES[name].__all__:
        found, expected = (getattr(module, function) for module in (MODULES[name], theirs))
        parameters, others = (inspect.signature(f).parameters for f in (found, expected))
        assert list(parameters) == list(others)
        assert [p.default for p in parameters.values()] == [p.default for p in others.values()]
        assert found is expected or getattr(applications, function) is found


def uint8():
    return keras.Input((64, 48, 3), dtype="uint8")


@pytest.mark.parametrize(
    ("args", "options"),
    [
        # All by position, and a pooling with the top.
        ((1, None, None, (32, 32, 3), "max", 10, "sigmoid", "mine"), {}),
        # Without the top the rest is not looked at.
        ((0,), {"weights": None, "pooling": "?", "classes": 3, "classifier_activation": "?"}),
        ((False, None, uint8, (99, 99, 3)), {"pooling": "avg"}),
        ((), {"weights": None, "input_shape": (40, 32, 1), "classes": 2}),
    ],
    ids=["by position", "without the top", "on a tensor", "gray"],
)
def test_accepted_calls(args, options):
    built = []
    for package in (keras.applications, applications):
        given = [arg() if callable(arg) else arg for arg in args]
        built.append(package.ResNet50(*given, **options))
    theirs, ours = built
    for attribute in ("input_shape", "output_shape"):
        assert getattr(ours, attribute) == getattr(theirs, attribute)
    assert ours.count_params() == theirs.count_params()
    # Theirs is a list where a tensor was given, and Keras warns of one image batch then.
    assert ours.inputs[0].dtype == theirs.inputs[0].dtype
    assert args[-1:] != ("mine",) or ours.name == theirs.name == "mine"


@pytest.mark.parametrize(
    "options",
    [
        {"weights": "missing.h5"},
        {"weights": "imagenet", "classes": 10},
        {"weights": "imagenet", "input_shape": (200, 200, 3)},
        {"weights": "imagenet", "input_shape": (64, 64, 1), "include_top": False},
        {"weights": None, "input_shape": (31, 31, 3)},
        {"weights": None, "input_shape": (64, 64), "include_top": False},
        {"weights": None, "input_shape": (None, None, 3)},
        {**SIZED, "classifier_activation": "sotfmax"},
        {**SIZED, "classes": -1},
    ],
    ids=str,
)
def test_refused_calls(options):
    for package in (keras.applications, applications):
        with pytest.raises(ValueError, match="."):
            package.ResNet50(**options)


def test_activations_that_do_not_go_with_weights(tmp_path):
    (tmp_path / "any.h5").write_bytes(b"")
    options = {"weights": tmp_path / "any.h5", "input_shape": (32, 32, 3)}
    for package in (keras.applications, applications):
        with pytest.raises(ValueError, match="Received: classifier_activation="):
            package.ResNet50(**options, classifier_activation="relu")
        with pytest.raises(TypeError):
            package.ResNet50(version="v2")


def test_a_tensor_of_the_callers():
    """Layers in front, of integers too, belong to the model."""
    images = keras.Input((48, 40, 3), dtype="uint8")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(images)
    model = applications.ResNet50V2(False, None, scaled, pooling="max")
    assert model.input is images and model.output_shape == (None, 2048)
    photos = np.random.default_rng(0).integers(0, 256, (2, 48, 40, 3)).astype("uint8")
    bare = applications.ResNet50V2(False, None, pooling="max")
    bare.set_weights(model.get_weights())
    prepared = resnet_v2.preprocess_input(photos.astype("float32"))
    assert distance(model(photos), bare(prepared)) < 1e-5


def test_imagenet_by_default(monkeypatch, tmp_path):
    theirs = drawn("ResNet50V2", input_shape=SHAPE)
    theirs.save_weights(tmp_path / "published.weights.h5")
    fetched = []

    def fetch(self):
        fetched.append(self.name)
        return tmp_path / "published.weights.h5"

    monkeypatch.setattr(PretrainedWeights, "fetch", fetch)
    model = applications.ResNet50V2()
    assert fetched == ["keras/resnet50v2"]
    assert model.input_shape == (None, 224, 224, 3)
    for value, other in zip(model.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)


def test_published_weights_are_those_of_keras(monkeypatch):
    """The address and the checksum that Keras's source has."""
    asked = []

    def fetch(url, path, md5, kept=None):
        asked.append((url, md5))
        raise OSError("no network")

    monkeypatch.setattr(download, "fetch", fetch)
    for depth in (50, 101, 152):
        for kind in ("", "V2"):
            with pytest.raises(OSError, match="no network"):
                getattr(applications, f"ResNet{depth}{kind}")()
            name = f"resnet{depth}{kind.lower()}"
            file = f"{name}_weights_tf_dim_ordering_tf_kernels.h5"
            assert asked[-1] == (BASE_WEIGHTS_PATH + file, WEIGHTS_HASHES[name][0])
    for depth in (121, 169, 201):
        with pytest.raises(OSError, match="no network"):
            getattr(applications, f"DenseNet{depth}")()
        weights = keras_resnet.weights.PRETRAINED[f"keras/densenet{depth}"]
        assert asked[-1] == (weights.url, weights.md5)
