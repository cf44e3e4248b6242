"""The stages of a network, found by the names of its layers, and the strides of their maps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import keras

from keras_resnet.surgery.graphs import sources

# conv1 is the stem; the first stage, whose map the field calls C2, is conv2.
_STAGE = re.compile(r"conv([2-9]|\d{2,})_")
# Normalisation and activation behind the last stage of networks with pre-activation.
_POST = "post_"


def stage_ends(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """Returns the last map of every stage by name, C2 to C5; nothing where there are no stages.

    That is what the next stage reads, and of the last one what the classifier reads: with
    pre-activation (version "v2", DenseNet) the sum or concatenation that ends a stage, and for the
    last stage what normalisation and activation behind it make of that.
    """
    ends, name = {}, None
    # Layers are in order of computation.
    for layer in model.layers:
        if found := _STAGE.match(layer.name):
            name = f"C{found[1]}"
        if found or (name and layer.name.startswith(_POST)):
            ends[name] = layer.output
    return ends


def strides(config: Mapping[str, Any]) -> dict[str, int]:
    """Returns the stride of every layer's output: how many pixels of the image one of its stands
    for, along a side.

    Args:
        config: That of a functional model.
    """
    total: dict[str, int] = {}
    for layer in config["layers"]:
        before = max((total[name] for name in sources(layer["inbound_nodes"])), default=1)
        total[layer["name"]] = before * step(layer["config"])
    return total


def step(config: Mapping[str, Any]) -> int:
    """Returns the stride of a layer by its config, 1 where it has none."""
    own = config.get("strides") or 1
    return own if isinstance(own, int) else own[0]
