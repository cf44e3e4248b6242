"""Checks of every export: where it goes, under which labels, and what it gives once written."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.surgery.graphs import output_function
from keras_resnet.utils.archives import leads_outside
from keras_resnet.utils.files import clear_leftovers, without_patterns

SAVED_MODEL = "saved_model.pb"
# The checksum of each file of a SavedModel, as `sha256sum --check` reads them, where TensorFlow and
# TensorFlow Serving expect files that they do not know.
CHECKSUMS = "assets.extra/SHA256SUMS"

# Largest difference of float32 outputs from the model's, as a fraction of the largest. Folded
# normalization and other kernels move the last digits.
TOLERANCE = 1e-4
# Seconds after which an unfinished export belongs to a process that was killed.
LONGEST_WRITING = 24 * 3600

# Gray levels that images are bright on average, and that they deviate from it at most.
_EXPOSURE = ((64, 192), (16, 128))


def require_tensorflow() -> None:
    """Raises a RuntimeError unless Keras runs on TensorFlow."""
    if (backend := keras.backend.backend()) != "tensorflow":
        raise RuntimeError(
            "`KERAS_BACKEND` must be tensorflow to export models and to run Hub modules. "
            f"Received: KERAS_BACKEND={backend!r}"
        )


def check_path(path: Path, overwrite: bool, suffix: str = "") -> None:
    """Raises a ValueError unless `path` is free, or holds a file or SavedModel to overwrite.

    What a killed export to `path` has left behind is deleted after a day.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:  # TensorFlow and the readers of the formats would raise it.
        raise ValueError(
            f"`path` must be of characters in UTF-8. Received: path={str(path)!r}"
        ) from error
    if suffix and path.suffix != suffix:
        raise ValueError(f"`path` must end in {suffix!r}. Received: path={str(path)!r}")
    clear_leftovers(path.parent, path.name, LONGEST_WRITING)
    if not os.path.lexists(path):
        return
    what = f"{suffix} file" if suffix else "SavedModel"
    if not overwrite:
        raise ValueError(
            f"`path` must not exist yet, or pass overwrite=True to replace the {what} there. "
            f"Received: path={str(path)!r}"
        )
    if path.is_symlink() or not (path.is_file() if suffix else (path / SAVED_MODEL).is_file()):
        what = f"a {what}" if suffix else "a SavedModel's directory"
        raise ValueError(
            f"`path` must be new or {what}; overwrite=True replaces nothing else. "
            f"Received: path={str(path)!r}"
        )


def load_saved_model(path: str | Path) -> Any:
    """Returns what `tf.saved_model.load` does, from a directory whose path has brackets, too.

    Raises a ValueError if a file does not have its checksum; SavedModels of others have none.
    """
    _verify_checksums(Path(path))
    with without_patterns(path) as plain:
        return tf.saved_model.load(str(plain))


def write_checksums(directory: Path) -> None:
    """Writes the checksums of a SavedModel's files into it."""
    # Last that of the file that none is without, so that the end of the list cannot be lost.
    sums = sorted(sha256_of_files(directory).items(), key=lambda item: item[0] == SAVED_MODEL)
    (directory / CHECKSUMS).parent.mkdir(exist_ok=True)
    (directory / CHECKSUMS).write_text("".join(f"{digest}  {file}\n" for file, digest in sums))


def sha256_of_files(directory: Path) -> dict[str, str]:
    """Returns the checksum of every file of a directory, by its path inside."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    return {path.relative_to(directory).as_posix(): sha256_of_file(path) for path in files}


def _verify_checksums(directory: Path) -> None:
    if not (directory / CHECKSUMS).is_file():
        return
    text = (directory / CHECKSUMS).read_text("ascii", "replace")
    sums = re.findall("^([0-9a-f]{64})  (.+)\n", text, re.MULTILINE)
    if "".join(f"{digest}  {file}\n" for digest, file in sums) != text or not text.endswith(
        f"  {SAVED_MODEL}\n"
    ):
        raise ValueError(f"its {CHECKSUMS} is damaged")
    for digest, file in sums:
        if leads_outside(file) or not (directory / file).is_file():
            raise ValueError(f"it lacks the {ascii(file)} of its {CHECKSUMS}")
        if sha256_of_file(directory / file) != digest:
            raise ValueError(f"its {file} does not have the SHA-256 in {CHECKSUMS}")


def sha256_of_file(path: Path) -> str:
    """Returns the checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def labels_text(labels: Sequence[str], classes: int | None) -> str:
    """Returns the text of a labels file; `classes` is None for a model without a classifier."""
    labels = [labels] if isinstance(labels, str) else list(labels)
    lines = [name for name in labels if isinstance(name, str) and name.splitlines() == [name]]
    if classes is None or len(labels) != classes or len(lines) != classes:
        wanted = "none, as `model` has no classifier" if classes is None else f"{classes} lines"
        raise ValueError(
            f"`labels` must be one line of text per class ({wanted}). "
            f"Received: {len(labels)} labels, {len(lines)} of them lines of text"
        )
    return "".join(f"{name}\n" for name in labels)


def smooth_images(count: int, shape: Sequence[int | None], seed: int = 0) -> np.ndarray:
    """Returns images in [0, 255] as smooth as photographs, of any brightness and contrast.

    They have 64 pixels along sides of any length.
    """
    # Enough for a pixel on the last map of the deepest networks.
    height, width, channels = (64 if side is None else side for side in shape)
    random = np.random.default_rng(seed)
    coarse = random.uniform(-1, 1, (count, 5, 5, channels))
    with tf.device("CPU:0"):
        surfaces = tf.image.resize(coarse, (height, width), "bicubic").numpy()
    texture = random.uniform(-0.1, 0.1, surfaces.shape)
    brightness, contrast = (random.uniform(*ends, (count, 1, 1, 1)) for ends in _EXPOSURE)
    return np.clip(brightness + contrast * (surfaces + texture), 0, 255).astype("float32")


def telling_images(model: keras.Model, images: np.ndarray, count: int = 4) -> np.ndarray:
    """Returns the rows of the images on which outputs tell the most of what computes them.

    They are those on which probabilities are the least certain: one of 1 stays what it is, whatever
    happens in front of it. Of models without probabilities they are the first ones.
    """
    if output_function(model) not in (keras.activations.softmax, keras.activations.sigmoid):
        return np.arange(count)
    with tf.device("CPU:0"):
        outputs = tf.nest.flatten(model(images, training=False))
    scores = np.concatenate([np.reshape(rows, (len(images), -1)) for rows in outputs], axis=1)
    certainty = np.sum(scores * (scores - 1), axis=1)
    return np.argsort(certainty, kind="stable")[:count]


def random_images(model: keras.Model, shape: Sequence[int | None]) -> np.ndarray:
    """Returns four smooth images in [0, 255] to compare a model on, the most telling of sixteen."""
    images = smooth_images(16, shape)
    return images[telling_images(model, images)]


def largest_difference(received: np.ndarray, expected: np.ndarray, least: float) -> float:
    """Returns the largest difference as a fraction of the largest output, or of `least`."""
    return float(np.max(np.abs(received - expected)) / max(least, np.max(np.abs(expected))))
