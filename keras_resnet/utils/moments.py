"""Means and variances over more images than fit in memory: batch by batch, merged in float64."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet.utils import checks


class Moments:
    """Count, mean and sum of squared deviations of all values seen so far.

    Two sets of values are merged by the formula of Chan, Golub and LeVeque (1979), which does not
    lose digits where the mean is large beside the deviations.

    Attributes:
        count: Values seen.
        mean: Their mean, float64.
        deviations: Sum of their squared deviations from it, float64.
    """

    def __init__(self):
        self.count, self.mean, self.deviations = 0, 0.0, 0.0

    def add(self, counts: np.ndarray, means: np.ndarray, variances: np.ndarray) -> None:
        """Takes in groups of values; what stands along the first axis is merged.

        Args:
            counts: Values in each group, of shape `(groups, ...)`.
            means: Their means, likewise.
            variances: Their variances (divided by the count), likewise.
        """
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
        """Variance of all values, divided by their count."""
        return self.deviations / self.count


def map_moments(maps: keras.KerasTensor, channel_axis: int) -> tuple[keras.KerasTensor, ...]:
    """Returns the pixels, mean and variance of every map, each `(batch, channels)` and float32.

    One map is few enough values for float32; what spans images is left to `Moments`.
    """
    axes = [axis for axis in (1, 2, 3) if axis != channel_axis % 4]
    maps = ops.cast(maps, "float32")
    mean = ops.mean(maps, axes, keepdims=True)
    # Not the mean of squares less the square of the mean, which loses the digits of small ones.
    variance = ops.mean(ops.square(maps - mean), axes)
    return ops.sum(ops.ones_like(maps), axes), ops.squeeze(mean, axes), variance


def image_batches(
    model: keras.Model, images: np.ndarray | Iterable, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields float32 images batch by batch, and which of them count.

    Args:
        model: What the images are for.
        images: Array `(n, H, W, C)`, or batches: arrays, or tuples that begin with one, such as
            `(images, labels)` or `(images, labels, weights)`. Images of weight 0, which fill up a
            batch, do not count.
        batch_size: Size of the batches that an array is cut into.

    Raises:
        ValueError: If no image counts, or one is not of the model's input shape.
    """
    checks.integer("batch_size", batch_size)
    batches: Iterable = images
    if hasattr(images, "shape"):
        rows: Any = images
        batches = (rows[i : i + batch_size] for i in range(0, len(rows), batch_size))
    found = False
    for batch in batches:
        parts = batch if isinstance(batch, (tuple, list)) else (batch,)
        array = np.asarray(parts[0], "float32")
        expected = model.input_shape
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
