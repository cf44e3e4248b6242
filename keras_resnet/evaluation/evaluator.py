"""Evaluation of models on a data set by a protocol. Needs TensorFlow."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data import ImageDataset
from keras_resnet.evaluation.classes import class_orders
from keras_resnet.evaluation.protocols import Protocol, SingleCrop
from keras_resnet.evaluation.results import TOP, Evaluation
from keras_resnet.export.copies import image_network
from keras_resnet.network import class_names_of, preprocessing_of
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.surgery.conversion import any_size, with_logits
from keras_resnet.surgery.graphs import functional_config, output_activation
from keras_resnet.utils import checks
from keras_resnet.utils.terminal import format_seconds, start_bar

AVERAGES = ("softmax", "logits")
# Batches of crops that may wait for others of their size, which bounds the memory they take.
_WAITING_BATCHES = 8
# Images that the input pipeline prefetches.
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
    class_names: Sequence[Sequence[str] | None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Evaluates a model, or several whose outputs are averaged, on every image of a split.

    All crops of an image, and all models, have equal weight: the mean over them of the
    probabilities or of the logits ranks the classes. Crops of one size are computed together;
    those waiting for others, and what is kept of an image, take a bounded amount of memory.

    Images are resized as the weights want it (`model.preprocessing`), where that is known, with the
    interpolation of the first model that knows.

    Outputs are matched to the classes of the data set by name, whatever their order. Where one side
    has no names, or numbers for names, output 0 belongs to class 0, and so on; a line of the log
    says so.

    Args:
        models: One or more functional models of images in [0, 255], `(batch, H, W, C)`, that
            standardize them or remember how, and end in softmax, or without activation in logits.
            They are not changed.
        dataset: The images.
        protocol: `SingleCrop`, `TenCrop` or `MultiScale`; None for `SingleCrop()`.
        split: "train", "validation" or "test"; None for the last of these that there is.
        average: "softmax" for the mean of probabilities (as the authors' Caffe models were
            tested), "logits" for the mean of logits (as fb.resnet.torch does).
        batch_size: Crops of the network's own size per call of the network; for larger crops it is
            smaller in proportion to their pixels.
        names: Names of the models in the result; by default their own.
        class_names: For each model the names of its classes, in the order of its outputs, or None;
            by default those that it remembers.
        progress: Called with the number of images done and in all, first and after every batch.

    Raises:
        ValueError: If an argument is wrong, a model does not fit the data set or the protocol, has
            other classes, or does not standardize its images, its scores are not finite, or reading
            the data had to stop.
    """
    models = list(models) if isinstance(models, (list, tuple)) else [models]
    if not models:
        raise ValueError(f"`models` must be one model or more. Received: models={models!r}")
    names = [model.name for model in models] if names is None else names
    split = dataset.splits[-1] if split is None else split
    checks.one_of("split", split, dataset.splits)
    checks.one_of("average", average, AVERAGES)
    checks.integer("batch_size", batch_size)
    protocol = SingleCrop() if protocol is None else protocol
    prepared = _common_preprocessing(models, names, dataset, protocol)
    protocol = protocol.resolved(dataset, prepared)
    interpolation = prepared.interpolation if prepared else dataset.interpolation
    for model, name in zip(models, names, strict=True):
        _check_model(model, name, dataset)
    if class_names is None:
        class_names = list(map(class_names_of, models))
    orders = class_orders(dataset.name, dataset.class_names, names, class_names)
    scorers = [
        _scorer(image_network(model, argument="models", given=name), protocol, average, order)
        for model, name, order in zip(models, names, orders, strict=True)
    ]
    mean_scores = _averaged(scorers, protocol, dataset)

    total = dataset.num_examples(split)
    tally = _Tally()
    height, width, _ = dataset.image_shape
    begin = time.perf_counter()
    if progress is not None:
        progress(0, total)
    with dataset.reading():
        stacks = tally.readable(_crops(dataset, split, protocol, interpolation))
        for numbers, crops in _batches(stacks, batch_size * height * width):
            scores = mean_scores(crops).numpy()
            if not np.isfinite(scores).all():
                raise ValueError(
                    f"`models` must give finite scores. Received: {' + '.join(names)}, which gives "
                    f"others for image {numbers[0]} of {split!r} or one after it"
                )
            tally.add(numbers, scores)
            if progress is not None:
                progress(tally.done, total)
    seconds = time.perf_counter() - begin
    if not tally.ranked:
        raise ValueError(dataset.nothing_readable(split))
    indices = np.array(sorted(tally.ranked))
    columns = zip(*(tally.ranked[index] for index in indices), strict=True)
    labels, ranking, scores = map(np.array, columns)
    return Evaluation(
        models=tuple(names),
        dataset=dataset.name,
        split=split,
        protocol=protocol,
        average=average,
        class_names=dataset.class_names,
        indices=indices,
        labels=labels,
        ranking=ranking,
        scores=scores,
        left_out=total - len(indices),
        seconds=seconds,
    )


class Progress:
    """Shows images done, their rate and the time left: a bar on a terminal, plain lines elsewhere.

    A context manager, which yields the `progress` of `evaluate`; `every` is the number of seconds
    from one line to the next.
    """

    def __init__(self, every: float = 10.0):
        self._every = every

    def __enter__(self) -> Progress:
        self._bar: Any = None
        self._begin: float | None = None
        return self

    def __call__(self, done: int, total: int) -> None:
        now = time.perf_counter()
        if self._begin is None:
            self._begin = self._shown = now
            self._bar = start_bar(total)
        status = f"{done}/{total} images"
        if done:
            rate = done / (now - self._begin)
            status += f"  {rate:.3g} images/s  {format_seconds((total - done) / rate)} left"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, status=status)
        elif now - self._shown >= self._every:
            self._shown = now
            print(status, flush=True)

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _common_preprocessing(
    models: Sequence[keras.Model], names: Sequence[str], dataset: ImageDataset, protocol: Protocol
) -> Preprocessing | None:
    """Returns what the weights of all models want done to an image, or None where not known."""
    known = {
        name: prepared
        for name, model in zip(names, models, strict=True)
        if (prepared := preprocessing_of(model)) is not None
    }
    side = min(dataset.image_shape[:2])
    wanted = {(one.at(side).shorter_side, one.interpolation) for one in known.values()}
    if len(wanted) > 1 and protocol == type(protocol)():
        listed = ", ".join(f"{name} with {one}" for name, one in known.items())
        raise ValueError(
            "`models` of an ensemble must want the same done to an image; a protocol with `resize` "
            f"or `scales` makes it the same for all. Received: {listed}"
        )
    return next(iter(known.values()), None)


def _check_model(model: keras.Model, name: str, dataset: ImageDataset) -> None:
    functional_config(model)
    classes = len(dataset.class_names)
    if tuple(model.output_shape[1:]) != (classes,):
        raise ValueError(
            f"`models` must have {classes} outputs, one per class of {dataset.name}. "
            f"Received: {name} with outputs of shape {tuple(model.output_shape)}"
        )
    own, images = tuple(model.input_shape[1:]), dataset.image_shape
    if len(own) != 3 or any(a not in (None, b) for a, b in zip(own, images, strict=True)):
        raise ValueError(
            "`models` must take the images of the data set; for photographs `image_size` sets the "
            f"size. Received: {name} for images of shape {own}, {dataset.name} with {images}"
        )


def _scorer(
    model: keras.Model, protocol: Protocol, average: str, order: list[int] | None
) -> Callable:
    """Returns a function from images, float32, to the scores that are averaged, in that order."""
    activation = output_activation(functional_config(model))
    if average == "logits" or activation != "softmax":
        model = with_logits(model)
    if protocol.any_size and None not in model.input_shape[1:3]:
        model = any_size(model)

    def scores(images: tf.Tensor) -> tf.Tensor:
        outputs = tf.cast(model(images, training=False), tf.float32)
        outputs = outputs if order is None else tf.gather(outputs, order, axis=-1)
        softmax = average == "softmax" and activation != "softmax"
        return tf.nn.softmax(outputs) if softmax else outputs

    return scores


def _averaged(
    scorers: Sequence[Callable], protocol: Protocol, dataset: ImageDataset
) -> Callable[[np.ndarray], tf.Tensor]:
    """Returns one graph from crops of all sizes, uint8, to the mean of the models' scores."""
    height, width, channels = dataset.image_shape
    sides = (None, None) if protocol.any_size else (height, width)
    spec = tf.TensorSpec((None, *sides, channels), tf.uint8)

    @tf.function(input_signature=[spec], autograph=False)
    def mean_scores(crops: tf.Tensor) -> tf.Tensor:
        images = tf.cast(crops, tf.float32)
        return tf.add_n([scorer(images) for scorer in scorers]) / len(scorers)

    # Traced and optimized here, so that the clock measures the images only.
    mean_scores(tf.zeros((1, height, width, channels), tf.uint8))
    return mean_scores


def _crops(
    dataset: ImageDataset, split: str, protocol: Protocol, interpolation: str
) -> Iterator[tuple]:
    """Yields (stacks of crops, label, weight) of every image, prefetched."""
    size = dataset.image_shape[:2]

    def cut(image: tf.Tensor, label: tf.Tensor, weight: tf.Tensor) -> tuple:
        return protocol.crops(image, size, interpolation), label, weight

    images = dataset.whole_images(split, protocol.shorter_side, interpolation)
    images = images.map(cut, num_parallel_calls=tf.data.AUTOTUNE)
    if not all(crops.shape.is_fully_defined() for crops in images.element_spec[0]):
        yield from images.prefetch(_READ_AT_ONCE).as_numpy_iterator()
        return
    # Many at a time where they have one size: coming out of a pipeline takes half a millisecond.
    for stacks, *columns in images.batch(_READ_AT_ONCE).prefetch(2).as_numpy_iterator():
        yield from zip(zip(*stacks, strict=True), *columns, strict=True)


def _batches(
    images: Iterable[tuple[int, Sequence[np.ndarray]]], pixels: int
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Yields crops of one size, `pixels` in a full batch, with the number of the image of each."""
    waiting: dict[tuple[int, int], list[tuple[int, np.ndarray]]] = collections.defaultdict(list)
    held = 0

    def held_by(shape: tuple[int, int]) -> int:
        return len(waiting[shape]) * shape[0] * shape[1]

    def batch(shape: tuple[int, int]) -> tuple[tuple[int, ...], np.ndarray]:
        numbers, crops = zip(*waiting.pop(shape), strict=True)
        return numbers, np.stack(crops)

    for number, stacks in images:
        for stack in stacks:
            shape = stack.shape[1:3]
            area = shape[0] * shape[1]
            for crop in stack:
                waiting[shape].append((number, crop))
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
    """Adds up the scores of the crops of each image, and keeps the ranking by their mean."""

    def __init__(self) -> None:
        self.done = 0
        # Label, best classes and best score of each image.
        self.ranked: dict[int, tuple[int, np.ndarray, float]] = {}
        # Label, number of crops, number of these still to come, and the sum of the others.
        self._open: dict[int, list] = {}

    def readable(self, images: Iterable[tuple]) -> Iterator[tuple[int, Sequence[np.ndarray]]]:
        """Yields the number and the crops of every image that has a weight."""
        for number, (stacks, label, weight) in enumerate(images):
            if not weight:
                self.done += 1
                continue
            crops = sum(len(stack) for stack in stacks)
            self._open[number] = [label, crops, crops, 0.0]
            yield number, stacks

    def add(self, numbers: Sequence[int], scores: np.ndarray) -> None:
        """Adds the scores `(crops, classes)` of crops of the images `numbers`."""
        for number, row in zip(numbers, scores, strict=True):
            image = self._open[number]
            image[2] -= 1
            image[3] = image[3] + row
            if image[2] == 0:
                label, crops, _, summed = self._open.pop(number)
                mean = summed / crops
                best = np.argsort(-mean, kind="stable")[:TOP].astype(np.int32)
                self.ranked[number] = label, best, mean[best[0]]
                self.done += 1
