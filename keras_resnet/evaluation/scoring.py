"""Functions from images to the scores of models of every form. Needs TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data import ImageDataset
from keras_resnet.evaluation.protocols import Protocol
from keras_resnet.export import ExportedModel
from keras_resnet.export.copies import image_network
from keras_resnet.network import class_count
from keras_resnet.surgery.conversion import any_size, with_logits
from keras_resnet.surgery.graphs import functional_config, output_activation

Model: TypeAlias = keras.Model | ExportedModel
# The smallest probability whose logarithm is taken.
_SMALLEST = float(np.finfo("float32").tiny)


def fits_as_two(model: Model, name: str, dataset: ImageDataset) -> bool:
    """Returns whether a model tells two classes by one output, after checks that it fits."""
    classes, images = len(dataset.class_names), dataset.image_shape
    if isinstance(model, ExportedModel):
        if model.output not in ("probabilities", "logits"):
            raise ValueError(
                "`models` must be classifiers, with probabilities or logits as their output. "
                f"Received: {name}, which gives {model.output}"
            )
        own = model.image_shape
    else:
        functional_config(model)
        own = tuple(model.input_shape[1:])
    if len(own) != 3 or any(a not in (None, b) for a, b in zip(own, images, strict=True)):
        raise ValueError(
            "`models` must take the images of the data set; for photographs `image_size` sets the "
            f"size. Received: {name} for images of shape {own}, {dataset.name} with {images}"
        )
    if isinstance(model, ExportedModel):  # Files do not tell what they give.
        outputs = (None, *model(np.zeros((1, *images), "float32")).shape[1:])
    else:
        outputs = tuple(model.output_shape)
    # Of several labels, a single output tells one.
    told = outputs[1:] if dataset.multi_label else tuple(map(class_count, outputs[1:]))
    if told != (classes,):
        raise ValueError(
            f"`models` must have {classes} outputs, one per class of {dataset.name}. "
            f"Received: {name} with outputs of shape {outputs}"
        )
    if outputs[1] == 1 or dataset.multi_label:
        _expect_sigmoid(model, name, logit_allowed=not dataset.multi_label)
    return outputs[1] == 1 and not dataset.multi_label


def _expect_sigmoid(model: Model, name: str, logit_allowed: bool) -> None:
    """Raises a ValueError unless each output is a probability of its own, as far as is known.

    With `logit_allowed` it may be a logit, too.
    """
    ending: str | None
    if isinstance(model, ExportedModel):
        ending = model.output
    else:
        ending = output_activation(functional_config(model))
    # Files do not tell softmax from sigmoid.
    logits = ("linear", "logits") if logit_allowed else ()
    if ending not in ("sigmoid", "probabilities", *logits):
        raise ValueError(
            "`models` must end in sigmoid where images have several labels, and in sigmoid or a "
            "logit where they have one output. "
            f"Received: {name}, which ends in {ending}"
        )


def make_scorer(
    model: Model,
    name: str,
    protocol: Protocol,
    average: str,
    order: list[int] | None,
    tells_two: bool,
) -> Callable:
    """Returns a function from images, float32, to the scores that are averaged, in that order."""
    if isinstance(model, ExportedModel):
        outputs_of, logits = _of_a_file(model, name, protocol), model.output == "logits"
    else:
        outputs_of, logits = _of_a_network(model, name, protocol, average)

    def scores(images: tf.Tensor) -> tf.Tensor:
        outputs = outputs_of(images)
        if tells_two:  # Logits of 0 and z have the probability sigmoid(z).
            first = tf.zeros_like(outputs) if logits else 1.0 - outputs
            outputs = tf.concat([first, outputs], -1)
        outputs = outputs if order is None else tf.gather(outputs, order, axis=-1)
        if logits == (average == "logits"):
            return outputs
        # Logarithms of probabilities are logits less a number for each image.
        return tf.nn.softmax(outputs) if logits else tf.math.log(tf.maximum(outputs, _SMALLEST))

    return scores


def _of_a_network(
    model: keras.Model, name: str, protocol: Protocol, average: str
) -> tuple[Callable, bool]:
    """Returns a function from images to outputs, and whether these are logits."""
    net, _ = image_network(model, argument="models", given=name)
    activation = output_activation(functional_config(net))
    logits = average == "logits" or activation not in ("softmax", "sigmoid")
    if logits:
        net = with_logits(net)
    if protocol.any_size and None not in net.input_shape[1:3]:
        net = any_size(net)
    return lambda images: tf.cast(net(images, training=False), tf.float32), logits


def _of_a_file(model: ExportedModel, name: str, protocol: Protocol) -> Callable:
    """Returns a function from images to the outputs of an exported model."""
    if protocol.any_size and None not in model.image_shape[:2]:
        raise ValueError(
            f"`models` must take images of any size for {protocol.name}. "
            f"Received: {name}, which takes {model.image_shape}"
        )

    return lambda images: tf.constant(model(images.numpy()), tf.float32)


def averaged(
    models: Sequence[Model], scorers: Sequence[Callable], protocol: Protocol, dataset: ImageDataset
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from crops, uint8, to the mean of the models' scores.

    All networks are one graph for crops of all sizes. Exported models are called outside of it: the
    threads of a graph that waits for another one may be all that there are.
    """
    height, width, channels = dataset.image_shape
    sides = (None, None) if protocol.any_size else (height, width)
    spec = tf.TensorSpec((None, *sides, channels), tf.float32)
    pairs = list(zip(models, scorers, strict=True))
    networks = [scorer for model, scorer in pairs if not isinstance(model, ExportedModel)]
    parts = [scorer for model, scorer in pairs if isinstance(model, ExportedModel)]
    if networks:

        @tf.function(input_signature=[spec], autograph=False)
        def summed(images: tf.Tensor) -> tf.Tensor:
            return tf.add_n([scorer(images) for scorer in networks])

        parts.append(summed)

    def mean_scores(crops: np.ndarray) -> np.ndarray:
        images = tf.cast(crops, tf.float32)
        return sum(part(images).numpy() for part in parts) / len(scorers)

    # Traced and optimized here, so that the clock measures the images only.
    mean_scores(np.zeros((1, height, width, channels), np.uint8))
    return mean_scores
