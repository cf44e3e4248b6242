"""Every wrong argument of a builder: one line that names it, what was received, and what would do.

Weights files have their own in tests/weights/test_files.py.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet import (
    CifarResNet,
    PlainNet20,
    ResNet,
    ResNet18,
    ResNet20,
    ResNet50,
    ResNet1202,
    models,
)
from keras_resnet.architectures import BLOCKS
from keras_resnet.weights import copy_weights
from tests.helpers import distance, refused

SMALL = {"input_shape": (8, 8, 3)}


def general(blocks=(1, 1), **options):
    return ResNet(blocks, **{"widths": (4, 8), "input_shape": (32, 32, 3), **options})


def dense(blocks=(3, 2), **options):
    return models.DenseNet(blocks, **{"stem": "cifar", "input_shape": (9, 8, 3), **options})


def CifarDenseNet(depth=100, growth_rate=12, **options):  # noqa: N802
    return models.CifarDenseNet(depth, growth_rate, **options)


def CifarWideResNet(depth=10, widening=1, **options):  # noqa: N802
    return models.CifarWideResNet(depth, widening, **options)


def case(build, argument, received, *words, **options):
    id = f"{build.__name__}-" + ",".join(f"{name}={value!r}" for name, value in options.items())
    return pytest.param(build, options, argument, received, words, id=id)


def wrong(build, argument, *values, words=()):
    """One case for each wrong value of one argument."""
    for value in values:
        yield case(build, argument, repr(value), *words, **{argument: value})


CASES = [
    *wrong(ResNet20, "shortcut", "D", "a", "none", "", 0, False, ("A",),
           words=("'A', 'B', 'C', None",)),
    *wrong(ResNet50, "version", "v3", "1.5", 1.5, None, "V1", words=("'v1', 'v1.5', 'v2'",)),
    *wrong(general, "block", "wide", None, "Basic", 3, words=(", ".join(map(repr, BLOCKS)),)),
    *wrong(general, "stem", "mnist", None, 7, (7, 2, True), words=("'imagenet', 'cifar'",)),
    case(ResNet20, "pooling", "'mean'", "None, 'avg', 'max'", pooling="mean", include_top=False),
    # depth
    *wrong(CifarResNet, "depth", 21, 2, -4, 0, 1, 7, 19, 20.0, True, "20", None,
           words=("6n+2", "8, 14, 20")),
    # classes
    *wrong(ResNet20, "classes", 0, -1, 2.5, True, "10"),
    # rates and numbers
    *wrong(ResNet20, "dropout", 1.0, 1, -0.1, "x", None, True, float("nan"), 50),
    *wrong(ResNet20, "stochastic_depth", 1.0, -0.1, "x", None, True),
    *wrong(PlainNet20, "stochastic_depth", 0.5),
    *wrong(ResNet20, "bn_momentum", 1.0, -0.1, "x", None, float("nan"), 99),
    *wrong(ResNet20, "bn_epsilon", 0, 0.0, -1e-5, "x", None, float("nan"), float("inf")),
    *wrong(ResNet20, "kernel_regularizer", "l3", 0.1, "L-2"),
    *wrong(ResNet20, "classifier_activation", "sotfmax", 3),
    *wrong(ResNet20, "zero_init_residual", "no", None, 2),
    *wrong(ResNet20, "include_preprocessing", "no", None, 2),
    *wrong(ResNet20, "conv_bias", "no", None, 2),
    *wrong(ResNet20, "keras_names", "no", None, 2),
    *wrong(ResNet20, "include_top", "no", None, 1000),
    *wrong(ResNet20, "synchronized_bn", "no", None, 2),
    *wrong(ResNet20, "recompute", "no", None, 2),
    *wrong(ResNet20, "stack_blocks", "yes", 1, 0, words=("None, True, False",)),
    # the wider family
    *wrong(ResNet20, "squeeze_excitation", 0, 0.5, True, "yes"),
    *wrong(ResNet20, "se_divisor", 0, 0.5, None, 8),
    *wrong(ResNet50, "stem_pool", "both", None, words=("'padded', 'ceil', 'first'",)),
    *wrong(ResNet50, "stem_pool", "first"),
    *wrong(ResNet20, "stem_pool", "ceil"),
    *wrong(ResNet50, "groups", 0, 2.0, None),
    *wrong(ResNet50, "width_per_group", 0, 2.0, None),
    *wrong(ResNet20, "groups", 2),
    *wrong(ResNet20, "width_per_group", 128),
    *wrong(general, "width_per_group", 5),
    *wrong(ResNet20, "deep_stem", "no", None, 2),
    *wrong(ResNet50, "shortcut_pool", "no", None, 2),
    *wrong(ResNet20, "shortcut_pool", True, words=("'B'", "'C'")),
    *wrong(ResNet20, "activation", "rellu", 3, None),
    *wrong(ResNet20, "normalization", "layer", None, 32, words=("'batch', 'group'",)),
    *wrong(general, "stem_filters", 0, 1.5, "16"),
    *wrong(PlainNet20, "version", "v2", "v2-keras"),
    *wrong(CifarWideResNet, "depth", 20, 4, 28.0, "22", None, words=("6n+4", "10, 16, 22")),
    *wrong(CifarWideResNet, "widening", 0, 0.5),
    *wrong(CifarDenseNet, "depth", 101, words=("6n+4",)),
    *wrong(CifarDenseNet, "growth_rate", -1),
    *wrong(dense, "growth_rate", 0),
    *wrong(dense, "blocks", ()),
    *wrong(dense, "stem", "mnist"),
    *wrong(dense, "input_shape", (1, 8, 3)),
    case(dense, "recompute", "stack_blocks=False", recompute=True, stack_blocks=False),
    case(dense, "stack_blocks", "stack_blocks=False", blocks=(200,), stack_blocks=False),
    # stages to give
    case(ResNet20, "features", "'C3'", "'C2', 'C3', 'C4'", features="C3", include_top=False),
    case(ResNet20, "features", "[]", features=[], include_top=False),
    case(ResNet20, "features", "'C5'", features=["C5"], include_top=False),
    case(ResNet20, "features", "include_top=True", features=["C3"]),
    case(ResNet20, "features", "'avg'", features=["C3"], include_top=False, pooling="avg"),
    case(ResNet20, "synchronized_bn", "'group'", "'batch'",
         synchronized_bn=True, normalization="group"),
    case(ResNet20, "zero_init_residual", "'group'", "'batch'",
         zero_init_residual=True, normalization="group", version="v2"),
    # what does not go together
    case(ResNet20, "zero_init_residual", "shortcut=None", zero_init_residual=True, shortcut=None),
    case(ResNet20, "recompute", "stack_blocks=False", recompute=True, stack_blocks=False),
    *wrong(ResNet1202, "stack_blocks", False),
    case(general, "widths", "(8, 4)", "shortcut='B'", widths=(8, 4), shortcut="A"),
    case(ResNet20, "include_preprocessing", "1 channels", "3 channels", "mean=(127.5, ...)",
         include_preprocessing=True, input_shape=(8, 8, 1)),
    # blocks and widths
    *wrong(general, "blocks", (), "12", 3, None, (1, 1, 1)),
    *wrong(general, "widths", (), "48", 3),
    *(case(general, name, f"{name}={value[at]!r}", **{name: value})
      for name in ("blocks", "widths")
      for value, at in (([0, 1], 0), ((1, -1), 1), ((1.0, 2), 0), ((1, True), 1))),
    # input_shape
    *wrong(ResNet20, "input_shape", (8, 8), (1, 8, 8, 3), (), 8, "8x8x3", (None, None, None),
           (8, 8, 0), (8, 8, -3), (8, 8, 3.0), (8, 8, True)),
    *wrong(ResNet20, "input_shape", (-8, 8, 3), (8, -8, 3), (8.0, 8, 3), (3, 8, 3), (8, 0, 3),
           (True, 8, 3), ("8", 8, 3), words=(" 4 ",)),
    *wrong(ResNet18, "input_shape", (31, 224, 3), (224, 31, 3), words=(" 32 ",)),
    *wrong(ResNet50, "input_shape", (31, 31, 3), words=(" 32 ",)),
    *wrong(general, "input_shape", (7, 32, 3), words=(" 8 ",)),
    # input_tensor
    *(case(ResNet20, "input_tensor", f"type {type(value).__name__}", input_tensor=value)
      for value in (3, "x", [1, 2], np.zeros(2))),
    *wrong(ResNet20, "data_format", "NHWC", words=("'channels_last', 'channels_first'",)),
]  # fmt: skip


@pytest.mark.parametrize(("build", "options", "argument", "received", "words"), CASES)
def test_wrong_argument(build, options, argument, received, words):
    with pytest.raises(ValueError, match="Received: ") as error:
        build(**({} if "input_shape" in options or build in (general, dense) else SMALL) | options)
    message = str(error.value)
    assert message.startswith(f"`{argument}` ")
    assert "\n" not in message
    assert [word for word in words if word not in message] == []
    assert received in message.partition("Received: ")[2]


@pytest.mark.parametrize(
    ("shape", "input_shape", "words"),
    [
        ((8, 8, 3), (8, 8, 1), ["`input_shape`", "(8, 8, 3)", "input_shape=(8, 8, 1)"]),
        ((8, 8, 3), (16, 16, 3), ["`input_shape`", "input_shape=(16, 16, 3)"]),
        ((8, 8, 3), (None, None, 3), ["`input_shape`", "input_shape=(None, None, 3)"]),
        ((None, None, 3), (8, 8, 3), ["`input_shape`", "input_shape=(8, 8, 3)"]),
        ((8, 8), None, ["`input_tensor`", "(height, width, channels)", "input_tensor=(8, 8)"]),
        ((2, 8, 3), None, ["`input_tensor`", " 4 "]),
        ((8, 8, None), None, ["`input_tensor`", "channels", "(8, 8, None)"]),
    ],
)
def test_input_tensor_and_shape(shape, input_shape, words):
    with refused(*words):
        ResNet20(input_tensor=keras.Input(shape), input_shape=input_shape)


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_input_tensor_of_whole_numbers(dtype):
    model = ResNet20(input_tensor=keras.Input((8, 8, 3), dtype=dtype))
    same = ResNet20(**SMALL)
    copy_weights(model, same)
    pixels = np.arange(192).reshape(1, 8, 8, 3)
    assert distance(model(pixels.astype(dtype)), same(pixels.astype("float32"))) < 1e-6


def test_arguments_that_mean_nothing_beside_others():
    """As in `keras.applications`: each has no effect, and none is remembered."""
    with_top = ResNet20(1, pooling="max", classes=4, **SMALL)
    assert with_top.output_shape == (None, 4)
    assert (with_top.network.arguments["include_top"], with_top.network.arguments["pooling"]) == (
        True,
        None,
    )
    without = ResNet20(include_top=0, classes=4, pooling="avg", **SMALL)
    assert without.output_shape == (None, 64)
    assert (without.network.arguments["include_top"], without.network.arguments["classes"]) == (
        False,
        None,
    )


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="a GPU can")
@pytest.mark.parametrize("how", ["argument", "Keras's setting"])
def test_channels_first_on_tensorflow_without_a_gpu(how):
    options = {"input_shape": (3, 8, 8)}
    if how == "argument":
        options["data_format"] = "channels_first"
    else:
        keras.config.set_image_data_format("channels_first")
    with refused("`data_format`", "'channels_last'", "data_format='channels_first'"):
        ResNet20(**options)


def test_too_small_an_image_would_really_fail():
    # The smallest side that is allowed leaves one pixel on the last map.
    for build, side in ((ResNet18, 32), (ResNet20, 4)):
        model = build(input_shape=(side, side, 3), include_top=False)
        assert model.output_shape[1:3] == (1, 1)


@pytest.mark.parametrize("name", ["ResNet20", "PlainNet18", "ResNet152"])
@pytest.mark.parametrize("wrong", [{"clases": 3}, {"blocks": (1, 1)}, {"stem": "cifar"}], ids=str)
def test_unknown_arguments_are_type_errors_that_name_the_builder(name, wrong):
    with pytest.raises(TypeError, match=rf"^{name}\(\) .*{next(iter(wrong))}"):
        getattr(keras_resnet, name)(**wrong)


def test_options_are_by_keyword_only():
    with pytest.raises(TypeError, match=r"^ResNet20\(\)"):
        ResNet20(True, None, None, (8, 8, 3), None, 10, "softmax", "name", "A")
