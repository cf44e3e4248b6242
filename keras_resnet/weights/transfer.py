"""Weights by layer name, the same for a net whose blocks are stacked and for its unrolled twin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from keras_resnet.layers import BlockStack


def layer_weights(model: keras.Model) -> dict[str, list[np.ndarray]]:
    """Returns the weights of every layer that has any, by its name in the unrolled net.

    A `BlockStack` named conv2_stack is given as its blocks: conv2_block2_1_conv and so on.
    """
    weights = {}
    for layer in model.layers:
        if isinstance(layer, BlockStack):
            stacked = [(name, np.asarray(variable)) for name, _, variable in layer.sliced_weights()]
            weights.update(unstacked_weights(layer.name, stacked))
        elif layer.weights:
            weights[layer.name] = layer.get_weights()
    return weights


def unstacked_weights(
    stack_name: str, stacked: Sequence[tuple[str, np.ndarray]]
) -> dict[str, list[np.ndarray]]:
    """Returns the slices of a stack's weights, given as (layer of the pattern, stacked array)."""
    weights = {}
    for pattern_name, values in stacked:
        for i, value in enumerate(values):
            weights.setdefault(_unrolled_name(stack_name, pattern_name, i), []).append(value)
    return weights


def _unrolled_name(stack_name, pattern_name, i):
    # The first block of a stage stands before the stack, so slice 0 is block 2.
    return f"{stack_name.removesuffix('stack')}{pattern_name.replace('block', f'block{i + 2}', 1)}"


def assign_weights(
    model: keras.Model, weights: Mapping[str, Sequence[np.ndarray]], source: str = "weights"
) -> None:
    """Gives every layer of `model` its weights; all of them or, on an error, none.

    Args:
        model: Network of this package or any functional model.
        weights: Arrays by layer, as `layer_weights` returns them.
        source: What the weights come from, for the error.

    Raises:
        ValueError: If layers are missing or left over, or a shape differs.
    """
    expected = {
        name: [value.shape for value in values] for name, values in layer_weights(model).items()
    }
    received = {name: [np.shape(value) for value in values] for name, values in weights.items()}
    missing = [name for name in expected if name not in received]
    unknown = [name for name in received if name not in expected]
    different = [name for name in expected if name in received and expected[name] != received[name]]
    if missing or unknown:
        raise ValueError(
            f"`weights` must be those of the same architecture as {model.name!r}; {source} lacks "
            f"{_some(missing)} and has {_some(unknown)} too many. Received: weights of "
            f"{len(received)} layers for {len(expected)}"
        )
    if different:
        name = different[0]
        raise ValueError(
            f"`weights` must be those of the same architecture as {model.name!r}; layer {name!r} "
            f"takes shapes {expected[name]}. Received: {source} with shapes {received[name]}"
        )
    for layer in model.layers:
        if isinstance(layer, BlockStack):
            position = {}
            for pattern_name, _, variable in layer.sliced_weights():
                k = position[pattern_name] = position.get(pattern_name, -1) + 1
                names = [_unrolled_name(layer.name, pattern_name, i) for i in range(layer.repeats)]
                variable.assign(np.stack([weights[name][k] for name in names]))
        elif layer.weights:
            layer.set_weights(list(weights[layer.name]))


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copies all weights by layer name, between stacked and unrolled nets as well.

    Raises:
        ValueError: If the two are not of one architecture.
    """
    assign_weights(target, layer_weights(source), f"model {source.name!r}")


def _some(names):
    if not names:
        return "nothing"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
