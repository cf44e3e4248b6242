"""The networks as a whole: exact sizes, depth, inputs, names, saving, precision."""

from __future__ import annotations

import functools
import inspect
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_resnet
from keras_resnet.analysis import complexity
from keras_resnet.architectures import Stem
from keras_resnet.layers import BlockStack
from tests.helpers import distance, images, randomize, refused, trainable_parameters

# Trainable parameters by shortcut option, from the layers' shapes; "B" for ImageNet is what
# torchvision publishes. "A" is also the plain net's.
IMAGENET = {
    18: {"A": 11_515_688, "B": 11_689_512, "C": 12_043_816},
    34: {"A": 21_623_848, "B": 21_797_672, "C": 22_716_840},
    50: {"A": 22_780_456, "B": 25_557_032, "C": 40_128_552},
    101: {"A": 41_772_584, "B": 44_549_160, "C": 76_981_288},
    152: {"A": 57_416_232, "B": 60_192_808, "C": 107_335_720},
}
CIFAR = {
    20: {"A": 269_722, "B": 272_474, "C": 283_962},
    32: {"A": 464_154, "B": 466_906, "C": 489_594},
    44: {"A": 658_586, "B": 661_338, "C": 695_226},
    56: {"A": 853_018, "B": 855_770, "C": 900_858},
    110: {"A": 1_727_962, "B": 1_730_714, "C": 1_826_202},
    1202: {"A": 19_421_274, "B": 19_424_026, "C": 20_538_714},
}
# Moving statistics of the option B nets.
STATISTICS = {18: 9_600, 34: 17_024, 50: 53_120, 101: 105_344, 152: 151_424}
# Multiply-adds of the option B nets at 224x224, in 1e9.
MULTIPLY_ADDS = {
    "v1": {18: 1.814, 34: 3.664, 50: 3.858, 101: 7.570, 152: 11.282},
    "v1.5": {18: 1.814, 34: 3.664, 50: 4.089, 101: 7.801, 152: 11.514},
}


def weighted_layers(model) -> int:
    """Returns the most convolutions and dense layers on any path through the layers' graph."""
    most = {}
    for layer in model.layers:  # in topological order
        (node,) = layer._inbound_nodes
        before = max((most[parent.operation.name] for parent in node.parent_nodes), default=0)
        if isinstance(layer, BlockStack):
            own = layer.repeats * weighted_layers(layer.block)
        else:
            own = isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))
        most[layer.name] = before + own
    return max(most.values())


# Each named net as its builder makes it.
DEFAULTS = [(depth, "B") for depth in IMAGENET] + [(depth, "A") for depth in CIFAR]


@pytest.mark.parametrize(("depth", "shortcut"), DEFAULTS)
def test_named_network(depth, shortcut, no_draws):
    imagenet = depth in IMAGENET
    model = getattr(keras_resnet, f"ResNet{depth}")()
    assert model.name == f"resnet{depth}"
    assert model.input_shape == (None, *((224, 224, 3) if imagenet else (32, 32, 3)))
    assert model.output_shape == (None, 1000 if imagenet else 10)
    assert any(isinstance(layer, BlockStack) for layer in model.layers) == (depth == 1202)
    assert weighted_layers(model) == depth
    assert trainable_parameters(model) == (IMAGENET | CIFAR)[depth][shortcut]
    if imagenet:
        assert model.count_params() == IMAGENET[depth]["B"] + STATISTICS[depth]
        cost = complexity(model)
        assert cost.parameters == IMAGENET[depth]["B"]
        assert cost.non_trainable == STATISTICS[depth]
        assert round(cost.multiply_adds / 1e9, 3) == MULTIPLY_ADDS["v1"][depth]


# All others, as stacks: they build several times faster, and are the same by test_block_stack.py.
OTHERS = [
    (depth, shortcut)
    for depth in IMAGENET | CIFAR
    for shortcut in ("A", "B", "C", None)
    if (depth, shortcut) not in DEFAULTS
]


@pytest.mark.parametrize(("depth", "shortcut"), OTHERS)
def test_shortcut_options(depth, shortcut, no_draws):
    model = getattr(keras_resnet, f"ResNet{depth}")(shortcut=shortcut, stack_blocks=True)
    assert weighted_layers(model) == depth
    assert trainable_parameters(model) == (IMAGENET | CIFAR)[depth][shortcut or "A"]


@pytest.mark.parametrize("depth", IMAGENET)
def test_version_1_5(depth, no_draws):
    model = getattr(keras_resnet, f"ResNet{depth}")(version="v1.5", stack_blocks=True)
    assert trainable_parameters(model) == IMAGENET[depth]["B"]
    assert model.count_params() == IMAGENET[depth]["B"] + STATISTICS[depth]
    assert round(complexity(model).multiply_adds / 1e9, 3) == MULTIPLY_ADDS["v1.5"][depth]


@pytest.mark.parametrize("depth", [18, 34, 20, 32, 44, 56, 110])
def test_plain_networks(depth, no_draws):
    model = getattr(keras_resnet, f"PlainNet{depth}")()
    assert model.name == f"plainnet{depth}"
    assert weighted_layers(model) == depth
    assert trainable_parameters(model) == (IMAGENET | CIFAR)[depth]["A"]
    kinds = {type(layer).__name__ for layer in model.layers}
    assert kinds.isdisjoint({"Add", "ZeroPadShortcut", "BlockStack"})


# To the last digit those of timm (V2, D, and SE, whose form in the paper is "legacy_seresnet50")
# and torchvision (groups and width, for ImageNet); of CIFAR nets the papers say 1.7 M, 1.7 M and
# 10.2 M (arXiv 1603.05027), 34.4 M (1611.05431), and 11.0 M, 36.5 M and 8.9 M (1605.07146).
VARIANTS = {
    "ResNet18V2": 11_687_720,
    "ResNet34V2": 21_795_880,
    "ResNet50V2": 25_549_352,
    "ResNet101V2": 44_541_480,
    "ResNet152V2": 60_185_128,
    "ResNet110V2": 1_727_962,
    "ResNet164V2": 1_703_258,
    "ResNet1001V2": 10_327_706,
    "ResNet18D": 11_708_744,
    "ResNet34D": 21_816_904,
    "ResNet50D": 25_576_264,
    "ResNet101D": 44_568_392,
    "ResNet152D": 60_212_040,
    "SEResNet18": 11_778_592,
    "SEResNet34": 21_958_868,
    "SEResNet50": 28_088_024,
    "SEResNet101": 49_326_872,
    "SEResNet152": 66_821_848,
    "ResNeXt50_32x4d": 25_028_904,
    "ResNeXt101_32x8d": 88_791_336,
    "ResNeXt101_64x4d": 83_455_272,
    "SEResNeXt50_32x4d": 27_559_896,
    "SEResNeXt101_32x4d": 48_955_416,
    "SEResNeXt101_64x4d": 88_232_984,
    "ResNet26": 15_995_176,
    "ResNeXt29_8x64d": 34_426_698,
    "WideResNet50_2": 68_883_240,
    "WideResNet101_2": 126_886_696,
    "WideResNet16_8": 10_961_370,
    "WideResNet28_10": 36_479_194,
    "WideResNet40_4": 8_949_210,
}


@pytest.mark.parametrize("name", VARIANTS)
def test_named_variant(name, no_draws):
    model = getattr(keras_resnet, name)(stack_blocks=True)
    assert model.name == name.lower()
    assert trainable_parameters(model) == VARIANTS[name]
    line = keras_resnet.architectures.ARCHITECTURES[name]
    # What the number in the name does not count: two more convolutions of a deep stem, and two in
    # every gate; what it does count in wide nets: a projection.
    extra = 2 * line.deep_stem + 2 * bool(line.squeeze_excitation) * sum(line.repeats)
    extra -= 2 * (line.stem_filters == 16 and line.widths[0] > 16)
    assert weighted_layers(model) == line.depth + extra


@pytest.mark.parametrize(("depth", "count"), [(18, 11_779_624), (34, 21_960_416)])
def test_timms_rounding_of_squeeze_and_excitation(depth, count, no_draws):
    """8 channels in place of 64 / 16 = 4, as in timm's seresnet18 and 34; deeper ones are alike."""
    model = getattr(keras_resnet, f"SEResNet{depth}")(se_divisor=8, stack_blocks=True)
    assert trainable_parameters(model) == count
    model = keras_resnet.SEResNet50(se_divisor=8, stack_blocks=True)
    assert trainable_parameters(model) == VARIANTS["SEResNet50"]


@pytest.mark.parametrize(("channels", "reduced"), [(8, 4), (16, 4), (24, 8), (40, 12), (56, 16)])
def test_channels_of_squeeze_and_excitation_are_the_nearest_multiple(channels, reduced):
    """Of 4, for a reduction of 4: 2, 4, 6, 10 and 14, halves up."""
    options = {"block": "basic", "squeeze_excitation": 4, "se_divisor": 4, "stem": "cifar"}
    model = keras_resnet.ResNet((1,), widths=(channels,), input_shape=(8, 8, 3), **options)
    assert model.get_layer("conv2_block1_se_reduce").filters == reduced


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("deep_stem", [False, True])
@pytest.mark.parametrize("stem_pool", ["padded", "ceil", "first"])
def test_pools_of_the_stem(stem_pool, deep_stem, activation):
    """Each against the maxima of its windows, for even and odd maps."""
    options = {"version": "v2", "deep_stem": deep_stem, "activation": activation}
    net = keras_resnet.ResNet(
        *((1, 1),), widths=(4, 8), include_top=False, stem_pool=stem_pool, **options
    )
    randomize(net)
    names = [layer.name for layer in net.layers]
    last = "conv" if stem_pool == "first" else activation
    maps = net.get_layer(f"conv1_{'3_' if deep_stem else ''}{last}").output
    before = max(names.index(name) for name in names if name.startswith("pool1_"))
    pooled = keras.Model(net.input, [maps, net.layers[before].output])
    for sides in ((32, 38), (34, 45)):
        map_, found = (np.asarray(y) for y in pooled(images(2, *sides, 3, low=-1, high=1)))
        # Padded in front and behind.
        width = ((0, 1) if stem_pool == "ceil" else (1, 1),) * 2
        padded = np.pad(map_, ((0, 0), *width, (0, 0)), constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        np.testing.assert_array_equal(found, windows[:, ::2, ::2].max((-2, -1)))
    assert ("conv2_block1_preact_bn" in names) == (stem_pool == "first")


@pytest.mark.parametrize(
    ("depth", "widening", "millions"), [(40, 1, 0.6), (40, 2, 2.2), (22, 8, 17.2)]
)
def test_any_wide_network(depth, widening, millions, no_draws):
    """Table 4 of arXiv 1605.07146."""
    model = keras_resnet.CifarWideResNet(depth, widening, stack_blocks=True)
    assert model.name == f"wideresnet{depth}_{widening}"
    assert round(trainable_parameters(model) / 1e6, 1) == millions


@pytest.mark.parametrize("depth", [8, 14, 38])
def test_any_cifar_depth(depth):
    model = keras_resnet.CifarResNet(depth, shortcut="B", classes=7)
    assert weighted_layers(model) == depth
    assert (model.name, model.output_shape) == (f"resnet{depth}_b", (None, 7))


# --- inputs ----------------------------------------------------------------------------------

# Sides of the maps that leave the four stages (or three) of a net, by the input's.
END_POINTS = [
    ("ResNet18", (64, 64, 3), [(16, 16), (8, 8), (4, 4), (2, 2)]),
    ("ResNet18", (65, 47, 3), [(17, 12), (9, 6), (5, 3), (3, 2)]),
    ("ResNet50", (33, 63, 3), [(9, 16), (5, 8), (3, 4), (2, 2)]),
    ("ResNet20", (33, 29, 3), [(33, 29), (17, 15), (9, 8)]),
    ("ResNet20", (8, 8, 1), [(8, 8), (4, 4), (2, 2)]),
]


@pytest.mark.parametrize(("name", "shape", "sides"), END_POINTS, ids=str)
def test_end_points(name, shape, sides):
    model = getattr(keras_resnet, name)(input_shape=shape, include_top=False, stack_blocks=True)
    channels = {"ResNet18": 64, "ResNet50": 256, "ResNet20": 16}[name]
    maps = [model.get_layer(f"conv{i}_stack").output for i in range(2, 2 + len(sides))]
    for i, (feature_map, side) in enumerate(zip(maps, sides, strict=True)):
        assert tuple(feature_map.shape) == (None, *side, channels * 2**i)
    y = model(images(1, *shape))
    assert tuple(y.shape) == (1, *sides[-1], channels * 2 ** (len(sides) - 1))
    assert float(ops.min(y)) >= 0.0


@pytest.mark.parametrize("channels", [1, 4, 13])
def test_any_number_of_channels(channels):
    model = keras_resnet.CifarResNet(8, input_shape=(12, 10, channels))
    assert model.get_layer("conv1_conv").kernel.shape == (3, 3, channels, 16)
    y = model(images(2, 12, 10, channels))
    assert y.shape == (2, 10)
    np.testing.assert_allclose(ops.sum(y, axis=1), 1.0, rtol=1e-5)


def test_numbers_of_numpy():
    shape = tuple(np.array([12, 10, 3]))
    model = keras_resnet.ResNet(
        np.array([1, 2]), block="basic", widths=np.array([4, 6]), stem="cifar", input_shape=shape
    )
    assert model.input_shape == (None, 12, 10, 3)
    assert all(type(side) is int for side in model.input_shape[1:])
    assert keras_resnet.CifarResNet(np.int64(8), classes=np.int32(4)).output_shape == (None, 4)


def test_open_sides():
    options = {"classes": 4, "classifier_activation": None}
    opened = keras_resnet.CifarResNet(8, input_shape=(None, None, 3), **options)
    for size in ((8, 8), (9, 14)):
        closed = keras_resnet.CifarResNet(8, input_shape=(*size, 3), **options)
        keras_resnet.copy_weights(opened, closed)
        x = images(2, *size, 3)
        assert distance(opened(x), closed(x)) < 1e-6


@pytest.mark.parametrize("name", ["ResNet18", "ResNet20"])
def test_without_top_any_size_is_the_default(name):
    model = getattr(keras_resnet, name)(include_top=False)
    assert model.input_shape == (None, None, None, 3)


@pytest.mark.parametrize("pooling", [None, "avg", "max"])
def test_pooling(pooling):
    maps = keras_resnet.CifarResNet(8, include_top=False, input_shape=(8, 8, 3))
    model = keras_resnet.CifarResNet(8, include_top=False, pooling=pooling, input_shape=(8, 8, 3))
    keras_resnet.copy_weights(maps, model)
    x = images(2, 8, 8, 3)
    expected = ops.convert_to_numpy(maps(x))
    assert expected.shape == (2, 2, 2, 64)
    if pooling is not None:
        reduce = {"avg": np.mean, "max": np.max}[pooling]
        expected = reduce(expected, axis=(1, 2))
    assert distance(model(x), expected) < 1e-6
    assert "predictions" not in [layer.name for layer in model.layers]


def test_classifier_activation():
    options = {"input_shape": (8, 8, 3), "classes": 5}
    logits = keras_resnet.CifarResNet(8, classifier_activation=None, **options)
    softmax = keras_resnet.CifarResNet(8, **options)
    sigmoid = keras_resnet.CifarResNet(8, classifier_activation=ops.sigmoid, **options)
    for model in (softmax, sigmoid):
        keras_resnet.copy_weights(logits, model)
    x = images(3, 8, 8, 3)
    assert distance(softmax(x), ops.softmax(logits(x))) < 1e-6
    assert distance(sigmoid(x), ops.sigmoid(logits(x))) < 1e-6


def test_input_tensor_in_the_middle_of_a_graph():
    raw = keras.Input((8, 8, 3), dtype="uint8", name="raw")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(raw)
    model = keras_resnet.CifarResNet(8, input_tensor=scaled)
    plain = keras_resnet.CifarResNet(8, input_shape=(8, 8, 3))
    keras_resnet.copy_weights(model, plain)
    x = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), "uint8")
    assert distance(model(x), plain(x / np.float32(127.5) - 1)) < 1e-5
    assert [i.name for i in model.inputs] == ["raw"]
    assert "rescaling" in [layer.name for layer in model.layers]


@pytest.mark.filterwarnings("error::UserWarning")  # Keras warns of inputs of another structure
def test_input_tensor_that_is_an_input():
    inputs = keras.Input((8, 8, 1), name="digits")
    model = keras_resnet.CifarResNet(8, input_tensor=inputs, input_shape=(8, 8, 1))
    assert model.inputs == [inputs]
    again = keras_resnet.CifarResNet(8, input_shape=(8, 8, 1))
    keras_resnet.copy_weights(model, again)
    x = images(2, 8, 8, 1)
    np.testing.assert_array_equal(model(x), again(x))


def test_as_part_of_a_larger_model():
    inputs = keras.Input((8, 8, 3))
    backbone = keras_resnet.CifarResNet(8, include_top=False, pooling="avg")
    model = keras.Model(inputs, keras.layers.Dense(2)(backbone(inputs)))
    assert model(images(3, 8, 8, 3)).shape == (3, 2)


# --- names -----------------------------------------------------------------------------------

# Those of all kinds are in tests/snapshot; here are those that are not.


def test_names_of_weighted_layers_are_those_of_keras_applications():
    options = {"input_shape": (32, 32, 3), "classes": 2}
    models = keras_resnet.ResNet50(**options), keras.applications.ResNet50(weights=None, **options)
    ours, theirs = ({x.name for x in m.layers if x.name.endswith(("conv", "bn"))} for m in models)
    assert ours == theirs


def test_other_names():
    features = keras_resnet.CifarResNet(8, include_top=False, pooling="max")
    assert features.layers[-1].name == "max_pool"
    assert keras_resnet.CifarResNet(8, name="mine", shortcut="C").name == "mine"
    assert keras_resnet.PlainNet20(shortcut="A").name == "resnet20"
    assert keras_resnet.ResNet((1, 1), widths=(2, 4), input_shape=(64, 64, 3)).name == "resnet"


@pytest.mark.parametrize("activation", ["silu", keras.layers.ReLU(negative_slope=0.1)])
def test_the_stem_is_padded_by_zeros_only_where_these_are_neutral(activation):
    model = keras_resnet.ResNet((1, 1), widths=(8, 8), activation=activation)
    names = {layer.name for layer in model.layers}
    assert {"pool1_pool", "pool1_stride"} <= names and "pool1_pad" not in names


# --- the general builder ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "shape", "depth", "output"),
    [
        (((1, 2), (8, 24), "bottleneck", Stem(5, 1, pool=True)), (16, 16, 3), 2 + 9, (4, 4, 96)),
        (([2], [5], "basic", Stem(1, 1, pool=False)), (1, 1, 2), 2 + 4, (1, 1, 5)),
        (((1,) * 5, (4, 4, 6, 6, 8), "basic", "cifar"), (16, 17, 3), 2 + 10, (1, 2, 8)),
        (((1, 1), (8, 4), "basic", Stem(3, 2, pool=False)), (9, 9, 1), 2 + 4, (3, 3, 4)),
    ],
    ids=["stem with pool", "one pixel", "five stages", "decreasing widths"],
)
def test_general_builder(options, shape, depth, output):
    options = dict(zip(("blocks", "widths", "block", "stem"), options, strict=True))
    model = keras_resnet.ResNet(**options, input_shape=shape, classes=3)
    assert weighted_layers(model) == depth
    assert model(images(2, *shape)).shape == (2, 3)
    features = keras_resnet.ResNet(**options, input_shape=shape, include_top=False)
    assert features(images(8, *shape)).shape == (8, *output)


def test_general_builder_makes_the_named_nets():
    options = {"input_shape": (32, 32, 3), "classes": 3}
    named = keras_resnet.ResNet18(**options)
    general = keras_resnet.ResNet((2, 2, 2, 2), block="basic", name="resnet18", **options)
    configs = [[layer.get_config() for layer in m.layers[1:]] for m in (named, general)]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("name", ["ResNet20", "resnet20", "RESNET20"])
def test_build_by_name(name):
    model = keras_resnet.build(name, input_shape=(8, 8, 1), classes=3, shortcut="B")
    assert (model.name, model.output_shape) == ("resnet20_b", (None, 3))


@pytest.mark.parametrize("name", ["ResNet21", "", "resnet-20", None])
def test_build_by_an_unknown_name(name):
    with refused("ResNet18, ", "DenseNetBC100_12", repr(name)):
        keras_resnet.build(name)


def test_arguments_follow_keras_applications():
    theirs = list(inspect.signature(keras.applications.ResNet50).parameters)
    for name in ("ResNet50", "ResNet20", "PlainNet18", "ResNet1202"):
        builder = getattr(keras_resnet, name)
        parameters = list(inspect.signature(builder).parameters)
        assert parameters[:8] == theirs[:8]
        assert builder.__name__ == name
        assert builder.__doc__.startswith(f"Builds {name}, ")
        assert all(f"{name}: " in keras_resnet.ResNet.__doc__ for name in parameters)
        assert all(f"{name}: " in builder.__doc__ for name in parameters[:8])
        assert pickle.loads(pickle.dumps(builder)) is builder
    assert list(inspect.signature(keras_resnet.ResNet).parameters)[1:9] == theirs[:8]


def test_by_position():
    inputs = keras.Input((8, 8, 3))
    model = keras_resnet.ResNet20(True, None, inputs, (8, 8, 3), None, 4, None, "positional")
    assert (model.name, model.output_shape) == ("positional", (None, 4))
    features = keras_resnet.CifarResNet(8, False, None, None, (8, 8, 3), "avg", shortcut="C")
    assert features.output_shape == (None, 64)
    assert features.get_layer("conv2_block1_0_conv") is not None


# --- saving ----------------------------------------------------------------------------------

SAVED = {
    "A": {"shortcut": "A", "include_preprocessing": True},
    "B, dropout, penalty": {"shortcut": "B", "dropout": 0.2, "kernel_regularizer": "l2"},
    "stacked": {"stack_blocks": True, "dropout": 0.2, "recompute": True},
    "stochastic depth": {"stochastic_depth": 0.5},
    "open sides": {"input_shape": (None, None, 3), "zero_init_residual": True},
}

LOAD = """
import sys
import keras
import keras_resnet
import numpy as np

for name in sys.argv[1:]:
    model = keras.models.load_model(f"{name}.keras", safe_mode=True)
    data = np.load(f"{name}.npz", allow_pickle=False)
    found = keras.ops.convert_to_numpy(model(data["x"]))
    assert found.dtype == np.float32
    # The same kernels on the same machine; another number of threads may sum in another order.
    np.testing.assert_allclose(found, data["y"], rtol=1e-5, atol=1e-6)
print("same outputs")
"""


# The wider family: one small net for each kind of block, stem and normalization.
KINDS = {
    "v2": {"block": "basic", "version": "v2", "shortcut": "A"},
    "v2, bottleneck, gates": {"version": "v2", "squeeze_excitation": 4},
    "D": {"version": "v1.5", "deep_stem": True, "shortcut_pool": True, "stem": "imagenet"},
    "groups, group normalization": {"groups": 2, "width_per_group": 32, "normalization": "group"},
    "silu, gates": {"block": "basic", "activation": "silu", "squeeze_excitation": 2},
    "wide": {"block": "basic", "version": "v2", "stem_filters": 4, "dropout": 0.2},
}


def small_net(kind, **options):
    """A net of one kind, for images of any size from 8x8 on."""
    sizes = {"blocks": (2, 1), "widths": (8, 16), "input_shape": (16, 16, 3)}
    defaults = {**sizes, "stem": "cifar", "classes": 5}
    return keras_resnet.ResNet(**{**defaults, **KINDS[kind], **options})


@pytest.mark.parametrize("kind", ["v2, bottleneck, gates", "D", "groups, group normalization"])
def test_kind_learns(kind):
    model = small_net(kind, zero_init_residual=True)
    model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy", jit_compile=False)
    x, labels = images(10, 16, 16, 3), np.arange(10) % 5
    losses = [model.train_on_batch(x, labels) for _ in range(6)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_saved_models_answer_the_same_in_a_fresh_process(subprocess_python, tmp_path):
    cases = {name: SAVED[name] for name in ("A", "stacked")} | {"mixed": {"stack_blocks": True}}
    for name, options in (cases | KINDS).items():
        keras.config.set_dtype_policy("mixed_bfloat16" if name == "mixed" else "float32")
        if name in KINDS:
            model = small_net(name, input_shape=(8, 8, 3), stack_blocks=name.startswith("v2"))
        else:
            depth = 14 if "stack_blocks" in options else 8
            model = keras_resnet.CifarResNet(depth, **{"input_shape": (8, 8, 3), **options})
        randomize(model)
        model.save(tmp_path / f"{name}.keras")
        x = images(2, 8, 8, 3, low=0.0, high=255.0 if "include_preprocessing" in options else 1.0)
        np.savez(tmp_path / f"{name}.npz", x=x, y=ops.convert_to_numpy(model(x)))
    assert subprocess_python(LOAD, *cases, *KINDS).stdout.splitlines()[-1] == "same outputs"


@pytest.mark.parametrize("name", SAVED)
def test_clone(name):
    model = randomize(keras_resnet.CifarResNet(8, **{"input_shape": (8, 8, 3), **SAVED[name]}))
    cloned = keras.models.clone_model(model)
    assert [w.path for w in cloned.weights] == [w.path for w in model.weights]
    assert all(a is not b for a, b in zip(cloned.weights, model.weights, strict=True))
    cloned.set_weights(model.get_weights())
    x = images(2, 8, 8, 3)
    np.testing.assert_array_equal(cloned(x), model(x))
    assert len(cloned.losses) == len(model.losses)


def test_summary_and_json(capsys):
    model = keras_resnet.CifarResNet(8, stack_blocks=True)
    model.summary()
    assert "conv2_block1_1_conv" in capsys.readouterr().out
    again = keras.models.model_from_json(model.to_json())
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]


# --- precision and training ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "half"),
    [
        *((name, half) for name in ("ResNet20", "ResNet18") for half in ("bfloat16", "float16")),
        *((kind, "bfloat16") for kind in KINDS),
    ],
)
def test_mixed_precision(name, half):
    shape = (32, 32, 3) if name == "ResNet18" else (16, 16, 3)
    build = functools.partial(small_net, name) if name in KINDS else getattr(keras_resnet, name)
    options = {"input_shape": shape, "classes": 10, "classifier_activation": None}
    full = build(**options)
    if name in KINDS:
        randomize(full)
    keras.config.set_dtype_policy(f"mixed_{half}")
    model = build(**options)
    keras_resnet.copy_weights(full, model)
    assert {w.dtype for w in model.weights} == {"float32"}
    assert {keras.backend.standardize_dtype(model.get_layer("avg_pool").output.dtype)} == {half}
    x = images(4, *shape)
    y = model(x)
    assert y.dtype == tf.float32
    # Some twenty roundings to 8 or 11 bits on the way, which add up like a random walk.
    assert distance(y, full(x)) < {"bfloat16": 0.1, "float16": 0.0125}[half]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("stack_blocks", [False, True], ids=["unrolled", "stacked"])
def test_one_training_step(policy, stack_blocks):
    keras.config.set_dtype_policy(policy)
    sizes = {"widths": (16,), "stem": "cifar", "classes": 10, "input_shape": (8, 8, 3)}
    penalty = keras.regularizers.L2(5e-5)
    options = {"stack_blocks": stack_blocks, "kernel_regularizer": penalty}
    model = keras_resnet.ResNet((2,), block="basic", **sizes, **options)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    before = model.get_weights()
    x, labels = images(8, 8, 8, 3), np.arange(8)
    losses = [model.train_on_batch(x, labels) for _ in range(8)]
    assert np.isfinite(losses).all()
    # The first guesses of ten classes are worth ln 10, and a batch seen again is known better.
    assert losses[0] == pytest.approx(np.log(10), abs=0.5)
    assert losses[-1] < losses[0]
    for old, new in zip(before, model.get_weights(), strict=True):
        assert np.isfinite(new).all()
        assert (old != new).any()
