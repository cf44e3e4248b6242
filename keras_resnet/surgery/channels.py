"""Channels of a network that belong together: none of them can be taken out without the others.

An addition ties channel i of one map to channel i of the other, an identity shortcut those of a
whole stage. The ties are found from the graph of the model, one channel at a time, so that zero-pad
shortcuts (which tie some of the channels of two stages) and concatenations need no rule of their
own.
"""

from __future__ import annotations

import dataclasses
import math

import keras
import numpy as np
from keras import layers

from keras_resnet.layers import ZeroPadShortcut

# Layers that treat every channel alike, by itself.
_BY_CHANNEL = (
    *(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Dropout),
    *(layers.MaxPooling2D, layers.AveragePooling2D, layers.ZeroPadding2D, layers.Cropping2D),
    *(layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D),
)
_OWN_BY_CHANNEL = ("DilatedAveragePooling2D", "StochasticDepth")
_NORMS = (layers.BatchNormalization,)
_WITH_KERNEL = (layers.Conv2D, layers.Dense)


@dataclasses.dataclass(frozen=True)
class LayerChannels:
    """The channels that a layer reads and gives, as numbers of the groups that they belong to.

    Attributes:
        layer: The layer, which has weights for every channel.
        inputs: Group of every channel that it reads.
        outputs: Group of every channel that it gives.
    """

    layer: keras.Layer
    inputs: np.ndarray
    outputs: np.ndarray

    @property
    def multiply_adds(self) -> float:
        """Multiply-adds for one image of each pair of a channel that enters and one that leaves."""
        if not isinstance(self.layer, _WITH_KERNEL):
            return 0.0
        pixels = math.prod(self.layer.kernel.shape[:-2])
        return pixels * self._positions / getattr(self.layer, "groups", 1)

    @property
    def _positions(self) -> int:
        shape = self.layer.output.shape[1:]
        if isinstance(self.layer, layers.Dense):
            return 1
        first = self.layer.data_format == "channels_first"
        sides = shape[1:] if first else shape[:-1]
        if None in sides:
            raise ValueError(
                "`model` must be of images of one size to count multiply-adds. "
                f"Received: images of shape {sides} at layer {self.layer.name!r}"
            )
        return math.prod(sides)


@dataclasses.dataclass(frozen=True)
class ChannelGroups:
    """All channels of a network, by the groups that belong together.

    Attributes:
        layers: Layers with weights for channels, and zero-pad shortcuts, by name.
        fixed: Whether each group has to stay: channels of images, scores and grouped convolutions.
    """

    layers: dict[str, LayerChannels]
    fixed: np.ndarray


def channel_groups(model: keras.Model) -> ChannelGroups:
    """Finds which channels of a functional model belong together.

    Raises:
        ValueError: If the model has a layer that mixes channels in another way than convolutions,
            dense layers, additions, products and concatenations do.
    """
    ties = _Ties()
    channels: dict[int, np.ndarray] = {}  # by tensor
    found: dict[str, tuple[keras.Layer, np.ndarray, np.ndarray]] = {}
    fixed: list[np.ndarray] = []
    for layer in model.layers:
        tensors = keras.tree.flatten(layer.input) if layer.input is not layer.output else []
        entering = [channels[id(tensor)] for tensor in tensors]
        axis = 1 if getattr(layer, "data_format", None) == "channels_first" else -1
        if isinstance(layer, (layers.InputLayer, *_WITH_KERNEL)):
            leaving = ties.new(layer.output.shape[axis])
            if isinstance(layer, layers.InputLayer):
                fixed.append(leaving)
            else:
                found[layer.name] = (layer, entering[0], leaving)
                if getattr(layer, "groups", 1) > 1:
                    fixed += [entering[0], leaving]
        elif isinstance(layer, ZeroPadShortcut):
            added = layer.output.shape[axis] - len(entering[0])
            leaving = np.concatenate([entering[0], ties.new(added)])
            found[layer.name] = (layer, entering[0], leaving)
        elif isinstance(layer, layers.Concatenate):
            leaving = np.concatenate(entering)
        elif isinstance(layer, (layers.Add, layers.Multiply)):
            leaving = entering[0]
            for other in entering[1:]:
                ties.tie(leaving, other)
        elif isinstance(layer, _NORMS):
            leaving = entering[0]
            found[layer.name] = (layer, leaving, leaving)
        elif isinstance(layer, _BY_CHANNEL) or type(layer).__name__ in _OWN_BY_CHANNEL:
            leaving = entering[0]
        elif not layer.weights or isinstance(layer, layers.Normalization):
            # In front of the network: channels of images, which stay.
            leaving = entering[0]
            fixed.append(leaving)
        else:
            raise ValueError(
                "`model` must be of convolutions, batch normalization, additions, concatenations, "
                f"pooling and dense layers. Received: layer {layer.name!r} of class "
                f"{type(layer).__name__}"
            )
        if len(leaving) != layer.output.shape[axis]:
            raise ValueError(
                "`model` must keep its channels apart on the way to the classifier. "
                f"Received: layer {layer.name!r} of class {type(layer).__name__}"
            )
        channels[id(layer.output)] = leaving
    fixed += [channels[id(tensor)] for tensor in model.outputs]
    roots, groups = np.unique(ties.roots(), return_inverse=True)
    is_fixed = np.zeros(len(roots), bool)
    for ids in fixed:
        is_fixed[groups[ids]] = True
    return ChannelGroups(
        {name: LayerChannels(x, groups[ids], groups[out]) for name, (x, ids, out) in found.items()},
        is_fixed,
    )


class _Ties:
    """Numbers for channels, some of which are made one (union-find)."""

    def __init__(self):
        self._parents: list[int] = []

    def new(self, count: int) -> np.ndarray:
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        return np.arange(start, start + count)

    def _root(self, i: int) -> int:
        while self._parents[i] != i:
            self._parents[i] = self._parents[self._parents[i]]
            i = self._parents[i]
        return i

    def tie(self, first: np.ndarray, second: np.ndarray) -> None:
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            self._parents[self._root(b)] = self._root(a)

    def roots(self) -> np.ndarray:
        return np.array([self._root(i) for i in range(len(self._parents))], int)
