"""Weights by layer name, the same for a net whose blocks are stacked and for the unrolled one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from keras_resnet.layers import BlockStack
from keras_resnet.naming import OTHER_NAMES, unrolled_name
from keras_resnet.network import preprocessing_of, remembered

Layers = dict[str, list[np.ndarray]]


def layer_weights(model: keras.Model) -> Layers:
    """Returns the weights of every layer that has any, by its name in the unrolled net.

    A `BlockStack` named conv2_stack is given as its blocks: conv2_block2_1_conv and so on.
    """
    weights: Layers = {}
    for layer in model.layers:
        if isinstance(layer, BlockStack):
            stacked = [(name, np.asarray(variable)) for name, _, variable in layer.sliced_weights()]
            weights.update(unstacked_weights(stacked))
        elif layer.weights:
            weights[layer.name] = layer.get_weights()
    return weights


def unstacked_weights(stacked: Sequence[tuple[str, np.ndarray]]) -> Layers:
    """Returns the slices of a stack's weights, given as (layer of the pattern, stacked array)."""
    weights: Layers = {}
    for pattern_name, values in stacked:
        for i, value in enumerate(values):
            weights.setdefault(unrolled_name(pattern_name, i), []).append(value)
    return weights


def renamed(weights: Layers, model: keras.Model) -> Layers:
    """Returns weights by the names of a model's layers, where a DenseNet has that of Keras."""
    own = {layer.name for layer in model.layers}
    other = {name: OTHER_NAMES.get(name) for name in weights.keys() - own}
    renames = {name: there for name, there in other.items() if there in own - weights.keys()}
    return {renames.get(name) or name: arrays for name, arrays in weights.items()}


def assign_weights(
    model: keras.Model, weights: Mapping[str, Sequence[np.ndarray]], source: str = "weights"
) -> None:
    """Assigns weights to every layer of a functional model: all or, on an error, none.

    The weights are arrays by layer, as `layer_weights` returns them. Raises a ValueError, in which
    `source` is the name of their origin, if layers are missing or left over, or a shape differs. As
    by Keras's `set_weights`, what the model remembers stays as it is.
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
            # Preprocessing layers that were adapted compute with values derived from their weights.
            layer.finalize_state()


def check_weights(
    model: keras.Model, weights: Mapping[str, Sequence[np.ndarray]], source: str = "weights"
) -> None:
    """Raises the error of `assign_weights` unless the weights are those of `model`."""
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


def norm_epsilon(model: keras.Model) -> float | None:
    """Returns the epsilon of a model's batch normalizations, or None without any."""
    norms = (layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
    return next((float(norm.epsilon) for norm in norms), None)


def with_epsilon(layers: Layers, old: float | None, new: float | None, source: str) -> Layers:
    """Returns weights for another epsilon: the difference goes into the variances."""
    if old is None or new is None or old == new:
        return layers
    changed = dict(layers)
    for name, arrays in layers.items():
        if len(arrays) == 4:
            variance = np.asarray(arrays[3], "float64") + (old - new)
            if variance.min() < 0:
                raise ValueError(
                    "`bn_epsilon` must be that of the weights, or less different than their "
                    f"variances. Received: bn_epsilon={new} for {source} with bn_epsilon={old}"
                )
            changed[name] = [*arrays[:3], variance.astype("float32")]
    return changed


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copies all weights by layer name, between stacked and unrolled nets as well.

    What `target` remembers of the images stays, but for the `source` and the `threshold`, which are
    those of the weights.

    Raises a ValueError if the two are of different architectures.
    """
    weights = renamed(layer_weights(source), target)
    assign_weights(target, weights, f"model {source.name!r}")
    config = remembered(target)
    if config is not None and config.preprocessing is not None:
        prepared = config.preprocessing.with_weights_of(preprocessing_of(source))
        if prepared != config.preprocessing:
            target.remember(dataclasses.replace(config, preprocessing=prepared))


def _some(names: Sequence[str]) -> str:
    if not names:
        return "nothing"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
