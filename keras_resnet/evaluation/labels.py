"""Finds likely wrong labels by confident learning. Needs TensorFlow and scikit-learn.

Source: C. Northcutt, L. Jiang, I. Chuang, "Confident learning: estimating uncertainty in dataset
labels" (arXiv 1911.00068). A classifier that has not seen an image gives it another class than its
label, with at least the mean confidence in that class of the images so labeled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from keras_resnet.evaluation.embeddings import Embeddings, embed, embed_pixels
from keras_resnet.export import ExportedModel
from keras_resnet.preprocessing import Size
from keras_resnet.utils import checks
from keras_resnet.utils.tables import write_table


@dataclasses.dataclass(frozen=True)
class LabelCandidate:
    """An image whose label is likely wrong.

    Attributes:
        path: The file.
        given: Its class by its folder.
        likely: The class that it more likely is of.
        confidence: Probability of the likely class.
        given_confidence: Probability of the given class.
    """

    path: Path
    given: str
    likely: str
    confidence: float
    given_confidence: float


def find_wrong_labels(
    folder: str | Path,
    model: keras.Model | ExportedModel | str | Path | None = None,
    *,
    image_size: Size | str | None = None,
    channels: int = 3,
    folds: int = 5,
    seed: int = 0,
) -> list[LabelCandidate]:
    """Returns the images of a folder whose labels are likely wrong, the likeliest first.

    A logistic regression on the features of a frozen network is fitted to all folds of the images
    but one, and tells the classes of that one. Images that are in no class folder are passed over.

    Args:
        folder: Folder of class folders, or of splits of them, which are taken together.
        model: As for `embed`: a network trained on other images. None for the pixels of images of
            16 x 16, in gray or of all channels of `.npy` files, for small ones that are alike, such
            as digits.
        image_size: As for `embed`.
        channels: Where `model` is None, channels of the images: `.npy` files unless 1, 3 or 4.
        folds: Number of folds; each class must have so many images.
        seed: Seed of the folds.

    Raises:
        ValueError: If an argument is wrong, or there are fewer than two classes or too few images
            of one.
        ImportError: If scikit-learn is not installed.
    """
    checks.import_extra("sklearn", "Likely wrong labels", "train")
    checks.integer("folds", folds, 2)
    if model is None:
        table = embed_pixels(folder, channels=channels)
    else:
        table = embed(model, folder, image_size=image_size)
    return wrong_labels_of(table, folds=folds, seed=seed)


def wrong_labels_of(table: Embeddings, folds: int = 5, seed: int = 0) -> list[LabelCandidate]:
    """Returns the candidates of `find_wrong_labels` by a table of features."""
    kept = np.array([bool(name) for name in table.classes])
    names, labels, counts = np.unique(
        np.array(table.classes)[kept], return_inverse=True, return_counts=True
    )
    if len(names) < 2 or counts.min() < folds:
        rarest = dict(zip(names.tolist(), counts.tolist(), strict=True))
        raise ValueError(
            f"`folder` must have two classes or more, each with {folds} images or more. "
            f"Received: {rarest}"
        )
    probabilities = out_of_fold(table.vectors[kept], labels, folds, seed)
    paths = [path for path, one in zip(table.paths, kept, strict=True) if one]
    return [
        LabelCandidate(
            paths[i],
            str(names[labels[i]]),
            str(names[likely]),
            float(probabilities[i, likely]),
            float(probabilities[i, labels[i]]),
        )
        for i, likely in confident_errors(labels, probabilities)
    ]


def out_of_fold(features: np.ndarray, labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Returns the probabilities `(images, classes)` by classifiers that have not seen the image."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # Regularized, since without it wrong labels are learned by heart.
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return cross_val_predict(classifier, features, labels, cv=parts, method="predict_proba")


def confident_errors(labels: np.ndarray, probabilities: np.ndarray) -> list[tuple[int, int]]:
    """Returns the position and likely class of images off the diagonal of the confident joint.

    Args:
        labels: The given classes, integers `(images,)`; each class occurs.
        probabilities: Of the classes, `(images, classes)`, by classifiers that have not seen the
            image.

    Returns:
        Those with the smallest probability of the given class first.
    """
    count = probabilities.shape[1]
    thresholds = np.array([probabilities[labels == j, j].mean() for j in range(count)])
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    likely = confident.argmax(axis=1)
    wrong = np.flatnonzero((confident.max(axis=1) >= 0) & (likely != labels))
    ranked = wrong[np.argsort(probabilities[wrong, labels[wrong]], kind="stable")]
    return [(int(i), int(likely[i])) for i in ranked]


def write_candidates(path: str | Path, candidates: Sequence[LabelCandidate]) -> None:
    """Writes candidates atomically as a table: path, given, likely, confidence, given_confidence.

    The path ends in .csv, .json or .parquet.
    """
    names = [field.name for field in dataclasses.fields(LabelCandidate)]
    rows = [dataclasses.asdict(one) | {"path": str(one.path)} for one in candidates]
    write_table(path, rows, names)
