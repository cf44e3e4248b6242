"""Frozen layers and learning rates by stage, for fine-tuning a trained network."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from keras_resnet.naming import find_stage
from keras_resnet.surgery.graphs import classifier_of
from keras_resnet.utils import checks


def freeze(model: keras.Model, stages: int | None = None, *, bn: bool = True) -> None:
    """Freezes the front of a network for fine-tuning, and unfreezes the rest.

    The usual way is the classifier first and then the rest: `freeze(model)`, train, `freeze(model,
    0)`, train with a lower learning rate. Compile the model, or make its `Trainer`, after each
    call.

    Frozen layers keep their weights; a frozen batch normalization uses its moving statistics in
    training too, and these do not move. `bn=True` freezes those between trained layers as well,
    which is the better choice where batches are small or the new images few: statistics and scales
    stay those of the images that the network was trained on.

    Args:
        model: Network with named layers as built here; with `stages` None or 0 any model. It is
            changed in place.
        stages: Number of stages to freeze, from the images on: 0 none, 1 the stem, 2 the stem and
            the first stage (conv2), and so on; None all layers but the classifier, which is the
            last layer, or the one in front of a separate activation.
        bn: Whether batch normalizations stay frozen between trained layers; of those in a Hub
            module the statistics only.

    Raises:
        ValueError: If `stages` is not a number of stages that the network has.
    """
    checks.boolean("bn", bn)
    if stages is None:
        head = _head(model)
        frozen = [layer for layer in model.layers if layer is not head]
    else:
        checks.integer("stages", stages, minimum=0)
        there = {_stage(layer) for layer in model.layers}
        last = max((stage for stage in there if stage), default=0)
        if stages > last:
            raise ValueError(
                f"`stages` must be None or 0 to {last}, the last that {model.name!r} has, conv1 "
                f"being the stem. Received: stages={stages}"
            )
        # Layers between two frozen stages, such as the additions, have no weights.
        frozen = [layer for layer in model.layers if 0 < (_stage(layer) or 0) <= stages]
    # One by one: Keras skips `model.trainable = True` where the model itself was not frozen.
    for layer in (model, *_leaves(model)):
        layer.trainable = True
    for layer in frozen:
        layer.trainable = False
    for layer in _leaves(model):
        if hasattr(layer, "frozen_norms"):  # a stack of blocks, or a Hub module
            layer.frozen_norms = bn
        elif bn and isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def stage_rates(model: keras.Model, decay: float) -> dict[str, float]:
    """Returns discriminative learning rates: lower ones for the layers nearer to the images.

    The classifier has the full learning rate, the last stage `decay` of it, the stage before
    `decay` squared and so on; a model without stages, such as one on a Hub module, `decay` for all
    but the classifier. Source: section 3.1 of arXiv 1801.06146.

    Args:
        model: The network.
        decay: Factor from one stage to the one in front of it, in (0, 1].

    Returns:
        A factor of the learning rate for every layer with weights, by name, as `training.SGD`
        takes them.

    Raises:
        ValueError: If `decay` is not in (0, 1].
    """
    if not 0.0 < checks.positive("decay", decay) <= 1.0:
        raise ValueError(f"`decay` must be in (0, 1]. Received: decay={decay}")
    stages = {layer.name: _stage(layer) for layer in model.layers if layer.weights}
    last = max((stage for stage in stages.values() if stage), default=1)
    head = _head(model).name
    # Norms behind the last stage (those of pre-activation nets) go with it.
    return {
        name: 1.0 if name == head else decay ** (1 + last - (stage or last))
        for name, stage in stages.items()
    }


def _head(model: keras.Model) -> keras.layers.Layer:
    """Returns the classifier, or the last layer of a model without a single output."""
    one = len(getattr(model, "outputs", None) or ()) == 1
    head = classifier_of(model) if one else None
    return head if head in model.layers else model.layers[-1]


def _stage(layer: keras.layers.Layer) -> int | None:
    """Returns the number of a layer's stage, 1 for the stem, or None."""
    stage = find_stage(layer.name, transitions=True)
    return None if stage is None else stage + 2


def _leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yields the layers of a model and of the models in it."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer
