"""Measures the responses of a network's layers (section 4.2 and Fig. 7 of arXiv 1512.03385).

A response is the output of a convolution's normalization, before the nonlinearity and the
addition; where pre-activation leaves a block's last convolution without one, that convolution's own
output. In residual networks its standard deviation says how much a block changes its input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import keras
import numpy as np

from keras_resnet.layers import BlockStack
from keras_resnet.naming import find_place, unrolled_name
from keras_resnet.utils import checks
from keras_resnet.utils.statistics import Moments, image_batches, map_moments


@dataclasses.dataclass(frozen=True)
class LayerResponse:
    """The responses of one convolution to many images.

    Attributes:
        name: Name of the convolution in the unrolled network: conv2_block1_1_conv.
        order: Its position among the layers measured, from the input, beginning at 1.
        rank: Its position among them by falling standard deviation, beginning at 1.
        std: Standard deviation over all images, pixels and channels, in units of the
            normalization's output.
    """

    name: str
    order: int
    rank: int
    std: float


def layer_responses(
    model: keras.Model,
    images: np.ndarray | Iterable,
    *,
    layers: str = "3x3",
    batch_size: int = 128,
) -> tuple[LayerResponse, ...]:
    """Measures the standard deviation of the layers' responses, in inference mode.

    Images are streamed: memory holds one batch. A stack of blocks runs block by block through one
    compiled function that is given the weights of each in turn, so that depth costs neither memory
    nor compilation.

    Args:
        model: Network of this package, unrolled or stacked.
        images: Inputs of the model: an array `(n, H, W, C)`, or batches of images,
            `(images, labels)` or `(images, labels, weights)`, such as `eval_batches` yields;
            images of weight 0 are left out.
        layers: "3x3" for the 3x3 convolutions, as in the paper, or "all" for the 1x1, the
            projections and the stem as well.
        batch_size: Size of the batches that an array is cut into.

    Returns:
        One entry per layer, in the order from input to output.

    Raises:
        ValueError: If the model has no such layers, there are no images or they do not fit it,
            its numbers are not finite, or an argument is wrong.
    """
    checks.one_of("layers", layers, ("3x3", "all"))
    names = _names(model, layers)
    if not names:
        raise ValueError(
            f"`model` must be a network of this package itself, with convolutions ({layers}) named "
            "as conv2_block1_1_conv and followed by conv2_block1_1_bn. "
            f"Received: model={model.name!r}"
        )
    moments = {name: Moments() for name in names}
    stacks = [_Stack(layer, layers) for layer in model.layers if isinstance(layer, BlockStack)]
    trunk = _features(model, layers, [stack.entry for stack in stacks])
    for batch, counted in image_batches(model, images, batch_size):
        entries, found = trunk.predict_on_batch(batch)
        for stack, maps in zip(stacks, entries, strict=True):
            found |= stack.run(maps)
        for name, figures in found.items():
            moments[name].add(*(figure[counted].ravel() for figure in figures))
    wild = [name for name in names if not np.isfinite(moments[name].variance)]
    if wild:
        raise ValueError(
            "`model` must give finite numbers in inference, which a very deep untrained network "
            f"may not. Received: model={model.name!r}, not finite from layer {wild[0]!r} on"
        )
    stds = {name: float(np.sqrt(m.variance)) for name, m in moments.items()}
    ranked = sorted(names, key=lambda name: stds[name], reverse=True)
    return tuple(
        LayerResponse(name, order, ranked.index(name) + 1, stds[name])
        for order, name in enumerate(names, start=1)
    )


class _Stack:
    """Runs the blocks of a stack one by one: the pattern with the weights of each in turn."""

    def __init__(self, layer, layers):
        self.entry = layer.input
        self.repeats = layer.repeats
        # A copy, since the layer's own pattern is not ours to write to.
        pattern = keras.models.clone_model(layer.block)
        self.features = _features(pattern, layers, pattern.output)
        self.weights = [
            (pattern.get_layer(name).weights[position], np.asarray(stacked))
            for (name, _, stacked), position in layer.with_positions()
        ]

    def run(self, maps):
        """Returns the moments of all blocks' layers by name, given what enters the first block."""
        moments = {}
        for i in range(self.repeats):
            for variable, stacked in self.weights:
                variable.assign(stacked[i])
            maps, found = self.features.predict_on_batch(maps)
            moments |= {unrolled_name(name, i): figures for name, figures in found.items()}
        return moments


def _measured(model, layers):
    """Returns the layers whose outputs are the responses, by name of their convolution."""
    by_name = {layer.name: layer for layer in model.layers}
    found = {}
    for name, conv in by_name.items():
        if name.endswith("_conv") and (layers == "all" or tuple(conv.kernel_size) == (3, 3)):
            stem = name.removesuffix("_conv")
            norm = by_name.get(f"{stem}_bn", by_name.get(f"{stem}_gn"))
            place = find_place(name)
            end = by_name.get(f"{name.removesuffix(place.part)}out") if place else None
            if norm is not None:
                found[name] = norm
            elif isinstance(end, keras.layers.Add):  # pre-activation
                found[name] = conv
    return found


def _names(model, layers):
    """Returns the names of the convolutions to be measured, in the unrolled network's order."""
    measured, names = _measured(model, layers), []
    for layer in model.layers:
        if isinstance(layer, BlockStack):
            pattern = _measured(layer.block, layers)
            names += [unrolled_name(name, i) for i in range(layer.repeats) for name in pattern]
        elif layer.name in measured:
            names.append(layer.name)
    return names


def _features(model, layers, others):
    """Returns a model with outputs `others`, and the moments of every measured layer by name."""
    found = {}
    for name, layer in _measured(model, layers).items():
        channels_last = getattr(layer, "data_format", "channels_last") == "channels_last"
        axis = getattr(layer, "axis", -1 if channels_last else 1)
        found[name] = map_moments(layer.output, axis)
    features = keras.Model(model.input, [others, found])
    if keras.backend.backend() == "tensorflow":
        # Keras would compile with XLA, which takes minutes for a deep network.
        features.compile(jit_compile=False)
    return features
