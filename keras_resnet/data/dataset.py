"""Base class of all data sets, and data sets held in memory. Needs TensorFlow.

Order and augmentation are pure functions of `(seed, step, row)`, where `row` counts the images of
one global batch. There is no other state, so the position in the data is one integer: a run
resumes from `start_step`, and any number of readers each read their rows of one global batch.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet.data.augmentation import Augmentation, batch_draws
from keras_resnet.data.decoding import resize_shorter_side
from keras_resnet.data.order import shard_rows, steps_per_epoch, train_order
from keras_resnet.preprocessing import Preprocessing, Size, checked_size
from keras_resnet.utils import checks

SPLITS = ("train", "validation", "test")

# Images of a split in memory that its digest reads.
_DIGEST_SAMPLE = 64


class ImageDataset(abc.ABC):
    """Labeled images in up to three splits, read as `tf.data` pipelines.

    A subclass sets the attributes and defines the abstract methods.

    Attributes:
        name: Short name of the data set.
        class_names: One name per class; labels are positions in it.
        image_shape: `(height, width, channels)` of the images that the pipelines yield.
        image_dtype: Their type, `tf.uint8`, or `tf.float32` where levels have fractions.
        mean: Mean of each channel over the training split, in [0, 255] units.
        std: Standard deviation of each channel over the training split, in [0, 255] units.
        about: Sentences for a model card: origin, split and license of the images.
        eval_resize: Shorter side, in pixels, of what an evaluation image is the center of, as the
            `resize` of a `Preprocessing`; None where images are evaluated as they are stored.
        interpolation: Interpolation of evaluation images, "bilinear" or "bicubic".
        sizes: Number of images in each split.
        multi_label: Whether an image may be of several classes, or of none. Labels of batches are
            then float32 of shape `(rows, classes)`, 1 for each class of an image, else 0.
        reads_labels: Whether `labels` reads all images.
    """

    about: str = ""
    eval_resize: int | None = None
    interpolation: str = "bilinear"
    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    image_dtype: tf.DType = tf.uint8
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sizes: dict[str, int]
    multi_label: bool = False
    reads_labels: bool = False
    _parallel_batches: int = tf.data.AUTOTUNE

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, out of "train", "validation" and "test"."""
        return tuple(self.sizes)

    def num_examples(self, split: str) -> int:
        """Returns the number of images in `split`, or raises a ValueError if it does not exist."""
        return self.sizes[checks.one_of("split", split, self.splits)]

    @abc.abstractmethod
    def labels(self, split: str) -> np.ndarray:
        """Returns the labels of all images of `split`, in stored order.

        Records of TensorFlow Datasets have to be read for them, once.

        Returns:
            int32 of shape `(n,)`, or float32 of shape `(n, classes)` if `multi_label`.

        Raises:
            ValueError: If there is no such split.
        """

    @property
    def _label_shape(self) -> tuple[int, ...]:
        return (len(self.class_names),) if self.multi_label else ()

    @property
    def _label_dtype(self) -> tf.DType:
        return tf.float32 if self.multi_label else tf.int32

    def preprocessing(self, numbers: Preprocessing | None = None) -> Preprocessing:
        """Returns what evaluation does to its images.

        Mean, deviation and order of the channels are those of `numbers`, or by default of the
        training split.
        """
        return dataclasses.replace(
            numbers or Preprocessing(tuple(self.mean), tuple(self.std)),
            image_size=self.image_shape[:2],
            resize=self.eval_resize,
            interpolation=self.interpolation,
            bits=8 if self.image_dtype == tf.uint8 else 16,
            class_names=None,
            threshold=None,
            source=self.name,
            resizes=(),
        )

    @property
    @abc.abstractmethod
    def num_draws(self) -> int:
        """Number of uniform random numbers that the augmentation of one image takes."""

    @abc.abstractmethod
    def read_rows(
        self, split: str, indices: tf.Tensor, draws: tf.Tensor | None, replace: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns images, labels and float32 weights of rows of a batch; called in a graph.

        Args:
            split: Name of the split.
            indices: Positions of the images in the split, int64 of shape `(rows,)`.
            draws: Numbers in [0, 1) of shape `(rows, num_draws)` to augment them with, or None.
            replace: Whether another image replaces one that cannot be read, instead of weight 0.
        """

    @abc.abstractmethod
    def read_whole(
        self, split: str, index: tf.Tensor, shorter_side: Size | None, interpolation: str
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns an element of `whole_images`; called in a graph with an int64 `index`."""

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
        """Returns endless training batches, each a pure function of `(seed, step)`.

        Every epoch is a fresh permutation of the training split, cut to whole batches; with
        `probabilities` it is a fresh sample, as in `train_order`.

        Args:
            batch_size: Images of a global batch, over all shards together.
            seed: Key of the order of the images and of their augmentation.
            start_step: Steps to skip; the elements are bit for bit those that follow them.
            shard: `(index, count)`: yields the rows from `index * batch_size / count` on, so that
                the `count` shards put together are the same global batch for every `count`.
            augment: Whether images are augmented at random.
            probabilities: Share of every training image in an epoch, `(images,)`; None for equal.

        Returns:
            Elements `(images, labels)`: images in [0, 255] of type `image_dtype` and shape
            `(batch_size / count, height, width, channels)`, int32 of shape `(batch_size / count,)`
            or, if `multi_label`, float32 of shape `(batch_size / count, classes)`.

        Raises:
            ValueError: If a batch is larger than the training split or does not divide into the
                shards, or any argument is out of range.
        """
        rows = shard_rows(batch_size, shard)

        def read(step: tf.Tensor, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            draws = batch_draws(seed, step, batch_size, self.num_draws)[rows] if augment else None
            images, labels, _ = self.read_rows("train", indices[rows], draws, replace=True)
            return images, labels

        examples = self.num_examples("train")
        order = train_order(examples, batch_size, seed, start_step, probabilities)
        return finished(order.map(read, num_parallel_calls=self._parallel_batches))

    def eval_batches(
        self, split: str, batch_size: int, *, shard: tuple[int, int] = (0, 1)
    ) -> tf.data.Dataset:
        """Returns one pass over `split` in its stored order, without augmentation.

        The last global batch is padded with copies of the last image. All shards yield the same
        number of batches, and over all of them each image has weight 1 exactly once.

        Args:
            split: "train", "validation" or "test".
            batch_size: Images of a global batch, over all shards together.
            shard: `(index, count)`, as in `train_batches`.

        Returns:
            Elements `(images, labels, weights)`: as in `train_batches`, and float32 weights of
            shape `(batch_size / count,)`, 0.0 for padding and images that cannot be read, else 1.0.

        Raises:
            ValueError: If there is no such split, or an argument is out of range.
        """
        num_examples = self.num_examples(split)
        rows = shard_rows(batch_size, shard)

        def read(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            positions = number * batch_size + tf.range(rows.start, rows.stop, dtype=tf.int64)
            indices = tf.minimum(positions, num_examples - 1)
            images, labels, readable = self.read_rows(split, indices, None, replace=False)
            return images, labels, tf.cast(positions < num_examples, tf.float32) * readable

        order = tf.data.Dataset.range(-(-num_examples // batch_size))
        return finished(order.map(read, num_parallel_calls=self._parallel_batches))

    def images_at(self, split: str, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the evaluation images at some places of a split's stored order.

        Args:
            split: "train", "validation" or "test".
            indices: Places, int64 `(n,)`.

        Returns:
            Images `(n, *image_shape)`, and as booleans `(n,)` which of them could be read.
        """

        def read(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            images, _, readable = self.read_rows(split, rows, None, replace=False)
            return images, readable > 0

        order = tf.data.Dataset.from_tensors(tf.constant(indices, tf.int64))
        with self.reading():
            images, readable = order.map(read).get_single_element()
        return images.numpy(), readable.numpy()

    def whole_images(
        self, split: str, shorter_side: Size | None = None, interpolation: str | None = None
    ) -> tf.data.Dataset:
        """Returns one pass over `split` in its stored order, image by image, uncropped.

        Args:
            split: "train", "validation" or "test".
            shorter_side: Pixels that the shorter side is resized to, antialiased and with the
                aspect ratio kept, or height and width of what is to be covered; None for images as
                they are stored.
            interpolation: "bilinear", "bicubic", or None for the data set's own.

        Returns:
            Elements `(image, label, weight)`: the image in [0, 255], of type `image_dtype` and
            shape `(height, width, channels)`, the label (an int32 scalar, or float32 of shape
            `(classes,)` if `multi_label`) and a float32 scalar. The weight is 1.0, or 0.0 for a
            black image that replaces one that cannot be read.

        Raises:
            ValueError: If there is no such split, or `shorter_side` is not 1 or more.
        """
        if shorter_side is not None:
            shorter_side = checked_size("shorter_side", shorter_side)
        order = tf.data.Dataset.range(self.num_examples(split))
        read = functools.partial(
            self.read_whole,
            split,
            shorter_side=shorter_side,
            interpolation=interpolation or self.interpolation,
        )
        return finished(order.map(read, num_parallel_calls=tf.data.AUTOTUNE))

    def identity(self) -> dict[str, Any]:
        """Returns what tells these data from others, as JSON can hold it.

        Returns:
            `class_names`; `images`, the number in each split; and `digest`, a SHA-256 of what the
            splits consist of: the names of their files, or labels and some of the images.
        """
        digest = hashlib.sha256()
        for split in self.splits:
            for part in self._parts(split):
                digest.update(hashlib.sha256(part).digest())
        names = list(self.class_names)
        return {"class_names": names, "images": dict(self.sizes), "digest": digest.hexdigest()}

    def _parts(self, split: str) -> Iterable[bytes]:
        """Yields what the digest of a split is made of."""
        return ()

    def locate(self, split: str, index: int) -> str | None:
        """Returns the file of an image, or where else it lies; None for images in memory."""
        return None

    def nothing_readable(self, split: str) -> str:
        """Returns the message of the error where no image of a split can be read."""
        return (
            "`split` must have images that can be read. "
            f"Received: split={split!r} of {self.sizes[split]}, none of which can"
        )

    def steps_per_epoch(self, batch_size: int) -> int:
        """Returns the number of whole batches in the training split, at least 1."""
        return steps_per_epoch(self.num_examples("train"), batch_size)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Raises `reading_error` in place of TensorFlow's own error, within a `with` block."""
        try:
            yield
        except tf.errors.OpError as error:
            reason = self.reading_error()
            if reason is None:
                raise
            raise reason from error

    def reading_error(self) -> ValueError | None:
        """Returns the reason why a pipeline raised a `tf.errors.OpError`, if it was the data."""
        return None


class ArrayDataset(ImageDataset):
    """A data set held in memory.

    Args:
        name: Short name of the data set.
        splits: For each split ("train" to train on) its images in [0, 255], uint8 or float, of
            shape `(n, height, width, channels)`, and its labels, integers of shape `(n,)`, or
            `(n, 1)` as Keras's data sets have them; or, for `multi_label`, 0 and 1 of shape
            `(n, classes)`.
        class_names: One name per class.
        augmentation: Augmentation of the images of `train_batches`; None for none.
        about: As in `ImageDataset`.
        multi_label: As in `ImageDataset`.

    Raises:
        ValueError: If the type, shape or label range of an array is wrong.
    """

    def __init__(
        self,
        name: str,
        splits: Mapping[str, tuple[np.ndarray, np.ndarray]],
        class_names: Sequence[str],
        augmentation: Augmentation | None = None,
        about: str = "",
        *,
        multi_label: bool = False,
    ):
        if not splits or not set(splits) <= set(SPLITS):
            raise ValueError(
                "`splits` must have 'train', 'validation' or 'test', and no other. "
                f"Received: splits with {sorted(splits)}"
            )
        self.name = name
        self.class_names = tuple(class_names)
        self.augmentation = augmentation
        self.about = about
        self.multi_label = checks.boolean("multi_label", multi_label)
        self._arrays = {
            split: _checked_arrays(split, *splits[split], len(self.class_names), multi_label)
            for split in SPLITS
            if split in splits
        }
        self.sizes = {split: len(labels) for split, (_, labels) in self._arrays.items()}
        self._tensors: dict[str, tuple[tf.Tensor, tf.Tensor]] = {}
        images = self._arrays[self.splits[0]][0]  # of training, where there are such
        self.image_shape, self.image_dtype = images.shape[1:], tf.as_dtype(images.dtype)
        for split, (other, _) in self._arrays.items():
            if other.shape[1:] != self.image_shape or other.dtype != images.dtype:
                raise ValueError(
                    "`splits` must have images of one shape and type, that of the first, "
                    f"{self.image_shape} and {images.dtype}. "
                    f"Received: {split} images of shape {other.shape[1:]} and type {other.dtype}"
                )
        self.mean = tuple(images.mean(axis=(0, 1, 2), dtype=np.float64).tolist())
        self.std = tuple(images.std(axis=(0, 1, 2), dtype=np.float64).tolist())

    def arrays(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns images and labels of a split."""
        return self._arrays[checks.one_of("split", split, self.splits)]

    @property
    def num_draws(self) -> int:
        return self.augmentation.num_draws if self.augmentation else 0

    def labels(self, split: str) -> np.ndarray:
        return self._arrays[checks.one_of("split", split, self.splits)][1]

    def read_rows(
        self, split: str, indices: tf.Tensor, draws: tf.Tensor | None, replace: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        images, labels = self._split_tensors(split)
        batch = tf.gather(images, indices)
        if self.augmentation is not None and draws is not None:
            batch = self.augmentation(batch, draws)
        return batch, tf.gather(labels, indices), tf.ones([len(indices)])

    def read_whole(
        self, split: str, index: tf.Tensor, shorter_side: Size | None, interpolation: str
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        images, labels = self._split_tensors(split)
        image = resize_shorter_side(images[index], shorter_side, interpolation)
        return image, labels[index], tf.constant(1.0)

    def _parts(self, split: str) -> Iterable[bytes]:
        images, labels = self._arrays[split]
        yield repr(images.shape).encode()
        yield labels.tobytes()
        yield images[:: -(-len(images) // _DIGEST_SAMPLE)].tobytes()

    def _split_tensors(self, split: str) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the split as tensors in main memory, made once and shared by all pipelines."""
        if split not in self._tensors:
            # At first use only: a tensor initializes TensorFlow, after which logical devices can
            # no longer be set. And outside of the graph that may ask for them.
            with tf.init_scope(), tf.device("/cpu:0"):
                images, labels = map(tf.constant, self._arrays[split])
            self._tensors[split] = images, labels
        return self._tensors[split]


def channel_statistics(
    batches: Iterable[np.ndarray],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of each channel over batches of one size."""
    moments = [
        (pixels.mean(axis=(0, 1, 2)), np.square(pixels).mean(axis=(0, 1, 2)))
        for pixels in (batch.astype(np.float64) for batch in batches)
    ]
    mean, square = np.mean(moments, axis=0)
    return tuple(mean.tolist()), tuple(np.sqrt(square - np.square(mean)).tolist())


def finished(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns ordered, prefetched output that a `tf.distribute` strategy does not shard again."""
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def _checked_arrays(
    split: str, images: np.ndarray, labels: np.ndarray, classes: int, multi_label: bool
) -> tuple[np.ndarray, np.ndarray]:
    images, labels = np.asarray(images), np.asarray(labels)
    known = images.dtype == np.uint8 or images.dtype.kind == "f"
    if not known or images.ndim != 4 or 0 in images.shape:
        raise ValueError(
            "`splits` must have uint8 or float images of shape (n, height, width, channels), none "
            f"0. Received: {split} images of type {images.dtype} and shape {images.shape}"
        )
    if images.dtype.kind == "f":
        if not 1 < images.max() < np.inf:  # NaN too
            raise ValueError(
                "`splits` must have images in [0, 255], those in [0, 1] times 255. "
                f"Received: {split} images of type {images.dtype} with a maximum of {images.max()}"
            )
        images = images.astype(np.float32, copy=False)
    if multi_label:
        shaped = labels.shape == (len(images), classes) and labels.dtype.kind in "iufb"
        if not shaped or not np.isin(labels, (0, 1)).all():
            raise ValueError(
                f"`splits` must have labels 0 and 1 of shape ({len(images)}, {classes}), one for "
                f"each image and class. Received: {split} labels of type {labels.dtype} and shape "
                f"{labels.shape}" + ", with other values" * shaped
            )
        return images, labels.astype(np.float32)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise ValueError(
            f"`splits` must have integer labels of shape ({len(images)},), one per image. "
            f"Received: {split} labels of type {labels.dtype} and shape {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"`splits` must have labels in [0, {classes - 1}], for {classes} class names. "
            f"Received: {split} labels in [{labels.min()}, {labels.max()}]"
        )
    return images, labels.astype(np.int32)
