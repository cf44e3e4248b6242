"""The table of named networks against the paper's Table 1 and section 4.2."""

from __future__ import annotations

import keras
import pytest

import keras_resnet
from keras_resnet.architectures import (
    ARCHITECTURES,
    BLOCKS,
    Stem,
    cifar_architecture,
    cifar_repeats,
    find_architecture,
    is_network_name,
    wide_architecture,
)
from tests.helpers import refused

IMAGENET = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
CIFAR = {20: 3, 32: 5, 44: 7, 56: 9, 110: 18, 1202: 200}
NAMES = {f"ResNet{depth}" for depth in (*IMAGENET, *CIFAR)} | {
    f"PlainNet{depth}" for depth in (18, 34, 20, 32, 44, 56, 110)
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("kernel_size", value) for value in (4, 0, -1, 3.0)),
        *(("strides", value) for value in (0, True, "2")),
        ("pool", "no"),
    ],
)
def test_wrong_stem(name, value):
    with refused(f"`{name}`", f"{name}={value!r}"):
        Stem(**{name: value})


def test_every_network_of_the_paper_has_an_entry_and_all_entries_a_builder():
    assert set(ARCHITECTURES) >= NAMES
    assert set(ARCHITECTURES) <= set(keras_resnet.__all__)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_line(name):
    line = ARCHITECTURES[name]
    depth = int(name.removeprefix("Plain").removeprefix("Res").removeprefix("Net"))
    assert (line.name, line.depth, line.version) == (name, depth, "v1")
    if depth in IMAGENET:
        assert (line.block, line.repeats) == IMAGENET[depth]
        assert line.widths == (64, 128, 256, 512)
        assert line.stem == Stem(kernel_size=7, strides=2, pool=True)
        assert line.stem.reduction == 4
        assert line.shortcut == ("B" if name.startswith("ResNet") else None)
    else:
        assert (line.block, line.repeats) == ("basic", (CIFAR[depth],) * 3)
        assert line.widths == (16, 32, 64)
        assert line.stem == Stem(kernel_size=3, strides=1, pool=False)
        assert line.stem.reduction == 1
        assert line.shortcut == ("A" if name.startswith("ResNet") else None)
    # The first convolution, the blocks, and the classifier.
    assert 2 + BLOCKS[line.block].weighted_layers * sum(line.repeats) == depth


@pytest.mark.parametrize("depth", [8, 14, 20, 110, 1202, 2000])
def test_repeats_of_any_cifar_depth(depth):
    n = (depth - 2) // 6
    assert cifar_repeats(depth) == (n, n, n)
    line = cifar_architecture(depth, None)
    assert (line.name, line.depth, line.repeats) == (f"PlainNet{depth}", depth, (n, n, n))
    assert cifar_architecture(depth, "B").name == f"ResNet{depth}"


def test_a_network_of_a_published_depth_is_not_called_that():
    assert cifar_architecture(50).name == "CifarResNet50"
    assert cifar_architecture(152, None).name == "CifarPlainNet152"
    assert cifar_architecture(26).name == "CifarResNet26"
    assert find_architecture("ResNet26").family == "imagenet"
    line = ARCHITECTURES["ResNet20"]
    assert line.variant("A", "v1", activation=keras.activations.relu) is line


@pytest.mark.parametrize(
    ("line", "shortcut", "version", "name"),
    [
        ("ResNet50", "B", "v1", "ResNet50"),
        ("ResNet50", "B", "v1.5", "ResNet50_v1.5"),
        ("ResNet50", "C", "v1.5", "ResNet50_C_v1.5"),
        ("ResNet50", None, "v1", "PlainNet50"),
        ("ResNet18", "A", "v1", "ResNet18_A"),
        ("ResNet18", "B", "v1.5", "ResNet18"),  # basic blocks are the same in both versions
        ("ResNet20", "A", "v1", "ResNet20"),
        ("ResNet20", "B", "v1", "ResNet20_B"),
        ("PlainNet20", None, "v1", "PlainNet20"),
        ("PlainNet20", "A", "v1", "ResNet20"),
        ("PlainNet18", "A", "v1", "ResNet18_A"),
        ("ResNet50", "B", "v2", "ResNet50V2"),
        ("ResNet50", "C", "v2", "ResNet50V2_C"),
        ("ResNet50V2", "B", "v2-keras", "ResNet50_v2-keras"),
        ("ResNet20", "A", "v2-keras", "ResNet20_v2-keras"),
        ("ResNet50V2", "B", "v1.5", "ResNet50_v1.5"),
        ("ResNet20", "A", "v2", "ResNet20_v2"),
        ("ResNet20", "B", "v2", "ResNet20_B_v2"),  # not a wide network
        ("ResNet50D", "B", "v1", "ResNet50D_v1"),
        ("SEResNet50", None, "v1", "SEPlainNet50"),
        ("WideResNet28_10", "A", "v2", "WideResNet28_10_A"),
        ("ResNeXt50_32x4d", "B", "v1", "ResNeXt50_32x4d_v1"),
        ("ResNeXt50_32x4d", None, "v1.5", "ResNeXt50_32x4d_plain"),
    ],
)
def test_names_of_variants(line, shortcut, version, name):
    variant = ARCHITECTURES[line].variant(shortcut, version)
    assert (variant.name, variant.shortcut, variant.version) == (name, shortcut, version)
    assert variant.repeats == ARCHITECTURES[line].repeats
    assert variant.plain == (shortcut is None)


@pytest.mark.parametrize("name", ["ResNet50", "resnet50", "RESNET50"])
def test_find_architecture(name):
    assert find_architecture(name) is ARCHITECTURES["ResNet50"]


def test_find_the_version_of_keras():
    found = find_architecture("resnet101_v2-keras")
    assert (found.version, found.repeats) == ("v2-keras", (3, 4, 23, 3))
    assert is_network_name("resnet101_v2-keras")


@pytest.mark.parametrize(
    ("line", "options", "name"),
    [
        ("ResNet50", {"squeeze_excitation": 16}, "SEResNet50"),
        ("ResNet50", {"squeeze_excitation": 8}, "ResNet50_se8"),
        ("SEResNet50", {"squeeze_excitation": None}, "ResNet50"),
        ("SEResNet50", {"version": "v1.5"}, "SEResNet50_v1.5"),
        ("ResNet50", {"version": "v1.5", "deep_stem": True, "shortcut_pool": True}, "ResNet50D"),
        ("ResNet18", {"deep_stem": True, "shortcut_pool": True}, "ResNet18D"),
        ("ResNet50D", {"shortcut_pool": False}, "ResNet50_v1.5_deep"),
        ("ResNet50D", {"squeeze_excitation": 16}, "ResNet50D_se16"),
        ("ResNet50", {"version": "v1.5", "groups": 32, "width_per_group": 4}, "ResNeXt50_32x4d"),
        ("ResNet50", {"version": "v1.5", "width_per_group": 128}, "WideResNet50_2"),
        ("ResNet50", {"groups": 2, "width_per_group": 32}, "ResNet50_2x32d"),
        ("ResNet50", {"activation": "silu", "normalization": "group"}, "ResNet50_silu_group"),
        ("ResNeXt50_32x4d", {"squeeze_excitation": 16}, "SEResNeXt50_32x4d"),
        ("SEResNet18", {"se_divisor": 8}, "SEResNet18_sediv8"),
        ("SEResNet50", {"stem_pool": "ceil"}, "SEResNet50_ceil-pool"),
        ("ResNet50V2", {"stem_pool": "first"}, "ResNet50V2_first-pool"),
        ("ResNet20", {"shortcut": "B", "activation": keras.ops.gelu}, "ResNet20_B_gelu"),
        ("ResNet20", {"activation": lambda x: x}, "ResNet20_lambda"),
        ("ResNet20", {"activation": keras.layers.ReLU(negative_slope=0.1)}, "ResNet20_relu"),
    ],
)
def test_names_of_options(line, options, name):
    line = ARCHITECTURES[line]
    variant = line.variant(**{**line.options, **options})
    assert variant.name == name
    assert variant.options == {**line.options, **options}
    assert is_network_name(name.lower()) or "lambda" in name


def test_wide_networks_of_any_depth():
    line = wide_architecture(22, 8)
    assert (line.name, line.repeats) == ("WideResNet22_8", (3, 3, 3))
    assert (line.widths, line.stem_filters) == ((128, 256, 512), 16)
    assert wide_architecture(28, 10) == ARCHITECTURES["WideResNet28_10"]
