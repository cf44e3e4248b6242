"""The names of layers, made and read in one place."""

from __future__ import annotations

import pytest

import keras_resnet
from keras_resnet import naming
from tests.helpers import refused


def test_names():
    assert [naming.stage_name(i) for i in range(4)] == ["conv2", "conv3", "conv4", "conv5"]
    assert [naming.map_name(i) for i in range(4)] == ["C2", "C3", "C4", "C5"]
    assert naming.block_name("conv2", 0) == "conv2_block1"
    assert naming.stack_name("conv2") == "conv2_stack"


@pytest.mark.parametrize(
    ("layer", "place", "stage"),
    [
        ("conv2_block1_1_conv", (0, 0, "1_conv"), 0),
        ("conv11_block12_out", (9, 11, "out"), 9),
        ("conv3_stack", None, 1),
        ("conv1_conv", None, -1),
        ("pool2_pool", None, None),
        ("post_bn", None, None),
        ("predictions", None, None),
    ],
)
def test_places(layer, place, stage):
    assert naming.find_place(layer) == place
    assert naming.find_stage(layer) == stage


def test_transitions_count_where_that_is_asked_for():
    assert naming.find_stage("pool1_pool", transitions=True) == -1
    assert naming.find_stage("pool2_pool", transitions=True) == 0


def test_unrolled_names():
    assert naming.unrolled_name("conv2_block2_1_conv", 3) == "conv2_block5_1_conv"
    with refused("`pattern`", "'conv'"):
        naming.unrolled_name("conv", 1)


def test_every_layer_with_weights_has_a_place():
    for model in (keras_resnet.ResNet18(), keras_resnet.CifarDenseNet(10, 4)):
        ends = (naming.STEM, naming.STEM_POOL, naming.POST, naming.CLASSIFIER, "pool")
        for layer in model.layers:
            assert naming.find_place(layer.name) or not layer.weights or layer.name.startswith(ends)
