"""Comparison of two models on the same images."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from keras_resnet.evaluation.results import Evaluation


@dataclasses.dataclass(frozen=True)
class PairedComparison:
    """Two models on the same images, where only those that one of them gets wrong tell them apart.

    Attributes:
        models: Names of the two.
        images: Number of images.
        errors: Top-1 error of each, in [0, 1].
        first_only: Images that only the first classifies correctly.
        second_only: Images that only the second classifies correctly.
        difference: Error of the first less that of the second.
        interval_95: 95 % interval of the difference (Agresti and Min, Statistics in Medicine 24,
            2005: Wald's, with half an image more in each of the four cells).
        p_value: Probability of at least this imbalance between equally good models: McNemar's
            exact test, two-sided.
    """

    models: tuple[str, str]
    images: int
    errors: tuple[float, float]
    first_only: int
    second_only: int
    difference: float
    interval_95: tuple[float, float]
    p_value: float

    def row(self) -> dict[str, Any]:
        """Returns it as JSON can hold it."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        low, high = (100 * end for end in self.interval_95)
        first, second = self.models
        return (
            f"{first} against {second} on the same {self.images:,} images: top-1 error "
            f"{100 * self.errors[0]:.2f} and {100 * self.errors[1]:.2f} %, difference "
            f"{100 * self.difference:+.2f} ({low:+.2f} to {high:+.2f} at 95 %); "
            f"{self.first_only} images only the first has right, {self.second_only} only the "
            f"second: p = {self.p_value:.3g} (McNemar, exact)"
        )


def compare_on_images(first: Evaluation, second: Evaluation) -> PairedComparison:
    """Compares two evaluations of the same images, image by image.

    The models may be of different sizes and preprocessing, each with its own data set of the same
    files.

    Raises:
        ValueError: If they are not of the same images of the same data set.
    """
    for evaluation in (first, second):
        shown = f"{evaluation.count} {evaluation.split} images of {evaluation.dataset}"
        same = all(
            getattr(evaluation, name) == getattr(first, name)
            for name in ("dataset", "split", "class_names", "places")
        )
        same &= all(
            np.array_equal(getattr(evaluation, name), getattr(first, name))
            for name in ("indices", "labels")
        )
        if not same:
            raise ValueError(
                "`second` must be an evaluation of the images of `first`, "
                f"{first.count} {first.split} images of {first.dataset}. Received: {shown}"
            )
    models = (" + ".join(first.models), " + ".join(second.models))
    hits = [evaluation.ranking[:, 0] == evaluation.labels for evaluation in (first, second)]
    return compare_hits(models, *hits)


def compare_hits(
    models: tuple[str, str], first: np.ndarray, second: np.ndarray
) -> PairedComparison:
    """Compares two models by whether each classifies each of the same images correctly."""
    first_only = int((first & ~second).sum())
    second_only = int((second & ~first).sum())
    # With half an image more in each of the four cells.
    b, c, n = first_only + 0.5, second_only + 0.5, len(first) + 2
    center, half = (c - b) / n, 1.96 * math.sqrt(b + c - (c - b) ** 2 / n) / n
    return PairedComparison(
        models=models,
        images=len(first),
        errors=(float(np.mean(~first)), float(np.mean(~second))),
        first_only=first_only,
        second_only=second_only,
        difference=(second_only - first_only) / len(first),
        interval_95=(center - half, center + half),
        p_value=_binomial_p_value(first_only, second_only),
    )


def _binomial_p_value(heads: int, tails: int) -> float:
    """Returns the two-sided p-value of so many heads and tails of a fair coin."""
    tosses = heads + tails
    logarithms = (
        math.lgamma(tosses + 1)
        - math.lgamma(k + 1)
        - math.lgamma(tosses - k + 1)
        - tosses * math.log(2)
        for k in range(min(heads, tails) + 1)
    )
    return min(1.0, 2 * math.fsum(map(math.exp, logarithms)))
