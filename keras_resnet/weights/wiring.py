"""What a network computes but its weights do not show, so far as files tell it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_resnet.preprocessing import Preprocessing

# What a layer does, by its name: strides, an activation, or nothing but that it is there.
Wiring = dict[str, list[Any]]

# Beside strides, by the kind of layer.
_TOLD = {"Activation": "activation", "GroupNormalization": "epsilon"}


def wiring(config: Mapping[str, Any]) -> Wiring:
    """Returns strides, additions and activations of the stem and of each stage's first block.

    Args:
        config: That of a functional model.
    """
    wires = {}
    for layer in _layers(config):
        own = layer["config"]
        if told := _TOLD.get(layer["class_name"]):
            if re.search(r"^conv1_|block1_", own["name"]):
                wires[own["name"]] = [_meant(own[told])]
        elif re.search(r"^conv1_conv$|^pool1_pool$|block1_(\d_conv|add)$", own["name"]):
            wires[own["name"]] = list(own.get("strides", ()))
    return wires


def _meant(value: Any) -> Any:
    """Returns what a serialised object says of the function that it computes.

    Its name, and what is counted up from object to object, is another in each process.
    """
    if not isinstance(value, dict):
        return value
    if "class_name" not in value:
        return {
            key: _meant(one)
            for key, one in value.items()
            if key not in ("name", "dtype", "trainable")
        }
    return [value["class_name"], _meant(value["config"])]


def epsilon_in(config: Mapping[str, Any]) -> float | None:
    """Returns the epsilon of the first batch normalisation, which the others have too.

    Args:
        config: That of a functional model.
    """
    names = {layer["config"]["name"]: layer["config"] for layer in _layers(config)}
    return next(
        (
            float(own["epsilon"])
            for name, own in names.items()
            if name.endswith("_bn") and "epsilon" in own
        ),
        None,
    )


def _layers(config):
    """Yields the layers of a model, those of the blocks of stacks too."""
    for layer in config["layers"]:
        yield layer
        if "block" in layer["config"]:
            yield from _layers(layer["config"]["block"]["config"])


def stride_version(wires: Wiring) -> str | None:
    """Returns "v1" or "v1.5", by which convolution of a bottleneck has the stride, if any has."""
    for name, strides in wires.items():
        match = re.fullmatch(r"(conv\d+_block1)_([12])_conv", name)
        if match and strides[:1] == [2] and f"{match[1]}_3_conv" in wires:
            return {"1": "v1", "2": "v1.5"}[match[2]]
    return None


def preprocessing(config: Mapping[str, Any]) -> Preprocessing | None:
    """Returns what the model standardises by itself, or None if it does not.

    Args:
        config: That of a functional model.
    """
    for layer in config["layers"]:
        own = layer["config"]
        if own["name"] == "preprocessing" and own.get("mean") is not None:
            mean, variance = (np.ravel(own[key]).astype(float) for key in ("mean", "variance"))
            return Preprocessing(tuple(mean.tolist()), tuple(np.sqrt(variance).tolist()))
    return None
