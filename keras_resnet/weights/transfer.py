"""Weights by layer name, the same for a net whose blocks are stacked and for its unrolled twin."""

from __future__ import annotations

import re
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
            weights.update(unstacked_weights(stacked))
        elif layer.weights:
            weights[layer.name] = layer.get_weights()
    return weights


def unstacked_weights(
    stacked: Sequence[tuple[str, np.ndarray]],
) -> dict[str, list[np.ndarray]]:
    """Returns the slices of a stack's weights, given as (layer of the pattern, stacked array)."""
    weights = {}
    for pattern_name, values in stacked:
        for i, value in enumerate(values):
            weights.setdefault(unrolled_name(pattern_name, i), []).append(value)
    return weights


def unrolled_name(pattern_name: str, i: int) -> str:
    """Returns the name that a layer of a stack's pattern has in block `i` of the unrolled net.

    The pattern is named as the first block: conv2_block2_1_conv, and in block 1
    conv2_block3_1_conv.

    Raises:
        ValueError: If the name has no number of a block.
    """
    name, found = re.subn(
        r"block(\d+)", lambda match: f"block{int(match[1]) + i}", pattern_name, count=1
    )
    if not found:
        raise ValueError(
            "`pattern_name` must be that of a layer of a stacked block with its number, such as "
            f"conv2_block2_1_conv, to have names in the unrolled net. Received: {pattern_name!r}"
        )
    return name


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
    check_weights(model, weights, source)
    for layer in model.layers:
        if isinstance(layer, BlockStack):
            for (pattern_name, _, variable), k in layer.with_positions():
                names = [unrolled_name(pattern_name, i) for i in range(layer.repeats)]
                variable.assign(np.stack([weights[name][k] for name in names]))
        elif layer.weights:
            layer.set_weights(list(weights[layer.name]))
        if hasattr(layer, "finalize_state"):
            # Adapted preprocessing layers compute with what they derive from their weights.
            layer.finalize_state()


def check_weights(
    model: keras.Model, weights: Mapping[str, Sequence[np.ndarray]], source: str = "weights"
) -> None:
    """Raises the ValueError of `assign_weights` unless the weights are those of `model`."""
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
