"""Files of weights that pass between the networks of Keras and these, and layers by its names.

Every file is read by `load_weights` of the model itself, which is Keras's.
"""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from keras.src.applications import densenet, resnet  # the code behind all of theirs, not public

import keras_resnet
from keras_resnet import applications
from keras_resnet.surgery import backbone, dilate, freeze, rebuild, stage_rates
from keras_resnet.surgery.graphs import stage_ends
from keras_resnet.weights import load_weights, save_torch_weights
from tests.applications.conftest import MODULES, drawn, layers, pixels, small_v2
from tests.helpers import distance, randomize

DEEPER = ("ResNet101", "ResNet152", "ResNet101V2", "ResNet152V2", "DenseNet169", "DenseNet201")
SIZES = {"input_shape": (32, 32, 3), "classes": 7}
# Largest difference of probabilities.
TOLERANCE = 2e-6


def lost(model):
    """Returns the model with all weights zero."""
    model.set_weights([np.zeros_like(value) for value in model.get_weights()])
    return model


def write(model, path):
    (model.save if path.suffix == ".keras" else model.save_weights)(path)


def assert_passes(source, target, x, path):
    """Loads a file that one network writes into the other."""
    expected = source(x)
    write(source, path)
    lost(target).load_weights(path)
    np.testing.assert_allclose(target(x), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MODULES, *DEEPER])
def test_files_both_ways(name, tmp_path):
    theirs = drawn(name, **SIZES)
    ours = getattr(applications, name)(weights=None, **SIZES)
    x = pixels(2, *SIZES["input_shape"]) / 127.5 - 1
    assert np.ptp(theirs(x), axis=-1).min() > 0.1
    assert_passes(theirs, ours, x, tmp_path / "theirs.keras")
    assert_passes(ours, theirs, x, tmp_path / "ours.weights.h5")


def small_dense(**options):
    """Returns a network of four stages as the code behind `densenet` of Keras makes it."""
    return densenet.DenseNet([1, 2, 1, 1], weights=None, **options)


def small_v1(**options):
    """Returns a network of two stages as the code behind `resnet` of Keras makes it."""

    def blocks(x):
        x = resnet.stack_residual_blocks_v1(x, 4, 3, stride1=1, name="conv2")
        return resnet.stack_residual_blocks_v1(x, 8, 2, name="conv3")

    return resnet.ResNet(blocks, preact=False, use_bias=True, weights=None, **options)


def our_dense(**options):
    return keras_resnet.DenseNet((1, 2, 1, 1), bn_epsilon=1.001e-5, **{**SIZES, **options})


def our_residual(**options):
    sizes = {"blocks": (3, 2), "widths": (4, 8), "stem_filters": 64, **SIZES}
    return keras_resnet.ResNet(conv_bias=True, bn_epsilon=1.001e-5, **{**sizes, **options})


SMALL = {
    "v1": (small_v1, functools.partial(our_residual, version="v1")),
    "v2": (small_v2, functools.partial(our_residual, version="v2-keras")),
    "dense": (small_dense, our_dense),
}


@pytest.mark.parametrize(
    ("kind", "keras_names"),
    [("v1", False), ("v2", True), ("v2", False), ("dense", True), ("dense", False)],
)
def test_files_of_small_networks_both_ways(kind, keras_names, tmp_path):
    """With the names of the main builders, too, where those are others."""
    build, build_ours = SMALL[kind]
    theirs, ours = randomize(build(**SIZES)), build_ours(keras_names=keras_names)
    assert (layers(ours) == layers(theirs)) is (keras_names or kind == "v1")
    x = pixels(2, *SIZES["input_shape"]) / 127.5 - 1
    for file in ("model.keras", "model.weights.h5"):
        assert_passes(theirs, ours, x, tmp_path / file)
        assert_passes(ours, theirs, x, tmp_path / file)


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        ("dense", {"include_top": False}),
        ("v2", {"include_top": False, "pooling": "avg"}),
        ("dense", {"include_top": False, "pooling": "max"}),
    ],
)
def test_same_layers_without_the_top(kind, ending):
    build, build_ours = SMALL[kind]
    ending = {"input_shape": (32, 32, 3), **ending}
    assert layers(build_ours(keras_names=True, classes=None, **ending)) == layers(build(**ending))


# --- the rest of the package with layers by these names --------------------------------------


def test_names_survive_saving_loading_and_cloning(tmp_path):
    model = randomize(our_dense(keras_names=True))
    model.save(tmp_path / "model.keras")
    x = pixels(1, 32, 32, 3) / 127.5 - 1
    for again in (
        keras.models.load_model(tmp_path / "model.keras"),
        keras_resnet.load_model(tmp_path / "model.keras"),
        keras.models.clone_model(model),
        rebuild(model),
    ):
        assert layers(again)[1:] == layers(model)[1:]
        again.set_weights(model.get_weights())
        assert distance(rebuild(again)(x), model(x)) < 1e-6
        # By the names of the main builders, too.
        assert again.get_layer("post_bn") is again.get_layer("bn")


def assert_same(model, other):
    """Compares weights in order."""
    for value, expected in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("to_keras", [False, True])
def test_weights_pass_between_both_names(to_keras, tmp_path):
    source, target = randomize(our_dense(keras_names=not to_keras)), our_dense(keras_names=to_keras)
    target.get_layer("bn").trainable = False
    for file in ("model.keras", "model.weights.h5"):
        write(source, tmp_path / file)
        load_weights(lost(target), tmp_path / file)
        assert_same(target, source)
    save_torch_weights(source, tmp_path / "model.pth")
    load_weights(lost(target), tmp_path / "model.pth")
    x = pixels(1, 32, 32, 3) / 127.5 - 1
    assert distance(target(x), source(x)) < 1e-5
    source.get_layer("bn").trainable = False
    changed = rebuild(source, keras_names=to_keras)
    assert layers(changed) == layers(target)
    assert_same(changed, source)
    assert not changed.get_layer("bn").trainable


def test_stages_are_found_by_these_names():
    """Their ends, strides, learning rates, and what stands in front of a network."""
    x = pixels(2, 32, 32, 3) / 127.5 - 1
    shift = keras.layers.Rescaling(1.0, 0.5, name="shift")
    plain, named = (
        randomize(
            keras_resnet.DenseNet(
                (1, 2, 1),
                classes=7,
                keras_names=keras_names,
                input_tensor=shift(keras.Input((32, 32, 3))),
            )
        )
        for keras_names in (False, True)
    )
    named.set_weights(plain.get_weights())
    ends = [keras.Model(net.input, stage_ends(net))(x) for net in (plain, named)]
    maps = [backbone(net)(x) for net in (plain, named)]
    assert [f.layer for f in backbone(named).features][-1] == "relu"
    for found, expected in zip(
        keras.tree.flatten([ends[1], maps[1]]), keras.tree.flatten([ends[0], maps[0]]), strict=True
    ):
        assert distance(found, expected) == 0
    assert layers(rebuild(named)) == layers(named)
    assert distance(dilate(named, 8)(x), dilate(plain, 8)(x)) == 0
    assert list(stage_rates(named, 0.5).values()) == list(stage_rates(plain, 0.5).values())
    for net in (plain, named):
        freeze(net, 3)
    assert [x.trainable for x in named.layers if x.weights] == [
        x.trainable for x in plain.layers if x.weights
    ]


def test_dilated_padding_is_a_layer_too():
    """In version "v2-keras"; its maps contain those of the network with strides."""
    net = randomize(
        our_residual(version="v2-keras", keras_names=True, include_top=False, classes=None)
    )
    x = pixels(1, 32, 32, 3) / 127.5 - 1
    again = rebuild(net, output_stride=4, keras_names=False)
    assert distance(dilate(net, 4)(x), again(x)) < 1e-6
