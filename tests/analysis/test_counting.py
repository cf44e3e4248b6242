"""Counts of parameters and multiply-adds, against sums by hand and published counts.

Those of the paper's networks are in tests/models, where the networks are built.
"""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from keras import layers

import keras_resnet
from keras_resnet.analysis import complexity
from keras_resnet.analysis.counting import built_without_values
from tests.helpers import refused, trainable_parameters


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
        (layers.Conv2D(5, 3, data_format="channels_first"), (4, 8, 6), 185, 6 * 4 * 9 * 4 * 5),
        (layers.Conv1D(5, 3), (8, 4), 65, 6 * 3 * 4 * 5),
        (layers.Conv3D(2, 2), (4, 4, 4, 3), 50, 27 * 8 * 3 * 2),
        (layers.Dense(7), (5,), 42, 5 * 7),
        (layers.Dense(7), (3, 2, 5), 42, 6 * 5 * 7),
        (layers.DepthwiseConv2D(3, padding="same"), (8, 8, 4), 40, 64 * 9 * 4),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 4), 80, 36 * 9 * 8),
        (layers.SeparableConv2D(5, 3, padding="same"), (8, 8, 4), 61, 64 * (36 + 20)),
        (layers.SeparableConv1D(5, 3, depth_multiplier=2), (8, 4), 69, 6 * (3 * 8 + 8 * 5)),
        (layers.DepthwiseConv1D(3, 2), (9, 4), 16, 4 * 3 * 4),
        (layers.Conv2DTranspose(5, 3, 2), (4, 4, 2), 95, 16 * 9 * 2 * 5),
        (layers.Conv3DTranspose(2, 2), (3, 3, 3, 4), 66, 27 * 8 * 4 * 2),
        (layers.EinsumDense("abc,cde->abde", (3, 2, 6), bias_axes="e"), (3, 5), 66, 3 * 5 * 12),
        (layers.EinsumDense("...c,cd->...d", 6), (3, 4, 5), 30, 12 * 5 * 6),
        (layers.PReLU(), (4, 4, 2), 32, 0),
        (layers.LayerNormalization((1, 2, 3)), (4, 4, 2), 64, 0),
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


def test_normalization_and_frozen_layers():
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
    ("block", "version", "shortcut"), [("basic", "v1", "C"), ("bottleneck", "v1.5", "A")]
)
def test_stacked_counts_as_unrolled(block, version, shortcut):
    options = {"block": block, "version": version, "shortcut": shortcut}
    options |= {"widths": (2, 4), "input_shape": (40, 33, 3), "classes": 3}
    unrolled, stacked = (
        keras_resnet.ResNet((3, 2), stack_blocks=stack, **options) for stack in (False, True)
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
    # The model itself is unchanged.
    assert model.input_shape == (None, None, None, 3)


@pytest.mark.parametrize(
    ("sides", "input_shape"),
    [
        ((None, None), None),
        ((None, 8), None),
        ((None, None), (None, 8, 3)),
        ((None, None), (8, 8, 1)),
        ((8, 8), (16, 16, 3)),
        ((8, 8), (8, 8)),
        ((None, None), 8),
    ],
)
def test_shapes_that_do_not_fit(sides, input_shape):
    model = keras_resnet.CifarResNet(8, input_shape=(*sides, 3))
    with refused("`input_shape`", f"input_shape={input_shape}"):
        complexity(model, input_shape)


def test_counting_leaves_the_model_as_it_is():
    model = keras_resnet.CifarResNet(14, input_shape=(8, 8, 3), stack_blocks=True, dropout=0.1)
    stack = model.get_layer("conv2_stack")
    stack.trainable = False
    before = [w.path for w in model.trainable_weights]
    cost = complexity(model)
    assert [w.path for w in model.trainable_weights] == before
    assert cost.parameters + cost.non_trainable == model.count_params()


def test_layers_used_twice_count_their_weights_once_and_their_work_twice():
    inputs = keras.Input((4, 4, 3))
    conv, inner = layers.Conv2D(3, 3, padding="same"), keras.Sequential([layers.Dense(3)])
    outputs = layers.Add()([inner(conv(inputs)), inner(conv(conv(inputs)))])
    cost = complexity(keras.Model(inputs, outputs))
    assert cost.parameters == (81 + 3) + (9 + 3)
    assert cost.multiply_adds == 3 * 16 * 81 + 2 * 16 * 9
    calls = [x.parameters for x in cost.layers if x.name == conv.name]
    assert calls == [84, 0, 0]
    assert cost.activations == 6 * 48


def test_operations_without_a_layer():
    inputs = keras.Input((4, 4, 3))
    outputs = keras.ops.relu(inputs) + inputs
    cost = complexity(keras.Model(inputs, outputs))
    found = [(x.kind, x.activations, x.multiply_adds) for x in cost.layers]
    assert found == [("Relu", 48, 0), ("Add", 48, 0)]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda x: layers.MultiHeadAttention(1, 4)(x, x), "MultiHeadAttention"),
        (lambda x: layers.GRU(3)(x), "GRU"),
        (lambda x: layers.Attention()([x, x]), "Attention"),
        (lambda x: layers.Dot(2)([x, x]), "Dot"),
        (lambda x: keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1))), "Matmul"),
    ],
)
def test_products_without_a_rule_are_named(call, named):
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, call(inputs))
    with refused("`model`", f"class {named}"):
        complexity(model)


def test_shapes_that_only_a_run_would_show_are_named():
    model = model_of(layers.EinsumDense("abc,cd->abd", (None, 6)), shape=(3, 5))
    with refused("`model`", "EinsumDense", "(1, None, 6)"):
        complexity(model)


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def test_models_that_are_not_functional():
    inputs = keras.Input((4,))
    for model in (Subclassed(), keras.Model(inputs, Subclassed()(inputs)), keras.Sequential()):
        with refused("`model`", "functional", model.name):
            complexity(model)
    two = keras.Model([inputs, keras.Input((4,))], inputs)
    with refused("`model`", "one input", two.name):
        complexity(two)


@pytest.mark.parametrize(
    ("policy", "weight_width", "width"),
    [("float32", 4, 4), ("mixed_bfloat16", 4, 2), ("float64", 8, 8), ("bfloat16", 2, 2)],
)
def test_bytes_follow_the_dtype_policy(policy, weight_width, width):
    keras.config.set_dtype_policy(policy)
    model = model_of(layers.Conv2D(5, 3, padding="same"), shape=(8, 6, 4))
    cost = complexity(model)
    assert cost.weight_bytes == (9 * 4 * 5 + 5) * weight_width
    assert cost.activations == only(cost).activations == 8 * 6 * 5
    inputs = 8 * 6 * 4 * 4  # images come as Keras's floatx whatever the policy
    assert cost.inference_activation_bytes == inputs + 8 * 6 * 5 * width
    assert cost.training_activation_bytes == inputs


def test_a_tensor_lives_until_its_last_reader():
    # Elements: x 10, a 20, b 30, c 20 = b -> Dense(20), out = a + c.
    inputs = keras.Input((10,))
    a = layers.Dense(20, name="a")(inputs)
    b = layers.Dense(30, name="b")(a)
    c = layers.Dense(20, name="c")(b)
    model = keras.Model(inputs, layers.Add()([a, c]))
    # Alive: x a; a b; a b c (the peak, since a waits for the addition); a c out.
    assert complexity(model).inference_activation_bytes == 4 * (20 + 30 + 20)
    # A tensor lives until its last reader; an output stays.
    both = keras.Model(inputs, [a, c])
    assert complexity(both).inference_activation_bytes == 4 * (20 + 30 + 20)
    plain = keras.Model(inputs, c)
    assert complexity(plain).inference_activation_bytes == 4 * (20 + 30)


def test_kept_for_the_gradient_by_hand():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same")(inputs)  # keeps its input, 192
    x = shortcut = layers.BatchNormalization()(x)  # its input, 256
    x = layers.ReLU()(x)  # its output, 256
    x = layers.ZeroPadding2D()(x)  # nothing, but the convolution keeps its output, 400
    x = layers.Conv2D(4, 3, activation="relu")(x)  # and its own output, 256
    x = layers.Add()([x, shortcut])  # nothing
    x = layers.MaxPooling2D()(x)  # the sum, 256, and its output, 64
    x = layers.Activation("silu")(x)  # its input, the same 64
    x = layers.GlobalAveragePooling2D()(x)  # nothing, but the dense layer keeps its output, 4
    outputs = layers.Dense(5, activation="softmax")(x)  # and its own output, 5
    cost = complexity(keras.Model(inputs, outputs))
    assert cost.training_activation_bytes == 4 * (192 + 256 + 256 + 400 + 256 + 256 + 64 + 4 + 5)


def test_memory_of_stacked_nested_and_recomputed_blocks():
    def cost(**options):
        return complexity(keras_resnet.CifarResNet(38, input_shape=(8, 8, 3), **options))

    unrolled, stacked = cost(stack_blocks=False), cost(stack_blocks=True)
    recomputed = cost(recompute=True)
    figures = ("inference_activation_bytes", "training_activation_bytes")
    for figure in (*figures, "activations", "weight_bytes"):
        assert getattr(stacked, figure) == getattr(unrolled, figure) > 0, figure
    assert recomputed.inference_activation_bytes == unrolled.inference_activation_bytes
    # A block keeps 4 maps: two before normalization, and the outputs of two ReLUs, the last of
    # which is the next block's input. In each stage 5 of 6 blocks are stacked, and keep no more
    # than their inputs; of those in stage one, the largest, one block's maps are there at a time.
    maps = [4 * 8 * 8 * 16, 4 * 4 * 4 * 32, 4 * 2 * 2 * 64]
    saved = sum((5 * 3 + 1) * size for size in maps) - 4 * maps[0]
    assert unrolled.training_activation_bytes - recomputed.training_activation_bytes == saved

    backbone = keras_resnet.CifarResNet(38, input_shape=(8, 8, 3), stack_blocks=True)
    nested = complexity(model_of(backbone, shape=(8, 8, 3)))
    for figure in figures:
        assert getattr(nested, figure) == getattr(unrolled, figure)


def test_table_and_rows():
    model = keras_resnet.CifarResNet(14, input_shape=(8, 8, 3), stack_blocks=True)
    cost = complexity(model)
    *rows, total = cost.rows()
    assert [row["layer"] for row in rows] == [x.name for x in cost.layers]
    for figure in ("parameters", "multiply_adds", "activations", "weight_bytes"):
        assert total[figure] == sum(row[figure] * row["repeats"] for row in rows)
    heading, *lines = cost.table().splitlines()
    assert "multiply-adds" in heading and "FLOP" not in cost.table()
    assert lines[-2].startswith("total") and f"{cost.multiply_adds:,}" in lines[-2]
    assert f"{cost.training_activation_bytes:,} bytes" in lines[-1]


# --- networks of `keras.applications`, by the counts that their authors publish ----------------


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


# Multiply-adds as the authors give them, in full millions.
APPLICATIONS = {
    # arXiv 1409.1556; 15.47e9 without biases, as the ResNet paper's 15.3e9 for the convolutions.
    "VGG16": (138_357_544, 15_470),
    "MobileNet": (4_231_976, 569),  # arXiv 1704.04861, table 8: 569 million
    "EfficientNetB0": (5_288_548, 386),  # arXiv 1905.11946: 0.39e9
    "MobileNetV3Small": (2_542_856, 57),  # arXiv 1905.02244: 56 million
    "ConvNeXtTiny": (28_589_128, 4_456),  # arXiv 2201.03545: 4.5e9
    "VGG19": (143_667_240, 19_632),  # 19.6e9 in the ResNet paper
    "MobileNetV2": (3_504_872, 301),  # arXiv 1801.04381: 300 million
    "NASNetMobile": (5_289_978, 564),  # arXiv 1707.07012: 564 million
    "InceptionV3": (23_817_352, 5_713),  # 5.7e9 by torchvision
    "Xception": (22_855_952, 8_357),  # 8.4e9 by timm
    "DenseNet201": (20_013_928, 4_291),  # 4.29e9 by torchvision
    "EfficientNetV2L": (118_515_272, 56_080),  # 56.08e9 by torchvision
    "ConvNeXtXLarge": (350_196_968, 60_921),  # arXiv 2201.03545: 60.9e9
    "ResNet50V2": (25_568_360, 3_482),  # Keras's own form, which halves the map at a stage's end
    "NASNetLarge": (88_753_150, 23_783),  # arXiv 1707.07012: 23.8e9
    "InceptionResNetV2": (55_813_192, 13_156),  # 13.2e9 by timm
}
QUICK = ("VGG16", "MobileNet", "EfficientNetB0", "MobileNetV3Small")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in APPLICATIONS]
)
def test_keras_applications(name):
    model = built_without_values(getattr(keras.applications, name), weights=None)
    cost = complexity(model, tuple(side or 224 for side in model.input_shape[1:]))
    assert (cost.parameters, round(cost.multiply_adds / 1e6)) == APPLICATIONS[name]
    sizes = [math.prod(w.shape) * np.dtype(w.dtype).itemsize for w in model.weights]
    assert cost.weight_bytes == sum(sizes)
    assert cost.parameters + cost.non_trainable == model.count_params()
