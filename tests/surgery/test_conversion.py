"""Networks for images of any size, as logits and as a score map have the same outputs."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.models import arguments
from keras_resnet.preprocessing import CAFFE
from keras_resnet.surgery import any_size, score_map, with_logits
from tests.evaluation.helpers import SHAPE, small_net, softmax
from tests.helpers import distance, images, refused


def other_images(*sides, channels=3):
    return images(2, *sides, channels, low=0, high=255)


@pytest.mark.parametrize("stack_blocks", [False, True])
def test_any_size_is_the_model_at_its_own_size(stack_blocks):
    model = small_net(stack_blocks=stack_blocks)
    opened = any_size(model)
    assert opened.input_shape == (None, None, None, 3) and model.input_shape == (None, *SHAPE)
    x = other_images(*SHAPE[:2])
    answer = np.asarray(model(x))
    assert distance(opened(x), answer) == 0
    opened.get_layer("predictions").bias.assign([9.0, *[0.0] * 6])
    assert distance(model(x), answer) == 0, "the copy shares its weights"


@pytest.mark.parametrize("stack_blocks", [False, True])
def test_the_mean_of_the_score_map_is_the_answer_at_any_size(stack_blocks):
    model = small_net(stack_blocks=stack_blocks)
    x = other_images(20, 33)
    scores = score_map(model)(x)
    assert scores.shape == (2, 5, 9, 7)
    assert distance(np.mean(scores, axis=(1, 2)), with_logits(any_size(model))(x)) < 1e-5
    assert distance(softmax(np.mean(scores, axis=(1, 2))), any_size(model)(x)) < 1e-5


@pytest.mark.parametrize("on_tensor", [False, True])
def test_networks_remember_what_they_are(on_tensor):
    model = small_net() if on_tensor else keras_resnet.CifarResNet(8, input_shape=SHAPE, classes=7)
    model.remember(dataclasses.replace(model.network, preprocessing=CAFFE))
    assert model.preprocessing == CAFFE.at(SHAPE[:2])
    opened, logits = any_size(model), with_logits(model)
    for copy in (opened, logits):
        assert copy.network.architecture == model.network.architecture
        assert (copy.preprocessing, copy.name) == (model.preprocessing, model.name)
    assert with_logits(logits) is logits
    assert logits.network.arguments["classifier_activation"] is None
    x = other_images(*SHAPE[:2])
    assert distance(opened(x), model(x)) == 0
    assert distance(with_logits(opened)(x), logits(x)) == 0
    assert distance(keras.ops.softmax(logits(x)), model(x)) < 1e-6


def test_networks_channels_first_are_opened(monkeypatch):
    monkeypatch.setattr(arguments, "_runs_channels_first", lambda: True)  # built, not run
    model = keras_resnet.CifarResNet(8, input_shape=(3, 8, 12), data_format="channels_first")
    assert any_size(model).input_shape == (None, 3, None, None)
    assert any_size(model).network.architecture == model.network.architecture


def test_models_in_front_of_a_network_are_opened_too():
    inputs, other = keras.Input(SHAPE), keras.Input(SHAPE)
    front = keras.Model(other, keras.layers.Rescaling(1 / 255)(other))
    opened = any_size(keras_resnet.CifarResNet(8, input_tensor=front(inputs)))
    assert opened(other_images(16, 9)).shape == (2, 10)


def test_models_of_keras_applications():
    model = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=4)
    x = other_images(32, 32) / 255
    assert distance(any_size(model)(x), model(x)) == 0
    x = other_images(64, 48) / 255
    assert (
        distance(np.mean(score_map(model)(x), axis=(1, 2)), with_logits(any_size(model))(x)) < 1e-5
    )


def test_nested_models_are_opened_too():
    inner = small_net()
    inputs = keras.Input(SHAPE)
    outer = keras.Model(inputs, inner(keras.layers.Identity()(inputs)))
    x = other_images(*SHAPE[:2])
    assert distance(any_size(outer)(x), inner(x)) == 0
    assert distance(with_logits(outer)(x), with_logits(inner)(x)) < 1e-6
    assert any_size(outer)(other_images(16, 9)).shape == (2, 7)


def ending(*layers):
    pooled = [keras.Input((4, 4, 3)), keras.layers.GlobalAveragePooling2D()]
    return keras.Sequential([*pooled, *layers])


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [keras.layers.Dense(5, activation="softmax")],
        lambda: [keras.layers.Dense(5), keras.layers.Softmax()],
        lambda: [keras.layers.Dense(5), keras.layers.Activation("softmax")],
    ],
)
def test_logits_are_what_softmax_makes_the_answer_of(layers):
    model = ending(*layers())
    x = other_images(4, 4)
    logits = with_logits(model)(x)
    assert np.abs(logits).max() > 1
    assert distance(softmax(np.asarray(logits)), model(x)) < 1e-5
    assert distance(score_map(model)(x).numpy().mean(axis=(1, 2)), logits) < 1e-5


def test_a_model_of_logits_is_taken_as_it_is():
    model = ending(keras.layers.Dense(5))
    assert with_logits(model) is model


def flattened():
    return keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(5)])


@pytest.mark.parametrize(
    ("function", "model", "words"),
    [
        (any_size, flattened, "layer 'dense"),
        (any_size, lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)]), "(None,"),
        (any_size, lambda: keras.layers.Dense(5), "type Dense"),
        (score_map, lambda: ending(keras.layers.Dense(4), keras.layers.Dense(5)), "Dense"),
        (with_logits, lambda: ending(keras.layers.Dense(5, "sigmoid")), "activation 'sigmoid'"),
        (with_logits, lambda: ending(keras.layers.Reshape((1, 3))), "activation None"),
    ],
)
def test_wrong_models(function, model, words):
    with refused("`model`", words):
        function(model())
