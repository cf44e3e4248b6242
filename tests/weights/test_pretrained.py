"""The table of published weights, and builders that are given a name in it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import re
import shutil
import sys
import warnings
from unittest.mock import Mock

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.architectures import ARCHITECTURES
from keras_resnet.utils import download
from keras_resnet.weights import PRETRAINED, find_weights, registry, save_torch_weights
from tests.helpers import assert_same_weights, distance, randomize, refused
from tests.servers import serving

# reference: torchvision's and Keras's documentation, and timm's table for 224 pixels.
TOP_1 = {
    "tv_in1k": (69.758, 73.314, 76.130, 77.374, 78.312),
    "tv2_in1k": (None, None, 80.858, 81.886, 82.284),
    "a1_in1k": (71.50, 76.42, 80.38, 81.49, 82.00),
    "keras": (None, None, 74.9, 76.4, 76.6),
}


@pytest.mark.parametrize("recipe", list(TOP_1))
def test_published_accuracies(recipe):
    for depth, top_1 in zip((18, 34, 50, 101, 152), TOP_1[recipe], strict=True):
        name = f"timm/resnet{depth}.{recipe}" if recipe != "keras" else f"keras/resnet{depth}"
        assert (name in PRETRAINED) == (top_1 is not None)
        if top_1:
            assert PRETRAINED[name].metrics[224][0] == pytest.approx(top_1, abs=0.005)


def test_entries_are_complete():
    names = {architecture.lower() for architecture in ARCHITECTURES}
    for name, weights in PRETRAINED.items():
        assert weights.name == name and weights.classes == 1000
        assert weights.network.removesuffix("_v1.5").removesuffix("_first-pool") in names
        assert weights.license in ("Apache-2.0", "BSD-3-Clause", "MIT")
        assert "arxiv" in weights.recipe.lower() or weights.recipe.startswith("https://")
        assert weights.url.startswith("https://") and weights.url.endswith(weights.file)
        assert all(0 < top_1 < top_5 < 100 for top_1, top_5 in weights.metrics.values())
        assert weights.preprocessing.image_size in weights.metrics
        assert weights.preprocessing.interpolation in ("bilinear", "bicubic")
        assert weights.sha256 is None or re.fullmatch("[0-9a-f]{64}", weights.sha256)
        # A file that is on no hub has a checksum here.
        assert "://" not in weights.place or re.fullmatch("[0-9a-f]{32}", weights.md5)
        # A pinned checksum belongs to a pinned commit.
        assert (weights.sha256 is None) == (weights.revision is None)


def test_checksums_are_those_that_keras_pins():
    from keras.src.applications import densenet
    from keras.src.applications.resnet import WEIGHTS_HASHES

    for depth in (121, 169, 201):
        line = PRETRAINED[f"keras/densenet{depth}"]
        assert line.place == getattr(densenet, f"DENSENET{depth}_WEIGHT_PATH")
        assert f'file_hash="{line.md5}"' in inspect.getsource(densenet)
    for depth in (50, 101, 152):
        assert PRETRAINED[f"keras/resnet{depth}"].md5 == WEIGHTS_HASHES[f"resnet{depth}"][0]


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        *((f"resnet{depth}", f"timm/resnet{depth}.tv_in1k") for depth in (18, 34)),
        *((f"resnet{depth}_v1.5", f"timm/resnet{depth}.tv_in1k") for depth in (50, 101, 152)),
        *((f"resnet{depth}", f"keras/resnet{depth}") for depth in (50, 101, 152)),
    ],
)
def test_imagenet_stands_for(network, expected):
    assert registry.find_pretrained("imagenet", network).name == expected


@pytest.mark.parametrize(
    ("name", "network", "mean"),
    [
        ("timm/resnet26.bt_in1k", "resnet26", 123.675),
        ("timm/seresnext50_32x4d.racm_in1k", "seresnext50_32x4d", 123.675),
        ("timm/densenet161.tv_in1k", "densenet161", 123.675),
        ("timm/resnetv2_50.a1h_in1k", "resnet50v2_first-pool", 127.5),
    ],
)
def test_networks_of_timms_names(name, network, mean):
    weights = PRETRAINED[name]
    assert (weights.network, weights.preprocessing.mean[0]) == (network, mean)
    # "imagenet" still stands for Keras's, where there are both.
    assert registry.find_pretrained("imagenet", "densenet121").name == "keras/densenet121"


@pytest.mark.parametrize(
    ("build", "weights", "words"),
    [
        (
            keras_resnet.ResNet50,
            "timm/resnet50.a1_in1k",
            ("'resnet50'", "'keras/resnet50'", "'resnet50_v1.5'", "version='v1.5'"),
        ),
        (
            functools.partial(keras_resnet.ResNet18, shortcut="A"),
            "imagenet",
            ("'resnet18_a'", "resnet18, resnet34, "),
        ),
        (keras_resnet.ResNet20, "imagenet", ("'resnet20'",)),
        (keras_resnet.PlainNet18, "imagenet", ("'plainnet18'",)),
        (functools.partial(keras_resnet.ResNet, (1,) * 4), "imagenet", ("'resnet'",)),
        (
            keras_resnet.ResNet18,
            "timm/resnet18.a9_in1k",
            ("'imagenet'", "'timm/resnet18.tv_in1k'", "'timm/resnet18.a1_in1k'"),
        ),
        (
            functools.partial(keras_resnet.preprocess_input, np.zeros((1, 1, 3))),
            "imagenet",
            ("'timm/resnet18.tv_in1k', ",),
        ),
    ],
)
def test_names_that_do_not_fit(build, weights, words):
    with refused("`weights`", f"weights={weights!r}", *words):
        build(weights=weights)


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Weights of a small net in the table, served from here; yields the server and the net."""
    theirs = stem_net(None)
    randomize(theirs)
    theirs.save(tmp_path / "published.h5")
    content = (tmp_path / "published.h5").read_bytes()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    with serving(content) as server:
        line = dataclasses.replace(
            PRETRAINED["keras/resnet50"],
            **{"name": "keras/small", "network": "small", "file": "small.h5"},
            place=f"{server.url}/small.h5",
            md5=hashlib.md5(content).hexdigest(),
        )
        monkeypatch.setitem(PRETRAINED, line.name, line)
        yield server, theirs


def stem_net(weights, preprocess=True, classes=5):
    """A stem and a classifier, ours with weights, or with a bias and an epsilon as theirs have."""
    found = weights and find_weights(weights, "small")
    x = inputs = keras.Input((37, 32, 3))
    if found and preprocess:
        x = keras_resnet.preprocessing.standardize_layer(x, -1, found.preprocessing)(x)
    x = keras.layers.ZeroPadding2D(3)(x)
    x = keras.layers.Conv2D(64, 7, 2, use_bias=not found, name="conv1_conv")(x)
    x = keras.layers.BatchNormalization(epsilon=1e-5 if found else 1.001e-5, name="conv1_bn")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    model = keras.Model(inputs, keras.layers.Dense(classes, "softmax", name="predictions")(x))
    if found:
        found.load_into(model)
    return model


def left(folder):
    files = (folder / "keras" / "keras_resnet").iterdir()
    return [file.name for file in files if file.suffix != ".lock"]


def test_by_name(published, tmp_path):
    server, theirs = published
    pixels = np.random.default_rng(0).integers(0, 256, (2, 37, 32, 3)).astype("float32")
    expected = theirs(keras.applications.resnet.preprocess_input(pixels.copy()))
    assert distance(stem_net("keras/small")(pixels), expected) < 1e-4
    assert distance(stem_net("imagenet")(pixels), expected) < 1e-4
    outside = stem_net("imagenet", preprocess=False)
    prepared = keras_resnet.preprocess_input(pixels, weights="keras/small")
    assert distance(outside(prepared), expected) < 1e-4
    assert server.requests == [None]  # Downloaded once, verified each time.
    assert left(tmp_path) == ["small.h5"]


def test_another_file_than_the_published_one(published, tmp_path):
    server, _ = published
    server.content = server.content[:-1] + b"x"
    with pytest.raises(ValueError, match="md5") as error:
        find_weights("keras/small", "small")
    assert "\n" not in str(error.value)
    assert left(tmp_path) == []


def test_the_file_that_keras_has_is_copied_and_left_alone(published, tmp_path):
    server, _ = published
    theirs = tmp_path / "keras" / "models" / "small.h5"
    theirs.parent.mkdir(parents=True)
    for content, requests in ((server.content[:99], [None]), (server.content, [])):
        theirs.write_bytes(content)  # First as Keras leaves it while it is downloading.
        assert PRETRAINED["keras/small"].fetch().read_bytes() == server.content
        assert theirs.read_bytes() == content and server.requests == requests
        shutil.rmtree(tmp_path / "keras" / "keras_resnet")
        server.requests.clear()


def test_a_classifier_of_another_size(published):
    with pytest.warns(UserWarning, match="3 .*keras/small.* 5 "):
        stem_net("imagenet", classes=3)


def test_the_builder_takes_names(monkeypatch, tmp_path):
    """From the hub's file to a network that predicts, but for the download itself."""
    pytest.importorskip("safetensors")
    original = keras_resnet.ResNet18(input_shape=(32, 32, 3))
    randomize(original)
    save_torch_weights(original, tmp_path / "model.safetensors")
    fetch = Mock(return_value=tmp_path / "model.safetensors")
    monkeypatch.setattr(download, "fetch_from_hub", fetch)
    options = {"input_shape": (32, 32, 3), "include_preprocessing": True}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = keras_resnet.ResNet18(weights="imagenet", **options)
    assert_same_weights(model, original)
    line = PRETRAINED["timm/resnet18.tv_in1k"]
    fetch.assert_called_once_with(line.name, "model.safetensors", line.revision, line.sha256)
    # The warning points at the line that asked.
    with pytest.warns(UserWarning, match="resnet18.* 3 ") as caught:
        keras_resnet.ResNet18(weights="timm/resnet18.a1_in1k", classes=3, **options)
    assert caught[0].filename == __file__


def test_without_safetensors(monkeypatch, tmp_path):
    (tmp_path / "model.safetensors").touch()
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r"keras-deep-residual\[weights\]"):
        find_weights(tmp_path / "model.safetensors", "resnet18")
