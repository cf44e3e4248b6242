"""The same numbers as `keras.applications`, an independent implementation of the v1 networks."""

from __future__ import annotations

import keras
import pytest

import keras_resnet
from keras_resnet.weights import assign_weights
from tests.helpers import distance, images, randomize

# float32 through 50 or 101 layers, relative to the largest output.
TOLERANCE = 1e-4


def folded_weights(theirs: keras.Model) -> dict:
    """Their weights by layer, the useless bias before every normalization moved into its mean.

    (conv + bias) - mean is conv - (mean - bias).
    """
    weights = {layer.name: layer.get_weights() for layer in theirs.layers if layer.weights}
    for name, values in weights.items():
        if name.endswith("_conv"):
            bias = values.pop()
            weights[name.replace("_conv", "_bn")][2] -= bias
    return weights


@pytest.mark.parametrize("name", ["ResNet50", pytest.param("ResNet101", marks=pytest.mark.slow)])
def test_same_outputs(name):
    shape = (97, 64, 3)  # one odd side
    options = {"weights": None, "include_top": False, "pooling": "avg", "input_shape": shape}
    theirs = randomize(getattr(keras.applications, name)(**options))
    ours = getattr(keras_resnet, name)(version="v1", bn_epsilon=1.001e-5, **options)
    assign_weights(ours, folded_weights(theirs))
    x = images(2, *shape)
    expected = theirs(x)
    assert distance(ours(x), expected) < TOLERANCE
    # Along the way too.
    ends = [f"conv{i}_block{n}_out" for i, n in zip(range(2, 5), (3, 4, 6), strict=True)]
    if name == "ResNet101":
        ends[-1] = "conv4_block23_out"
    found, wanted = (
        keras.Model(model.inputs, [model.get_layer(end).output for end in ends])(x)
        for model in (ours, theirs)
    )
    for value, other in zip(found, wanted, strict=True):
        assert distance(value, other) < TOLERANCE
    # The weights say something: without the biases the answer is another.
    for layer in ours.layers:
        if layer.name.endswith("_bn"):
            layer.moving_mean.assign(theirs.get_layer(layer.name).moving_mean)
    assert distance(ours(x), expected) > 100 * TOLERANCE


def test_same_classifier():
    options = {"weights": None, "input_shape": (32, 32, 3), "classes": 7}
    theirs = randomize(keras.applications.ResNet50(**options))
    theirs.get_layer("predictions").kernel.assign(0.3 * images(2048, 7))
    ours = keras_resnet.ResNet50(**options, bn_epsilon=1.001e-5)
    assign_weights(ours, folded_weights(theirs))
    x = images(3, 32, 32, 3)
    assert distance(ours(x), theirs(x)) < TOLERANCE
    assert distance(keras.ops.sum(ours(x), axis=1), keras.ops.ones(3)) < 1e-5
