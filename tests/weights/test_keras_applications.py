"""Weights of `keras.applications`, converted: the same function of the same images."""

from __future__ import annotations

import shutil

import h5py
import keras
import numpy as np
import pytest
from keras.src.applications import resnet  # the code behind all of theirs, not public

import keras_resnet
from keras_resnet.preprocessing import CAFFE, IMAGENET_STD, KERAS_CAFFE
from keras_resnet.weights import find_weights, layer_weights, load_weights, save_torch_weights
from tests.helpers import assert_same_weights, distance, randomize, refused
from tests.weights.damages import NOISE

SHAPE = (37, 32, 3)
OPTIONS = {"input_shape": SHAPE, "classes": 5, "classifier_activation": None}
TOLERANCE = 1e-4


def drawn(model):
    """Gives a model weights that show when one is ignored."""
    randomize(model)
    # Of the size that fits images in [-128, 128], as those of Caffe are.
    model.get_layer("conv1_conv").kernel.assign(model.get_layer("conv1_conv").kernel / 60.0)
    return model


@pytest.fixture(scope="module")
def theirs():
    """A net of two blocks and 5 classes, built by the code that builds their ResNet50."""

    def blocks(x):
        for name, width, strides in (("conv2", 4, 1), ("conv3", 8, 2)):
            x = resnet.stack_residual_blocks_v1(x, width, 1, stride1=strides, name=name)
        return x

    return drawn(resnet.ResNet(blocks, preact=False, use_bias=True, weights=None, **OPTIONS))


@pytest.fixture(scope="module")
def saved(theirs, tmp_path_factory):
    """The path of a file with their weights, in each format that Keras writes or has written."""
    folder = tmp_path_factory.mktemp("applications")
    theirs.save(folder / "whole.h5")
    theirs.save_weights(folder / "new.weights.h5")
    theirs.save(folder / "new.keras")
    return folder


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (2, *SHAPE)).astype("uint8")


@pytest.fixture(scope="module")
def expected(theirs, pixels):
    return theirs(keras.applications.resnet.preprocess_input(pixels.astype("float32")))


def ours(path, **options):
    return keras_resnet.ResNet(
        (1, 1), weights=path, stem_filters=64, **{"widths": (4, 8), **OPTIONS, **options}
    )


@pytest.mark.parametrize("file", ["whole.h5", "new.weights.h5", "new.keras"])
def test_same_outputs(saved, file, pixels, expected):
    inside = ours(saved / file, include_preprocessing=True)
    assert distance(inside(pixels), expected) < TOLERANCE


def test_preprocessing_outside_of_the_model(saved, pixels, expected):
    model = ours(saved / "whole.h5")
    exact = keras_resnet.preprocess_input(pixels, weights="keras/resnet50")
    assert distance(model(exact), expected) < 1e-5
    # The package's own convention is half a gray level off: not exact, but close.
    nearly = model(keras_resnet.preprocess_input(pixels))
    assert 1e-5 < distance(nearly, expected) < 0.05


def test_another_epsilon(saved, pixels, expected):
    model = ours(saved / "whole.h5", include_preprocessing=True, bn_epsilon=1e-3)
    assert distance(model(pixels), expected) < TOLERANCE
    with refused("`bn_epsilon`", "1.001e-05", "bn_epsilon=0.9"):
        ours(saved / "whole.h5", bn_epsilon=0.9)


def test_what_is_moved_where(theirs, saved):
    layers = find_weights(saved / "whole.h5", "resnet").layers
    kernel, bias = theirs.get_layer("conv1_conv").get_weights()
    np.testing.assert_allclose(
        layers["conv1_conv"][0][:, :, 0], kernel[:, :, 2] * IMAGENET_STD[0], rtol=1e-6
    )
    moving_mean = theirs.get_layer("conv1_bn").moving_mean
    np.testing.assert_allclose(layers["conv1_bn"][2], moving_mean - bias, rtol=1e-6)
    model = ours(saved / "whole.h5")
    variance = np.asarray(theirs.get_layer("conv1_bn").moving_variance, "float64")
    found = layer_weights(model)["conv1_bn"][3]
    np.testing.assert_array_equal(found, (variance + (1.001e-5 - 1e-5)).astype("float32"))


def test_there_and_back(saved, tmp_path):
    """Once they are the package's own, they survive every file unchanged."""
    model = ours(saved / "whole.h5", include_preprocessing=True)
    model.save(tmp_path / "again.keras")
    model.save_weights(tmp_path / "again.weights.h5")
    save_torch_weights(model, tmp_path / "again.safetensors")
    for name in ("again.keras", "again.weights.h5", "again.safetensors"):
        assert_same_weights(ours(tmp_path / name), model)
    for name in ("again.keras", "again.safetensors"):
        # And the mean of their images with them.
        found = find_weights(tmp_path / name, "resnet").preprocessing
        assert found.same_numbers(CAFFE)


def test_the_name_that_the_classifier_had_in_2019(theirs, tmp_path):
    def rename(layer):
        name = "probs" if layer.name == "predictions" else layer.name
        return type(layer).from_config({**layer.get_config(), "name": name})

    renamed = keras.models.clone_model(theirs, clone_function=rename)
    renamed.set_weights(theirs.get_weights())
    renamed.save(tmp_path / "old.h5")
    kernel = find_weights(tmp_path / "old.h5", "resnet").layers["predictions"][0]
    np.testing.assert_array_equal(kernel, theirs.get_layer("predictions").kernel)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"version": "v1.5"}, ["`version`", "'v1'", "version='v1.5'"]),
        ({"shortcut": None}, ["`weights`", "conv2_block1_0_", "19 layers for 15"]),
        ({"widths": (4, 12)}, ["`weights`", "'conv3_block1_1_conv'", "(1, 1, 16, 12)"]),
    ],
    ids=str,
)
def test_another_architecture(saved, options, words):
    with refused(*words, "whole.h5"):
        ours(saved / "whole.h5", **options)


def test_a_model_that_subtracts_another_mean(saved):
    model = ours(None, include_preprocessing=True)
    with refused("`weights`", "include_preprocessing=True", "123.68", "123.675"):
        load_weights(model, saved / "whole.h5")


@pytest.mark.parametrize("file", ["whole.h5", "new.weights.h5", "new.keras"])
def test_unconverted_into_a_network_with_biases(saved, file, pixels, expected, tmp_path):
    model = ours(saved / file, conv_bias=True, bn_epsilon=1.001e-5)
    images = keras.applications.resnet.preprocess_input(pixels.astype("float32"))
    assert distance(model(images), expected) < 1e-5
    assert model.preprocessing == KERAS_CAFFE.at(model.input_shape[1:3])
    assert distance(model.preprocessing.standardize(pixels), images) < 1e-6
    # By its own function too, and once more in the package's convention.
    again = ours(None, conv_bias=True)
    load_weights(again, saved / file)
    assert (
        again.preprocessing == KERAS_CAFFE.at(again.input_shape[1:3])
        and distance(again(images), expected) < 1e-5
    )
    again.save_weights(tmp_path / "again.weights.h5")
    converted = ours(tmp_path / "again.weights.h5", include_preprocessing=True)
    assert distance(converted(pixels), expected) < TOLERANCE
    # A file that says what network it is of is taken at its word.
    model.save(tmp_path / "again.keras")
    third = ours(tmp_path / "again.keras", conv_bias=True)
    assert (
        third.preprocessing == KERAS_CAFFE.at(third.input_shape[1:3])
        and distance(third(images), expected) < 1e-5
    )
    with refused("`weights`", "conv1_conv"):
        ours(tmp_path / "again.keras")
    with refused("`weights`", "conv1_conv"):
        ours(saved / file, conv_bias=True, include_preprocessing=True)
    with refused("`version`", "v1.5"):
        ours(saved / file, conv_bias=True, version="v1.5")
    # Standardized inside by the numbers and in the order of Keras.
    inside = ours(saved / file, conv_bias=True, include_preprocessing=KERAS_CAFFE)
    inside.save(tmp_path / "inside.keras")
    for whole in (inside, keras.models.load_model(tmp_path / "inside.keras")):
        assert distance(whole(pixels), expected) < 1e-5
        assert whole.preprocessing == KERAS_CAFFE.at(whole.input_shape[1:3])


def link(path):
    """Another file in place of a layer."""
    with h5py.File(path, "r+") as file, h5py.File(f"{path}.other", "w") as other:
        file.copy("model_weights/conv1_conv", other, "secret")
        del file["model_weights/conv1_conv"]
        file["model_weights/conv1_conv"] = h5py.ExternalLink(f"{path}.other", "/secret")


def no_names(path):
    with h5py.File(path, "r+") as file:
        del file["model_weights/conv1_conv"].attrs["weight_names"]


DAMAGES = [
    pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1000]), id="cut"),
    pytest.param(lambda path: path.write_bytes(NOISE), id="noise"),
    *(link, no_names),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files(saved, tmp_path, damage):
    path = tmp_path / "damaged.h5"
    shutil.copy(saved / "whole.h5", path)
    damage(path)
    with refused("`weights`", "Keras", path):
        ours(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet50", "ResNet101", "ResNet152"])
def test_the_whole_networks(tmp_path, name):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 65, 48, 3)).astype("uint8")
    options = {**OPTIONS, "input_shape": (65, 48, 3)}
    theirs = drawn(getattr(keras.applications, name)(weights=None, **options))
    theirs.save(tmp_path / "whole.h5")
    expected = theirs(keras.applications.resnet.preprocess_input(pixels.astype("float32")))
    model = getattr(keras_resnet, name)(
        weights=tmp_path / "whole.h5", include_preprocessing=True, **options
    )
    assert distance(model(pixels), expected) < TOLERANCE


def test_gray_files_tell_nothing_of_their_images(tmp_path):
    gray = keras.applications.ResNet50(
        include_top=False, weights=None, input_shape=(32, 32, 1), name="resnet50"
    )
    gray.save_weights(tmp_path / "gray.weights.h5")
    saved = find_weights(tmp_path / "gray.weights.h5", "resnet50")
    assert saved.preprocessing is None and saved.original.preprocessing is None
    np.testing.assert_array_equal(
        saved.layers["conv1_conv"][0], gray.get_layer("conv1_conv").get_weights()[0]
    )
