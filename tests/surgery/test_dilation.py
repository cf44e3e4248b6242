"""Output stride by dilation: the maps of the dilated network contain those of the strided one."""

from __future__ import annotations

import importlib.util

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.evaluation import score_map
from keras_resnet.surgery import backbone, dilate
from keras_resnet.surgery.graphs import stage_ends
from tests.helpers import assert_same_weights, distance, images, randomize, refused

# One of every kind whose layers look at no more than a neighborhood.
KINDS = {
    "v1": {},
    "v1.5": {"version": "v1.5"},
    "v1.5 stacked": {"version": "v1.5", "stack_blocks": True},
    "basic": {"block": "basic", "shortcut": "A"},
    # Its projections are there for the strides alone.
    "basic of one width": {"block": "basic", "widths": (8, 8, 8)},
    "plain": {"block": "basic", "shortcut": None},
    "v2": {"version": "v2", "shortcut": "C"},
    "v2-keras": {"version": "v2-keras", "conv_bias": True},
    "v2-keras stacked": {"version": "v2-keras", "blocks": (3, 2, 1), "stack_blocks": True},
    "D": {"version": "v1.5", "deep_stem": True, "shortcut_pool": True},
    "grouped": {"version": "v1.5", "groups": 2, "width_per_group": 32},
}


def network(**options):
    sizes = {"blocks": (1, 1, 2), "widths": (4, 6, 8), "include_top": False}
    net = keras_resnet.ResNet(**{**sizes, **options})
    randomize(net)
    return net


def maps(net):
    """The last maps of the stages, and their strides."""
    strides = [feature.stride for feature in backbone(net).features]
    return keras.Model(net.input, list(stage_ends(net).values())), strides


def agreement(net, dilated, x):
    """Returns the distance of the dilated maps from the strided ones for each stage."""
    (strided, coarse), (dense, fine) = maps(net), maps(dilated)
    steps = [a // b for a, b in zip(coarse, fine, strict=True)]
    pairs = zip(strided(x), dense(x), steps, strict=True)
    return [distance(found[:, ::step, ::step], value) for value, found, step in pairs], fine


# Those whose like is among the others.
SLOW = ("v1.5", "plain", "grouped")


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow) if k in SLOW else k for k in KINDS]
)
def test_the_dilated_network_has_the_strided_one_in_it(kind):
    net = network(**KINDS[kind])
    dilated = dilate(net, 4)
    assert_same_weights(dilated, net)
    # Odd sides and both borders too.
    errors, found = agreement(net, dilated, images(2, 37, 26, 3))
    assert found == [4, 4, 4]
    assert max(errors) < 1e-6


def test_of_a_densenet_where_no_map_loses_a_row():
    for stack_blocks in (False, True):
        options = {"stem": "cifar", "include_top": False, "stack_blocks": stack_blocks}
        net = randomize(keras_resnet.DenseNet((1, 1, 2), growth_rate=4, **options))
        errors, found = agreement(net, dilate(net, 1), images(2, 16, 12, 3))
        assert found == [1, 1, 1] and max(errors) < 1e-6


def test_output_stride_8_and_16_of_a_network_of_32():
    net = keras_resnet.ResNet((1, 1, 1, 2), block="basic", widths=(4, 4, 4, 4), classes=3)
    net = randomize(keras_resnet.backbone(net))
    x = images(1, 65, 96, 3)
    sixteen, eight = dilate(net, 16), dilate(net, 8)
    errors, found = agreement(net, eight, x)
    assert found == [4, 8, 8, 8] and max(errors) < 1e-6
    assert eight(x)["C5"].shape[1:3] == (9, 12) and sixteen(x)["C5"].shape[1:3] == (5, 6)
    np.testing.assert_array_equal(eight(x)["C5"][:, ::4, ::4], net(x)["C5"])
    # Nothing is in it twice: dilated once more, and dilated as it is.
    assert distance(dilate(sixteen, 8)(x)["C5"], eight(x)["C5"]) == 0
    assert distance(dilate(net, 32)(x)["C5"], net(x)["C5"]) == 0
    rates = {
        layer.name: layer.dilation_rate[0]
        for layer in eight.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.dilation_rate[0] > 1
    }
    # The first convolution of a stage has the spacing of the stage before.
    assert rates == {
        "conv4_block1_2_conv": 2,
        "conv5_block1_1_conv": 2,
        "conv5_block1_2_conv": 4,
        "conv5_block2_1_conv": 4,
        "conv5_block2_2_conv": 4,
    }


def test_the_classifier_at_every_position_of_a_dilated_network():
    inputs = keras.Input((16, 16, 3))
    scaled = keras.layers.Rescaling(1 / 255)(inputs)
    net = randomize(keras_resnet.CifarResNet(8, input_tensor=scaled, classes=5))
    coarse, fine = score_map(net), score_map(dilate(net, 1))
    x = images(2, 21, 34, 3, low=0, high=255)
    assert coarse(x).shape == (2, 6, 9, 5) and fine(x).shape == (2, 21, 34, 5)
    assert distance(fine(x)[:, ::4, ::4], coarse(x)) < 1e-5
    # The output is their mean, over more positions.
    x = images(2, 16, 16, 3, low=0, high=255)
    logits = np.asarray(fine(x)).mean(axis=(1, 2))
    assert distance(keras.ops.softmax(logits), dilate(net, 1)(x)) < 1e-5


def test_saved_and_loaded_and_in_16_bits(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    net = network(**KINDS["D"])
    dilated, x = dilate(net, 8), images(1, 32, 32, 3)
    dilated.save(tmp_path / "dilated.keras")
    again = keras.models.load_model(tmp_path / "dilated.keras")
    assert distance(again(x), dilated(x)) == 0
    assert {weight.dtype for weight in again.weights} == {"float32"}
    assert keras.backend.standardize_dtype(again.output.dtype) == "bfloat16"


def test_squeeze_and_excitation_looks_at_all_positions():
    """The difference that such a layer makes is larger than rounding."""
    net = network(block="basic", stem="cifar", squeeze_excitation=2)
    errors, _ = agreement(net, dilate(net, 1), images(1, 8, 8, 3))
    assert errors[0] == 0 and 1e-6 < max(errors) < 1


# --- wrong arguments -------------------------------------------------------------------------


@pytest.mark.parametrize("output_stride", [2, 12, 64, 4.0])
def test_wrong_strides(output_stride):
    with refused("output_stride", "4, 8, 16", output_stride):
        dilate(network(), output_stride)


@pytest.mark.parametrize(
    "model", [None, keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="other")]
)
def test_models_that_remember_no_network(model):
    with refused("model", getattr(model, "name", None)):
        dilate(model, 8)


# --- PyTorch ---------------------------------------------------------------------------------

# In a subprocess: with TensorFlow in one process both end it. Random networks with their strides
# replaced, their weights, an image and the maps of the four stages.
TORCH = """
import sys
import numpy as np
import timm
import torch
import torchvision

name, output_stride = sys.argv[1], int(sys.argv[2])
torch.manual_seed(0)
if name == "resnet50":
    replaced = [False, output_stride == 8, True]
    model = torchvision.models.resnet50(replace_stride_with_dilation=replaced)
else:
    model = timm.create_model(name, output_stride=output_stride)
model.eval()
images = torch.rand(1, 3, 65, 96)
maps = []
for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
    layer.register_forward_hook(lambda module, inputs, output: maps.append(output.numpy()))
with torch.no_grad():
    model(images)
torch.save(model.state_dict(), "weights.pth")
np.savez("maps.npz", images.numpy(), *maps)
"""
MISSING = [name for name in ("torchvision", "timm") if importlib.util.find_spec(name) is None]


@pytest.mark.torch
@pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}")
@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize(("name", "network"), [("resnet50", "ResNet50"), ("resnet18", "ResNet18")])
def test_as_torchvision_and_timm_replace_strides(
    name, network, output_stride, subprocess_python, tmp_path
):
    subprocess_python(TORCH, name, output_stride)
    with np.load(tmp_path / "maps.npz", allow_pickle=False) as stored:
        x, *expected = (np.moveaxis(stored[key], 1, -1) for key in stored)
    ours = keras_resnet.backbone(
        network, weights=tmp_path / "weights.pth", version="v1.5", output_stride=output_stride
    )
    assert [feature.stride for feature in ours.features] == [4, 8, *[output_stride] * 2]
    for found, value in zip(ours(x).values(), expected, strict=True):
        assert distance(found, value) < 1e-4
