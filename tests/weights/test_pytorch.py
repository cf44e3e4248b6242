"""Weights under PyTorch's names: those it has, with the numbers it computes, there and back.

What PyTorch computes is stored (tests/reference); test_against_torch.py asks it itself.
"""

from __future__ import annotations

import hashlib
import json
import re

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.weights import find_weights, load_weights, save_torch_weights
from keras_resnet.weights.pytorch import to_torch
from tests.helpers import assert_same_weights, distance, images, randomize, refused
from tests.reference import cases, weights
from tests.weights.damages import DAMAGES

safetensors_numpy = pytest.importorskip("safetensors.numpy")

# Of the names and shapes of torchvision's and timm's state dicts: how many, and the beginning of
# the sha256 of "name [shape]" in order, a line each (test_against_torch.py asks again).
V1_5 = {"version": "v1.5"}
CEIL, FIRST = {"stem_pool": "ceil"}, {"stem_pool": "first"}
V2_D = {"deep_stem": True, "shortcut_pool": True}
STATE_DICTS = {
    "resnet18": ("ResNet18", {}, 122, "867b8d8ae95f5a28"),
    "resnet34": ("ResNet34", {}, 218, "d6dbfa48843359d6"),
    "resnet50": ("ResNet50", V1_5, 320, "2d5b8870b35e1530"),
    "resnet101": ("ResNet101", V1_5, 626, "83dfe6275c4f12d9"),
    "resnet152": ("ResNet152", V1_5, 932, "f11957010a75631a"),
    "wide_resnet50_2": ("WideResNet50_2", {}, 320, "4facef4f573fef70"),
    "resnext50_32x4d": ("ResNeXt50_32x4d", {}, 320, "d244da4517087cbb"),
    "timm/resnet50d": ("ResNet50D", {}, 332, "b5261e2ec6e14eeb"),
    "timm/seresnet50": ("SEResNet50", V1_5, 384, "a786b88c8fb7bbdf"),
    "timm/resnet26": ("ResNet26", {}, 176, "73fd4c5930b61096"),
    "timm/seresnet18": ("SEResNet18", {"se_divisor": 8}, 154, "30d2ccf89fe0a442"),
    "timm/seresnext50_32x4d": ("SEResNeXt50_32x4d", {}, 384, "2e7dd8173f53c74f"),
    "timm/legacy_seresnet50": ("SEResNet50", CEIL, 384, "8917c6ef801c5e62"),
    "timm/legacy_seresnext50_32x4d": ("SEResNeXt50_32x4d", CEIL, 384, "b4ed76214293778f"),
    "timm/resnetv2_18": ("ResNet18V2", FIRST, 107, "dc07626931b96817"),
    "timm/resnetv2_50": ("ResNet50V2", FIRST, 300, "98b0b23fdbb20d71"),
    "timm/resnetv2_50d": ("ResNet50V2", FIRST | V2_D, 312, "b104cf3f52e5ac5a"),
    "densenet161": ("DenseNet161", {}, 967, "ab3cc1599f3d57fe"),
    "densenet121": ("DenseNet121", {}, 727, "d9126905d0ec5cf6"),
}


@pytest.mark.parametrize(
    "name",
    [
        n if n in ("resnet18", "densenet121") else pytest.param(n, marks=pytest.mark.slow)
        for n in STATE_DICTS
    ],
)
def test_names_and_shapes_are_theirs(name):
    builder, options, count, digest = STATE_DICTS[name]
    model = getattr(keras_resnet, builder)(input_shape=(32, 32, 3), **options)
    lines = sorted(f"{key} {list(value.shape)}" for key, value in to_torch(model).items())
    assert len(lines) == count
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest().startswith(digest)


def torch_state(case) -> dict[str, np.ndarray]:
    """The drawn weights of a stored case as a state dict of torchvision.

    Written from torchvision's own names; `weights.draw` knows the package's.
    """
    bottleneck = case.depth >= 50
    repeats = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[case.depth]
    kinds = {"weight": "gamma", "bias": "beta"}
    kinds |= {"running_mean": "moving_mean", "running_var": "moving_variance"}
    state = {}

    def conv_and_norm(conv, norm, here, size, inputs, outputs, gamma="gamma"):
        kernel = weights.draw(f"{here}_conv/kernel", (size, size, inputs, outputs), "kernel")
        state[f"{conv}.weight"] = np.moveaxis(kernel, (2, 3), (1, 0)).copy()
        for name, kind in kinds.items():
            drawn = gamma if kind == "gamma" else kind
            state[f"{norm}.{name}"] = weights.draw(f"{here}_bn/{kind}", (outputs,), drawn)
        state[f"{norm}.num_batches_tracked"] = np.array(7)

    conv_and_norm("conv1", "bn1", "conv1", 7, 3, 64)
    channels = 64
    for stage, (count, width) in enumerate(zip(repeats, (64, 128, 256, 512), strict=True)):
        sizes = (1, 3, 1) if bottleneck else (3, 3)
        outputs = [width, width, 4 * width] if bottleneck else [width, width]
        for block in range(count):
            there, here = f"layer{stage + 1}.{block}", f"conv{stage + 2}_block{block + 1}"
            inputs = channels
            for i, (size, output) in enumerate(zip(sizes, outputs, strict=True), start=1):
                names = (f"{there}.conv{i}", f"{there}.bn{i}", f"{here}_{i}")
                last = "residual_gamma" if i == len(sizes) else "gamma"
                conv_and_norm(*names, size, inputs, output, last)
                inputs = output
            if channels != outputs[-1]:
                names = (f"{there}.downsample.0", f"{there}.downsample.1", f"{here}_0")
                conv_and_norm(*names, 1, channels, outputs[-1])
            channels = outputs[-1]
    kernel = weights.draw("predictions/kernel", (channels, case.classes), "kernel")
    state["fc.weight"] = kernel.T.copy()
    state["fc.bias"] = weights.draw("predictions/bias", (case.classes,), "bias")
    return state


@pytest.mark.parametrize(
    "name", ["resnet18_b", pytest.param("resnet50_v1.5_b_odd", marks=pytest.mark.slow)]
)
def test_outputs_are_theirs(tmp_path, name):
    """PyTorch's stored outputs, from a file with PyTorch's names."""
    arrays, _ = cases.load()
    case = cases.INFERENCE[name]
    state = torch_state(case)
    path = tmp_path / "model.safetensors"
    safetensors_numpy.save_file(state, path, {"format": "pt"})
    options = {"input_shape": case.images[1:], "classes": case.classes, "version": case.version}
    builder = getattr(keras_resnet, f"ResNet{case.depth}")
    model = builder(weights=path, classifier_activation=None, **options)
    logits = model(weights.draw_images(case.images, case.batch))
    assert distance(logits, arrays[f"{name}/logits"]) < 1e-4
    back = to_torch(model)
    assert set(back) == set(state)
    for key, value in state.items():
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(back[key], value)


SHAPE = (8, 8, 3)
IMAGENET = {"stem": "imagenet", "input_shape": (32, 32, 3)}


def small(version="v1.5", weights=None, **options):
    """A bottleneck net with every kind of layer, and weights of its own."""
    defaults = {"widths": (4, 8), "input_shape": SHAPE, "classes": 5, "stem": "cifar"}
    model = keras_resnet.ResNet((1, 3), version=version, weights=weights, **(defaults | options))
    if weights is None:
        randomize(model)
    return model


@pytest.fixture
def path(tmp_path):
    return tmp_path / "small.safetensors"


@pytest.mark.parametrize("kind", [".pth", ".pt"])
def test_files_of_torch_itself(path, kind):
    """The same as safetensors: numbers, order of channels, network, and on every run."""
    options = {"block": "basic", "shortcut": "A", "widths": (16, 32), "stem_filters": 16}
    model = small(include_preprocessing=True, **options)
    other = path.with_suffix(kind)
    for file in (path, other):
        save_torch_weights(model, file)
    saved, expected = find_weights(other, "resnet"), find_weights(path, "resnet")
    assert_same_state(dict(saved.layers), {name: expected.layers[name] for name in saved.layers})
    assert saved.layers.keys() == expected.layers.keys()
    assert (saved.network, saved.padding) == (expected.network, "behind")
    assert_same_weights(small(weights=other, **options), model)
    content = other.read_bytes()
    save_torch_weights(model, other)
    assert other.read_bytes() == content
    # Of a model that remembers nothing.
    plain = keras.Model(model.input, model.output)
    save_torch_weights(plain, other)
    assert find_weights(other, "resnet").network is None
    assert sorted(file.name for file in path.parent.iterdir()) == sorted([other.name, path.name])


@pytest.mark.parametrize("to", [False, True], ids=["to unrolled", "to stacked"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stack_blocks": True},
        {"groups": 2, "width_per_group": 32},
        {"squeeze_excitation": 4},
        {"stem": "imagenet", "deep_stem": True, "shortcut_pool": True, "input_shape": (32, 32, 3)},
        {"shortcut": "C"},
        {"block": "basic", "shortcut": "A", "widths": (16, 32), "stem_filters": 16},
        {**IMAGENET, "squeeze_excitation": 4, "se_divisor": 4, "stem_pool": "ceil"},
        {**IMAGENET, "version": "v2", "stem_pool": "first"},
        {**IMAGENET, "version": "v2", "stem_pool": "first", "deep_stem": True, "block": "basic"},
    ],
    ids=str,
)
def test_there_and_back(path, options, to):
    model = small(**options)
    save_torch_weights(model, path)
    again = small(weights=path, **{**options, "stack_blocks": to})
    assert_same_weights(again, model)
    x = images(2, *model.input_shape[1:])
    assert distance(again(x), model(x)) < 1e-6


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_dense_networks_there_and_back(path, stem):
    def dense(**options):
        shape = {"input_shape": (32, 32, 3), "classes": 5}
        return keras_resnet.DenseNet((2, 3), growth_rate=4, stem=stem, **(shape | options))

    model, x = dense(), images(2, 32, 32, 3)
    randomize(model)
    save_torch_weights(model, path)
    stacked = dense(weights=path, stack_blocks=True)
    assert_same_weights(dense(weights=path), model)
    assert distance(stacked(x), model(x)) < 1e-6
    assert_same_state(to_torch(stacked), to_torch(model))
    # As in the published files, whose modules had names with dots, and in those of gpleiss's.
    state = {
        re.sub(r"(norm|conv)([12])(?=.(weight|bias|running))", r"\1.\2", name)
        if "denselayer" in name
        else name.replace("norm5", "norm_final")
        if stem == "cifar"
        else name: value
        for name, value in to_torch(model).items()
    }
    assert "features.denseblock2.denselayer3.norm.2.running_var" in state
    safetensors_numpy.save_file(state, path)
    assert_same_weights(dense(weights=path), model)
    with refused("`weights`", " has features."):
        small(weights=path)


def assert_same_state(state, other):
    assert list(state) == list(other)
    for name, value in state.items():
        np.testing.assert_array_equal(value, other[name])


def test_half_precision(path):
    model = small()
    state = {key: value.astype("float16") for key, value in to_torch(model).items()}
    safetensors_numpy.save_file(state, path)
    assert_same_weights(small(weights=path), model, tolerance=1e-3)


def test_what_the_file_says(path):
    model = small(include_preprocessing=True)
    save_torch_weights(model, path)
    saved = find_weights(path, "resnet")
    assert saved.network.to_json() == model.network.to_json()
    assert saved.preprocessing.mean == (123.675, 116.28, 103.53)
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name]


def test_v1_is_not_v1_5(path):
    """Weights do not show it: files of this package tell it, all others are taken for v1.5."""
    save_torch_weights(small(version="v1"), path)
    with refused("`weights`", "version='v1.5'", "version='v1'"):
        small(weights=path, version="v1.5")
    assert small(version="v1", weights=path).name == "resnet"
    safetensors_numpy.save_file(to_torch(small()), path, {"format": "pt"})
    with refused("`version`", "'v1.5'", "version='v1'"):
        small(weights=path, version="v1")
    assert small(weights=path).name == "resnet"


def test_pools_and_versions_that_only_the_names_tell(path):
    """Files of timm, which say nothing of the network but by the names of its parts."""
    gates, legacy = {**IMAGENET, "squeeze_excitation": 4}, {"stem_pool": "ceil"}

    def write(model):
        safetensors_numpy.save_file(to_torch(model), path, {"format": "pt"})
        return model

    model = write(small(version="v1", **gates, **legacy))
    assert_same_weights(small(version="v1", weights=path, **gates, **legacy), model)
    with refused("`stem_pool`", "'ceil'", "stem_pool='padded'"):
        small(version="v1", weights=path, **gates)
    with refused("`version`", "'v1'", "version='v1.5'"):
        small(weights=path, **gates, **legacy)
    # The strides of those with groups are elsewhere.
    grouped = {**gates, **legacy, "groups": 2, "width_per_group": 32}
    model = write(small(**grouped))
    assert_same_weights(small(weights=path, **grouped), model)
    with refused("`version`", "'v1.5'", "version='v1'"):
        small(version="v1", weights=path, **grouped)
    write(small(**gates))
    with refused("`stem_pool`", "'padded'", "stem_pool='ceil'"):
        small(weights=path, **gates, **legacy)
    write(small("v2", **IMAGENET, stem_pool="first"))
    with refused("`weights`", "stem_pool='first'", "preact_bn"):
        small("v2", weights=path, **IMAGENET)
    # legacy_seresnet18 has an activation in front of its gates.
    gates |= {"block": "basic"}
    names = {"layer": "layer", "conv1": "layer0.conv1", "bn1": "layer0.bn1", "fc": "last_linear"}
    state = {
        names.get(module, module) + dot + rest: value
        for (module, dot, rest), value in (
            (name.partition("."), value) for name, value in to_torch(small(**gates)).items()
        )
    }
    safetensors_numpy.save_file(state, path)
    with refused("`weights`", "legacy_seresnet18", path):
        small(weights=path, **gates, **legacy)
    for options in ({**gates, **legacy}, {**IMAGENET, **legacy}):
        with refused("`weights`", "stem_pool='ceil'", "conv1_conv"):
            to_torch(small(**options))


@pytest.mark.parametrize(
    ("options", "layer"),
    [
        ({"widths": (4, 12)}, "'conv3_block1_1_conv'"),
        ({"shortcut": "A", "stem_filters": 4}, "layer1.0.downsample.0, "),
        ({"squeeze_excitation": 4}, "conv2_block1_se_reduce, "),
        ({"block": "basic"}, "layer1.0.bn3, "),
    ],
    ids=str,
)
def test_another_architecture(path, options, layer):
    safetensors_numpy.save_file(to_torch(small()), path)
    with refused("`weights`", layer):
        small(weights=path, **options)


def test_a_model_of_another_kind(path):
    safetensors_numpy.save_file({"encoder.layer.0.weight": np.zeros((2, 2), "float32")}, path)
    with refused("`weights`", "conv1_conv, ", "encoder.layer.0"):
        small(weights=path)


def with_another_header(content):
    length = int.from_bytes(content[:8], "little")
    return content[:8] + b"{" * length + content[8 + length :]


@pytest.mark.parametrize("damage", [*DAMAGES.values(), with_another_header])
def test_damaged_files(path, damage):
    save_torch_weights(small(), path)
    path.write_bytes(damage(path.read_bytes()))
    with refused("`weights`", "safetensors", path):
        small(weights=path)


@pytest.mark.parametrize("network", ["[1, 2]", "{", '{"builder": "ResNet"}', "null"])
def test_a_network_that_is_none_is_passed_over(path, network):
    model = small()
    safetensors_numpy.save_file(to_torch(model), path, {"keras_resnet.network": network})
    assert_same_weights(small(weights=path), model)
    assert find_weights(path, "resnet").network is None


@pytest.mark.parametrize(
    ("numbers", "received"), [([1], "1 channels"), ([1, 2, 3], "(123.675, 116.28, 103.53)")]
)
def test_a_preprocessing_that_is_none_or_another(path, numbers, received):
    model = small(include_preprocessing=True)
    network = json.loads(model.network.to_json())
    network["preprocessing"] = {"mean": numbers, "std": numbers}
    about = {"keras_resnet.network": json.dumps(network)}
    safetensors_numpy.save_file(to_torch(model), path, about)
    with refused(received):
        if len(numbers) == 3:
            load_weights(model, path)
        else:
            small(weights=path, include_preprocessing=True)


def test_an_unfinished_file_replaces_nothing(path, monkeypatch):
    save_torch_weights(small(), path)
    before = path.read_bytes()

    def fail(_, temporary, __):
        temporary.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(safetensors_numpy, "save_file", fail)
    with pytest.raises(OSError, match="space"):
        save_torch_weights(small(), path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_cannot_be_saved(path):
    with refused("`path`", "'.safetensors'", "small.bin"):
        save_torch_weights(small(), path.with_suffix(".bin"))
    with refused("`weights`", "'v1'", "conv3_block1_preact_bn"):
        save_torch_weights(small(version="v2"), path)
    constant = small(bn_epsilon=1e-7)
    constant.get_layer("conv1_bn").moving_variance.assign(np.zeros(4))
    with refused("`bn_epsilon`", "bn_epsilon=1e-05", "bn_epsilon=1e-07"):
        save_torch_weights(constant, path)
    with refused("`weights`", "weights=None"):
        load_weights(small(), None)
    assert not path.exists()


def test_into_a_network_without_classifier(tmp_path):
    whole, path = keras_resnet.CifarResNet(8, input_shape=SHAPE), tmp_path / "whole.safetensors"
    save_torch_weights(whole, path)
    model = keras_resnet.CifarResNet(8, weights=path, include_top=False)
    features = keras.Model(whole.input, whole.get_layer("avg_pool").input)
    x = images(2, *SHAPE)
    assert distance(model(x), features(x)) == 0
