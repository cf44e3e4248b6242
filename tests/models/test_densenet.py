"""Densely connected networks: exact sizes, an independent implementation, recomputation."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.analysis import complexity
from keras_resnet.export import fold_batch_norm
from keras_resnet.layers import BlockStack
from keras_resnet.weights import copy_weights
from tests.helpers import (
    assert_same_gradients,
    distance,
    images,
    randomize,
    trainable_parameters,
)

# Parameters, for ImageNet as in torchvision and `keras.applications` (which lack 264), and
# multiply-adds in millions.
NETWORKS = {
    "DenseNet121": (7_978_856, 2_834),
    "DenseNet161": (28_681_000, 7_728),
    "DenseNet169": (14_149_480, 3_360),
    "DenseNet201": (20_013_928, 4_291),
    "DenseNet264": (33_337_704, 5_752),
    "DenseNetBC100_12": (769_162, 288),
}
SIZES = {"blocks": (3, 2), "growth_rate": 4, "input_shape": (9, 8, 3), "classes": 5}
SMALL = {**SIZES, "stem": "cifar", "classifier_activation": None}


def small(**options):
    return randomize(keras_resnet.DenseNet(**{**SMALL, **options}))


# Kinds of the same, which Keras takes long to build.
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n.endswith(("121", "_12")) else SLOW) for n in NETWORKS],
)
def test_named_network(name, no_draws):
    model = getattr(keras_resnet, name)(stack_blocks=True)
    assert model.name == name.lower()
    imagenet = name != "DenseNetBC100_12"
    assert model.input_shape == (None, *((224, 224, 3) if imagenet else (32, 32, 3)))
    assert model.output_shape == (None, 1000 if imagenet else 10)
    cost = complexity(model)
    assert (cost.parameters, round(cost.multiply_adds / 1e6)) == NETWORKS[name]
    assert trainable_parameters(model) == cost.parameters


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "growth", "millions"), [(250, 24, 15.3), (190, 40, 25.6)])
def test_any_cifar_network(depth, growth, millions, no_draws):
    """Table 2 of the paper; both are too deep for Keras to build unrolled."""
    model = keras_resnet.CifarDenseNet(depth, growth)
    assert model.name == f"densenetbc{depth}_{growth}"
    assert sum(isinstance(layer, BlockStack) for layer in model.layers) == 3
    assert round(trainable_parameters(model) / 1e6, 1) == millions


@pytest.mark.parametrize(
    "name",
    ["DenseNet121", *(pytest.param(f"DenseNet{n}", marks=SLOW) for n in (169, 201))],
)
def test_same_outputs_as_keras_applications(name, tmp_path):
    shape = (65, 47, 3)
    options = {"input_shape": shape, "classes": 7, "classifier_activation": None}
    theirs = randomize(getattr(keras.applications, name)(weights=None, **options))
    theirs.save(tmp_path / "theirs.h5")
    options |= {"weights": tmp_path / "theirs.h5", "include_preprocessing": True}
    ours = getattr(keras_resnet, name)(**options)
    x = 255 * images(2, *shape)
    expected = theirs(keras.applications.densenet.preprocess_input(x.copy()))
    # float32 through 121 to 201 layers, relative to the largest output.
    assert distance(ours(x), expected) < 1e-4


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_stacked_equals_unrolled(recompute):
    unrolled, stacked = small(), small(stack_blocks=True, recompute=recompute)
    copy_weights(unrolled, stacked)
    assert [layer.recompute for layer in stacked.layers if isinstance(layer, BlockStack)] == [
        recompute
    ] * 2
    # Also that recomputing moves the statistics no second time.
    assert_same_gradients(stacked, unrolled, images(3, 9, 8, 3), 1e-5)


def test_recomputing_saves_memory():
    kept, recomputed = (
        complexity(small(blocks=(6, 6, 6), recompute=recompute)).training_activation_bytes
        for recompute in (False, True)
    )
    # What is kept is the widest of three blocks, and what enters the others.
    assert recomputed < 0.8 * kept


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"recompute": True, "dropout": 0.2},
        {"normalization": "group", "activation": "silu", "include_preprocessing": True},
        {"stem": "imagenet", "input_shape": (None, None, 3)},
    ],
    ids=["plain", "recomputed", "group", "open sides"],
)
def test_saved_and_loaded(options, tmp_path):
    model = small(**options)
    model.save(tmp_path / "net.keras")
    model.save_weights(tmp_path / "net.weights.h5")
    x = images(2, 9, 8, 3)
    loaded = keras.models.load_model(tmp_path / "net.keras", safe_mode=True)
    again = small(**options, weights=tmp_path / "net.weights.h5")
    copy_weights(model, again)
    for other in (loaded, again):
        assert distance(other(x), model(x)) <= 1e-6


def test_mixed_precision():
    full = small()
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = small()
    copy_weights(full, model)
    x = images(3, 9, 8, 3)
    assert {w.dtype for w in model.weights} == {"float32"}
    assert keras.backend.standardize_dtype(model(x).dtype) == "float32"
    assert distance(model(x), full(x)) < 0.1


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_learns(recompute):
    options = {"classifier_activation": "softmax", "recompute": recompute, "dropout": 0.1}
    model = keras_resnet.DenseNet(**{**SMALL, **options})
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", jit_compile=False)
    x, labels = images(10, 9, 8, 3), np.arange(10) % 5
    losses = [model.train_on_batch(x, labels) for _ in range(8)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("stacked", [False, True], ids=["unrolled", "stacked"])
def test_normalization_behind_a_convolution_is_folded(stacked):
    model = small(stack_blocks=stacked)
    folded = fold_batch_norm(model)
    layers = folded.get_layer("conv2_stack").block.layers if stacked else folded.layers
    norms = {layer.name for layer in layers if layer.name.endswith("_bn")}
    assert {"conv2_block1_0_bn", "conv2_block3_0_bn"} <= norms
    assert "conv2_block1_1_bn" not in norms
    x = images(2, 9, 8, 3)
    assert distance(folded(x), model(x)) < 1e-5


def test_arguments_are_those_of_residual_networks():
    parameters = list(inspect.signature(keras_resnet.DenseNet121).parameters)
    first = list(inspect.signature(keras_resnet.ResNet50).parameters)[:8]
    assert parameters[:8] == first
    assert all(f"{name}: " in keras_resnet.DenseNet121.__doc__ for name in first)
    documented = keras_resnet.DenseNet.__doc__ + keras_resnet.ResNet.__doc__
    assert all(f"{name}: " in documented for name in parameters)
    assert keras_resnet.DenseNet121.__doc__.startswith("Builds DenseNet121, ")
    features = keras_resnet.DenseNet(
        (3, 2), growth_rate=4, stem="cifar", include_top=False, pooling="max"
    )
    # 8 channels, 3 layers of 4, halved, 2 layers of 4.
    assert features.output_shape == (None, 18)
