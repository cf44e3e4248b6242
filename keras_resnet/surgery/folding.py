"""Batch normalization folded into the convolutions in front of it, for inference.

In inference a normalization multiplies each channel by a constant and adds another. The convolution
before it can do both: its kernel takes up the factor, and a bias the offset. Uses Keras only.
"""

from __future__ import annotations

import copy
from collections import Counter

import keras
import numpy as np

from keras_resnet.layers import BatchNormalization, BlockStack, FusedBatchNormalization
from keras_resnet.naming import unrolled_name
from keras_resnet.surgery.graphs import (
    Config,
    functional_config,
    rewired,
    rewired_outputs,
    sources,
)
from keras_resnet.weights.transfer import Layers, assign_weights, layer_weights

# Keras's and this package's, and that of files of earlier versions.
_NORMS = {BatchNormalization.__name__, FusedBatchNormalization.__name__}
# Kernels whose last axis is the output channel.
_FOLDABLE = {keras.layers.Conv2D.__name__, keras.layers.Dense.__name__}


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Returns a network for inference without the normalizations that follow a convolution.

    The outputs are those of `model` in inference to the rounding of float32 (about 1e-6 of the
    largest). A normalization that follows something else, as in front of a pre-activation block,
    stays. Stacked blocks are folded as a stack.

    Args:
        model: Functional model of one input and one output, which is unchanged.

    Returns:
        A functional `keras.Model` with weights of its own and the same layer names.

    Raises:
        ValueError: If `model` is not functional.
    """
    config = copy.deepcopy(functional_config(model))
    weights = layer_weights(model)
    _fold(config, weights)
    for layer in config["layers"]:
        if layer["class_name"] == BlockStack.__name__:
            _fold(layer["config"]["block"]["config"], weights, layer["config"]["repeats"])
            # Built for the weights that it had.
            layer.pop("build_config", None)
    folded = keras.Model.from_config(config)
    assign_weights(folded, weights, f"model {model.name!r}")
    return folded


def _fold(config: Config, weights: Layers, repeats: int | None = None) -> None:
    """Folds in place a config, of a stack's pattern if there are `repeats`, and its weights."""
    layers = {layer["name"]: layer for layer in config["layers"]}
    outputs = str(config["output_layers"])
    readers = Counter(sources([layer["inbound_nodes"] for layer in layers.values()]))
    replaced = {}
    for norm in list(layers.values()):
        if norm["class_name"] not in _NORMS or len(norm["inbound_nodes"]) != 1:
            continue
        (source,) = sources(norm["inbound_nodes"])
        layer = layers[source]
        linear = layer["config"].get("activation") == "linear"
        alone = readers[source] == 1 and f"'{source}'" not in outputs
        foldable = layer["class_name"] in _FOLDABLE and linear and alone
        if not foldable or not _by_channel(layer, norm):
            continue
        for i in range(repeats or 1):
            conv_name, norm_name = (
                unrolled_name(name, i) if repeats else name for name in (source, norm["name"])
            )
            weights[conv_name] = _folded(weights[conv_name], weights.pop(norm_name), norm["config"])
        layer["config"]["use_bias"] = True
        layer.pop("build_config", None)
        replaced[norm["name"]] = source
        config["layers"].remove(norm)

    def follow(name):
        return replaced.get(name, name)

    for layer in config["layers"]:
        layer["inbound_nodes"] = rewired(layer["inbound_nodes"], follow)
    config["output_layers"] = rewired_outputs(config["output_layers"], follow)


def _by_channel(layer: Config, norm: Config) -> bool:
    """Returns whether the normalization is over the output channels of the layer."""
    last = layer["config"].get("data_format", "channels_last") == "channels_last"
    axis = norm["config"]["axis"]
    axis = axis[0] if isinstance(axis, (list, tuple)) else axis
    return axis in ((-1, 3) if last else (1, -3)) and not norm["config"].get("renorm")


def _folded(conv: list, norm: list, config: Config) -> list[np.ndarray]:
    """Returns kernel and bias of a convolution and its normalization in one."""
    kernel, *bias = (np.asarray(value, "float64") for value in conv)
    rest = [np.asarray(value, "float64") for value in norm]
    gamma = rest.pop(0) if config["scale"] else 1.0
    beta = rest.pop(0) if config["center"] else 0.0
    mean, variance = rest
    factor = gamma / np.sqrt(variance + config["epsilon"])
    offset = beta + ((bias[0] if bias else 0.0) - mean) * factor
    return [(kernel * factor).astype("float32"), np.asarray(offset, "float32")]
