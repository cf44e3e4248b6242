"""Predictions of a trained model, of any format, for image files. Needs TensorFlow."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data import Transforms, load_dataset
from keras_resnet.data.decoding import (
    FORMATS,
    decoding_fault,
    formats_of,
    is_hidden,
    is_image_file,
)
from keras_resnet.data.encoded import BadImages
from keras_resnet.data.order import spread
from keras_resnet.export import ExportedModel, load_exported
from keras_resnet.export.copies import image_network
from keras_resnet.export.endpoints import class_probabilities
from keras_resnet.export.inference import CALIBRATION_IMAGES
from keras_resnet.preprocessing import (
    Preprocessing,
    Size,
    checked_size,
    decode_predictions,
    sides_of,
)
from keras_resnet.utils import checks
from keras_resnet.utils.remote import is_remote, local_copy
from keras_resnet.weights.beside import read_labels

_ACCEPTED = ", ".join(sorted(set(FORMATS.values())))


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A model's prediction for one image.

    Attributes:
        path: The image file.
        labels: The best classes, best first.
        probabilities: Their probabilities.
        none: Whether the best of them is below the `threshold` of the model's `preprocessing`, so
            that the image shows none of its classes.
    """

    path: Path
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    none: bool = False


class BadImageError(ValueError):
    """An image that cannot be read; `fault` says why, as `decoding_fault` does."""

    def __init__(self, fault: str):
        super().__init__(
            f"`image` must be a whole file ({_ACCEPTED}). Received: one that is {fault}"
        )
        self.fault = fault


class Classifier:
    """A trained classifier of any format, for encoded images in memory and in several threads.

    Args:
        model, top, labels, image_size, resize: As for `predict`, and refused alike.
        frozen: As for `load_exported`, of a model that is opened here.

    Attributes:
        transforms: What is done to an image.
    """

    def __init__(
        self,
        model: ExportedModel | str | Path,
        top: int = 5,
        *,
        labels: Sequence[str] | Path | None = None,
        image_size: Size | str | None = None,
        resize: int | None = None,
        frozen: bool = False,
    ):
        self._top = checks.integer("top", top)
        self._model = model if isinstance(model, ExportedModel) else load_exported(model, frozen)
        if self._model.output not in ("probabilities", "logits"):
            raise ValueError(
                "`model` must be a classifier, with probabilities or logits as its output. "
                f"Received: {str(self._model.path)!r}, which gives {self._model.output}"
            )
        if isinstance(labels, Path):
            labels = read_labels(labels)
        self._labels = self._model.labels if labels is None else labels
        self.transforms = transforms_for(self._model, image_size, resize)
        # Labels that do not fit the model are an error before images are read.
        self.classify(np.zeros((1, *self.transforms.shape), np.uint8))

    def read(self, data: bytes) -> np.ndarray:
        """Returns the pixels of an encoded image as `classify` takes them; see `read_image`."""
        return read_image(data, self.transforms)

    def shows_none(self, probabilities: Sequence[float]) -> bool:
        """Returns whether an image shows none of the classes, by what `classify` gives of it."""
        prepared = self._model.preprocessing
        return prepared is not None and prepared.shows_none(probabilities[0])

    def classify(self, images: np.ndarray) -> list[tuple[tuple[str, ...], tuple[float, ...]]]:
        """Returns labels and probabilities of the best classes of every image, best first.

        Args:
            images: `(batch, H, W, C)` in [0, 255], as `read` returns them.
        """
        outputs = tf.constant(self._model(images))
        scores = class_probabilities(outputs, self._model.output).numpy()
        classes = scores.shape[1]
        labels = self._labels
        if labels is None and classes != 1000:
            labels = [str(number) for number in range(classes)]
        best = []
        for row in decode_predictions(scores, min(self._top, classes), labels):
            _, names, probabilities = zip(*row, strict=True)
            best.append((names, probabilities))
        return best


def predict(
    model: ExportedModel | str | Path,
    images: str | Path | Iterable[str | Path],
    top: int = 5,
    *,
    labels: Sequence[str] | Path | None = None,
    image_size: Size | str | None = None,
    resize: int | None = None,
    batch_size: int = 32,
) -> list[Prediction]:
    """Classifies image files with a trained model of any format.

    Images are decoded, turned upright, resized and cropped as for evaluation, and as the weights
    want it, where the model carries that along (`model.preprocessing`).

    Args:
        model: A `.keras` file, a Hub module or SavedModel's directory, a `.tflite` or `.onnx` file,
            an address or a name as for `load_model`, or one opened by `load_exported`.
        images: Image files, and folders, of which all images are read, those in folders inside and
            linked ones too. A file that cannot be read is an error if it is named itself; in a
            folder it is skipped with a warning (`BadImageWarning`) that counts them. Those at an
            address such as gs://bucket/photos are read from, and named by, their local copies.
        top: Number of best classes, or all classes where there are fewer.
        labels: Name of every class, or the `Path` of a file with a line for each. By default those
            stored with the model; the names of ImageNet's where it has 1000 classes and no labels;
            else their numbers.
        image_size: Side of the images for a model that takes any size, or their height and width
            (a pair, or text such as "224x192"); by default that which its weights want, or 224.
        resize: Shorter side in pixels of which the center is cropped; by default that which the
            weights want, or that of the images.
        batch_size: Number of images per call of the model.

    Returns:
        One `Prediction` per image that could be read, in the order given, in folders by name.

    Raises:
        ValueError: If an argument is wrong, the model is no classifier, or an image cannot be read.
        ImportError: If a package that the model needs is missing.
        OSError: If an image is missing, or the names of ImageNet's classes cannot be downloaded.
    """
    checks.integer("batch_size", batch_size)
    classifier = Classifier(model, top, labels=labels, image_size=image_size, resize=resize)
    predictions = []
    read = read_images(images, classifier.transforms)
    while batch := list(itertools.islice(read, batch_size)):
        best = classifier.classify(np.stack([image for _, image in batch]))
        predictions += [
            Prediction(path, *row, none=classifier.shows_none(row[1]))
            for (path, _), row in zip(batch, best, strict=True)
        ]
    return predictions


def read_images(
    images: str | Path | Iterable[str | Path], transforms: Transforms, most: int | None = None
) -> Iterator[tuple[Path, np.ndarray]]:
    """Yields the path and the pixels of image files, cropped as for `predict`.

    Of a folder it reads at most `most` files, evenly spread over all.
    """
    bad = BadImages(limit=None)
    for given in [images] if isinstance(images, (str, os.PathLike)) else images:
        given = local_copy("images", str(given)) if is_remote(given) else Path(given)
        if given.exists() and not (given.is_dir() or given.is_file()):
            raise ValueError(  # before it is opened: a pipe may block for good
                f"`images` must be files or folders of them. Received: {str(given)!r}"
            )
        paths = [given]
        if given.is_dir():
            paths = _images_in(given, formats_of(transforms.channels))
            paths = [paths[i] for i in spread(len(paths), most or len(paths))]
        for path in paths:
            try:
                yield path, read_image(path.read_bytes(), transforms)
            except OSError as error:
                if not given.is_dir():
                    raise type(error)(
                        f"`images` must be files that can be read. Received: {str(path)!r} "
                        f"({error.strerror})"
                    ) from error
                bad.report(str(path), f"unreadable ({error.strerror})")
            except BadImageError as error:
                if not given.is_dir():
                    raise ValueError(
                        f"`images` must be whole files ({_ACCEPTED}). Received: {str(path)!r}, "
                        f"which is {error.fault}"
                    ) from error
                bad.report(str(path), error.fault)


def read_image(data: bytes, transforms: Transforms) -> np.ndarray:
    """Returns the pixels of an encoded image, of `transforms.shape` and `dtype`, cropped.

    Raises:
        BadImageError: If it cannot be read to its end.
    """
    try:
        return transforms.evaluation(data).numpy()
    except tf.errors.OpError as error:
        raise BadImageError(decoding_fault(data, transforms.channels) or "unreadable") from error


def calibration_batches(
    source: str,
    model: keras.Model,
    image_size: Size | str | None = None,
    preprocessing: str | Preprocessing = "inside",
) -> Iterator[np.ndarray]:
    """Returns batches of images in [0, 255] to calibrate an int8 file of a model on.

    The source is a folder of images, or "digits" for the digits' training images; the images have
    the size `image_size` if the model takes any, prepared by the `preprocessing` that it is
    exported with. Of a folder with more than 512 they are spread over all its files.
    """
    _, prepared = image_network(model, preprocessing)
    size = None if image_size is None else checked_size("image_size", image_size)
    transforms = Transforms.for_images(model.input_shape[1:], prepared, size)
    if transforms is None:
        raise ValueError(
            "`model` must take images of one size or of any, of known channels, to be calibrated. "
            f"Received: {model.name!r}, which takes images of shape {model.input_shape[1:]}"
        )
    if source == "digits":
        side = transforms.image_size
        batches = load_dataset("digits", image_size=side).eval_batches("train", 64)
        return (images for images, _, _ in batches)
    if is_remote(source):
        source = str(local_copy("calibration", source))
    if not Path(source).is_dir():
        raise ValueError(
            "`calibration` must be a folder of images or 'digits'. "
            f"Received: calibration={source!r}"
        )
    # By name they are sorted by class: the first would be those of the first classes.
    found = read_images(source, transforms, CALIBRATION_IMAGES)
    return (image[None] for _, image in found)


def _images_in(folder: Path, formats: Collection[str]) -> list[Path]:
    """Returns the images of a folder and of those inside, by name."""
    paths: list[Path] = []
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(place)
        if (inode := (status.st_dev, status.st_ino)) in seen:
            folders.clear()  # A link to a folder that it is in leads round in circles.
            continue
        seen.add(inode)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        shown = (os.path.join(place, name) for name in files if not is_hidden(name))
        paths += [Path(path) for path in shown if is_image_file(path, formats=formats)]
    paths.sort()
    if not paths:
        raise ValueError(
            f"`images` must be files or folders of them ({', '.join(formats)}). "
            f"Received: {str(folder)!r}, without any"
        )
    return paths


def transforms_for(
    model: ExportedModel, image_size: Size | str | None, resize: int | None
) -> Transforms:
    """Returns what is done to an image for a model; `image_size` and `resize` as for `predict`."""
    own = model.image_shape[:2]
    size = None if image_size is None else checked_size("image_size", image_size)
    if size is not None and any(
        side not in (None, given) for side, given in zip(own, sides_of(size), strict=True)
    ):
        raise ValueError(
            f"`image_size` must be the model's own, {'x'.join(map(str, own))}, or be left out. "
            f"Received: image_size={image_size}"
        )
    transforms = Transforms.for_images(model.image_shape, model.preprocessing, size)
    if transforms is None:
        raise ValueError(
            "`model` must take images of one size or of any, of known channels. "
            f"Received: {str(model.path)!r}, which takes images of shape {model.image_shape}"
        )
    if resize is None:
        return transforms
    return dataclasses.replace(
        transforms, eval_resize=checks.integer("resize", resize, min(transforms.sides))
    )
