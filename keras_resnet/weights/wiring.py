"""What a network computes but its weights do not show, so far as files tell it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from keras_resnet.weights.registry import Preprocessing

Wiring = dict[str, list[int]]


def wiring(config: Mapping[str, Any]) -> Wiring:
    """Returns strides and additions, of the stem and of the first block of each stage.

    Args:
        config: That of a functional model.
    """
    return {
        layer["config"]["name"]: list(layer["config"].get("strides", ()))
        for layer in config["layers"]
        if re.search(r"^conv1_conv$|^pool1_pool$|block1_(\d_conv|add)$", layer["config"]["name"])
    }


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
            deviations = [float(variance) ** 0.5 for variance in own["variance"]]
            return Preprocessing(tuple(float(mean) for mean in own["mean"]), tuple(deviations))
    return None
