"""Frozen layers are unchanged by training, and only those; learning rates by stage."""

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import freeze, stage_rates
from keras_resnet.training import SGD
from tests.helpers import images, randomize, refused


def net(**options):
    return randomize(keras_resnet.CifarResNet(14, input_shape=(8, 8, 1), classes=3, **options))


def moved(model):
    """Names of the weights that a step of training changes."""
    before = {weight.path: weight.numpy() for weight in model.weights}
    model.compile(SGD(0.1), "sparse_categorical_crossentropy")
    model.train_on_batch(images(6, 8, 8, 1), np.arange(6) % 3)
    return {w.path for w in model.weights if not np.array_equal(w.numpy(), before[w.path])}


def of_norms(model):
    return {w.path for w in model.weights if "_bn" in w.path}


@pytest.mark.parametrize("apart", [False, True], ids=["one layer", "a separate softmax"])
def test_the_head_alone(apart):
    model = net(classifier_activation=None if apart else "softmax")
    if apart:
        model = keras.Model(model.input, keras.layers.Softmax()(model.output))
        rates = stage_rates(model, 0.5)
        assert rates["predictions"] == 1.0 and rates["conv4_block2_1_conv"] == 0.5
    freeze(model)
    assert moved(model) == {"predictions/kernel", "predictions/bias"}


@pytest.mark.parametrize(
    "outputs",
    [lambda x: {"first": x, "second": keras.layers.Dense(3, name="head")(x)}, keras.ops.softmax],
    ids=["several outputs", "an operation"],
)
def test_without_a_classifier_the_last_layer_is_left(outputs):
    images = keras.Input((4,))
    model = keras.Model(images, outputs(keras.layers.Dense(3, name="dense")(images)))
    freeze(model)
    assert [layer.name for layer in model.layers if layer.trainable][-1] == model.layers[-1].name
    assert {weight.path.split("/")[0] for weight in model.trainable_weights} == {
        model.layers[-1].name
    }


@pytest.mark.parametrize("stack", [False, True])
def test_the_rest_with_and_without_its_normalizations(stack):
    model = net(stack_blocks=stack)
    every, norms = {weight.path for weight in model.weights}, of_norms(model)
    assert len(norms) >= 4 * (11 if stack else 13)
    freeze(model, 0, bn=True)
    assert moved(model) == every - norms
    assert not {weight.path for weight in model.trainable_weights} & norms
    freeze(model, 0, bn=False)
    assert moved(model) == every


def test_frozen_normalizations_answer_as_in_inference_in_a_stack_too():
    stacked, unrolled = net(stack_blocks=True), net()
    keras_resnet.copy_weights(unrolled, stacked)
    x = images(6, 8, 8, 1)
    for model in (stacked, unrolled):
        freeze(model, 0)
        np.testing.assert_allclose(model(x, training=True), model(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(stacked(x, training=True), unrolled(x, training=True), atol=1e-5)


def test_a_stack_keeps_its_frozen_normalizations_in_a_file(tmp_path):
    model = net(stack_blocks=True)
    freeze(model, 0)
    model.save(tmp_path / "frozen.keras")
    again = keras.models.load_model(tmp_path / "frozen.keras")
    assert not {w.path for w in again.trainable_weights} & of_norms(again)
    assert len(again.trainable_weights) == len(model.trainable_weights)
    again.trainable = True
    assert len(again.get_layer("conv2_stack").trainable_weights) == 2


@pytest.mark.parametrize(("stages", "frozen"), [(1, ("conv1",)), (2, ("conv1", "conv2"))])
def test_the_first_stages(stages, frozen):
    model = net()
    freeze(model, stages, bn=False)
    assert moved(model) == {
        weight.path for weight in model.weights if not weight.path.startswith(frozen)
    }


@pytest.mark.parametrize("stages", [-1, 5, "conv2", True])
def test_stages_that_there_are_not(stages):
    with refused("`stages`", stages):
        freeze(net(), stages)


def test_rates_fall_from_stage_to_stage():
    rates = stage_rates(net(), 0.5)
    assert rates["predictions"] == 1.0
    assert rates["conv4_block2_1_conv"] == rates["conv4_block1_2_bn"] == 0.5
    assert rates["conv2_block1_1_conv"] == 0.125 and rates["conv1_conv"] == 0.0625
    for decay in (0.0, 1.5):
        with refused("`decay`", decay):
            stage_rates(net(), decay)


def test_the_optimizer_takes_the_rates_by_layer():
    """A layer's step is its factor times that of the same step without factors."""
    steps = {}
    for rates in (None, {"conv1_conv": 0.25, "predictions": 0.0}):
        keras.utils.set_random_seed(0)
        model = net()
        before = {weight.path: weight.numpy() for weight in model.trainable_weights}
        model.compile(SGD(0.1, rates=rates), "sparse_categorical_crossentropy")
        model.train_on_batch(images(6, 8, 8, 1), np.arange(6) % 3)
        steps[rates is None] = {w.path: w.numpy() - before[w.path] for w in model.trainable_weights}
    for path, whole in steps[True].items():
        factor = {"conv1_conv": 0.25, "predictions": 0.0}.get(path.split("/")[0], 1.0)
        np.testing.assert_allclose(steps[False][path], factor * whole, rtol=1e-3, atol=1e-6)
    again = SGD.from_config(SGD(0.1, rates={"conv1_conv": 0.25}).get_config())
    assert again.rates == {"conv1_conv": 0.25}
