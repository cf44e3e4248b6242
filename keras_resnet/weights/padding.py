"""Order of the channels that zero-padded shortcuts leave, which a file of PyTorch does not tell.

Where a block has more channels than its input, a shortcut of option A adds zeros. This package has
them behind the input's channels; akamaster's pytorch_resnet_cifar10 and its many copies have half
of them on either side. Names and shapes of the weights are the same, and so is the network but for
the order of the channels between its blocks.
"""

from __future__ import annotations

import keras
import numpy as np

from keras_resnet.layers import ZeroPadShortcut
from keras_resnet.naming import CLASSIFIER, POST, Place, find_place
from keras_resnet.weights.transfer import Layers

PADDINGS = ("both", "behind")
# Layers of a branch whose last axis is the block's output, beside its last convolution; and those
# whose input is the block's output, or input.
_AT_END, _GATE = ("se_expand",), "se_reduce"
_AT_ENTRY = "preact_bn"


def adds_channels(model: keras.Model) -> bool:
    """Returns whether a shortcut of the model adds channels of zeros."""
    return bool(_padded_blocks(model))


def zeros_behind(layers: Layers, model: keras.Model) -> Layers:
    """Returns the weights of a net that pads on both sides for `model`, which pads behind.

    The outputs are the same. The weights are those of all layers of `model`.
    """
    padded = _padded_blocks(model)
    places = {name: place for name in layers if (place := find_place(name))}
    blocks: dict[tuple[int, int], dict[str, str]] = {}
    for name, place in places.items():
        blocks.setdefault((place.stage, place.block), {})[place.part] = name
    changed = dict(layers)
    # Of every channel here, its index there.
    order: np.ndarray | None = None
    for block in sorted(blocks):
        parts, entry = blocks[block], order
        if block in padded:
            inputs, outputs = padded[block]
            entry = np.arange(inputs) if entry is None else entry
            kept = (outputs - inputs) // 2 + entry
            order = np.concatenate([kept, np.setdiff1d(np.arange(outputs), kept)])
        if order is None:
            continue
        convolutions = sorted(part for part in parts if part[0].isdigit() and "conv" in part)
        last = convolutions[-1].removesuffix("conv")
        for part, name in parts.items():
            arrays = changed[name]
            if part == convolutions[0]:
                arrays = _permuted(arrays, inputs=entry)
            if part == convolutions[-1] or part in _AT_END or part == f"{last}bn":
                arrays = _permuted(arrays, outputs=order)
            if part == _GATE:
                arrays = _permuted(arrays, inputs=order)
            if part == _AT_ENTRY:
                arrays = _permuted(arrays, outputs=entry)
            changed[name] = arrays
    if order is not None and f"{POST}_bn" in changed:
        changed[f"{POST}_bn"] = _permuted(changed[f"{POST}_bn"], outputs=order)
    if order is not None and CLASSIFIER in changed:
        changed[CLASSIFIER] = _permuted(changed[CLASSIFIER], inputs=order)
    return changed


def _padded_blocks(model: keras.Model) -> dict[tuple[int, int], tuple[int, int]]:
    """Returns the channels that go into and out of such shortcuts, by stage and block."""
    found = {}
    for layer in model.layers:
        place: Place | None = find_place(layer.name)
        if place and isinstance(layer, ZeroPadShortcut):
            axis = -1 if layer.data_format == "channels_last" else 1
            if layer.input.shape[axis] < layer.filters:
                found[place.stage, place.block] = (layer.input.shape[axis], layer.filters)
    return found


def _permuted(arrays, inputs=None, outputs=None):
    """Returns kernels and vectors with their channels in another order."""
    if inputs is not None:
        arrays = [arrays[0].take(inputs, axis=-2), *arrays[1:]]
    if outputs is not None:
        arrays = [array.take(outputs, axis=-1) for array in arrays]
    return list(arrays)
