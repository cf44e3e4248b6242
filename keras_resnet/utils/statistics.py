"""Confidence intervals, and means and variances over more images than fit in memory."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet.utils import checks


def wilson_interval(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Returns the confidence interval of a share in [0, 1], measured on `count` examples.

    Unlike the normal approximation, it also holds for few examples and for shares near 0 and 1.
    The default of `z`, the standard normal deviate, gives 95 % confidence. Source: Wilson,
    "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22 (1927).
    """
    checks.fraction("share", share, one_allowed=True)
    checks.integer("count", count)
    center = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    # At shares of 0 and 1, rounding would lead out of [0, 1].
    return max(0.0, center - half), min(1.0, center + half)


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Returns Student's 95 % confidence interval of the mean of normal values.

    None for fewer than two, which tell nothing of their spread.
    """
    if len(values) < 2:
        return None
    mean, variance = statistics.fmean(values), statistics.variance(values)
    half = _t_quantile(len(values) - 1) * math.sqrt(variance / len(values))
    return mean - half, mean + half


def welch_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float] | None:
    """Returns Welch's 95 % confidence interval of the mean of `first` less that of `second`.

    The values are normal, of variances that may differ. None where one has fewer than two. Source:
    Welch, "The generalization of 'Student's' problem when several different population variances
    are involved", Biometrika 34 (1947).
    """
    if min(len(first), len(second)) < 2:
        return None
    difference = statistics.fmean(first) - statistics.fmean(second)
    squares = [statistics.variance(values) / len(values) for values in (first, second)]
    if not any(squares):
        return difference, difference
    counts = (len(first), len(second))
    below = sum(square**2 / (n - 1) for square, n in zip(squares, counts, strict=True))
    half = _t_quantile(sum(squares) ** 2 / below) * math.sqrt(sum(squares))
    return difference - half, difference + half


def _t_quantile(freedom: float) -> float:
    """Returns the 97.5 % quantile of Student's distribution."""
    stats = checks.import_extra("scipy.stats", "Intervals of means", "train")
    return float(stats.t.ppf(0.975, freedom))


class Moments:
    """Count, mean and variance of all values so far, merged batch by batch in float64.

    Two sets of values are merged by the formula of Chan, Golub and LeVeque (1979), which does not
    lose digits where the mean is large compared with the deviations.

    Attributes:
        count: Number of values.
        mean: Mean of the values.
        deviations: Sum of their squared deviations from the mean.
    """

    def __init__(self):
        self.count, self.mean, self.deviations = 0, 0.0, 0.0

    def add(self, counts: np.ndarray, means: np.ndarray, variances: np.ndarray) -> None:
        """Adds groups of values by their counts, means and variances, each `(groups, ...)`."""
        counts, means, variances = (
            np.asarray(array, "float64") for array in (counts, means, variances)
        )
        added = counts.sum(axis=0)
        mean = (counts * means).sum(axis=0) / added
        deviations = (counts * (variances + (means - mean) ** 2)).sum(axis=0)
        total, difference = self.count + added, mean - self.mean
        self.deviations = self.deviations + deviations + difference**2 * self.count * added / total
        self.mean = self.mean + difference * added / total
        self.count = total

    @property
    def variance(self) -> np.ndarray:
        """Variance of all values (divided by the count)."""
        return self.deviations / self.count


def map_moments(maps: keras.KerasTensor, channel_axis: int) -> tuple[keras.KerasTensor, ...]:
    """Returns pixel count, mean and variance of every map, each `(batch, channels)` and float32.

    One map has few enough values for float32; `Moments` merges those of several images.
    """
    axes = [axis for axis in (1, 2, 3) if axis != channel_axis % 4]
    maps = ops.cast(maps, "float32")
    mean = ops.mean(maps, axes, keepdims=True)
    # Not the mean of squares less the square of the mean, which loses digits of small variances.
    variance = ops.mean(ops.square(maps - mean), axes)
    return ops.sum(ops.ones_like(maps), axes), ops.squeeze(mean, axes), variance


def image_batches(
    model: keras.Model, images: np.ndarray | Iterable, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields batches of float32 images, each with a mask of those that count.

    The images are an array `(n, H, W, C)`, split into batches of that size, or batches: arrays, or
    tuples that begin with one, such as `(images, labels)` or `(images, labels, weights)`. Images of
    weight 0, the padding of a batch, do not count. Raises a ValueError if no image counts, or one
    is not of the model's input shape.
    """
    checks.integer("batch_size", batch_size)
    rows: Any = images
    if hasattr(images, "shape"):
        images = (rows[i : i + batch_size] for i in range(0, len(rows), batch_size))
    expected, found = model.input_shape, False
    for batch in images:
        parts = batch if isinstance(batch, (tuple, list)) else (batch,)
        array = np.asarray(parts[0], "float32")
        if array.ndim != len(expected) or any(
            own not in (None, side) for own, side in zip(expected[1:], array.shape[1:], strict=True)
        ):
            raise ValueError(
                f"`images` must be of the model's input shape {expected}, or batches of such. "
                f"Received: images of shape {array.shape}"
            )
        weights = parts[2] if len(parts) > 2 else np.ones(len(array))
        counted = np.asarray(weights) > 0
        if counted.any():
            found = True
            yield array, counted
    if not found:
        raise ValueError("`images` must hold at least one image. Received: none")
