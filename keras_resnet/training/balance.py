"""Weights and sampling against classes of unequal size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from keras_resnet.data.dataset import ImageDataset
from keras_resnet.training.choices import BALANCED, SAMPLINGS, check_class_weights
from keras_resnet.utils import checks


def class_counts(labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns the number of images of each class; labels are numbers or multi-hot rows."""
    labels = np.asarray(labels)
    if labels.ndim == 2:
        return labels.sum(axis=0).round().astype(np.int64)
    return np.bincount(labels, minlength=classes)


def class_weights(
    value: str | Sequence[float] | Mapping[str, float],
    labels: np.ndarray,
    class_names: Sequence[str],
) -> np.ndarray:
    """Returns the weight of each class, float32 `(classes,)`.

    Args:
        value: "balanced": images / (classes * images of the class), as in scikit-learn, or, of
            labels that are multi-hot, images without the class / images with it; a number for each
            class, in their order; or numbers by name, where the other classes have 1.
        labels: Labels of the training images, integers `(n,)` or multi-hot `(n, classes)`.
        class_names: Names of the classes.

    Raises:
        ValueError: Numbers below 0, of another count, or of unknown names.
    """
    check_class_weights(value)
    classes = len(class_names)
    if isinstance(value, str):
        counts, images = class_counts(labels, classes), len(labels)
        # A class without images has no loss that a weight could change.
        present = np.maximum(counts, 1)
        many = np.asarray(labels).ndim == 2
        weights = (images - counts) / present if many else images / (classes * present)
        return np.where(counts > 0, weights, 1.0).astype(np.float32)
    if isinstance(value, Mapping):
        if unknown := sorted(set(value) - set(class_names)):
            raise ValueError(
                f"`class_weights` must be by names of classes. Received: {', '.join(unknown)}"
            )
        value = [value.get(name, 1.0) for name in class_names]
    if len(value) != classes:
        raise ValueError(
            f"`class_weights` must be {classes} numbers, one per class. "
            f"Received: {len(value)} numbers"
        )
    return np.array(value, np.float32)


def sampling_shares(sampling: str, labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns the share of every training image in an epoch, `(n,)`, for `train_batches`.

    Args:
        sampling: "balanced", where all classes that have images come equally often; or "sqrt",
            where a class comes in proportion to the square root of its size.
        labels: Labels of the training images, integers `(n,)`.
        classes: Number of classes.

    Raises:
        ValueError: Another `sampling`, or labels that are multi-hot, whose images are of several
            classes at once.
    """
    checks.one_of("sampling", sampling, SAMPLINGS)
    if np.asarray(labels).ndim == 2:
        raise ValueError(
            "`sampling` must be left out where images have several labels; use `class_weights`. "
            f"Received: sampling={sampling!r}"
        )
    counts = np.maximum(class_counts(labels, classes), 1)
    shares = 1.0 / counts if sampling == BALANCED else 1.0 / np.sqrt(counts)
    return shares[labels]


def training_shares(sampling: str | None, dataset: ImageDataset) -> np.ndarray | None:
    """Returns the `sampling_shares` of a data set's training images; None for each image once."""
    if sampling is None:
        return None
    return sampling_shares(sampling, dataset.labels("train"), len(dataset.class_names))
