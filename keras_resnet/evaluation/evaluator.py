"""Evaluation of models on a data set by a protocol. Needs TensorFlow."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet.data import ImageDataset
from keras_resnet.data.streams import Images, as_dataset
from keras_resnet.evaluation.classes import class_orders
from keras_resnet.evaluation.multi_label import MultiLabelEvaluation
from keras_resnet.evaluation.protocols import Protocol, SingleCrop
from keras_resnet.evaluation.results import Evaluation
from keras_resnet.evaluation.scoring import Model, averaged, fits_as_two, make_scorer
from keras_resnet.evaluation.tally import Tally
from keras_resnet.export import ExportedModel
from keras_resnet.export.reading import labels_of, open_any
from keras_resnet.network import class_count, class_names_of, preprocessing_of
from keras_resnet.preprocessing import Preprocessing, Size, covered_by
from keras_resnet.utils import checks
from keras_resnet.utils.terminal import format_seconds, show, start_bar

AVERAGES = ("softmax", "logits")
# Batches of crops that may wait for others of their size, which bounds the memory they take.
_WAITING_BATCHES = 8
# Images that the input pipeline prefetches.
_READ_AT_ONCE = 32


def evaluate(
    models: Model | Sequence[Model],
    dataset: Images,
    protocol: Protocol | None = None,
    *,
    split: str | None = None,
    average: str = "softmax",
    batch_size: int = 128,
    names: Sequence[str] | None = None,
    class_names: Sequence[Sequence[str] | None] | None = None,
    keep_outputs: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation | MultiLabelEvaluation:
    """Evaluates a model, or several whose outputs are averaged, on every image of a split.

    All crops of an image, and all models, have equal weight: the mean over them of the
    probabilities or of the logits ranks the classes. Crops of one size are computed together;
    those waiting for others, and what is kept of an image, take a bounded amount of memory.

    Images are resized as the weights want it (`model.preprocessing`), where that is known, with the
    interpolation of the first model that knows. Where it is not, the single crop of photographs is
    the center square for models that `open_model` or `load_exported` opened, as for `predict`, and
    the data set's own for others.

    Outputs are matched to the classes of the data set by name, whatever their order. Where one side
    has no names, or numbers for names, output 0 belongs to class 0, and so on; a line of the log
    says so.

    Args:
        models: One or more functional models of images in [0, 255], `(batch, H, W, C)`, that
            standardize them or remember how, and end in softmax, in sigmoid, or without activation
            in logits; or exported models of any format, opened by `load_exported`. They are not
            changed. A single output of sigmoid is the probability of the second of two classes.
        dataset: The images: an `ImageDataset`; arrays `(images, labels)`; or a finite
            `tf.data.Dataset` of pairs (image, label) or batches of them, images of one size. Labels
            of the latter two are numbers of the outputs of the first model, or 0 and 1 for each.
        protocol: `SingleCrop`, `TenCrop` or `MultiScale`; None for `SingleCrop()`.
        split: "train", "validation" or "test"; None for the last of these that there is, and for
            "test" of arrays and pipelines, which are either.
        average: "softmax" for the mean of probabilities (as the authors' Caffe models were
            tested) of softmax or sigmoid, "logits" for the mean of logits (as fb.resnet.torch
            does), which models that end in sigmoid do not have.
        batch_size: Crops of the network's own size per call of the network; for larger crops it is
            smaller in proportion to their pixels.
        names: Names of the models in the result; by default their own.
        class_names: For each model the names of its classes, in the order of its outputs, or None;
            by default those that it remembers.
        keep_outputs: Whether the result has the scores of all classes of every image, which
            `fit_calibration` needs.
        progress: Called with the number of images done and in all, first and after every batch.

    Returns:
        The result; a `MultiLabelEvaluation` where images can have several labels, for which models
        must end in sigmoid.

    Raises:
        ValueError: If an argument is wrong, a model does not fit the data set or the protocol, has
            other classes, or does not standardize its images, its scores are not finite, or reading
            the data had to stop.
    """
    models = list(models) if isinstance(models, (list, tuple)) else [models]
    if not models:
        raise ValueError(f"`models` must be one model or more. Received: models={models!r}")
    names = list(map(_name, models)) if names is None else names
    if not isinstance(dataset, ImageDataset):
        dataset = as_dataset(dataset, split or "test", _outputs_by_name(models[0], class_names))
    split = dataset.splits[-1] if split is None else split
    checks.one_of("split", split, dataset.splits)
    checks.one_of("average", average, AVERAGES)
    checks.integer("batch_size", batch_size)
    protocol = SingleCrop() if protocol is None else protocol
    prepared = _common_preprocessing(models, names, dataset, protocol)
    protocol = protocol.resolved(dataset, prepared)
    interpolation = prepared.interpolation if prepared else dataset.interpolation
    single = [fits_as_two(model, name, dataset) for model, name in zip(models, names, strict=True)]
    if class_names is None:
        class_names = list(map(names_of, models))
    orders = class_orders(dataset.name, dataset.class_names, names, class_names)
    scorers = [
        make_scorer(model, name, protocol, average, order, tells_two)
        for model, name, order, tells_two in zip(models, names, orders, single, strict=True)
    ]
    mean_scores = averaged(models, scorers, protocol, dataset)

    total = dataset.num_examples(split)
    tally = Tally(keep_outputs or dataset.multi_label)
    height, width, _ = dataset.image_shape
    first_batch: tuple[int, float] | None = None
    begin = time.perf_counter()
    if progress is not None:
        progress(0, total)
    with dataset.reading():
        stacks = tally.readable(_crops(dataset, split, protocol, interpolation))
        for numbers, crops in _batches(stacks, batch_size * height * width):
            scores = mean_scores(crops)
            if not np.isfinite(scores).all():
                raise ValueError(
                    f"`models` must give finite scores. Received: {' + '.join(names)}, which gives "
                    f"others for image {numbers[0]} of {split!r} or one after it"
                )
            tally.add(numbers, scores)
            first_batch = first_batch or (len(tally.ranked), time.perf_counter() - begin)
            if progress is not None:
                progress(tally.done, total)
    seconds = time.perf_counter() - begin
    return tally.evaluation(
        dataset,
        split,
        models=tuple(names),
        protocol=protocol,
        average=average,
        keep_outputs=keep_outputs,
        seconds=seconds,
        first_batch=first_batch,
    )


class Progress:
    """Shows images done, their rate and the time left: a bar on a terminal, plain lines elsewhere.

    On standard error, and not where the level of the logger `keras_resnet` is above INFO.

    A context manager, which yields the `progress` of `evaluate`; `every` is the number of seconds
    from one line to the next.
    """

    def __init__(self, every: float = 10.0):
        self._every = every
        self._done = 0

    def __enter__(self) -> Progress:
        self._bar: Any = None
        self._begin: float | None = None
        return self

    def __call__(self, done: int, total: int) -> None:
        now = time.perf_counter()
        if self._begin is not None and done < self._done:  # A further stage begins.
            self.__exit__()
            self._begin = None
        self._done = done
        if self._begin is None:
            self._begin = self._shown = now
            self._bar = start_bar(total)
        status = f"{done}/{total} images"
        if done and now > self._begin:
            rate = done / (now - self._begin)
            status += f"  {rate:.3g} images/s  {format_seconds((total - done) / rate)} left"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, status=status)
        elif now - self._shown >= self._every:
            self._shown = now
            show(status)

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _common_preprocessing(
    models: Sequence[Model], names: Sequence[str], dataset: ImageDataset, protocol: Protocol
) -> Preprocessing | None:
    """Returns what the weights of all models want done to an image, or None where not known."""
    known = [  # pairs: models of an ensemble may share a name
        (name, prepared)
        for name, model in zip(names, models, strict=True)
        if (prepared := _preprocessing(model, dataset, protocol)) is not None
    ]
    size = dataset.image_shape[:2]
    wanted = {(one.at(size).shorter_side, one.interpolation) for _, one in known}
    if len(wanted) > 1 and protocol == type(protocol)():
        listed = ", ".join(f"{name} with {one}" for name, one in known)
        raise ValueError(
            "`models` of an ensemble must want the same done to an image; a protocol with `resize` "
            f"or `scales` makes it the same for all. Received: {listed}"
        )
    return known[0][1] if known else None


def open_model(path: str | Path) -> Model:
    """Opens what `evaluate` takes.

    Args:
        path: What `load_model` takes: a `.keras` file, "hf://owner/name", the name of published
            weights, or of a network, for its first ones; or an exported model, as for
            `load_exported`.

    Raises:
        ValueError: If there is no such file, network or weights, or it cannot be read.
        ImportError: If the package that it is read with is missing.
        OSError: If it cannot be downloaded.
    """
    model, file = open_any(path)
    if not isinstance(model, ExportedModel):
        model._names_in_file = labels_of(model, file)
    return model


def _name(model: Model) -> str:
    return model.path.name if isinstance(model, ExportedModel) else model.name


def names_of(model: Model) -> tuple[str, ...] | None:
    """Returns the names of a model's classes, in it or beside the file it was opened from."""
    if isinstance(model, ExportedModel):
        return model.labels
    return class_names_of(model) or getattr(model, "_names_in_file", None)


def _outputs_by_name(
    model: Model, class_names: Sequence[Sequence[str] | None] | None
) -> Sequence[str]:
    """Returns a name for each output of a model, or its number."""
    names = names_of(model) if class_names is None else class_names[0]
    if names:
        return names
    if isinstance(model, ExportedModel):
        height, width, channels = model.image_shape
        outputs = model(np.zeros((1, height or 64, width or 64, channels), "float32")).shape[-1]
    else:
        outputs = model.output_shape[-1]
    return [str(number) for number in range(class_count(outputs))]


def _preprocessing(model: Model, dataset: ImageDataset, protocol: Protocol) -> Preprocessing | None:
    """Returns what a model's weights want done to an image; None for what the data set does."""
    exported = isinstance(model, ExportedModel)
    known = model.preprocessing if exported else preprocessing_of(model)
    opened = exported or hasattr(model, "_names_in_file")
    photographs = dataset.eval_resize is not None
    if known is None and opened and photographs and isinstance(protocol, SingleCrop):
        return Preprocessing.unchanged(dataset.image_shape[-1])  # as `predict` does
    return known


def _crops(
    dataset: ImageDataset, split: str, protocol: Protocol, interpolation: str
) -> Iterator[tuple]:
    """Yields (stacks of crops, label, weight) of every image, prefetched."""
    size = dataset.image_shape[:2]

    def cut(image: tf.Tensor, label: tf.Tensor, weight: tf.Tensor) -> tuple:
        return protocol.crops(image, size, interpolation), label, weight

    resize = protocol.shorter_side
    side: Size | None = resize
    if resize is not None and not protocol.any_size:
        side = covered_by(size, resize)
    images = dataset.whole_images(split, side, interpolation)
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
