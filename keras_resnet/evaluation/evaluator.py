"""Models measured on a data set by a protocol. Needs TensorFlow."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data import ImageDataset
from keras_resnet.data.dataset import check_split
from keras_resnet.evaluation.protocols import Protocol, SingleCrop
from keras_resnet.evaluation.results import TOP, Evaluation
from keras_resnet.surgery.conversion import any_size, with_logits
from keras_resnet.surgery.graphs import functional_config, output_activation
from keras_resnet.utils import checks

AVERAGES = ("softmax", "logits")

# Views that wait for others of their size, in full batches: what bounds the memory they take.
_WAITING_BATCHES = 8

# Images that the input pipeline makes ahead of their use.
_READ_AT_ONCE = 32


def evaluate(
    models: keras.Model | Sequence[keras.Model],
    dataset: ImageDataset,
    protocol: Protocol | None = None,
    *,
    split: str | None = None,
    average: str = "softmax",
    batch_size: int = 128,
    names: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measures a model, or several whose answers are averaged, on every image of a split.

    All views of an image, and all models, count alike: the mean over them of the probabilities or
    of the logits ranks the classes. Views of one size are computed together; those waiting for
    others, and what is kept of an image, take a bounded amount of memory.

    Args:
        models: One or more functional models of images in [0, 255], `(batch, H, W, C)`, that end
            in softmax, or without activation in logits. They are not changed.
        dataset: The images.
        protocol: `SingleCrop`, `TenCrop` or `MultiScale`; None for `SingleCrop()`.
        split: "train", "validation" or "test"; None for the last of these that there is.
        average: "softmax" for the mean of probabilities (as the authors' Caffe models were
            tested), "logits" for the mean of logits (as fb.resnet.torch does).
        batch_size: Views of the network's own size per call of the network; larger views are fewer
            in proportion to their pixels.
        names: Names of the models, for the result; those that they carry where not given.
        progress: Called with the images that are done and all there are, first and after every
            batch.

    Returns:
        The answers, and the figures that follow from them.

    Raises:
        ValueError: If an argument is wrong, a model does not go with the data set or the protocol,
            its scores are not finite, or reading the data had to stop.
    """
    models = list(models) if isinstance(models, (list, tuple)) else [models]
    if not models:
        raise ValueError(f"`models` must be one model or more. Received: models={models!r}")
    names = [model.name for model in models] if names is None else names
    split = dataset.splits[-1] if split is None else split
    check_split(split, dataset.splits)
    checks.one_of("average", average, AVERAGES)
    checks.integer("batch_size", batch_size)
    protocol = (SingleCrop() if protocol is None else protocol).resolved(dataset)
    for model, name in zip(models, names, strict=True):
        _check_model(model, name, dataset)
    answer = _averaged([_scorer(model, protocol, average) for model in models], protocol, dataset)

    total = dataset.num_examples(split)
    tally = _Tally(total, len(dataset.class_names))
    size = dataset.image_shape[:2]
    begin = time.perf_counter()
    if progress is not None:
        progress(0, total)
    with dataset.reading():
        stacks = tally.readable(_views(dataset, split, protocol))
        for numbers, views in _batches(stacks, batch_size * size[0] * size[1]):
            scores = answer(views).numpy()
            if not np.isfinite(scores).all():
                raise ValueError(
                    f"`models` must give finite scores. Received: {' + '.join(names)}, which gives "
                    f"others for image {numbers[0]} of {split!r} or one after it"
                )
            tally.add(numbers, scores)
            if progress is not None:
                progress(tally.done, total)
    seconds = time.perf_counter() - begin
    answered = tally.answered
    if not answered.any():
        raise ValueError(
            "`split` must have images that can be read. "
            f"Received: split={split!r} of {total}, none of which can"
        )
    return Evaluation(
        models=tuple(names),
        dataset=dataset.name,
        split=split,
        protocol=protocol,
        average=average,
        class_names=dataset.class_names,
        indices=np.flatnonzero(answered),
        labels=tally.labels[answered],
        ranking=tally.ranking[answered],
        scores=tally.scores[answered],
        left_out=int(total - answered.sum()),
        seconds=seconds,
    )


def _check_model(model: keras.Model, name: str, dataset: ImageDataset) -> None:
    functional_config(model)
    classes = len(dataset.class_names)
    if tuple(model.output_shape[1:]) != (classes,):
        raise ValueError(
            f"`models` must have {classes} outputs, one a class of {dataset.name}. "
            f"Received: {name} with outputs of shape {tuple(model.output_shape)}"
        )
    own, images = tuple(model.input_shape[1:]), dataset.image_shape
    if len(own) != 3 or any(a not in (None, b) for a, b in zip(own, images, strict=True)):
        raise ValueError(
            f"`models` must take the images of the data set; of photographs `image_size` sets the "
            f"size. Received: {name} for images of shape {own}, {dataset.name} with {images}"
        )


def _scorer(model: keras.Model, protocol: Protocol, average: str) -> Callable:
    """Returns what gives the scores that are averaged, from images as float32."""
    activation = output_activation(functional_config(model))
    if average == "logits" or activation != "softmax":
        model = with_logits(model)
    if protocol.any_size and None not in model.input_shape[1:3]:
        model = any_size(model)

    def scores(images: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(model(images, training=False), tf.float32)
        softmax = average == "softmax" and activation != "softmax"
        return tf.nn.softmax(outputs) if softmax else outputs

    return scores


def _averaged(
    scorers: Sequence[Callable], protocol: Protocol, dataset: ImageDataset
) -> Callable[[np.ndarray], tf.Tensor]:
    """Returns one graph for views of all sizes, uint8, to the mean of the models' scores."""
    height, width, channels = dataset.image_shape
    sides = (None, None) if protocol.any_size else (height, width)
    spec = tf.TensorSpec((None, *sides, channels), tf.uint8)

    @tf.function(input_signature=[spec], autograph=False)
    def answer(views: tf.Tensor) -> tf.Tensor:
        images = tf.cast(views, tf.float32)
        return tf.add_n([scorer(images) for scorer in scorers]) / len(scorers)

    # Traced and optimised here, so that the clock measures the images only.
    answer(tf.zeros((1, height, width, channels), tf.uint8))
    return answer


def _views(dataset: ImageDataset, split: str, protocol: Protocol) -> Iterator[tuple]:
    """Yields (stacks of views, label, weight) of every image, made ahead of their use."""
    size = dataset.image_shape[:2]

    def cut(image: tf.Tensor, label: tf.Tensor, weight: tf.Tensor) -> tuple:
        return protocol.views(image, size), label, weight

    images = dataset.whole_images(split, protocol.shorter_side)
    images = images.map(cut, num_parallel_calls=tf.data.AUTOTUNE)
    if not all(views.shape.is_fully_defined() for views in images.element_spec[0]):
        yield from images.prefetch(_READ_AT_ONCE).as_numpy_iterator()
        return
    # Many at a time where they have one size: coming out of a pipeline takes half a millisecond.
    for stacks, *columns in images.batch(_READ_AT_ONCE).prefetch(2).as_numpy_iterator():
        yield from zip(zip(*stacks, strict=True), *columns, strict=True)


def _batches(
    images: Iterable[tuple[int, Sequence[np.ndarray]]], pixels: int
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Puts views of one size together.

    Args:
        images: Number of each image, and its stacks of views.
        pixels: Pixels of a full batch.

    Yields:
        Number of the image of each view, and the views.
    """
    waiting: dict[tuple[int, int], list[tuple[int, np.ndarray]]] = collections.defaultdict(list)
    held = 0

    def held_by(shape: tuple[int, int]) -> int:
        return len(waiting[shape]) * shape[0] * shape[1]

    def batch(shape: tuple[int, int]) -> tuple[list[int], np.ndarray]:
        numbers, views = zip(*waiting.pop(shape), strict=True)
        return list(numbers), np.stack(views)

    for number, stacks in images:
        for stack in stacks:
            shape = stack.shape[1:3]
            area = shape[0] * shape[1]
            for view in stack:
                waiting[shape].append((number, view))
                held += area
                ready = shape if len(waiting[shape]) >= max(1, pixels // area) else None
                if ready is None and held > _WAITING_BATCHES * pixels:
                    ready = max(waiting, key=held_by)
                if ready is not None:
                    held -= held_by(ready)
                    yield batch(ready)
    for shape in list(waiting):
        yield batch(shape)


class _Tally:
    """Adds up the scores of the views of each image, and keeps what is wanted of their mean."""

    def __init__(self, total: int, classes: int):
        self.labels = np.zeros(total, np.int32)
        self.ranking = np.zeros((total, min(TOP, classes)), np.int32)
        self.scores = np.zeros(total, np.float32)
        self.answered = np.zeros(total, bool)
        self.done = 0
        # Views of an image, how many of them are still to come, and the sum over the others.
        self._open: dict[int, list] = {}

    def readable(self, images: Iterable[tuple]) -> Iterator[tuple[int, Sequence[np.ndarray]]]:
        """Yields the number and the views of every image that has a weight."""
        for number, (stacks, label, weight) in enumerate(images):
            if not weight:
                self.done += 1
                continue
            self.labels[number] = label
            views = sum(len(stack) for stack in stacks)
            self._open[number] = [views, views, 0.0]
            yield number, stacks

    def add(self, numbers: Sequence[int], scores: np.ndarray) -> None:
        """Takes the scores `(views, classes)` of views of the images `numbers`."""
        for number, row in zip(numbers, scores, strict=True):
            image = self._open[number]
            image[1] -= 1
            image[2] = image[2] + row
            if image[1] == 0:
                views, _, summed = self._open.pop(number)
                self._answer(number, summed / views)

    def _answer(self, number: int, mean: np.ndarray) -> None:
        best = np.argsort(-mean, kind="stable")[: self.ranking.shape[1]]
        self.ranking[number] = best
        self.scores[number] = mean[best[0]]
        self.answered[number] = True
        self.done += 1
