"""The numbers of `keras.applications`, with its weights and on images as it prepares them."""

from __future__ import annotations

import dataclasses
import importlib

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import applications
from keras_resnet.export.copies import image_network
from keras_resnet.preprocessing import KERAS_CAFFE, KERAS_TF, Preprocessing
from keras_resnet.weights import layer_weights
from tests.applications.conftest import MODULES, SHAPE, drawn, layers, pixels, small_v2
from tests.helpers import assert_same_by_layer, distance, randomize, refused

# float32 through up to 201 layers, relative to the largest output.
TOLERANCE = 1e-5
# Maps that go with the name.
INSIDE = {
    "ResNet50": ["conv2_block3_out", "conv4_block6_out"],
    "ResNet50V2": ["conv2_block3_out", "conv4_block6_out"],
    "DenseNet121": ["pool1", "conv4_block24_concat", "bn", "relu"],
}
PREPARED = {"ResNet50": KERAS_CAFFE, "ResNet50V2": KERAS_TF, "DenseNet121": Preprocessing()}


def module(name, package="keras_resnet.applications"):
    return importlib.import_module(f"{package}.{MODULES[name]}")


def build(name, weights, **options):
    return getattr(module(name), name)(weights=weights, **options)


@pytest.mark.parametrize("name", MODULES)
def test_same_outputs(saved, name):
    theirs, ours, _ = saved(name)
    images = pixels(2, *SHAPE)
    x = module(name).preprocess_input(images.copy())
    np.testing.assert_array_equal(
        x, module(name, "keras.applications").preprocess_input(images.copy())
    )
    assert distance(ours(x), theirs(x)) < TOLERANCE
    assert (ours.name, ours.input_shape, ours.output_shape) == (
        theirs.name,
        theirs.input_shape,
        theirs.output_shape,
    )
    # On the way too.
    found, expected = (
        keras.Model(model.input, [model.get_layer(layer).output for layer in INSIDE[name]])(x)
        for model in (ours, theirs)
    )
    for value, other in zip(found, expected, strict=True):
        assert distance(value, other) < TOLERANCE
    # The same layers and weights in the same order: code that copies or cuts lists of them works.
    assert layers(ours) == layers(theirs)
    for value, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)
    # What the weights want done to an image is what `preprocess_input` does.
    assert ours.preprocessing.same_numbers(PREPARED[name])
    assert ours.preprocessing.bgr == PREPARED[name].bgr
    assert distance(ours.preprocessing.standardize(images), x) < 1e-6


@pytest.mark.parametrize("stack_blocks", [False, True])
def test_training_saving_and_loading_of_a_small_v2(stack_blocks, tmp_path):
    options = {"input_shape": SHAPE, "classes": 7}
    theirs = randomize(small_v2(**options))
    theirs.save(tmp_path / "theirs.keras")
    ours = keras_resnet.ResNet(
        (3, 2),
        widths=(4, 8),
        stem_filters=64,
        version="v2-keras",
        conv_bias=True,
        bn_epsilon=1.001e-5,
        bn_momentum=0.99,
        weights=tmp_path / "theirs.keras",
        stack_blocks=stack_blocks,
        **options,
    )
    x = pixels(3, *SHAPE) / 127.5 - 1
    assert distance(ours(x), theirs(x)) < TOLERANCE
    ours.save(tmp_path / "ours.keras")
    loaded = keras.models.load_model(tmp_path / "ours.keras")
    assert distance(loaded(x), theirs(x)) < TOLERANCE
    assert loaded.preprocessing == ours.preprocessing == KERAS_TF.at(ours.input_shape[1:3])
    assert distance(ours(x, training=True), theirs(x, training=True)) < 1e-4
    # The moving statistics have moved by the same momentum.
    moved = {layer.name: layer.get_weights() for layer in theirs.layers if layer.weights}
    assert_same_by_layer(layer_weights(ours), moved, 1e-4)


def test_weights_without_the_top(saved):
    theirs, _, path = saved("ResNet50V2")
    x = module("ResNet50V2").preprocess_input(pixels(1, *SHAPE))
    vectors = keras.Model(theirs.input, theirs.get_layer("avg_pool").output)
    ours = build("ResNet50V2", path, include_top=False, pooling="avg")
    assert ours.input_shape == (None, None, None, 3)
    assert distance(ours(x), vectors(x)) < TOLERANCE
    # Into another number of classes all but the classifier, said at the caller's line.
    with pytest.warns(UserWarning, match="classifier of 3 classes") as caught:
        other = build("ResNet50V2", path, input_shape=SHAPE, classes=3)
    assert caught[0].filename == __file__
    assert other.output_shape == (None, 3)


def test_files_of_keras_2(saved, tmp_path):
    """Loaded by the argument, and by Keras's own method, which goes by the order of layers."""
    theirs = saved("ResNet50")[0]
    theirs.save(tmp_path / "whole.h5")
    x = module("ResNet50").preprocess_input(pixels(1, *SHAPE))
    ours = build("ResNet50", tmp_path / "whole.h5", input_shape=SHAPE, classes=7)
    assert distance(ours(x), theirs(x)) < TOLERANCE
    ours.set_weights([np.zeros_like(value) for value in ours.get_weights()])
    ours.load_weights(tmp_path / "whole.h5")
    assert distance(ours(x), theirs(x)) < TOLERANCE


def test_the_same_file_in_both_conventions(saved, tmp_path):
    """BGR less its mean here, RGB standardized by the package elsewhere, there and back."""
    theirs, drop_in, _ = saved("ResNet50")
    images = pixels(2, *SHAPE)
    drop_in.save_weights(tmp_path / "again.weights.h5")
    expected = theirs(module("ResNet50").preprocess_input(images.copy()))
    own = keras_resnet.ResNet50(
        weights=tmp_path / "again.weights.h5",
        input_shape=SHAPE,
        classes=7,
        include_preprocessing=True,
    )
    assert distance(own(images), expected) < 1e-4
    with refused("`model`", "conv_bias=True"):
        keras_resnet.weights.save_torch_weights(drop_in, tmp_path / "torch.safetensors")
    whole = keras_resnet.surgery.rebuild(drop_in, include_preprocessing=True)
    assert distance(whole(images), expected) < TOLERANCE


@pytest.mark.parametrize(("wanted", "module"), [(KERAS_CAFFE, "resnet"), (KERAS_TF, "resnet_v2")])
def test_an_exported_network_takes_images_as_all_others_do(wanted, module):
    """RGB in [0, 255], which a layer in front turns into what `preprocess_input` returns."""
    options = {"input_shape": (9, 8, 3), "classifier_activation": None}
    model = randomize(keras_resnet.CifarResNet(8, conv_bias=True, **options))
    model.remember(dataclasses.replace(model.network, preprocessing=wanted))
    images = pixels(2, 9, 8, 3)
    prepared = getattr(keras.applications, module).preprocess_input(images.copy())
    assert distance(image_network(model)[0](images), model(prepared)) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "like"),
    [
        *((f"ResNet{depth}", "ResNet50") for depth in (101, 152)),
        *((f"ResNet{depth}V2", "ResNet50V2") for depth in (101, 152)),
        *((f"DenseNet{depth}", "DenseNet121") for depth in (169, 201)),
    ],
)
def test_the_deeper_ones(name, like, tmp_path):
    theirs = drawn(name, input_shape=SHAPE, classes=7)
    theirs.save(tmp_path / "whole.h5")
    options = {"weights": tmp_path / "whole.h5", "input_shape": SHAPE, "classes": 7}
    ours = getattr(applications, name)(**options)
    x = module(like).preprocess_input(pixels(1, *SHAPE))
    assert distance(ours(x), theirs(x)) < TOLERANCE
    assert layers(ours) == layers(theirs) and ours.name == theirs.name
