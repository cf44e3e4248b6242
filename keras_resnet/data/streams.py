"""Arrays and `tf.data` pipelines in place of an `ImageDataset`. Needs TensorFlow.

A pipeline is read from its beginning, so that a run resumes by skipping what it was trained on:
that takes the time to read it, and leads to the same images only if the pipeline yields them in the
same order whenever it is read anew. One with `shuffle` needs a `seed` for that, and none of Python
may be in it that draws at random. Arrays are read by `ArrayDataset`, which has neither limit.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from keras_resnet.data.dataset import (
    ArrayDataset,
    ImageDataset,
    channel_statistics,
    finished,
    shard_rows,
)
from keras_resnet.data.decoding import resize_shorter_side
from keras_resnet.preprocessing import Size
from keras_resnet.utils import checks

# What stands in for a data set: `(images, labels)` as arrays, or a pipeline of such pairs.
Images: TypeAlias = ImageDataset | tf.data.Dataset | tuple[np.ndarray, np.ndarray]

# Images that give mean and standard deviation of a pipeline.
_SAMPLE = 1024
# Images that are read at a time where only one at a time is asked for.
_COUNTED = 256


def as_dataset(images: Images, split: str, class_names: Sequence[str]) -> ImageDataset:
    """Returns arrays or a pipeline as a data set of one split, and a data set as it is.

    Args:
        images: An `ImageDataset`; arrays `(images, labels)`; or a `tf.data.Dataset` as for
            `StreamDataset`.
        split: "train", "validation" or "test". Arrays of training images come in a new order in
            every epoch; all else in its own order.
        class_names: One name per class.

    Raises:
        ValueError: If it is none of these, or `StreamDataset` or `ArrayDataset` refuses it.
    """
    if isinstance(images, ImageDataset):
        return images
    if isinstance(images, tf.data.Dataset):
        return StreamDataset(images, split, class_names)
    if not isinstance(images, (tuple, list)) or len(images) != 2:
        raise ValueError(
            "`dataset` must be an ImageDataset, a tf.data.Dataset, or arrays (images, labels). "
            f"Received: dataset of type {type(images).__name__}"
        )
    multi_label = np.ndim(images[1]) == 2 and np.shape(images[1])[1] > 1
    splits = {split: (images[0], images[1])}
    return ArrayDataset("arrays", splits, class_names, multi_label=multi_label)


class StreamDataset(ImageDataset):
    """A `tf.data.Dataset` as a data set of one split, without augmentation.

    Labels are integers, or of several classes 0 and 1 in a row. Images are in [0, 255], of one
    size; those that are not uint8 are read as float32. A finite pipeline is repeated for every
    epoch. Its examples are counted, by reading it once, where they have to be known and it does
    not tell them; an endless one is for training with a given number of steps per epoch.

    Args:
        pipeline: Elements `(image, label)`, or batches of them of any size: images of shape
            `(height, width, channels)`, labels of shape `()`, `(1,)` or `(classes,)`.
        split: "train", "validation" or "test".
        class_names: One name per class.

    Raises:
        ValueError: If the elements are others.
    """

    reads_labels = True

    name = "data"

    def __init__(self, pipeline: tf.data.Dataset, split: str, class_names: Sequence[str]):
        self.class_names = tuple(class_names)
        self._split = split
        spec = pipeline.element_spec
        if not isinstance(spec, tuple) or len(spec) != 2:
            raise ValueError(
                "`dataset` must be a pipeline of pairs (image, label), or batches of them. "
                f"Received: elements {spec}"
            )
        image, label = spec
        self._batched = image.shape.rank == 4
        rank = 1 if self._batched else 0
        shape = image.shape[rank:]
        if shape.rank != 3 or not shape.is_fully_defined():
            raise ValueError(
                "`dataset` must be a pipeline of images of one known shape (height, width, "
                "channels), which `tf.image.resize` and `tf.ensure_shape` give. "
                f"Received: images of shape {image.shape}"
            )
        if image.dtype != tf.uint8 and not image.dtype.is_floating:
            raise ValueError(
                "`dataset` must be a pipeline of images in [0, 255], uint8 or float. "
                f"Received: images of type {image.dtype.name}"
            )
        self.image_shape = tuple(shape)
        self.image_dtype = tf.uint8 if image.dtype == tf.uint8 else tf.float32
        classes, columns = len(self.class_names), label.shape[rank:]
        self.multi_label = columns.rank == 1 and columns[0] != 1
        number = columns.rank == 0 or columns == [1]
        if not (columns == [classes] if self.multi_label else number and label.dtype.is_integer):
            raise ValueError(
                "`dataset` must be a pipeline with integer labels, or with one of 0 and 1 for each "
                f"of {classes} classes. Received: labels of type {label.dtype.name} and shape "
                f"{label.shape}"
            )
        self._pipeline = pipeline

    @property
    def splits(self) -> tuple[str, ...]:
        return (self._split,)

    @functools.cached_property
    def sizes(self) -> dict[str, int]:  # type: ignore[override]
        known = int(self._pipeline.cardinality())
        if known == tf.data.INFINITE_CARDINALITY:
            raise ValueError(
                "`dataset` must be finite, which `take` makes it, or for training have "
                "`steps_per_epoch`. Received: an endless tf.data.Dataset"
            )
        rows = self._pipeline.element_spec[0].shape[0] if self._batched else 1
        if known < 0 or rows is None:
            counted = self._batches(_COUNTED)
            rows, known = 1, int(counted.reduce(0, lambda n, batch: n + tf.shape(batch[1])[0]))
        return {self._split: rows * known}

    @functools.cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        batches = self._batches(_COUNTED).take(_SAMPLE // _COUNTED)
        return channel_statistics(images.numpy() for images, _ in batches)

    mean = property(lambda self: self._statistics[0])  # type: ignore[assignment]
    std = property(lambda self: self._statistics[1])  # type: ignore[assignment]

    def labels(self, split: str) -> np.ndarray:
        self.num_examples(split)
        return np.concatenate([labels.numpy() for _, labels in self._batches(_COUNTED)])

    @property
    def num_draws(self) -> int:
        return 0

    def read_rows(self, split, indices, draws, replace):
        raise NotImplementedError("A pipeline has no rows to choose from")

    def read_whole(self, split, index, shorter_side, interpolation):
        raise NotImplementedError("A pipeline has no rows to choose from")

    def train_batches(
        self,
        batch_size: int,
        *,
        seed: int = 0,
        start_step: int = 0,
        shard: tuple[int, int] = (0, 1),
        augment: bool = True,
        probabilities: np.ndarray | None = None,
    ) -> tf.data.Dataset:
        """Returns endless batches as the pipeline yields them, each epoch cut to whole batches.

        `start_step` batches are read and skipped; `seed` and `augment` change nothing. Each shard
        reads whole batches and takes its rows of them.

        Raises:
            ValueError: If `probabilities` are given, or an argument is out of range.
        """
        rows = shard_rows(batch_size, shard)
        checks.integer("start_step", start_step, 0)
        if probabilities is not None:
            raise ValueError(
                "`sampling` must be left out for a tf.data.Dataset, whose own order is kept. "
                "Received: probabilities of its images"
            )
        batches = self._batches(batch_size, drop_remainder=True).repeat().skip(start_step)
        return finished(batches.map(lambda images, labels: (images[rows], labels[rows])))

    def eval_batches(
        self, split: str, batch_size: int, *, shard: tuple[int, int] = (0, 1)
    ) -> tf.data.Dataset:
        rows = shard_rows(batch_size, shard)
        checks.one_of("split", split, self.splits)

        def padded(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
            count = tf.shape(labels)[0]
            places = tf.range(rows.start, rows.stop)
            which = tf.minimum(places, count - 1)
            weights = tf.cast(places < count, tf.float32)
            return tf.gather(images, which), tf.gather(labels, which), weights

        return finished(self._batches(batch_size).map(padded))

    def whole_images(
        self, split: str, shorter_side: Size | None = None, interpolation: str | None = None
    ) -> tf.data.Dataset:
        checks.one_of("split", split, self.splits)
        kind = interpolation or self.interpolation

        def resized(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return resize_shorter_side(image, shorter_side, kind), label, tf.constant(1.0)

        examples = self._batches(_COUNTED).unbatch()
        return finished(examples.map(resized, num_parallel_calls=tf.data.AUTOTUNE))

    def _batches(self, count: int, drop_remainder: bool = False) -> tf.data.Dataset:
        """Returns one pass in batches of `count`, of our types and shapes."""
        batch = self._pipeline.rebatch if self._batched else self._pipeline.batch
        label_shape = self._label_shape

        def cast(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            labels = tf.reshape(tf.cast(labels, self._label_dtype), [-1, *label_shape])
            images = tf.cast(images, self.image_dtype)
            rows = count if drop_remainder else None
            return (
                tf.ensure_shape(images, (rows, *self.image_shape)),
                tf.ensure_shape(labels, (rows, *label_shape)),
            )

        return batch(count, drop_remainder=drop_remainder).map(cast)
