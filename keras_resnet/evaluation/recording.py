"""Records what a trainer's evaluation predicts, in place of a second pass. Needs TensorFlow."""

from __future__ import annotations

import time

import keras
import numpy as np

from keras_resnet.data import ImageDataset
from keras_resnet.evaluation.multi_label import MultiLabelEvaluation
from keras_resnet.evaluation.protocols import Protocol, SingleCrop
from keras_resnet.evaluation.results import Evaluation
from keras_resnet.evaluation.tally import Tally
from keras_resnet.network import class_names_of, preprocessing_of, remembered
from keras_resnet.surgery.graphs import functional_config, output_activation


def recorder_for(model: keras.Model, dataset: ImageDataset, split: str) -> Recorder | None:
    """Returns what records an evaluation by `Trainer.evaluate`, as its `on_batch`.

    None where `evaluate` would do otherwise: where the network's preprocessing or classes are not
    those of the data set, or its outputs are no probabilities.
    """
    prepared = preprocessing_of(model)
    if prepared is None or not remembered(model):
        return None
    size = dataset.image_shape[:2]
    own, theirs = prepared.at(size), dataset.preprocessing(prepared).at(size)
    names = class_names_of(model) or dataset.class_names
    if (
        (own.shorter_side, own.interpolation) != (theirs.shorter_side, theirs.interpolation)
        or tuple(names) != tuple(dataset.class_names)
        or output_activation(functional_config(model)) not in ("softmax", "sigmoid")
    ):
        return None
    return Recorder(model.name, dataset, split, SingleCrop().resolved(dataset, prepared))


class Recorder:
    """Ranks the classes of the images of a split, whose batches come in stored order.

    Args:
        name: Name of the network.
        dataset: The images.
        split: Their split.
        protocol: That by which the data set's evaluation images are made.
    """

    def __init__(self, name: str, dataset: ImageDataset, split: str, protocol: Protocol):
        self._name, self._dataset, self._split, self._protocol = name, dataset, split, protocol
        self._tally = Tally(dataset.multi_label)
        self._position, self._finite = 0, True
        self._first: tuple[int, float] | None = None
        self._begin = self._end = time.perf_counter()

    def __call__(self, labels: np.ndarray, outputs: np.ndarray, weights: np.ndarray) -> None:
        """Adds a batch: labels, probabilities, and weights that are 0 of what is no image."""
        self._finite &= bool(np.isfinite(outputs).all())
        if outputs.shape[1] == 1 and not self._dataset.multi_label:
            outputs = np.concatenate([1 - outputs, outputs], axis=1)
        for row in np.flatnonzero(weights):
            self._tally.rank(self._position + int(row), labels[row], outputs[row])
        self._position += len(weights)
        self._end = time.perf_counter()
        self._first = self._first or (len(self._tally.ranked), self._end - self._begin)

    def evaluation(self) -> Evaluation | MultiLabelEvaluation | None:
        """Returns the result; None where an output is not finite."""
        if not self._finite:
            return None
        return self._tally.evaluation(
            self._dataset,
            self._split,
            models=(self._name,),
            protocol=self._protocol,
            average="softmax",
            seconds=self._end - self._begin,
            first_batch=self._first,
        )
