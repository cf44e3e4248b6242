"""Residual arithmetic: shortcuts, the identity, plain twins, padding, initial values."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_resnet
from keras_resnet.architectures import BLOCKS, Block
from keras_resnet.layers import BatchNormalization, StochasticDepth, ZeroPadShortcut
from keras_resnet.models.blocks import BRANCHES, ResidualParts, Step, convolutions, residual_block
from tests.helpers import distance, images, randomize


def block_model(channels, width, strides=1, size=(None, None), drop_rate=0.0, **changes):
    """One block as a model of its own."""
    inputs, parts = keras.Input((*size, channels)), ResidualParts(**{"block": "basic", **changes})
    outputs = residual_block(inputs, width, Step(strides), parts, "block", drop_rate)
    return keras.Model(inputs, outputs)


def kinds(model):
    """The layers' classes by name, the input left out."""
    return {layer.name: type(layer).__name__ for layer in model.layers[1:]}


# --- which layers a block has ----------------------------------------------------------------

BASIC = {
    "block_1_conv": "Conv2D",
    "block_1_bn": "BatchNormalization",
    "block_1_relu": "Activation",
    "block_2_conv": "Conv2D",
    "block_2_bn": "BatchNormalization",
    "block_out": "Activation",
}
BOTTLENECK = BASIC | {
    "block_2_relu": "Activation",
    "block_3_conv": "Conv2D",
    "block_3_bn": "BatchNormalization",
}
ADD = {"block_add": "Add"}
PROJECTION = {"block_0_conv": "Conv2D", "block_0_bn": "BatchNormalization"}
ZERO_PAD = {"block_0_pad": "ZeroPadShortcut"}


@pytest.mark.parametrize(
    ("shortcut", "same_shape", "path"),
    [
        ("A", True, ADD),
        ("A", False, ADD | ZERO_PAD),
        ("B", True, ADD),
        ("B", False, ADD | PROJECTION),
        ("C", True, ADD | PROJECTION),
        ("C", False, ADD | PROJECTION),
        (None, True, {}),
        (None, False, {}),
    ],
)
@pytest.mark.parametrize(("block", "branch"), [("basic", BASIC), ("bottleneck", BOTTLENECK)])
def test_layers_of_a_block(block, branch, shortcut, same_shape, path):
    channels = 8 if block == "basic" else 32
    same = block_model(channels, 8, block=block, shortcut=shortcut)
    wider = block_model(channels, 16, 1, block=block, shortcut=shortcut)
    assert kinds(same if same_shape else wider) == branch | path


@pytest.mark.parametrize(
    ("block", "version", "padded"),
    # The strided 3x3 convolution is the one that gets its padding from a layer of its own.
    [
        ("basic", "v1", "block_1_pad"),
        ("basic", "v1.5", "block_1_pad"),
        ("bottleneck", "v1", None),
        ("bottleneck", "v1.5", "block_2_pad"),
    ],
)
def test_stride_of_a_block(block, version, padded):
    model = block_model(8, 8, strides=2, size=(9, 6), block=block, version=version)
    strided = {
        layer.name: layer.strides
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.strides != (1, 1)
    }
    first = "block_2_conv" if padded == "block_2_pad" else "block_1_conv"
    assert strided == {"block_0_conv": (2, 2), first: (2, 2)}
    paddings = [x.name for x in model.layers if isinstance(x, keras.layers.ZeroPadding2D)]
    assert paddings == ([padded] if padded else [])
    assert model.output_shape[1:3] == (5, 3)


def test_strided_convolutions_pad_all_sides_alike():
    # With ones in image and kernel each output counts the pixels under the kernel. Keras's "same"
    # would pad nothing on the left of an even image, and give 9 in the corner.
    model = block_model(1, 1, strides=2, size=(6, 6), shortcut=None)
    kernel = model.get_layer("block_1_conv").kernel
    kernel.assign(np.ones(kernel.shape))
    conv = keras.Model(model.input, model.get_layer("block_1_conv").output)
    counts = conv(np.ones((1, 6, 6, 1), "float32"))[0, :, :, 0]
    np.testing.assert_array_equal(counts, [[4, 6, 6], [6, 9, 9], [6, 9, 9]])


def test_dropout_stands_between_the_convolutions():
    for block, before, after in (("basic", 1, 2), ("bottleneck", 2, 3)):
        model = block_model(32, 8, block=block, shortcut=None, dropout=0.3)
        names = [layer.name for layer in model.layers]
        place = names.index("block_dropout")
        around = names[place - 1], names[place + 1]
        assert around == (f"block_{before}_relu", f"block_{after}_conv")
        assert model.get_layer("block_dropout").rate == 0.3


def test_options_reach_the_layers():
    options = {"bn_momentum": 0.7, "bn_epsilon": 1e-3, "synchronized_bn": True}
    options |= {"kernel_regularizer": keras.regularizers.L2(0.5), "zero_init_residual": True}
    model = block_model(4, 8, strides=2, shortcut="C", **options)
    norms = [x for x in model.layers if isinstance(x, BatchNormalization)]
    assert {(x.momentum, x.epsilon, x.synchronized) for x in norms} == {(0.7, 1e-3, True)}
    zero = [x.name for x in norms if not x.get_weights()[0].any()]
    assert zero == ["block_2_bn"]
    kernels = [x.get_weights()[0] for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    penalty = sum(0.5 * float(np.sum(np.square(kernel))) for kernel in kernels)
    assert len(kernels) == 3
    assert float(sum(model.losses)) == pytest.approx(penalty, rel=1e-5)
    assert not any(x.use_bias for x in model.layers if isinstance(x, keras.layers.Conv2D))


# --- values ----------------------------------------------------------------------------------


def convolve(x, kernel, strides):
    """A convolution padded by (k - 1) / 2 on all sides, tap by tap, in float64."""
    k = kernel.shape[0]
    padded = np.pad(x, ((0, 0), (k // 2,) * 2, (k // 2,) * 2, (0, 0)))
    height, width = x.shape[1:3]
    return sum(
        padded[:, i : i + height : strides, j : j + width : strides] @ kernel[i, j]
        for i in range(k)
        for j in range(k)
    )


def reference_block(model, x, strides, block, version, shortcut):
    """The block written out in NumPy from section 3 of the paper."""

    def unit(x, i, strides):
        kernel = model.get_layer(f"block_{i}_conv").get_weights()[0].astype("float64")
        gamma, beta, mean, variance = model.get_layer(f"block_{i}_bn").get_weights()
        y = convolve(x, kernel, strides)
        return gamma * (y - mean) / np.sqrt(variance.astype("float64") + 1e-5) + beta

    def relu(x):
        return np.maximum(x, 0)

    x = x.astype("float64")
    if block == "basic":
        y = unit(relu(unit(x, 1, strides)), 2, 1)
    else:
        first, second = (strides, 1) if version == "v1" else (1, strides)
        y = unit(relu(unit(relu(unit(x, 1, first)), 2, second)), 3, 1)
    if shortcut is None:
        return relu(y)
    same = x.shape == y.shape
    if shortcut == "C" or (shortcut == "B" and not same):
        path = unit(x, 0, strides)
    else:
        path = np.zeros(y.shape)
        path[..., : x.shape[-1]] = x[:, ::strides, ::strides]
    return relu(path + y)


@pytest.mark.parametrize("shortcut", ["A", "B", "C", None])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize(
    ("block", "version"), [("basic", "v1"), ("bottleneck", "v1"), ("bottleneck", "v1.5")]
)
def test_block_equals_numpy(block, version, strides, shortcut):
    options = {"block": block, "version": version, "shortcut": shortcut}
    width = 6 if block == "basic" else 2
    # Same shape with stride 1, more channels on a smaller map with stride 2.
    channels = (6 if block == "basic" else 8) - strides + 1
    model = randomize(block_model(channels, width, strides, **options))
    x = images(2, 7, 6, channels)
    expected = reference_block(model, x, strides, **options)
    assert model(x).shape == expected.shape
    assert distance(model(x), expected) < 1e-5


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("how", ["zero_init_residual", "gamma set to zero"])
@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize(("block", "last"), [("basic", 2), ("bottleneck", 3)])
def test_block_without_residual_is_the_identity(block, last, shortcut, how, training):
    channels = 8
    width = channels if block == "basic" else channels // 4
    zero = how == "zero_init_residual"
    model = block_model(channels, width, block=block, shortcut=shortcut, zero_init_residual=zero)
    if how == "gamma set to zero":
        randomize(model)
        model.get_layer(f"block_{last}_bn").gamma.assign(np.zeros(channels))
        model.get_layer(f"block_{last}_bn").beta.assign(np.zeros(channels))
    x = images(2, 5, 6, channels, low=0.0)
    np.testing.assert_array_equal(model(x, training=training), x)
    # What enters a block has passed a ReLU; on other input it is the ReLU.
    y = images(2, 5, 6, channels)
    np.testing.assert_array_equal(model(y, training=training), np.maximum(y, 0))


def test_a_plain_block_with_zero_scale_is_zero():
    model = block_model(4, 4, shortcut=None)
    model.get_layer("block_2_bn").gamma.assign(np.zeros(4))
    np.testing.assert_array_equal(model(images(1, 3, 3, 4)), np.zeros((1, 3, 3, 4)))


def test_zeroed_option_a_net_adds_zero_channels():
    # Every branch zero: what leaves the net is the stem's output, subsampled and zero-padded.
    options = {"block": "basic", "stem": "cifar", "shortcut": "A", "zero_init_residual": True}
    sizes = {"widths": (3, 5, 8), "include_top": False, "input_shape": (9, 8, 3)}
    net = keras_resnet.ResNet((2, 2, 1), **options, **sizes)
    assert sum(isinstance(layer, ZeroPadShortcut) for layer in net.layers) == 2
    stem = keras.Model(net.input, net.get_layer("conv1_relu").output)
    x = images(2, 9, 8, 3)
    expected = np.zeros((2, 3, 2, 8), "float32")
    expected[..., :3] = ops.convert_to_numpy(stem(x))[:, ::2, ::2][:, ::2, ::2]
    np.testing.assert_array_equal(net(x), expected)


@pytest.mark.parametrize(
    ("builder", "options"),
    [
        (keras_resnet.ResNet20, {}),
        (keras_resnet.ResNet18, {"input_shape": (32, 32, 3)}),
        (keras_resnet.ResNet, {"blocks": (2, 1), "widths": (4, 8), "input_shape": (32, 32, 3)}),
        (keras_resnet.ResNet32, {"stack_blocks": True}),
    ],
    ids=["ResNet20", "ResNet18", "bottleneck", "stacked"],
)
def test_plain_net_has_the_parameters_of_its_option_a_twin(builder, options):
    plain, twin = (builder(shortcut=shortcut, **options) for shortcut in (None, "A"))
    weights = [
        {weight.path: (tuple(weight.shape), weight.trainable) for weight in net.weights}
        for net in (plain, twin)
    ]
    assert weights[0] == weights[1]
    assert len(weights[0]) > 10
    # And they answer differently.
    keras_resnet.copy_weights(twin, plain)
    x = images(1, *twin.input_shape[1:])
    assert distance(plain(x), twin(x)) > 1e-3


# --- initial values --------------------------------------------------------------------------


def test_he_initialization():
    net = keras_resnet.ResNet18(input_shape=(32, 32, 3), classes=10)
    for layer in net.layers:
        if not isinstance(layer, keras.layers.Conv2D):
            continue
        kernel = layer.get_weights()[0]
        variance = 2.0 / np.prod(kernel.shape[:3])
        # The variance of n normal numbers has a relative standard deviation of sqrt(2 / n).
        assert kernel.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / kernel.size))
        # Not truncated: a truncated normal stops at 2 of its standard deviations, 2.28 of these.
        assert np.abs(kernel).max() > 3 * np.sqrt(variance)
    norms = [x for x in net.layers if isinstance(x, BatchNormalization)]
    for norm in norms:
        for value, initial in zip(norm.get_weights(), (1.0, 0.0, 0.0, 1.0), strict=True):
            np.testing.assert_array_equal(value, np.full(value.shape, initial))
    kernel, bias = net.get_layer("predictions").get_weights()
    assert kernel.std() == pytest.approx(0.01, rel=0.05)
    assert not bias.any()


def test_equal_layers_start_unlike():
    net = keras_resnet.ResNet20()
    kernels = [net.get_layer(f"conv2_block{i}_1_conv").get_weights()[0] for i in (1, 2, 3)]
    for i in range(3):
        for j in range(i):
            assert abs(np.corrcoef(np.ravel(kernels[i]), np.ravel(kernels[j]))[0, 1]) < 0.1


@pytest.mark.parametrize("stack_blocks", [False, True])
def test_same_seed_same_net(stack_blocks):
    nets = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        nets.append(keras_resnet.CifarResNet(14, stack_blocks=stack_blocks))
    values = [np.concatenate([w.ravel() for w in net.get_weights()]) for net in nets]
    np.testing.assert_array_equal(values[0], values[1])
    assert (values[0] != values[2]).any()


def test_dropout_acts_in_training_only():
    net = keras_resnet.CifarResNet(14, input_shape=(8, 8, 3), dropout=0.5)
    x = tf.constant(images(2, 8, 8, 3))
    features = keras.Model(net.input, net.get_layer("conv2_block1_dropout").output)
    kept = features(x, training=True) != 0
    before = features(x, training=False) != 0
    share = np.sum(kept) / np.sum(before)
    assert 0.4 < share < 0.6
    np.testing.assert_array_equal(net(x, training=False), net(x, training=False))


# --- stochastic depth ------------------------------------------------------------------------


def test_rates_rise_along_a_line():
    """Section 3 of arXiv 1603.09382: block l of L drops at l / L of the last one's rate."""
    options = {"input_shape": (8, 8, 3), "stochastic_depth": 0.45}
    net = keras_resnet.CifarResNet(20, **options)
    rates = [layer.rate for layer in net.layers if isinstance(layer, StochasticDepth)]
    np.testing.assert_allclose(rates, 0.45 * np.arange(1, 10) / 9)
    stacked = keras_resnet.CifarResNet(20, **options, stack_blocks=True)
    in_stack = [stacked.get_layer(f"conv{s}_stack").drop_rates for s in (2, 3, 4)]
    np.testing.assert_allclose(in_stack, np.reshape(rates, (3, 3))[:, 1:])


def test_a_dropped_branch_leaves_the_shortcut():
    x = np.random.default_rng(0).uniform(0, 1, (400, 2, 2, 8)).astype("float32")
    block = block_model(8, 8, size=(2, 2), drop_rate=0.25, shortcut="A")
    outputs = ops.convert_to_numpy(block(x, training=True))
    dropped = (outputs == x).all(axis=(1, 2, 3))
    # Of 400 draws, three standard deviations.
    assert dropped.mean() == pytest.approx(0.25, abs=0.065)
    assert [layer.name for layer in block.layers if "drop" in layer.name] == ["block_drop"]


def test_a_kind_of_block_with_a_branch_of_its_own(monkeypatch, tmp_path):
    """By the text of CONTRIBUTING: one entry and one function."""

    def doubled(x, width, step, parts, name):
        x = convolutions(x, width, step, parts, name)
        return keras.layers.Rescaling(2.0, name=f"{name}_double")(x)

    monkeypatch.setitem(BLOCKS, "doubled", Block((3, 3), expansion=1, grouped=False))
    monkeypatch.setitem(BRANCHES, "doubled", doubled)
    options = {"stem": "cifar", "widths": (4, 8, 8), "input_shape": (8, 8, 3), "classes": 2}
    basic = keras_resnet.ResNet((1, 2, 1), block="basic", **options)
    model = keras_resnet.ResNet((1, 2, 1), block="doubled", weights=None, **options)
    assert model.count_params() == basic.count_params()
    assert model.get_layer("conv3_block2_double").scale == 2.0
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.network.arguments["block"] == "doubled"
    deeper = keras_resnet.deepen(model, (2, 2, 2))
    assert distance(deeper(images(2, 8, 8, 3)), model(images(2, 8, 8, 3))) < 1e-6
