"""Helpers of several test files: random weights, gradients, distances, graphs, errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import numpy as np
import pytest

from keras_resnet.layers import BlockStack
from keras_resnet.weights.transfer import layer_weights, unstacked_weights


def images(*shape: int, seed: int = 0, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    """Draws float32 numbers in [low, high)."""
    return np.random.default_rng(seed).uniform(low, high, shape).astype("float32")


def randomize(
    model: keras.Model, seed: int = 0, gamma: tuple[float, float] = (0.3, 0.9)
) -> keras.Model:
    """Gives a model random scales, offsets, biases and moving statistics, and returns it.

    None of them can be ignored then. Kernels keep their initial values. Scales, drawn from `gamma`,
    stay below one, so that deep sums do not overflow.
    """
    rng = np.random.default_rng(seed)
    intervals = {
        "gamma": gamma,
        "beta": (-0.3, 0.3),
        "moving_mean": (-0.3, 0.3),
        "moving_variance": (0.5, 1.5),
        "bias": (-0.3, 0.3),
    }
    for variable in model.variables:
        for kind, (low, high) in intervals.items():
            if variable.path.endswith(kind):
                variable.assign(rng.uniform(low, high, variable.shape))
    return model


def distance(value, expected) -> float:
    """Returns the largest absolute difference, relative to the largest absolute expected value.

    Single elements may be next to zero, where a relative difference means nothing.
    """
    value, expected = (
        keras.ops.convert_to_numpy(keras.ops.cast(v, "float64")) for v in (value, expected)
    )
    assert value.shape == expected.shape
    assert np.isfinite(expected).all()
    largest = np.abs(expected).max(initial=0.0)
    return float(np.abs(value - expected).max(initial=0.0) / (largest or 1.0))


def trainable_parameters(model: keras.Model) -> int:
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def gradients(model: keras.Model, inputs: np.ndarray, training: bool = True):
    """Returns the output, and gradients of a fixed weighted sum of it: by layer, and of inputs.

    Those of a stack are keyed by the names of its blocks in the unrolled network.
    """
    import tensorflow as tf

    x = tf.convert_to_tensor(inputs)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = model(x, training=training)
        weighted = outputs * images(*outputs.shape, seed=17)
        loss = tf.reduce_sum(weighted)
    variables = [v.value for v in model.trainable_variables]
    *of_variables, of_inputs = tape.gradient(loss, [*variables, x])
    gradient_of = {id(v): g for v, g in zip(model.trainable_variables, of_variables, strict=True)}
    by_layer = {}
    for layer in model.layers:
        if isinstance(layer, BlockStack):
            stacked = [
                (name, gradient_of[id(variable)].numpy())
                for name, _, variable in layer.sliced_weights()
                if variable.trainable
            ]
            by_layer |= unstacked_weights(stacked)
        elif layer.trainable_variables:
            by_layer[layer.name] = [gradient_of[id(v)].numpy() for v in layer.trainable_variables]
    return outputs, by_layer, of_inputs


def assert_same_by_layer(found: dict, expected: dict, tolerance: float) -> None:
    """Compares lists of arrays by layer, each relative to its own largest value."""
    assert sorted(found) == sorted(expected)
    for name, values in expected.items():
        for value, other in zip(found[name], values, strict=True):
            assert distance(value, other) <= tolerance, name


def assert_same_weights(model: keras.Model, other: keras.Model, tolerance: float = 0.0) -> None:
    """Compares all weights by layer, those of stacks with those of unrolled blocks."""
    assert_same_by_layer(layer_weights(model), layer_weights(other), tolerance)


def assert_same_gradients(
    model: keras.Model, other: keras.Model, x: np.ndarray, tolerance: float, training: bool = True
) -> None:
    """Compares outputs, gradients, and all weights after that pass: statistics moved alike."""
    y, by_layer, of_inputs = gradients(model, x, training)
    expected_y, expected_by_layer, expected_of_inputs = gradients(other, x, training)
    assert distance(y, expected_y) <= tolerance
    assert distance(of_inputs, expected_of_inputs) <= tolerance
    assert_same_by_layer(by_layer, expected_by_layer, tolerance)
    assert_same_weights(model, other, tolerance)


def kernels_in_graph(function, *inputs) -> set[str]:
    """Returns the names of TensorFlow's operations in the graph of `function(*inputs)`."""
    import tensorflow as tf

    graph = tf.function(function).get_concrete_function(*inputs).graph
    operations = {operation.type for operation in graph.get_operations()}
    for library_function in graph.as_graph_def().library.function:
        operations |= {node.op for node in library_function.node_def}
    return operations


@contextlib.contextmanager
def refused(*words: object, error: type[Exception] = ValueError) -> Iterator[None]:
    """Expects an error of one line that names the argument and the received value.

    The rest of the message may change.

    Args:
        *words: Parts of the line: the name of the argument, and a value that distinguishes this
            error from others about the same argument.
        error: Class of the error.
    """
    with pytest.raises(error) as caught:
        yield
    line = str(caught.value)
    assert "\n" not in line, line
    assert "Received:" in line, line
    assert [word for word in map(str, words) if word not in line] == [], line
