"""Results of an evaluation where an image can have several labels, or none."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from keras_resnet.evaluation.protocols import Protocol
from keras_resnet.evaluation.results import Measured
from keras_resnet.utils.statistics import wilson_interval

# Probability from which a label counts as predicted.
THRESHOLD = 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class MultiLabelEvaluation(Measured):
    """Predictions of a model, or of several averaged, for every image of a split.

    A best class, top-5 errors, a confusion matrix and calibration of the best class are for classes
    that exclude each other; here every label is a question of its own.

    Attributes:
        models, dataset, split, protocol, average, class_names, indices, left_out, seconds, places,
            first_batch: As in `Evaluation`.
        labels: 1 for every label of each image, else 0, `(n, classes)`.
        outputs: Averaged probability of every label, float32 `(n, classes)`.
    """

    models: tuple[str, ...]
    dataset: str
    split: str
    protocol: Protocol
    average: str
    class_names: tuple[str, ...]
    indices: np.ndarray
    labels: np.ndarray
    outputs: np.ndarray
    left_out: int
    seconds: float
    places: tuple[str, ...] | None = None
    first_batch: tuple[int, float] = (0, 0.0)

    @functools.cached_property
    def average_precision(self) -> tuple[float | None, ...]:
        """Average precision of each label; None of one that no image has."""
        columns = zip(self.labels.T, self.outputs.T, strict=True)
        return tuple(_average_precision(*column) for column in columns)

    @property
    def mean_average_precision(self) -> float:
        """Mean of `average_precision` over the labels that images have, in [0, 1]."""
        known = [one for one in self.average_precision if one is not None]
        return float(np.mean(known)) if known else 0.0

    @property
    def predicted(self) -> np.ndarray:
        """Labels predicted, with at least probability 0.5, as booleans `(n, classes)`."""
        return self.outputs >= THRESHOLD

    @property
    def macro_f1(self) -> float:
        """Mean over the labels of F1, which is 0 where a label is neither had nor predicted."""
        return float(np.mean(_f1(*self._counts)))

    @property
    def micro_f1(self) -> float:
        """F1 of all labels of all images together."""
        return float(_f1(*(counts.sum() for counts in self._counts)))

    @property
    def subset_accuracy(self) -> float:
        """Fraction of the images of which all labels are predicted, and no other."""
        return float(np.mean((self.predicted == (self.labels > 0)).all(axis=1)))

    @property
    def label_accuracy(self) -> float:
        """Fraction of all labels of all images that are predicted as they are."""
        return float(np.mean(self.predicted == (self.labels > 0)))

    def metrics(self) -> dict[str, Any]:
        """Returns the figures of the whole split, and how they were measured."""
        figures: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                *("mean_average_precision", "macro_f1", "micro_f1"),
                *("subset_accuracy", "label_accuracy"),
            )
        }
        exact = wilson_interval(self.subset_accuracy, self.count)
        figures["subset_accuracy_interval_95"] = exact
        return self.measured(figures)

    def per_class(self) -> list[dict[str, Any]]:
        """Returns a row for each label.

        Each has `class` (its number), `name`, `images` (that have it), `average_precision` where
        there are any, `precision` where it was predicted, `recall` where there are any, and `f1`.
        """
        rows = []
        columns = zip(self.class_names, self.average_precision, *self._counts, strict=True)
        for number, (name, average, both, had, predicted) in enumerate(columns):
            row: dict[str, Any] = {"class": number, "name": name, "images": int(had)}
            if average is not None:
                row |= {"average_precision": average, "recall": float(both / had)}
            if predicted:
                row["precision"] = float(both / predicted)
            row["f1"] = float(_f1(both, had, predicted))
            rows.append(row)
        return rows

    def predictions(self) -> list[dict[str, Any]]:
        """Returns a row for each image.

        Each has `index`, `place` (its file) where it has one, `labels` and `predicted` (numbers of
        classes, with a space between them), and the probability of every label by its name.
        """
        rows = []
        for i, outputs in enumerate(self.outputs.tolist()):
            row: dict[str, Any] = {"index": int(self.indices[i])}
            if self.places is not None:
                row["place"] = self.places[i]
            for name, of in (("labels", self.labels[i] > 0), ("predicted", self.predicted[i])):
                row[name] = " ".join(map(str, np.flatnonzero(of)))
            rows.append(row | dict(zip(self.class_names, outputs, strict=True)))
        return rows

    def __str__(self) -> str:
        return (
            f"{' + '.join(self.models)} on {self.count:,} {self.split} images of {self.dataset}, "
            f"{self.protocol}: mean average precision {100 * self.mean_average_precision:.2f} %, "
            f"macro F1 {100 * self.macro_f1:.2f} %, all labels right "
            f"{100 * self.subset_accuracy:.2f} %; {self._rate}"
        )

    @functools.cached_property
    def _counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images of each label that have it and are predicted to, that have it, and that are."""
        had = self.labels > 0
        return (had & self.predicted).sum(0), had.sum(0), self.predicted.sum(0)


def _average_precision(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Returns the mean of the precision at every image that has the label, best score first.

    Images of one score come at once.
    """
    labels = labels > 0
    if not labels.any():
        return None
    order = np.argsort(-scores, kind="stable")
    labels, scores = labels[order], scores[order]
    last = np.append(scores[1:] != scores[:-1], True)
    hits, places = labels.cumsum()[last], np.flatnonzero(last) + 1
    return float(np.sum(np.diff(hits, prepend=0) * hits / places) / labels.sum())


def _f1(both: Any, had: Any, predicted: Any) -> Any:
    return 2 * both / np.maximum(had + predicted, 1)
