"""The contract of every data set, and its simplest kind: arrays in memory. Needs TensorFlow.

Order and augmentation are pure functions of `(seed, step, row)`, where `row` counts the images of
one global batch. Nothing else is remembered, so the position in the data is one integer: a run
resumes by asking for `start_step`, and any number of readers share one global batch by asking for
their rows of it.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from keras_resnet.data.augmentation import Augmentation, batch_draws
from keras_resnet.data.decoding import resize_shorter_side
from keras_resnet.utils import checks

SPLITS = ("train", "validation", "test")


class ImageDataset(abc.ABC):
    """Labelled images in up to three splits, read as `tf.data` pipelines.

    Attributes:
        name: Short name of the data set.
        class_names: One name a class; labels are positions in it.
        image_shape: `(height, width, channels)` of the images that the pipelines yield.
        mean: Mean of each channel over the training split, in [0, 255] units.
        std: Standard deviation of each channel over the training split, in [0, 255] units.
        about: Sentences for a model card: where the images come from, how they were split, and
            under which licence they stand.
        eval_resize: Shorter side, in pixels, of which an evaluation image is the centre; None
            where images are evaluated as they are stored.
    """

    about: str = ""
    eval_resize: int | None = None
    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    @abc.abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The splits that this data set has, out of "train", "validation" and "test"."""

    @abc.abstractmethod
    def num_examples(self, split: str) -> int:
        """Number of images in `split`.

        Raises:
            ValueError: if the data set has no such split.
        """

    @abc.abstractmethod
    def train_batches(
        self,
        batch_size: int,
        *,
        seed: int = 0,
        start_step: int = 0,
        shard: tuple[int, int] = (0, 1),
        augment: bool = True,
    ) -> tf.data.Dataset:
        """Endless training batches, each a pure function of `(seed, step)`.

        Every epoch is a fresh permutation of the training split; what is left over by whole
        batches is dropped, so an epoch has `num_examples("train") // batch_size` steps.

        Args:
            batch_size: Images of a global batch, over all shards together.
            seed: Names the order of the images and their augmentation.
            start_step: Steps to leave out: the first element is the one that a fresh iterator
                yields after `start_step` others, bit for bit.
            shard: `(index, count)`: yields the rows `index * batch_size / count` and on, so that
                the `count` shards put together are the same global batch for every `count`.
            augment: Whether images are changed at random.

        Returns:
            Elements `(images, labels)`: uint8 RGB or grey in [0, 255] of shape
            `(batch_size / count, height, width, channels)`, and int32 of shape
            `(batch_size / count,)`.

        Raises:
            ValueError: if a batch is larger than the training split or does not divide into the
                shards, or any argument is out of range.
        """

    @abc.abstractmethod
    def eval_batches(
        self, split: str, batch_size: int, *, shard: tuple[int, int] = (0, 1)
    ) -> tf.data.Dataset:
        """One pass over `split` in its stored order, without augmentation.

        The last global batch is filled up with copies of the last image. All shards yield the
        same number of batches, and over all of them each image has weight 1 exactly once.

        Args:
            split: "train", "validation" or "test".
            batch_size: Images of a global batch, over all shards together.
            shard: `(index, count)`, as in `train_batches`.

        Returns:
            Elements `(images, labels, weights)`: as in `train_batches`, and float32 weights of
            shape `(batch_size / count,)`, 1.0 for an image and 0.0 for filling.

        Raises:
            ValueError: if there is no such split, or an argument is out of range.
        """

    @abc.abstractmethod
    def whole_images(self, split: str, shorter_side: int | None = None) -> tf.data.Dataset:
        """One pass over `split` in its stored order, image by image, uncropped.

        Args:
            split: "train", "validation" or "test".
            shorter_side: Pixels that the shorter side is resized to, by antialiased bilinear
                interpolation and with the aspect ratio kept; None for images as they are stored.

        Returns:
            Elements `(image, label, weight)`: uint8 RGB or grey in [0, 255] of shape
            `(height, width, channels)`, int32 and float32 scalars. The weight is 1.0, and 0.0 of
            an image that cannot be read, in whose place stands a black one.

        Raises:
            ValueError: if there is no such split, or `shorter_side` is not 1 or more.
        """

    def steps_per_epoch(self, batch_size: int) -> int:
        """Whole batches of `batch_size` in the training split."""
        return steps_per_epoch(self.num_examples("train"), batch_size)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Raises `reading_error` in place of what TensorFlow makes of it, within a `with` block."""
        try:
            yield
        except tf.errors.OpError as error:
            reason = self.reading_error()
            if reason is None:
                raise
            raise reason from error

    def reading_error(self) -> ValueError | None:
        """Why reading stopped, once a pipeline has raised a `tf.errors.OpError`.

        TensorFlow wraps what goes wrong inside a pipeline; this is the one line to show instead.

        Returns:
            The error, or None if it was not the data that stopped the pipeline.
        """
        return None


class ArrayDataset(ImageDataset):
    """A data set held in memory.

    Args:
        name: Short name of the data set.
        splits: For each split (a "train" is required) its images, uint8 in [0, 255] of shape
            `(n, height, width, channels)`, and its labels, integers of shape `(n,)`.
        class_names: One name a class.
        augmentation: What `train_batches` does to the images at random; None for nothing.
        about: As in `ImageDataset`.

    Raises:
        ValueError: if an array's type, shape or label range is not as said above.
    """

    def __init__(
        self,
        name: str,
        splits: Mapping[str, tuple[np.ndarray, np.ndarray]],
        class_names: Sequence[str],
        augmentation: Augmentation | None = None,
        about: str = "",
    ):
        if "train" not in splits or not set(splits) <= set(SPLITS):
            raise ValueError(
                f"`splits` must have 'train' and may have 'validation' and 'test'. "
                f"Received: splits with {sorted(splits)}"
            )
        self.name = name
        self.class_names = tuple(class_names)
        self.augmentation = augmentation
        self.about = about
        self._arrays = {
            split: _checked_arrays(split, *splits[split], len(self.class_names))
            for split in SPLITS
            if split in splits
        }
        self._tensors: dict[str, tuple[tf.Tensor, tf.Tensor]] = {}
        images = self._arrays["train"][0]
        self.image_shape = images.shape[1:]
        for split, (other, _) in self._arrays.items():
            if other.shape[1:] != self.image_shape:
                raise ValueError(
                    f"`splits` must have images of the shape of the training images, "
                    f"{self.image_shape}. Received: {split} images of shape {other.shape[1:]}"
                )
        self.mean = tuple(images.mean(axis=(0, 1, 2), dtype=np.float64).tolist())
        self.std = tuple(images.std(axis=(0, 1, 2), dtype=np.float64).tolist())

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._arrays)

    def num_examples(self, split: str) -> int:
        check_split(split, self.splits)
        return len(self._arrays[split][1])

    def train_batches(
        self,
        batch_size: int,
        *,
        seed: int = 0,
        start_step: int = 0,
        shard: tuple[int, int] = (0, 1),
        augment: bool = True,
    ) -> tf.data.Dataset:
        rows = shard_rows(batch_size, shard)
        images, labels = self._split_tensors("train")
        augmentation = self.augmentation if augment else None

        def read(step: tf.Tensor, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            batch = tf.gather(images, indices[rows])
            if augmentation is not None:
                draws = batch_draws(seed, step, batch_size, augmentation.num_draws)
                batch = augmentation(batch, draws[rows])
            return batch, tf.gather(labels, indices[rows])

        order = train_order(self.num_examples("train"), batch_size, seed, start_step)
        return finish(order.map(read, num_parallel_calls=tf.data.AUTOTUNE))

    def eval_batches(
        self, split: str, batch_size: int, *, shard: tuple[int, int] = (0, 1)
    ) -> tf.data.Dataset:
        images, labels = self._split_tensors(split)

        def read(indices: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return tf.gather(images, indices), tf.gather(labels, indices), weights

        order = eval_order(self.num_examples(split), batch_size, shard)
        return finish(order.map(read, num_parallel_calls=tf.data.AUTOTUNE))

    def whole_images(self, split: str, shorter_side: int | None = None) -> tf.data.Dataset:
        images, labels = self._split_tensors(split)
        check_shorter_side(shorter_side)

        def read(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
            image = resize_shorter_side(images[index], shorter_side)
            return image, labels[index], tf.constant(1.0)

        order = tf.data.Dataset.range(self.num_examples(split))
        return finish(order.map(read, num_parallel_calls=tf.data.AUTOTUNE))

    def _split_tensors(self, split: str) -> tuple[tf.Tensor, tf.Tensor]:
        """The split as tensors in main memory, made once and shared by all readers.

        Made at first use only: a tensor starts TensorFlow, after which logical devices can no
        longer be set.
        """
        check_split(split, self.splits)
        if split not in self._tensors:
            with tf.device("/cpu:0"):
                images, labels = map(tf.constant, self._arrays[split])
            self._tensors[split] = images, labels
        return self._tensors[split]


def train_order(
    num_examples: int, batch_size: int, seed: int = 0, start_step: int = 0
) -> tf.data.Dataset:
    """Which examples make up each global training batch.

    Each epoch is a uniform permutation keyed by `(seed, epoch)`: `stateless_shuffle`, because the
    four rounds of `tf.random.experimental.index_shuffle` give neighbouring epochs of 45 000
    images permutations that correlate to 0.67.

    Args:
        num_examples: Size of the split.
        batch_size: Size of a global batch.
        seed: Key of the permutations, at least 0.
        start_step: Steps to leave out, at least 0.

    Returns:
        Endless elements `(step, indices)`, int64 of shape `()` and `(batch_size,)`.
    """
    steps = steps_per_epoch(num_examples, batch_size)
    seed = checks.integer("seed", seed, 0)
    first_epoch, leave_out = divmod(checks.integer("start_step", start_step, 0), steps)

    def epoch_order(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(num_examples, dtype=tf.int64), seed=[seed, epoch], alg="philox"
        )
        indices = tf.reshape(order[: steps * batch_size], [steps, batch_size])
        numbers = epoch * steps + tf.range(steps, dtype=tf.int64)
        return tf.data.Dataset.from_tensor_slices((numbers, indices))

    epochs = tf.data.Dataset.range(first_epoch, tf.int64.max)
    return epochs.flat_map(epoch_order).skip(leave_out)


def eval_order(num_examples: int, batch_size: int, shard: tuple[int, int]) -> tf.data.Dataset:
    """Which examples one shard evaluates: elements `(indices, weights)`, int64 and float32."""
    rows = shard_rows(batch_size, shard)

    def batch(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        positions = number * batch_size + tf.range(rows.start, rows.stop, dtype=tf.int64)
        weights = tf.cast(positions < num_examples, tf.float32)
        return tf.minimum(positions, num_examples - 1), weights

    return tf.data.Dataset.range(-(-num_examples // batch_size)).map(batch)


def finish(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Ordered output, batches made ahead, and no second sharding by a `tf.distribute` strategy."""
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def shard_rows(batch_size: int, shard: tuple[int, int]) -> slice:
    """The rows of a global batch that belong to `shard = (index, count)`."""
    batch_size = checks.integer("batch_size", batch_size, 1)
    index, count = shard
    if not (isinstance(count, int) and isinstance(index, int) and 0 <= index < count):
        raise ValueError(
            f"`shard` must be (index, count) with 0 <= index < count. Received: shard={shard!r}"
        )
    if batch_size % count:
        raise ValueError(
            f"`batch_size` must be a multiple of the number of shards, {count}. "
            f"Received: batch_size={batch_size}"
        )
    rows = batch_size // count
    return slice(index * rows, (index + 1) * rows)


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Whole batches in an epoch, at least one."""
    if checks.integer("batch_size", batch_size, 1) > num_examples:
        raise ValueError(
            f"`batch_size` must be at most the number of training images, {num_examples}. "
            f"Received: batch_size={batch_size}"
        )
    return num_examples // batch_size


def check_split(split: str, splits: Sequence[str]) -> None:
    """Raises a ValueError unless `split` is one of `splits`."""
    if split not in splits:
        raise ValueError(f"`split` must be one of {tuple(splits)}. Received: split={split!r}")


def check_shorter_side(shorter_side: int | None) -> None:
    """Raises a ValueError unless `shorter_side` is a number of pixels or None."""
    if shorter_side is not None:
        checks.integer("shorter_side", shorter_side, 1)


def _checked_arrays(
    split: str, images: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    images, labels = np.asarray(images), np.asarray(labels)
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
        raise ValueError(
            "`splits` must have uint8 images of shape (n, height, width, channels), none 0. "
            f"Received: {split} images of type {images.dtype} and shape {images.shape}"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise ValueError(
            f"`splits` must have integer labels of shape ({len(images)},), one an image. "
            f"Received: {split} labels of type {labels.dtype} and shape {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"`splits` must have labels in [0, {classes - 1}], for {classes} class names. "
            f"Received: {split} labels in [{labels.min()}, {labels.max()}]"
        )
    return images, labels.astype(np.int32)
