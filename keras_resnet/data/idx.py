"""The files of MNIST and its kin (Fashion-MNIST, KMNIST, EMNIST). Needs TensorFlow.

The format idx, as http://yann.lecun.com/exdb/mnist/ defined it: two bytes 0, one of the type, one
of the number of axes, the lengths of these in 4 bytes each, big-endian, and the values.
"""

from __future__ import annotations

import gzip
import math
import os
import pathlib
import re
import zlib

import numpy as np

from keras_resnet.data.augmentation import PadCropFlip
from keras_resnet.data.dataset import ArrayDataset
from keras_resnet.utils import checks

# train-images-idx3-ubyte as distributed, train-images.idx3-ubyte as some unpackers name it; EMNIST
# puts the name of the part in front, and "test" for "t10k".
_NAME = re.compile(
    r"(?:(?P<part>.+)-)?(?P<split>train|t10k|test)-(?P<kind>images[-.]idx3|labels[-.]idx1)"
    r"-ubyte(?:\.gz)?"
)
_UNSIGNED_BYTE = 8
# Deflate does not compress better.
_MOST_COMPRESSED = 1032


def load_idx(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    crop: str | None = None,
    flip: bool = False,
) -> ArrayDataset:
    """Returns the images of four idx files in a folder, uint8 of shape `(height, width, 1)`.

    The last tenth of the training images is for validation; the test images are those of `t10k`.
    Classes are the labels, named by their numbers. Nothing is augmented by default: digits and
    letters must not be mirrored, and MNIST's are centered already.

    Args:
        data_dir: Folder of `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and, if there are
            test images, the same of `t10k`; each may end in `.gz`.
        crop: "pad" for crops of training images that are padded by an eighth of their size with
            their mean; None for the images as they are.
        flip: Whether half of the padded images are mirrored.

    Raises:
        ValueError: If a file is missing or damaged, files do not belong together, or an option is
            out of range.
    """
    if data_dir is None:
        raise ValueError("`data_dir` must be the folder to read. Received: data_dir=None")
    checks.one_of("crop", crop, (None, "pad"))
    if checks.boolean("flip", flip) and crop is None:
        raise ValueError("`flip` goes with crop='pad'. Received: flip=True, crop=None")
    root = pathlib.Path(data_dir)
    arrays = {split: _read_pair(*paths) for split, paths in _find(root).items()}
    images, labels = arrays["train"]
    classes, labels = np.unique(labels, return_inverse=True)
    held_out = len(images) // 10
    cut = len(images) - held_out
    splits = {"train": (images[:cut], labels[:cut])}
    if held_out:
        splits["validation"] = images[cut:], labels[cut:]
    if "test" in arrays:
        images, labels = arrays["test"]
        if not np.isin(labels, classes).all():
            other = sorted(set(labels.tolist()) - set(classes.tolist()))
            raise ValueError(
                "`data_dir` must have test images of the classes of the training images. "
                f"Received: {str(root)!r} with test labels {other}"
            )
        splits["test"] = images, np.searchsorted(classes, labels)
    dataset = ArrayDataset(root.resolve().name, splits, [str(label) for label in classes])
    if crop == "pad":
        padding = min(dataset.image_shape[:2]) // 8
        dataset.augmentation = PadCropFlip(dataset.mean, padding=padding, flip=flip)
    return dataset


def _find(root: pathlib.Path) -> dict[str, tuple[pathlib.Path, pathlib.Path]]:
    """Returns the files of images and labels of "train", and of "test" if there are any."""
    if not root.is_dir():
        raise ValueError(f"`data_dir` must be an existing folder. Received: data_dir={str(root)!r}")
    found: dict[str, dict[str, list[pathlib.Path]]] = {}
    for path in sorted(root.iterdir()):
        if (match := _NAME.fullmatch(path.name)) and path.is_file():
            split = "train" if match["split"] == "train" else "test"
            found.setdefault(split, {}).setdefault(match["kind"][:6], []).append(path)
    files = {
        split: [path for kind in ("images", "labels") for path in kinds.get(kind, [])]
        for split, kinds in found.items()
    }
    complete = all(len(paths) == len(found[split]) == 2 for split, paths in files.items())
    if not complete or "train" not in files:
        names = [path.name for paths in files.values() for path in paths]
        raise ValueError(
            "`data_dir` must have one train-images-idx3-ubyte and one train-labels-idx1-ubyte, and "
            "may have the same of t10k, with or without .gz. "
            f"Received: data_dir={str(root)!r} with {names}"
        )
    return {split: (images, labels) for split, (images, labels) in files.items()}


def _read_pair(images: pathlib.Path, labels: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    pixels, numbers = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(numbers):
        raise ValueError(
            "`data_dir` must have a label for each image. "
            f"Received: {len(pixels)} images in {str(images)!r}, {len(numbers)} labels"
        )
    return pixels[..., np.newaxis], numbers


def read_idx(path: pathlib.Path, axes: int) -> np.ndarray:
    """Returns the unsigned bytes in an idx file, compressed if its name ends in `.gz`.

    Args:
        path: The file.
        axes: Number of axes of the array.

    Raises:
        ValueError: If the file is not of this kind, or longer or shorter than its header says.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    most = path.stat().st_size * (_MOST_COMPRESSED if path.suffix == ".gz" else 1)
    try:
        with opened(path, "rb") as file:
            header = file.read(4 + 4 * axes)
            if header[:4] != bytes((0, 0, _UNSIGNED_BYTE, axes)) or len(header) < 4 + 4 * axes:
                raise _damaged(path, f"no header of unsigned bytes with {axes} axes")
            shape = tuple(np.frombuffer(header[4:], ">u4").tolist())
            size = math.prod(shape)
            if not 0 < size <= most:
                raise _damaged(path, f"a header of shape {shape}")
            # One more than there may be, to see that it is not there.
            data = file.read(size + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(path, str(error)) from error
    if len(data) != size:
        longer = "more" if len(data) > size else f"{len(data)}"
        raise _damaged(path, f"{longer} bytes where its header of shape {shape} says {size}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _damaged(path: pathlib.Path, found: str) -> ValueError:
    return ValueError(f"`data_dir` must have whole idx files. Received: {str(path)!r} with {found}")
