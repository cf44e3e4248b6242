"""A network built again with other options keeps its weights, and what stands around it."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.surgery import rebuild
from tests.helpers import assert_same_weights, distance, images, randomize, refused

SHAPE = (8, 8, 1)


def network(**options):
    model = keras_resnet.CifarResNet(8, **{"input_shape": SHAPE, "classes": 3, **options})
    randomize(model)
    return model


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stack_blocks": True, "shortcut": "C"},
        {"version": "v2", "squeeze_excitation": 4, "dropout": 0.1, "stochastic_depth": 0.2},
        {"normalization": "group", "activation": "silu"},
        {"version": "v2-keras", "conv_bias": True},
    ],
    ids=str,
)
def test_without_changes_it_is_the_same(options):
    model = network(**options)
    again = rebuild(model)
    assert_same_weights(again, model)
    assert distance(again(images(2, *SHAPE)), model(images(2, *SHAPE))) == 0
    assert again.network.to_json() == model.network.to_json()
    assert (again.name, rebuild(model, name="other").name) == (model.name, "other")


@pytest.mark.parametrize("standardized", [False, True])
def test_standardization_can_be_changed(standardized):
    caffe = Preprocessing(mean=(103.0,), std=(2.0,), image_size=SHAPE[0])
    photos = images(2, *SHAPE)
    model = network(include_preprocessing=caffe if standardized else False)
    if not standardized:
        model.remember(dataclasses.replace(model.network, preprocessing=caffe))
    bare = rebuild(model, include_preprocessing=False)
    whole = rebuild(model, include_preprocessing=True)
    assert [one.preprocessing for one in (bare, whole)] == [caffe, caffe]
    assert [one.network.standardizes for one in (bare, whole)] == [False, True]
    assert distance(whole(photos), bare(caffe.standardize(photos))) < 1e-6
    other = Preprocessing(mean=(50.0,), std=(3.0,), image_size=SHAPE[0])
    third = rebuild(model, include_preprocessing=other)
    assert third.preprocessing == other
    assert distance(third(photos), bare(other.standardize(photos))) < 1e-6


def test_other_classes_have_a_classifier_of_their_own():
    model = network()
    other = rebuild(model, classes=5)
    np.testing.assert_array_equal(
        other.get_layer("conv4_block1_2_conv").kernel, model.get_layer("conv4_block1_2_conv").kernel
    )
    assert other.output_shape == (None, 5)


def test_policy_frozen_layers_and_the_layers_in_front():
    keras.config.set_dtype_policy("mixed_bfloat16")
    inputs = keras.Input(SHAPE)
    front = keras.layers.Normalization(mean=[3.0], variance=[4.0], dtype="float32", name="front")
    model = network(input_tensor=front(inputs), input_shape=None)
    model.get_layer("conv1_conv").trainable = False
    keras.config.set_dtype_policy("float32")
    again = rebuild(model, input_shape=(None, None, 1))
    assert keras.config.dtype_policy().name == "float32"
    assert again.get_layer("conv2_block1_1_conv").compute_dtype == "bfloat16"
    assert not again.get_layer("conv1_conv").trainable
    assert again.get_layer("conv2_block1_1_conv").trainable
    x = images(2, *SHAPE, low=0.0, high=8.0)
    assert distance(again(x), model(x)) == 0
    assert again.get_layer("front") is not model.get_layer("front")


def test_frozen_stacks_stay_frozen():
    model = keras_resnet.CifarResNet(14, stack_blocks=True, input_shape=SHAPE)
    keras_resnet.freeze(model, 2)
    again = rebuild(model)
    for name in ("conv2_stack", "conv3_stack"):
        ours, theirs = again.get_layer(name), model.get_layer(name)
        assert (ours.trainable, ours.frozen_norms) == (theirs.trainable, theirs.frozen_norms)
    assert again.get_layer("conv3_stack").frozen_norms


def test_several_inputs_are_refused():
    one, other = keras.Input(SHAPE), keras.Input(SHAPE)
    model = network(input_tensor=keras.layers.Add()([one, other]), input_shape=None)
    with refused("`model`", model.name, "2 inputs"):
        rebuild(model)


def test_what_is_done_to_an_image_stays_what_the_model_remembers():
    built = Preprocessing(image_size=24, resize=29, interpolation="bicubic")
    model = keras_resnet.CifarResNet(8, input_shape=(24, 24, 3), include_preprocessing=built)
    run = dataclasses.replace(built, resize=27, interpolation="bilinear", source="photographs")
    model.remember(dataclasses.replace(model.network, preprocessing=run))
    for other in (rebuild(model), rebuild(model, classes=5), rebuild(model, output_stride=2)):
        assert other.preprocessing == run
    assert rebuild(model, include_preprocessing=built).preprocessing == built
