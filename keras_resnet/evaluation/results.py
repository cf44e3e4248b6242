"""Results of an evaluation: the ranking for every image, and the figures that follow from it."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from keras_resnet.evaluation.protocols import Protocol
from keras_resnet.utils.statistics import wilson_interval

# Classes kept of each image's ranking.
TOP = 5


class Measured:
    """Figures of their measurement that evaluations of all kinds of labels have."""

    models: tuple[str, ...]
    dataset: str
    split: str
    protocol: Protocol
    average: str
    labels: np.ndarray
    left_out: int
    seconds: float
    first_batch: tuple[int, float]

    @property
    def count(self) -> int:
        """Number of images that were evaluated."""
        return len(self.labels)

    @property
    def images_per_second(self) -> float:
        """Images, not crops, per second; `rate_note` says what that includes."""
        images, seconds = self.first_batch if self._is_steady else (0, 0.0)
        return (self.count - images) / (self.seconds - seconds)

    @property
    def rate_note(self) -> str:
        """Note of what `images_per_second` includes."""
        batches = "without the first batch" if self._is_steady else "of one batch, with its start"
        return f"reading, all crops and all models included, {batches}"

    @property
    def _rate(self) -> str:
        only = "" if self._is_steady else ", of one batch with its start"
        return f"{self.images_per_second:.3g} images/s{only}"

    @property
    def _is_steady(self) -> bool:
        """Returns whether images came after the first batch, whose call compiles and allocates."""
        images, seconds = self.first_batch
        return self.count > images and self.seconds > seconds

    def measured(self, figures: dict[str, Any]) -> dict[str, Any]:
        """Returns figures of the evaluation with what was measured, and how."""
        return {
            "models": list(self.models),
            "dataset": self.dataset,
            "split": self.split,
            "protocol": {"name": self.protocol.name, **vars(self.protocol)},
            "average": self.average,
            "images": self.count,
            "left_out": self.left_out,
            **figures,
            "images_per_second": self.images_per_second,
            "images_per_second_note": self.rate_note,
            "seconds": self.seconds,
        }


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation(Measured):
    """Predictions of a model, or of several averaged, for every image of a split.

    Attributes:
        models: Names of the models.
        dataset: Name of the data set.
        split: Name of the split.
        protocol: Crops of each image that were averaged over, with every attribute set.
        average: "softmax" or "logits", averaged over crops and models.
        class_names: Name of every class.
        indices: Position of each image in the split, rising, `(n,)`.
        labels: Class of each image, `(n,)`.
        ranking: The five best classes of each image, best first, `(n, 5)`; all of them where there
            are fewer. Of equal scores the class of the smaller number comes first.
        scores: Averaged probability (or logit) of each image's best class, `(n,)`.
        left_out: Number of images of the split that could not be read.
        outputs: Averaged probabilities (or logits) of all classes, float32 `(n, classes)`; None
            where they were not kept.
        places: File of each image, or where else it lies; None for data in memory.
        seconds: Time from the first image read to the last one ranked.
        first_batch: Number of images of the first batch, and its part of `seconds`.
    """

    models: tuple[str, ...]
    dataset: str
    split: str
    protocol: Protocol
    average: str
    class_names: tuple[str, ...]
    indices: np.ndarray
    labels: np.ndarray
    ranking: np.ndarray
    scores: np.ndarray
    left_out: int
    seconds: float
    outputs: np.ndarray | None = None
    places: tuple[str, ...] | None = None
    first_batch: tuple[int, float] = (0, 0.0)

    @property
    def top1_error(self) -> float:
        """Fraction of images whose best class is not their own, in [0, 1]."""
        return float(np.mean(~self._hits(1)))

    @property
    def top5_error(self) -> float | None:
        """Fraction of images whose class is not among the best five; None for up to 5 classes."""
        return float(np.mean(~self._hits(TOP))) if len(self.class_names) > TOP else None

    @functools.cached_property
    def confusion(self) -> np.ndarray:
        """Number of images of class `i` that were classified as `j`, `(classes, classes)`."""
        counts = np.zeros((len(self.class_names),) * 2, np.int64)
        np.add.at(counts, (self.labels, self.ranking[:, 0]), 1)
        return counts

    def metrics(self) -> dict[str, Any]:
        """Returns the figures of the whole split, and how they were measured."""
        figures: dict[str, Any] = {}
        for name, error in (("top1", self.top1_error), ("top5", self.top5_error)):
            if error is not None:
                figures[f"{name}_error"] = error
                figures[f"{name}_error_interval_95"] = wilson_interval(error, self.count)
        return self.measured(figures)

    def per_class(self) -> list[dict[str, Any]]:
        """Returns a row for each class.

        Each has `class` (its number), `name`, `images`, and, where it has images: `error`, `low`
        and `high` (95 % interval of the error), `top5_error`, and `taken_for` and `taken_for_share`
        (the class that its images are most often mistaken for, and the fraction that are).
        `precision` is the fraction of the images classified as this class that are of it.
        """
        counts, taken = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        first, among_best = (
            np.bincount(self.labels, self._hits(places), minlength=len(counts))
            for places in (1, TOP)
        )
        rows = []
        for i, name in enumerate(self.class_names):
            row: dict[str, Any] = {"class": i, "name": name, "images": int(counts[i])}
            if counts[i]:
                row["error"] = float(1 - first[i] / counts[i])
                row["low"], row["high"] = wilson_interval(row["error"], row["images"])
                if self.top5_error is not None:
                    row["top5_error"] = float(1 - among_best[i] / counts[i])
                mistakes = self.confusion[i] * (np.arange(len(counts)) != i)
                if mistakes.any():
                    row["taken_for"] = self.class_names[mistakes.argmax()]
                    row["taken_for_share"] = float(mistakes.max() / counts[i])
            if taken[i]:
                row["precision"] = float(first[i] / taken[i])
            rows.append(row)
        return rows

    def predictions(self) -> list[dict[str, Any]]:
        """Returns a row for each image.

        Each has `index`, `place` (its file) where it has one, `label`, `score` of the best class,
        and `top1`, `top2`, ..., the best classes.
        """
        columns: dict[str, Any] = {"index": self.indices.tolist()}
        if self.places is not None:
            columns["place"] = self.places
        columns |= {"label": self.labels.tolist(), "score": self.scores.tolist()}
        columns |= {f"top{i + 1}": classes.tolist() for i, classes in enumerate(self.ranking.T)}
        rows = zip(*columns.values(), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def __str__(self) -> str:
        low, high = (100 * end for end in wilson_interval(self.top1_error, self.count))
        top5 = "" if self.top5_error is None else f", top-5 error {100 * self.top5_error:.2f} %"
        return (
            f"{' + '.join(self.models)} on {self.count:,} {self.split} images of {self.dataset}, "
            f"{self.protocol}: top-1 error {100 * self.top1_error:.2f} % "
            f"({low:.2f} to {high:.2f} at 95 %){top5}; {self._rate}"
        )

    def _hits(self, places: int) -> np.ndarray:
        return (self.ranking[:, :places] == self.labels[:, None]).any(axis=1)
