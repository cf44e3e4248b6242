"""Counts of parameters and multiply-adds, against sums by hand and other people's networks.

Those of the paper's networks are in tests/test_models.py, where the networks are built.
"""

from __future__ import annotations

import keras
import pytest
from keras import layers

import keras_resnet
from keras_resnet.analysis import complexity
from tests.helpers import trainable_parameters


def model_of(*sequence, shape):
    inputs = x = keras.Input(shape)
    for layer in sequence:
        x = layer(x)
    return keras.Model(inputs, x)


def only(cost):
    (layer,) = cost.layers
    return layer


@pytest.mark.parametrize(
    ("layer", "shape", "parameters", "multiply_adds"),
    [
        # Positions of the output, times kernel, times channels in and out.
        (layers.Conv2D(5, 3, padding="same"), (8, 6, 4), 3 * 3 * 4 * 5 + 5, 8 * 6 * 9 * 4 * 5),
        (layers.Conv2D(5, 3, use_bias=False), (8, 6, 4), 180, 6 * 4 * 9 * 4 * 5),
        (layers.Conv2D(5, (1, 3), 2, padding="same"), (7, 5, 4), 65, 4 * 3 * 3 * 4 * 5),
        (layers.Conv2D(6, 3, groups=2, padding="same"), (4, 4, 4), 114, 16 * 9 * 2 * 6),
        (layers.Conv2D(5, 3, dilation_rate=2), (8, 8, 4), 185, 16 * 9 * 4 * 5),
        (layers.Conv1D(5, 3), (8, 4), 65, 6 * 3 * 4 * 5),
        (layers.Conv3D(2, 2), (4, 4, 4, 3), 50, 27 * 8 * 3 * 2),
        (layers.Dense(7), (5,), 42, 5 * 7),
        (layers.Dense(7), (3, 2, 5), 42, 6 * 5 * 7),
        (layers.DepthwiseConv2D(3, padding="same"), (8, 8, 4), 40, 64 * 9 * 4),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 4), 80, 36 * 9 * 8),
        (layers.SeparableConv2D(5, 3, padding="same"), (8, 8, 4), 61, 64 * (36 + 20)),
        (layers.Conv2DTranspose(5, 3, 2), (4, 4, 2), 95, 16 * 9 * 2 * 5),
        (layers.ZeroPadding2D(), (4, 4, 2), 0, 0),
        (layers.ReLU(), (4, 4, 2), 0, 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, layers.Layer) else "",
)
def test_one_layer(layer, shape, parameters, multiply_adds):
    cost = only(complexity(model_of(layer, shape=shape)))
    assert (cost.parameters, cost.multiply_adds) == (parameters, multiply_adds)
    assert (cost.name, cost.kind, cost.repeats) == (layer.name, type(layer).__name__, 1)
    assert cost.output_shape == tuple(layer.output.shape)[1:]


def test_channels_first():
    conv = layers.Conv2D(5, 3, data_format="channels_first")
    # Only counted, never run: TensorFlow convolves channels first on GPUs alone.
    cost = only(complexity(model_of(conv, shape=(4, 8, 6))))
    assert cost.multiply_adds == 6 * 4 * 9 * 4 * 5


def test_normalisation_and_frozen_layers():
    # A frozen kernel is still a parameter; moving statistics never are.
    frozen = layers.Dense(3, trainable=False)
    model = model_of(layers.BatchNormalization(), frozen, shape=(4,))
    cost = complexity(model)
    assert [(x.parameters, x.non_trainable) for x in cost.layers] == [(8, 8), (15, 0)]
    assert (cost.parameters, cost.non_trainable, cost.multiply_adds) == (23, 8, 12)


def test_a_small_net_by_hand():
    model = keras_resnet.ResNet(
        (1, 1), block="basic", widths=(2, 4), stem="cifar", input_shape=(8, 8, 3), classes=5
    )
    kernels = {
        "conv1_conv": (64, 9 * 3 * 2),
        "conv2_block1_1_conv": (64, 9 * 2 * 2),
        "conv2_block1_2_conv": (64, 9 * 2 * 2),
        "conv3_block1_0_conv": (16, 2 * 4),
        "conv3_block1_1_conv": (16, 9 * 2 * 4),
        "conv3_block1_2_conv": (16, 9 * 4 * 4),
    }
    cost = complexity(model)
    found = {x.name: x.multiply_adds for x in cost.layers if x.multiply_adds}
    expected = {name: positions * size for name, (positions, size) in kernels.items()}
    assert found == expected | {"predictions": 4 * 5}
    norms = 2 * (2 + 2 + 2 + 4 + 4 + 4)
    assert cost.parameters == sum(size for _, size in kernels.values()) + norms + 4 * 5 + 5
    assert cost.non_trainable == norms
    assert [x.name for x in cost.layers] == [x.name for x in model.layers[1:]]


@pytest.mark.parametrize(
    "options",
    [
        {"block": "basic", "shortcut": "C"},
        {"block": "bottleneck", "version": "v1.5", "shortcut": "A"},
    ],
    ids=["basic", "bottleneck"],
)
def test_stacked_counts_as_unrolled(options):
    unrolled, stacked = (
        keras_resnet.ResNet(
            (3, 2), widths=(2, 4), input_shape=(40, 33, 3), classes=3, stack_blocks=stack, **options
        )
        for stack in (False, True)
    )
    expected, cost = complexity(unrolled), complexity(stacked)
    assert cost.parameters == expected.parameters == trainable_parameters(stacked)
    assert cost.non_trainable == expected.non_trainable
    assert cost.multiply_adds == expected.multiply_adds > 0
    in_stack = [x for x in cost.layers if x.repeats == 2]
    assert all(x.name.startswith("conv2_stack/conv2_block2_") for x in in_stack)
    # Layer by layer too.
    for layer in in_stack:
        twin = next(x for x in expected.layers if x.name == layer.name.removeprefix("conv2_stack/"))
        assert (layer.kind, layer.output_shape) == (twin.kind, twin.output_shape)
        assert (layer.parameters, layer.multiply_adds) == (twin.parameters, twin.multiply_adds)


def test_nested_models():
    backbone = keras_resnet.CifarResNet(8, include_top=False, pooling="avg", input_shape=(8, 8, 3))
    nested = complexity(model_of(backbone, layers.Dense(2), shape=(8, 8, 3)))
    alone = complexity(backbone)
    assert nested.parameters == alone.parameters + 65 * 2
    assert nested.multiply_adds == alone.multiply_adds + 64 * 2
    assert nested.layers[0].name.startswith("resnet8/")


def test_open_sides_need_a_shape():
    model = keras_resnet.CifarResNet(8, input_shape=(None, None, 3), stack_blocks=True)
    closed = keras_resnet.CifarResNet(8, input_shape=(12, 16, 3))
    assert complexity(model, (12, 16, 3)).multiply_adds == complexity(closed).multiply_adds
    assert complexity(model, [24, 32, 3]).multiply_adds > 3.9 * complexity(closed).multiply_adds
    assert complexity(closed, (12, 16, 3)) == complexity(closed)
    # The model itself is left alone.
    assert model.input_shape == (None, None, None, 3)


@pytest.mark.parametrize(
    ("sides", "input_shape", "message"),
    [
        ((None, None), None, r"^`input_shape` must be given .*Received: input_shape=None"),
        ((None, 8), None, r"^`input_shape` must be given"),
        ((None, None), (None, 8, 3), r"^`input_shape` .*Received: input_shape=\(None, 8, 3\)"),
        ((None, None), (8, 8, 1), r"^`input_shape` must fit .*Received: input_shape=\(8, 8, 1\)"),
        ((8, 8), (16, 16, 3), r"^`input_shape` must fit .*Received: input_shape=\(16, 16, 3\)"),
        ((8, 8), (8, 8), r"^`input_shape` must fit"),
        ((None, None), 8, r"^`input_shape` .*Received: input_shape=8"),
    ],
)
def test_shapes_that_do_not_fit(sides, input_shape, message):
    model = keras_resnet.CifarResNet(8, input_shape=(*sides, 3))
    with pytest.raises(ValueError, match=message):
        complexity(model, input_shape)


def test_counting_leaves_the_model_as_it_is():
    model = keras_resnet.CifarResNet(14, input_shape=(8, 8, 3), stack_blocks=True, dropout=0.1)
    stack = model.get_layer("conv2_stack")
    stack.trainable = False
    before = [w.path for w in model.trainable_weights]
    cost = complexity(model)
    assert [w.path for w in model.trainable_weights] == before
    assert cost.parameters + cost.non_trainable == model.count_params()


# --- other people's networks, by the counts that their authors publish ------------------------


def test_vgg16():
    # Simonyan and Zisserman, arXiv 1409.1556; 15.47e9 without biases, as the ResNet paper's 15.3e9
    # for the convolutions.
    cost = complexity(keras.applications.VGG16(weights=None))
    assert cost.parameters == 138_357_544
    assert round(cost.multiply_adds / 1e9, 2) == 15.47


def test_mobilenet():
    # Table 8 of arXiv 1704.04861: 569 million multiply-adds, 4.2 million parameters.
    cost = complexity(keras.applications.MobileNet(weights=None))
    assert round(cost.multiply_adds / 1e6) == 569
    assert cost.parameters == 4_231_976


def densenet_multiply_adds(repeats, growth=32, side=56, channels=64):
    """Multiply-adds of a DenseNet-BC at 224x224, written from Table 1 of arXiv 1608.06993."""
    total = 112**2 * 49 * 3 * channels
    for i, layers_of_block in enumerate(repeats):
        for _ in range(layers_of_block):
            total += side**2 * (channels * 4 * growth + 9 * 4 * growth * growth)
            channels += growth
        if i < len(repeats) - 1:  # a transition halves the channels, then the sides
            total += side**2 * channels * (channels // 2)
            channels, side = channels // 2, side // 2
    return total + channels * 1000


def test_densenet121():
    cost = complexity(keras.applications.DenseNet121(weights=None))
    assert cost.parameters == 7_978_856
    assert cost.multiply_adds == densenet_multiply_adds((6, 12, 24, 16))
