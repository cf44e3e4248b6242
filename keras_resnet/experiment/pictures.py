"""Pictures of a report: mistakes with class activation maps, and training images. TensorFlow."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.analysis.activation_maps import class_activation_maps
from keras_resnet.data import ImageDataset
from keras_resnet.evaluation import Evaluation
from keras_resnet.evaluation.classes import class_orders
from keras_resnet.evaluation.evaluator import names_of
from keras_resnet.evaluation.overview import data_uri
from keras_resnet.export.copies import image_network
from keras_resnet.training.balance import training_shares
from keras_resnet.training.step import BatchTransform

# Longest side of a picture in pixels; images of up to so many are kept exactly, as PNG.
THUMBNAIL, EXACT = 192, 64
# Share of the map in the colors of an overlay.
OVERLAY = 0.6


class Picture(NamedTuple):
    """An image inside of a page.

    Attributes:
        uri: The image as a data URI.
        alt: Text in its place.
        caption: Text under it.
        small: Whether its pixels are to be shown enlarged, as squares.
    """

    uri: str
    alt: str
    caption: str
    small: bool = False


class Mistake(NamedTuple):
    """A wrong prediction: the image, and the maps of the predicted and the true class, if any."""

    image: Picture
    maps: tuple[Picture, ...]
    predicted: str
    true: str
    score: str
    place: str


def file_uri(path: Path) -> str:
    """Returns a PNG or SVG file as a data URI."""
    kind = {".svg": "svg+xml", ".png": "png"}[path.suffix]
    return data_uri(kind, path.read_bytes())


def drawn_width(path: Path) -> int:
    """Returns the width of a plot, a PNG or SVG file of `analysis.plots`, in CSS pixels."""
    if path.suffix == ".svg":
        match = re.search(rb'<svg [^>]*?width="([\d.]+)pt"', path.read_bytes())
        return round(float(match[1]) * 96 / 72) if match else 0
    # Four bytes of the first chunk; PNGs are drawn with 144 dots per inch.
    return round(int.from_bytes(path.read_bytes()[16:20]) * 96 / 144)


def has_pictures(dataset: ImageDataset) -> bool:
    """Returns whether the images of a data set can be shown."""
    return dataset.image_shape[-1] in (1, 3)


def training_batch(
    dataset: ImageDataset,
    count: int,
    seed: int = 0,
    transform: BatchTransform | None = None,
    sampling: str | None = None,
) -> list[Picture]:
    """Returns images of a batch of the training split, drawn and augmented as in training.

    `transform` is that of the trainer, which does to them what it does in the first step.
    """
    count = min(count, dataset.num_examples("train"))
    shares = training_shares(sampling, dataset)
    with dataset.reading():
        batches = dataset.train_batches(count, seed=seed, probabilities=shares)
        images, labels = next(iter(batches))
    if transform is not None:
        images, labels = transform(images, labels, tf.zeros(2, tf.int64))
    names = [_named(dataset, label) for label in labels.numpy()]
    return [
        _picture(image, f"Augmented training image of class {name}", name)
        for image, name in zip(images.numpy(), names, strict=True)
    ]


def worst_mistakes(result: Evaluation, most: int) -> np.ndarray:
    """Returns the rows of an evaluation that are wrong, those of the highest scores first."""
    wrong = np.flatnonzero(result.ranking[:, 0] != result.labels)
    return wrong[np.argsort(-result.scores[wrong], kind="stable")][:most]


def mistakes(
    result: Evaluation, dataset: ImageDataset, most: int, model: keras.Model | None = None
) -> list[Mistake]:
    """Returns the wrong predictions of the highest scores, with maps where `model` has any.

    The maps are those of `class_activation_maps`, of the class predicted and of the image's own.
    """
    rows = worst_mistakes(result, most)
    if not len(rows):
        return []
    images, _ = dataset.images_at(result.split, result.indices[rows])
    predicted, true = result.ranking[rows, 0], result.labels[rows]
    maps = None if model is None else _maps(model, dataset, images, predicted, true)
    found = []
    for i, (row, image) in enumerate(zip(rows, images, strict=True)):
        names = [dataset.class_names[number] for number in (predicted[i], true[i])]
        index = int(result.indices[row])
        place = dataset.locate(result.split, index) or f"image {index} of {result.split}"
        score = result.scores[row]
        shown = f"{100 * score:.1f} %" if result.average == "softmax" else f"logit {score:.3g}"
        alt = f"Image of class {names[1]}, predicted to be {names[0]}"
        overlays = (
            ()
            if maps is None
            else tuple(
                _picture(
                    _overlay(image, maps[kind][i]),
                    f"The same image with the evidence for {name} in warm colors",
                    f"evidence for {name}",
                )
                for kind, name in enumerate(names)
            )
        )
        found.append(
            Mistake(_picture(image, alt, "image"), overlays, names[0], names[1], shown, place)
        )
    return found


def _maps(
    model: keras.Model,
    dataset: ImageDataset,
    images: np.ndarray,
    predicted: np.ndarray,
    true: np.ndarray,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the maps of two classes for each image; None for a network that has none."""
    # Networks with another end have no maps, and those of other images none of these.
    with contextlib.suppress(ValueError):
        names = [names_of(model)]
        (order,) = class_orders(dataset.name, dataset.class_names, [model.name], names)
        outputs = np.arange(len(dataset.class_names)) if order is None else np.array(order)
        network, _ = image_network(model)
        maps = class_activation_maps(
            network,
            np.concatenate([images, images]).astype("float32"),
            outputs[np.concatenate([predicted, true])],
            resize=True,
        )
        return maps[: len(images)], maps[len(images) :]
    return None


def _overlay(image: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    """Returns an RGB image under a map, the colors of which go from its lowest to highest value."""
    from matplotlib import colormaps

    low, high = evidence.min(), evidence.max()
    levels = (evidence - low) / max(high - low, 1e-12)
    colors = 255 * colormaps["inferno"](levels)[..., :3]
    gray = image.mean(axis=-1, keepdims=True)
    return np.rint(OVERLAY * colors + (1 - OVERLAY) * gray).astype(np.uint8)


def _picture(image: np.ndarray, alt: str, caption: str) -> Picture:
    image = np.rint(image).astype(np.uint8)  # 16 bits are more than a screen has
    longest = max(image.shape[:2])
    if longest <= EXACT:
        return Picture(data_uri("png", tf.io.encode_png(image).numpy()), alt, caption, True)
    if longest > THUMBNAIL:
        height, width = (max(1, round(side * THUMBNAIL / longest)) for side in image.shape[:2])
        resized = tf.image.resize(image, (height, width), "area")
        image = tf.cast(tf.round(resized), tf.uint8).numpy()
    return Picture(data_uri("jpeg", tf.io.encode_jpeg(image, quality=85).numpy()), alt, caption)


def _named(dataset: ImageDataset, label: np.ndarray) -> str:
    """Returns the class of an image, or its classes, with the share of each where it is mixed."""
    numbers = np.flatnonzero(label) if np.ndim(label) else [label]
    names = [dataset.class_names[number] for number in numbers]
    if np.ndim(label) and not np.isin(label, (0, 1)).all():
        shares = [label[number] for number in numbers]
        names = [f"{100 * share:.0f} % {name}" for share, name in zip(shares, names, strict=True)]
    return ", ".join(names) or "no class"
