"""Class activation maps against the logits that they add up to, and maps made by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.analysis import class_activation_maps
from keras_resnet.surgery import replace_classifier, score_map, with_logits
from tests.helpers import distance, images, randomize, refused

OPTIONS = {"block": "basic", "widths": (4, 6), "stem": "cifar", "input_shape": (16, 12, 3)}


@pytest.fixture(scope="module")
def net():
    return randomize(keras_resnet.ResNet((1, 1), classes=5, **OPTIONS))


def bias_of(model):
    return model.get_layer("predictions").bias.numpy()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("options", [{}, {"version": "v2", "stack_blocks": True}], ids=str)
def test_mean_and_bias_are_the_logit(options, dropout):
    net = randomize(keras_resnet.ResNet((1, 1), classes=5, **OPTIONS, **options))
    net = replace_classifier(net, 5, dropout=dropout)
    net.get_layer("predictions").set_weights([images(6, 5, seed=3), images(5, seed=4)])
    x = images(5, 16, 12, 3)
    logits = with_logits(net)(x).numpy()
    for number in range(5):
        maps = class_activation_maps(net, x, number, batch_size=2)
        assert maps.shape == (5, 8, 6) and maps.dtype == "float32"
        means = maps.mean(axis=(1, 2)) + bias_of(net)[number]
        assert np.abs(means - logits[:, number]).max() < 1e-5
    best = class_activation_maps(net, x)
    means = best.mean(axis=(1, 2)) + bias_of(net)[logits.argmax(axis=1)]
    assert np.abs(means - logits.max(axis=1)).max() < 1e-5


def test_are_those_of_the_score_map(net):
    x, numbers = images(3, 16, 12, 3), [4, 0, 2]
    scores = score_map(with_logits(net))(x).numpy() - bias_of(net)
    expected = np.stack([scores[i, :, :, number] for i, number in enumerate(numbers)])
    assert distance(class_activation_maps(net, x, numbers), expected) < 1e-5


def test_resized_maps_have_the_size_of_the_image(net):
    x = images(2, 16, 12, 3)
    maps = class_activation_maps(net, x, 1)
    resized = class_activation_maps(net, x, 1, resize=True)
    assert resized.shape == (2, 16, 12)
    # Bilinear with half-pixel centers: between two pixels, a quarter of the way.
    top = maps[:, 2, 3] * 0.75 + maps[:, 2, 4] * 0.25
    bottom = maps[:, 3, 3] * 0.75 + maps[:, 3, 4] * 0.25
    assert distance(resized[:, 5, 7], 0.75 * top + 0.25 * bottom) < 1e-6
    assert class_activation_maps(net, x[:0], resize=True).shape == (0, 16, 12)


def test_any_model_with_such_an_end_in_half_precision_too(net):
    inputs = keras.Input((4, 4, 2))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    dense = keras.layers.Dense(3, use_bias=False, name="head")
    model = keras.Model(inputs, keras.layers.Softmax()(dense(pooled)))
    x = images(2, 4, 4, 2)
    assert distance(class_activation_maps(model, x, 2), x @ dense.kernel.numpy()[:, 2]) < 1e-6
    keras.config.set_dtype_policy("mixed_bfloat16")
    half = randomize(keras_resnet.ResNet((1, 1), classes=5, **OPTIONS))
    half.set_weights(net.get_weights())
    x = images(2, 16, 12, 3)
    assert distance(class_activation_maps(half, x, 1), class_activation_maps(net, x, 1)) < 0.05


def test_wrong_arguments_are_named(net):
    x = images(2, 16, 12, 3)
    for classes in (5, -1, [0], [0, 5], 1.0, "cat"):
        with refused("`classes`", 4, repr(classes)):
            class_activation_maps(net, x, classes)
    with refused("`images`", (16, 12, 3)):
        class_activation_maps(net, x[0])
    with refused("`model`", "pooled"):
        headless = {"include_top": False, "pooling": "avg", "name": "pooled"}
        class_activation_maps(keras_resnet.ResNet((1, 1), **OPTIONS, **headless), x)
