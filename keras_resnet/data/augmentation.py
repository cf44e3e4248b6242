"""Augmentations of batches as pure functions of uniform random numbers. Needs TensorFlow.

An augmentation takes `num_draws` numbers in [0, 1) for each image. Those of row `r` of step `s`
depend on `(seed, s, r)` alone, so that they are the same in every shard.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

import tensorflow as tf


class Augmentation(Protocol):
    """Changes uint8 images `(b, height, width, channels)` by draws `(b, num_draws)`."""

    num_draws: int

    def __call__(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor: ...


def batch_draws(seed: int, step: tf.Tensor, batch_size: int, num_draws: int) -> tf.Tensor:
    """Returns float32 draws in [0, 1), `(batch_size, num_draws)`, keyed by seed and step."""
    # The algorithm is named so that every processor draws the same numbers.
    return tf.random.stateless_uniform([batch_size, num_draws], seed=[seed, step], alg="philox")


@dataclasses.dataclass(frozen=True)
class RandomAffine:
    """Shifts, rotates and zooms each image about its center, with bilinear interpolation.

    Each amount is uniform between its negative and positive limit; the border is filled with 0.
    Made for the digits, which must not be flipped. The limits are small, since the digits are
    already normalized in size and place: with shifts of up to a whole pixel of the eight, the
    nearest original is of another class for every fourth image (with half a pixel, for 3 %).

    Attributes:
        shift: Largest shift along each axis, in pixels.
        rotation: Largest rotation, in degrees.
        zoom: Largest change of size, as a fraction.
    """

    shift: float = 0.5
    rotation: float = 10.0
    zoom: float = 0.1
    num_draws = 4

    def __call__(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        height, width = images.shape[1:3]
        signed = 2.0 * draws - 1.0
        right, down = self.shift * signed[:, 0], self.shift * signed[:, 1]
        angle = math.radians(self.rotation) * signed[:, 2]
        # The transform maps output pixels to input pixels, so a zoom divides.
        size = 1.0 + self.zoom * signed[:, 3]
        cos, sin = tf.cos(angle) / size, tf.sin(angle) / size
        x, y = (width - 1) / 2, (height - 1) / 2
        zero = tf.zeros_like(cos)
        transforms = tf.stack(
            [
                *(cos, -sin, x - cos * (x + right) + sin * (y + down)),
                *(sin, cos, y - sin * (x + right) - cos * (y + down)),
                *(zero, zero),
            ],
            axis=1,
        )
        moved = tf.raw_ops.ImageProjectiveTransformV3(
            images=tf.cast(images, tf.float32),
            transforms=transforms,
            output_shape=[height, width],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )
        return tf.cast(tf.round(moved), tf.uint8)


@dataclasses.dataclass(frozen=True)
class PadCropFlip:
    """Pads each image, crops it to its size at random, and flips half of them.

    The augmentation of the paper's section 4.2. There the padding is zero on images whose mean is
    already subtracted; on images in [0, 255] that is the mean itself, rounded to an integer.

    Attributes:
        fill: Value of the padding for each channel: the mean of the training images.
        padding: Pixels added on every side.
        flip: Whether images are flipped left to right with probability 1/2.
    """

    fill: tuple[float, ...]
    padding: int = 4
    flip: bool = True
    num_draws = 3

    def __call__(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        height, width, channels = images.shape[1:]
        count = tf.shape(images)[0]
        shifts = tf.cast(tf.floor(draws[:, :2] * (2 * self.padding + 1)), tf.int32) - self.padding
        rows = shifts[:, :1] + tf.range(height)
        columns = tf.tile(tf.range(width)[tf.newaxis], [count, 1])
        if self.flip:
            columns = tf.where(draws[:, 2:] < 0.5, columns[:, ::-1], columns)
        columns += shifts[:, 1:]
        # One gather of all pixels, the last of them the padding, takes half the time of padding,
        # cropping and flipping one after the other.
        fill = tf.cast(tf.round(tf.constant([self.fill], tf.float32)), tf.uint8)
        pixels = tf.concat([tf.reshape(images, [-1, channels]), fill], axis=0)
        rows_inside = (rows >= 0) & (rows < height)
        columns_inside = (columns >= 0) & (columns < width)
        rows += height * tf.range(count)[:, tf.newaxis]
        places = rows[:, :, tf.newaxis] * width + columns[:, tf.newaxis]
        inside = rows_inside[:, :, tf.newaxis] & columns_inside[:, tf.newaxis]
        return tf.gather(pixels, tf.where(inside, places, count * height * width))
