"""Weights of networks whose shortcuts of option A pad the channels on both sides."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

import keras_resnet
from keras_resnet.layers import ZeroPadShortcut
from keras_resnet.weights import load_weights, save_torch_weights
from keras_resnet.weights.padding import zeros_behind
from keras_resnet.weights.pytorch import to_torch
from keras_resnet.weights.transfer import assign_weights, layer_weights
from tests.helpers import assert_same_weights, distance, images, randomize, refused
from tests.weights.test_torch_files import write_legacy, write_torch

WIDTHS = (16, 32, 64)


def akamaster_state(rng, wrapper="module.") -> dict[str, np.ndarray]:
    """A state dict of ResNet8 under the names of akamaster's repository."""
    state = {}

    def conv_and_norm(conv, norm, inputs, outputs):
        state[f"{conv}.weight"] = rng.normal(size=(outputs, inputs, 3, 3)) / (3 * inputs**0.5)
        state[f"{norm}.weight"] = rng.uniform(0.5, 1.5, outputs)
        state[f"{norm}.bias"] = rng.normal(size=outputs) / 3
        state[f"{norm}.running_mean"] = rng.normal(size=outputs) / 3
        state[f"{norm}.running_var"] = rng.uniform(0.5, 1.5, outputs)

    conv_and_norm("conv1", "bn1", 3, 16)
    for i, width in enumerate(WIDTHS):
        block = f"layer{i + 1}.0"
        conv_and_norm(f"{block}.conv1", f"{block}.bn1", WIDTHS[max(0, i - 1)], width)
        conv_and_norm(f"{block}.conv2", f"{block}.bn2", width, width)
    state["linear.weight"] = rng.normal(size=(10, 64))
    state["linear.bias"] = rng.normal(size=10)
    return {f"{wrapper}{name}": value.astype("float32") for name, value in state.items()}


def akamaster_logits(state, x, padding) -> np.ndarray:
    """What his network computes of images [batch, height, width, 3], in NumPy and float64."""
    get = {name.removeprefix("module."): np.float64(value) for name, value in state.items()}

    def conv_and_norm(x, conv, norm, strides=1):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        y = np.einsum("bhwcij,ocij->bhwo", windows[:, ::strides, ::strides], get[f"{conv}.weight"])
        scale = get[f"{norm}.weight"] / np.sqrt(get[f"{norm}.running_var"] + 1e-5)
        return (y - get[f"{norm}.running_mean"]) * scale + get[f"{norm}.bias"]

    x = np.maximum(conv_and_norm(x, "conv1", "bn1"), 0)
    for i, width in enumerate(WIDTHS):
        block, strides = f"layer{i + 1}.0", 2 if i else 1
        y = np.maximum(conv_and_norm(x, f"{block}.conv1", f"{block}.bn1", strides), 0)
        y = conv_and_norm(y, f"{block}.conv2", f"{block}.bn2")
        if i:
            # His F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, planes // 4, planes // 4)).
            sides = (width // 4, width // 4) if padding == "both" else (0, width // 2)
            x = np.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), sides))
        x = np.maximum(x + y, 0)
    return x.mean((1, 2)) @ get["linear.weight"].T + get["linear.bias"]


@pytest.fixture
def state():
    return akamaster_state(np.random.default_rng(0))


def resnet8(**options):
    shape = {"input_shape": (8, 8, 3), "classifier_activation": None}
    return keras_resnet.CifarResNet(8, **(shape | options))


@pytest.mark.parametrize("write", [write_torch, write_legacy])
@pytest.mark.parametrize("padding", ["both", "behind"])
def test_outputs_are_theirs(tmp_path, state, padding, write):
    path, model, x = write(tmp_path / "resnet8.th", state), resnet8(), images(3, 8, 8, 3)
    expected = akamaster_logits(state, x, padding)
    load_weights(model, path, padding=padding)
    assert distance(model(x), expected) < 1e-5
    # The other order is another network.
    other = akamaster_logits(state, x, {"both": "behind", "behind": "both"}[padding])
    assert distance(expected, other) > 0.1


def test_without_being_told(tmp_path, state):
    path, model = write_torch(tmp_path / "resnet8.th", state), resnet8()
    before = [value.copy() for value in model.get_weights()]
    for build in (lambda: resnet8(weights=path), lambda: load_weights(model, path)):
        with refused("`padding`", "'both'", "'behind'", "padding=None", path):
            build()
    with refused("`padding`", "padding='front'"):
        load_weights(model, path, padding="front")
    assert all(map(np.array_equal, before, model.get_weights()))


@pytest.mark.parametrize("padding", [None, "both"])
def test_where_there_is_no_choice(tmp_path, state, padding):
    """Files of this package tell; without shortcuts, and with projections, nothing is padded."""
    model = resnet8()
    randomize(model)
    for name in ("own.safetensors", "own.weights.h5"):
        path = tmp_path / name
        (save_torch_weights if "safe" in name else type(model).save_weights)(model, path)
        again = resnet8()
        load_weights(again, path, padding=padding)
        assert_same_weights(again, model)
    plain = resnet8(shortcut=None)
    load_weights(plain, write_torch(tmp_path / "resnet8.th", state), padding=padding)
    projected = resnet8(shortcut="B")
    randomize(projected)
    # With kuangliu's names.
    kuangliu = {
        name.replace("downsample", "shortcut").replace("fc.", "linear."): value
        for name, value in to_torch(projected).items()
    }
    assert any("shortcut" in name for name in kuangliu)
    again = resnet8(shortcut="B", weights=write_torch(tmp_path / "kuangliu.pth", kuangliu))
    assert_same_weights(again, projected)


def test_two_classifiers(tmp_path, state):
    state["module.fc.weight"], state["module.fc.bias"] = np.zeros((10, 64)), np.zeros(10)
    with refused("`weights`", "has fc too many"):
        load_weights(resnet8(), write_torch(tmp_path / "two.th", state), padding="both")


@pytest.mark.parametrize(
    "options",
    [
        {"block": "basic", "widths": (4, 10, 20), "stem_filters": 4},
        {"block": "basic", "stem_filters": 3, "squeeze_excitation": 2},
        {"block": "basic", "stack_blocks": True},
        {"groups": 2, "width_per_group": 32, "version": "v1.5"},
        {"version": "v2", "stem_filters": 4},
        {"block": "basic", "version": "v2", "squeeze_excitation": 2},
    ],
    ids=str,
)
def test_every_kind_of_block(monkeypatch, options):
    """A net that pads on both sides, built here, and its weights in a net that pads behind."""
    defaults = {"widths": (4, 8, 16), "shortcut": "A", "stem": "cifar", "input_shape": (9, 8, 3)}
    model = keras_resnet.ResNet((2, 1, 3), classes=5, **(defaults | options))
    randomize(model)
    weights, x = layer_weights(model), images(2, 9, 8, 3)

    def pad_both(self, inputs):
        more = self.filters - inputs.shape[-1]
        sides = ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2))
        return ops.pad(inputs[:, :: self.strides, :: self.strides], sides)

    with monkeypatch.context() as context:
        context.setattr(ZeroPadShortcut, "call", pad_both)
        expected = np.asarray(model(x))
    assert distance(model(x), expected) > 1e-3
    assign_weights(model, zeros_behind(weights, model))
    assert distance(model(x), expected) < 1e-6
