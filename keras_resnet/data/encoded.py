"""Data sets of encoded images, decoded batch by batch. Needs TensorFlow.

A bad image neither stops training nor goes unnoticed: the pipeline decodes a batch and drops what
fails. Python code runs only for batches with missing rows: it warns of the file by name, and reads
the next image of the stored order instead, so that a batch stays a pure function of its step.
"""

from __future__ import annotations

import functools
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NoReturn, Protocol

import numpy as np
import tensorflow as tf

from keras_resnet.data.dataset import SPLITS, ImageDataset, channel_statistics
from keras_resnet.data.decoding import decode_whole, decoding_fault
from keras_resnet.data.order import spread
from keras_resnet.data.traits import shown_size
from keras_resnet.data.transforms import Transforms
from keras_resnet.preprocessing import Size, sides_of
from keras_resnet.utils import checks
from keras_resnet.utils.escapes import visible

# Training images that give mean and standard deviation to about 2 of 255 levels.
_STATISTICS_SAMPLE = 1024

# Image, label and weight.
_Row = tuple[np.ndarray, np.ndarray, np.float32]


class BadImageWarning(UserWarning):
    """Warns of an image that could not be read, with the reason and the number so far."""


class ImageSource(Protocol):
    """The encoded images of one split, by position.

    A source whose `labels` reads all images has an attribute `reads_labels`, which is true.
    """

    def __len__(self) -> int: ...

    def read(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns bytes (string scalar) and label of the image at an int64 index.

        The label is an int32 scalar, or float32 `(classes,)` in a data set of several labels.
        """

    def labels(self) -> np.ndarray:
        """Returns the labels of all images, int32 `(n,)` or float32 `(n, classes)`."""

    def locate(self, index: int) -> str:
        """Returns the place of the image, for messages."""

    def parts(self) -> Iterable[bytes]:
        """Yields what tells the images from others, for `ImageDataset.identity`."""


class BadImages:
    """Counts the distinct bad images of a data set, and stops reading at too many.

    `found` has location and fault of each so far; `error` is what stopped reading, or None.
    """

    def __init__(self, limit: int | None):
        self.limit = None if limit is None else checks.integer("max_bad_files", limit, 0)
        self.found: dict[str, str] = {}
        self.error: ValueError | None = None
        self._lock = threading.Lock()

    def report(self, location: str, reason: str) -> None:
        """Warns of an image the first time it is met; raises a ValueError past the limit."""
        with self._lock:
            if self.error is not None:  # raised in a batch that was read in parallel
                raise self.error
            if location in self.found:
                return
            self.found[location] = reason
            count = len(self.found)
            if self.limit is not None and count > self.limit:
                self.stop(
                    "`max_bad_files` must be at least the bad images, which check-data lists. "
                    f"Received: max_bad_files={self.limit}, and {visible(location)} is {reason}"
                )
        most = "" if self.limit is None else f" of at most {self.limit}"
        message = f"Bad image {count}{most}: {visible(location)} is {reason}. Skipped."
        warnings.warn(message, BadImageWarning, stacklevel=2)

    def stop(self, message: str) -> NoReturn:
        """Raises the ValueError that `ImageDataset.reading_error` then returns."""
        self.error = ValueError(message)
        raise self.error


class EncodedDataset(ImageDataset):
    """A data set of encoded images of any size.

    Args:
        name: Short name of the data set.
        sources: The images of each split; a "train" is required.
        class_names: One name per class.
        transforms: Transforms of training and evaluation images.
        statistics: `(mean, std)` of each channel in [0, 255] units; None to estimate them, at
            first use, from evaluation crops of up to 1024 training images.
        max_bad_files: Number of distinct bad images that are skipped with a warning each; the next
            one stops reading with an error. None for no limit.
        multi_label: As in `ImageDataset`.

    Raises:
        ValueError: If there is no training image, or `max_bad_files` is negative.
    """

    # Decoding of a batch begins while the last images of the one before are awaited.
    _parallel_batches = 2

    mean = property(lambda self: self._statistics[0])  # type: ignore[assignment]
    std = property(lambda self: self._statistics[1])  # type: ignore[assignment]

    def __init__(
        self,
        name: str,
        sources: Mapping[str, ImageSource],
        class_names: Sequence[str],
        transforms: Transforms,
        statistics: tuple[Sequence[float], Sequence[float]] | None = None,
        max_bad_files: int | None = 100,
        *,
        multi_label: bool = False,
    ):
        if not len(sources.get("train", ())):
            raise ValueError(f"`sources` must have training images. Received: {sorted(sources)}")
        self.name = name
        self.class_names = tuple(class_names)
        self.multi_label = multi_label
        self.transforms = transforms
        self.image_shape, self.image_dtype = transforms.shape, transforms.dtype
        self.eval_resize, self.interpolation = transforms.eval_resize, transforms.interpolation
        self.bad_images = BadImages(max_bad_files)
        self._sources = {split: sources[split] for split in SPLITS if split in sources}
        self.sizes = {split: len(source) for split, source in self._sources.items()}
        self.reads_labels = any(getattr(one, "reads_labels", False) for one in sources.values())
        if statistics is not None:
            self._statistics = tuple(statistics[0]), tuple(statistics[1])

    @property
    def num_draws(self) -> int:
        return self.transforms.num_draws

    def _parts(self, split: str) -> Iterable[bytes]:
        return self._sources[split].parts()

    def labels(self, split: str) -> np.ndarray:
        return self._sources[checks.one_of("split", split, self.splits)].labels()

    def reading_error(self) -> ValueError | None:
        return self.bad_images.error

    def locate(self, split: str, index: int) -> str | None:
        return self._sources[split].locate(index)

    def stored_sizes(self, split: str, most: int = 256) -> list[tuple[int, int]]:
        """Returns height and width of up to `most` images, spread over a split.

        Images that cannot be read are passed over.
        """
        source, found = self._sources[checks.one_of("split", split, self.splits)], []
        for index in spread(len(source), most):
            try:
                found.append(shown_size(source.read(tf.constant(index))[0].numpy()))
            except (tf.errors.OpError, ValueError, EOFError):
                continue
        return [size for size in found if min(size)]

    def read_rows(
        self, split: str, indices: tf.Tensor, draws: tf.Tensor | None, replace: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        count = len(indices)
        draws = tf.zeros([count, 0]) if draws is None else draws

        def load(row: tf.Tensor, index: tf.Tensor, draws: tf.Tensor) -> tuple[tf.Tensor, ...]:
            encoded, label = self._read(split, index)
            return row, self._view(encoded, draws), label

        # One row more than there are, so that something is left when every image is bad.
        last = tf.data.Dataset.from_tensors((count, *self._blank(self.image_shape)[:2]))
        decoded = tf.data.Dataset.from_tensor_slices((tf.range(count), indices, draws))
        decoded = decoded.map(load, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
        decoded = decoded.concatenate(last).batch(count + 1).get_single_element()
        rows, images, labels = (column[:-1] for column in decoded)

        def repaired() -> tuple[tf.Tensor, ...]:
            present = tf.scatter_nd(rows[:, tf.newaxis], tf.ones_like(rows), [count])
            missing = tf.cast(tf.where(present == 0)[:, 0], tf.int32)
            replacements = tf.py_function(
                functools.partial(self._replacements, split, replace),
                [tf.gather(indices, missing), tf.gather(draws, missing)],
                [self.image_dtype, self._label_dtype, tf.float32],
            )
            good = images, labels, tf.ones_like(rows, tf.float32)
            return tuple(
                tf.dynamic_stitch([rows, missing], columns)
                for columns in zip(good, replacements, strict=True)
            )

        complete = tf.size(rows) == count
        batch = tf.cond(complete, lambda: (images, labels, tf.ones([count])), repaired)
        shapes = (count, *self.image_shape), (count, *self._label_shape), (count,)
        return tuple(map(tf.ensure_shape, batch, shapes))

    def read_whole(
        self, split: str, index: tf.Tensor, shorter_side: Size | None, interpolation: str
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        channels = self.transforms.channels
        sides = sides_of(shorter_side or self.transforms.image_size)
        view = functools.partial(
            decode_whole,
            channels=channels,
            shorter_side=shorter_side,
            interpolation=interpolation,
            bits=self.transforms.bits,
        )
        blank = self._blank((*sides, channels))

        def load(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
            encoded, label = self._read(split, index)
            return view(encoded), label, tf.constant(1.0)

        def reported(index: tf.Tensor) -> _Row:
            return self._try(split, int(index), view) or blank

        found = tf.data.Dataset.from_tensors(index).map(load).ignore_errors()
        found = found.concatenate(tf.data.Dataset.from_tensors(blank)).take(1)
        image, label, weight = found.get_single_element()
        element = tf.cond(
            weight > 0,
            lambda: [image, label, weight],
            lambda: tf.py_function(
                reported, [index], [self.image_dtype, self._label_dtype, tf.float32]
            ),
        )
        return tuple(map(tf.ensure_shape, element, ((None, None, channels), self._label_shape, ())))

    def _read(self, split: str, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads bytes and label in a graph; a label of no class is an error."""
        encoded, label = self._sources[split].read(index)
        if self.multi_label:
            return encoded, label
        return encoded, tf.gather(tf.range(len(self.class_names)), label)

    def _view(self, encoded: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Returns a training image, or the evaluation image if there are no draws."""
        if draws.shape[0]:
            return self.transforms.training(encoded, draws)
        return self.transforms.evaluation(encoded)

    def _replacements(
        self, split: str, replace: bool, indices: tf.Tensor, draws: tf.Tensor
    ) -> tuple[np.ndarray, ...]:
        """Returns the replacements of rows that could not be decoded; runs eagerly.

        With `replace` each is the next readable image, else a black one of weight 0.
        """
        size = self.sizes[split]
        rows = []
        for index, row_draws in zip(indices.numpy(), draws, strict=True):
            following = ((index + offset) % size for offset in range(size if replace else 1))
            view = functools.partial(self._view, draws=row_draws)
            tried = (self._try(split, i, view) for i in following)
            found = next((image for image in tried if image is not None), None)
            if found is None and replace:
                self.bad_images.stop(self.nothing_readable(split))
            rows.append(found or self._blank(self.image_shape))
        return tuple(map(np.stack, zip(*rows, strict=True)))

    def _try(self, split: str, index: int, view: Callable[[tf.Tensor], tf.Tensor]) -> _Row | None:
        """Returns image, label and weight, or reports a bad image and returns None."""
        source, encoded = self._sources[split], None
        try:
            # Interpolation on a GPU would differ in the last bit.
            with tf.device("/cpu:0"):
                encoded, label = source.read(tf.constant(index, tf.int64))
                classes = len(self.class_names)
                if not self.multi_label and not 0 <= label < classes:
                    reason = f"labeled {int(label)}, where there are {classes} classes"
                    self.bad_images.report(source.locate(index), reason)
                    return None
                return view(encoded).numpy(), label.numpy(), np.float32(1)
        except tf.errors.OpError as error:
            channels = self.transforms.channels
            fault = None if encoded is None else decoding_fault(encoded.numpy(), channels)
            # TensorFlow puts the node in front of its message and the op behind it.
            detail = re.sub(r"{{.*?}} ?| ?\[Op:.*", "", checks.first_line(error))
            self.bad_images.report(source.locate(index), fault or f"unreadable ({detail})")
            return None

    def _blank(self, shape: tuple[int, ...]) -> _Row:
        """Returns a black image of class 0 and weight 0."""
        label = np.zeros(self._label_shape, self._label_dtype.as_numpy_dtype)
        return np.zeros(shape, self.image_dtype.as_numpy_dtype), label, np.float32(0)

    @functools.cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        # The first images of an epoch's order are a fair sample without repetition.
        images = self.num_examples("train")
        batch_size = min(64, images)
        steps = min(_STATISTICS_SAMPLE, images) // batch_size
        batches = self.train_batches(batch_size, augment=False).take(steps)
        return channel_statistics(images.numpy() for images, _ in batches)
