"""Targets of a network: its outputs, loss, metrics, class weights and teacher. TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import training
from keras_resnet.data import ImageDataset
from keras_resnet.evaluation.classes import class_orders
from keras_resnet.evaluation.evaluator import names_of, open_model
from keras_resnet.experiment.settings import Optimization
from keras_resnet.export import ExportedModel
from keras_resnet.export.copies import image_network
from keras_resnet.network import preprocessing_of
from keras_resnet.surgery.graphs import functional_config, output_activation
from keras_resnet.training.balance import class_weights


class Head(NamedTuple):
    """The end of a network."""

    outputs: int
    activation: str


def head(optimization: Optimization, dataset: ImageDataset) -> Head:
    """Returns the end that the network has for the labels and the loss."""
    several = dataset.multi_label or optimization.loss == "bce"
    outputs = 1 if optimization.binary_head else len(dataset.class_names)
    return Head(outputs, "sigmoid" if several else "softmax")


def expect_targets(optimization: Optimization, dataset: ImageDataset) -> None:
    """Raises a ValueError if settings of the labels do not fit the data."""
    if optimization.binary_head and (dataset.multi_label or len(dataset.class_names) != 2):
        kind = "several labels an image" if dataset.multi_label else "these"
        raise ValueError(
            "`binary_head` must be False except for two classes. "
            f"Received: {dataset.name} with {len(dataset.class_names)} classes, {kind}"
        )
    if optimization.sampling is not None and dataset.multi_label:
        raise ValueError(
            "`sampling` must be left out where images have several labels; use `class_weights`. "
            f"Received: sampling={optimization.sampling!r}"
        )
    if optimization.class_weights:
        weights_of_classes(optimization, dataset)


def weights_of_classes(optimization: Optimization, dataset: ImageDataset) -> np.ndarray:
    """Returns the weight of each class, as `training.balance.class_weights` does."""
    given = optimization.class_weights
    value = given[0] if isinstance(given[0], str) else [float(one) for one in given]
    return class_weights(value, dataset.labels("train"), dataset.class_names)


def make_loss(optimization: Optimization, dataset: ImageDataset) -> keras.losses.Loss:
    """Returns the loss of what `head` gives."""
    smoothing = optimization.label_smoothing
    if dataset.multi_label:
        weights = None
        if optimization.class_weights:
            weights = weights_of_classes(optimization, dataset).tolist()
        return training.BinaryCrossEntropy(
            label_smoothing=smoothing, multi_label=True, positive_weights=weights
        )
    if optimization.loss == "bce":
        return training.BinaryCrossEntropy(label_smoothing=smoothing)
    return training.CrossEntropy(label_smoothing=smoothing)


def make_metrics(optimization: Optimization, dataset: ImageDataset) -> list[keras.metrics.Metric]:
    """Returns the metrics of what `head` gives; `accuracy` is among them.

    Of images with several labels it is the share of all labels that are right, and the share of the
    images of which all labels are is `subset_accuracy`. Average precision needs all images at once:
    `evaluation.evaluate` has it.
    """
    if dataset.multi_label:
        return [
            keras.metrics.BinaryAccuracy("accuracy"),
            keras.metrics.MeanMetricWrapper(_all_right, "subset_accuracy"),
            keras.metrics.F1Score("macro", 0.5, name="macro_f1"),
        ]
    if optimization.binary_head:
        return [keras.metrics.BinaryAccuracy("accuracy")]
    metrics = [keras.metrics.SparseCategoricalAccuracy("accuracy")]
    # Among ten classes, being one of the best five says little.
    if len(dataset.class_names) > 10:
        metrics.append(keras.metrics.SparseTopKCategoricalAccuracy(5, "top5_accuracy"))
    return metrics


def _all_right(y_true, y_pred):
    right = keras.ops.equal(y_true > 0.5, y_pred > 0.5)
    return keras.ops.cast(keras.ops.all(right, axis=-1), "float32")


def make_distillation(
    optimization: Optimization, dataset: ImageDataset
) -> training.Distillation | None:
    """Returns the teacher and its part in the loss; call it in the strategy's scope."""
    if optimization.teacher is None:
        return None
    ending = head(optimization, dataset)
    return training.Distillation(
        load_teacher(optimization.teacher, dataset, ending),
        temperature=optimization.distillation_temperature,
        alpha=optimization.distillation_alpha,
        sigmoid=ending.activation == "sigmoid",
    )


def load_teacher(
    teacher: str, dataset: ImageDataset, ending: Head
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a trained network as a function that `training.Distillation` takes.

    It sees the images of the data set as its own weights want them: of its size, resized where it
    takes no other, and standardized by itself. Its outputs are matched to the classes by name.

    Args:
        teacher: As for `evaluation.open_model`; not an exported model.
        dataset: The images.
        ending: The end of the network that learns from it.

    Raises:
        ValueError: If it is no network, or has other classes, channels or an end of another kind.
    """
    found = open_model(teacher)
    if isinstance(found, ExportedModel):
        raise ValueError(
            "`teacher` must be a network: a .keras file, or a name with published weights. "
            f"Received: teacher={teacher!r}"
        )
    net, _ = image_network(found, argument="teacher", given=teacher)
    activation = output_activation(functional_config(net))
    outputs = tuple(net.output_shape[1:])
    if outputs != (ending.outputs,) or activation not in ("linear", ending.activation):
        raise ValueError(
            f"`teacher` must have {ending.outputs} outputs that end in {ending.activation}, or in "
            f"no activation. Received: teacher={teacher!r} with outputs of shape {outputs} that "
            f"end in {activation}"
        )
    height, width, channels = dataset.image_shape
    own = net.input_shape[1:]
    if own[-1] != channels:
        raise ValueError(
            f"`teacher` must take images of {channels} channels. "
            f"Received: teacher={teacher!r} for images of shape {own}"
        )
    sides = own[0] or height, own[1] or width
    prepared = preprocessing_of(found)
    interpolation = prepared.interpolation if prepared else dataset.interpolation
    (order,) = class_orders(dataset.name, dataset.class_names, [teacher], [names_of(found)])
    net.trainable = False

    def probabilities(images: tf.Tensor) -> tf.Tensor:
        images = tf.cast(images, tf.float32)
        if sides != (height, width):
            images = tf.image.resize(images, sides, interpolation, antialias=True)
        scores = tf.cast(net(images, training=False), tf.float32)
        if activation == "linear":
            scores = keras.activations.get(ending.activation)(scores)
        if order is None:
            return scores
        # One output is the probability of the second class.
        return 1.0 - scores if ending.outputs == 1 else tf.gather(scores, order, axis=-1)

    return probabilities
