"""The momentum of batch normalisation, wherever in a model its layers lie."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras

from keras_resnet.layers import BlockStack
from keras_resnet.utils import private


@contextlib.contextmanager
def momentum(model: keras.Model, value) -> Iterator[None]:
    """Gives every batch normalisation another momentum for the time of the block.

    With 1 - 1/k at the k-th batch, a moving average is the plain average over the batches.

    Args:
        model: The model.
        value: A number or a scalar tensor.

    Raises:
        ValueError: The model has no batch normalisation.
    """
    norms = list(_batch_norms(model))
    if not norms:
        raise ValueError(
            f"`model` must have batch normalisation. Received: {model.name!r}, which has none"
        )
    before = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = value
        yield
    finally:
        for norm, own in zip(norms, before, strict=True):
            norm.momentum = own


def synchronized(model: keras.Model) -> bool:
    """Whether any batch normalisation takes its statistics over all replicas."""
    return any(norm.synchronized for norm in _batch_norms(model))


def synchronized_in_a_loop(model: keras.Model) -> bool:
    """Whether any of them is part of a loop over stacked blocks."""
    layers = private.nested_layers(model)
    stacks = (layer for layer in layers if isinstance(layer, BlockStack) and layer.repeats > 1)
    return any(norm.synchronized for stack in stacks for norm in _batch_norms(stack.block))


def _batch_norms(model: keras.Model) -> Iterator[keras.layers.BatchNormalization]:
    for layer in private.nested_layers(model):
        if isinstance(layer, BlockStack):
            yield from _batch_norms(layer.block)
        elif isinstance(layer, keras.layers.BatchNormalization):
            yield layer
