"""Images in files of their own, and their split by a hash of the names. Needs TensorFlow.

A file's split is a function of its own name, so that it stays where it is when others come.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from keras_resnet.utils import checks

logger = logging.getLogger(__name__)

# Share of the images for validation, and for the test, where data come unsplit.
_SHARE = 0.1


class FileSource:
    """The images of one split.

    Args:
        folder: Folder that the names are relative to.
        names: Names of the files, with `/`.
        labels: Their labels, int32 `(n,)` or float32 `(n, classes)`.
    """

    def __init__(self, folder: str | os.PathLike[str], names: Sequence[str], labels: np.ndarray):
        self.folder, self.names = os.fspath(folder), list(names)
        self._labels = labels

    def __len__(self) -> int:
        return len(self.names)

    @functools.cached_property
    def _tensors(self) -> tuple[tf.Tensor, tf.Tensor]:
        # Created outside of the graph that asks for them, since all graphs share them.
        with tf.init_scope(), tf.device("/cpu:0"):
            # Names need not be UTF-8.
            paths = tf.constant([os.fsencode(self.locate(i)) for i in range(len(self))])
            return paths, tf.constant(self._labels)

    def read(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        paths, labels = self._tensors
        return tf.io.read_file(paths[index]), labels[index]

    def labels(self) -> np.ndarray:
        return self._labels

    def parts(self) -> Iterator[bytes]:
        # Without the folder itself, which may have moved.
        yield os.fsencode("\0".join(self.names))
        yield self._labels.tobytes()

    def locate(self, index: int) -> str:
        return os.path.join(self.folder, self.names[index])

    def select(self, rows: np.ndarray) -> FileSource:
        """Returns the images at some positions."""
        names = [self.names[row] for row in rows.tolist()]
        return FileSource(self.folder, names, self._labels[rows])


def missing_shares(
    present: Collection[str], val_split: float | None = None, test_split: float | None = None
) -> dict[str, float]:
    """Returns the share of the training images that each missing split is to get.

    Args:
        present: Splits that the data have.
        val_split: Share for validation; None for 0.1 where the data have training images only, and
            for none where they have a test split.
        test_split: Share for the test, likewise.

    Raises:
        ValueError: If a share is given for a split that is there, or it is out of range.
    """
    shares = {}
    for split, name, share in (
        ("validation", "val_split", val_split),
        ("test", "test_split", test_split),
    ):
        if split in present:
            if share:
                raise ValueError(
                    f"`{name}` must be 0 or left out for data with their own {split} images. "
                    f"Received: {name}={share!r}"
                )
            continue
        if share is None:
            share = _SHARE if set(present) == {"train"} else 0.0
        shares[split] = checks.fraction(name, share)
    if sum(shares.values()) >= 1:
        raise ValueError(
            "`val_split` and `test_split` must leave training images. "
            f"Received: val_split={shares['validation']}, test_split={shares['test']}"
        )
    return {split: share for split, share in shares.items() if share}


def split_by_hash(
    names: Sequence[str], groups: np.ndarray | None, shares: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """Returns sorted positions of the images of "train" and of each split that has a share.

    The SHA-256 of its name places an image in [0, 1), where the test has the first part of its
    share's length, validation the next, training the rest. In a group of three or more that leaves
    a split empty, the bounds move to the nearest image; only such images may change their split
    when others come. Groups of less than three are training images.

    Args:
        names: Different names.
        groups: The class of each, integers `(n,)`, or None for one group.
        shares: Share of "validation" and "test", those that are to be drawn.
    """
    if groups is None:
        groups = np.zeros(len(names), np.int32)
    place = np.array([_place(name) for name in names])
    order = np.lexsort((place, groups))
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    parts: dict[str, list[np.ndarray]] = {split: [] for split in ("train", *shares)}
    for rows in np.split(order, starts[1:]):
        first, bound = 0, 0.0
        # In this order, so that more validation images do not change those of the test.
        drawn = [split for split in ("test", "validation") if split in shares]
        for number, split in enumerate(drawn if len(rows) >= 3 else ()):
            bound += shares[split]
            end = int(np.searchsorted(place[rows], bound))
            end = min(max(end, first + 1), len(rows) - (len(drawn) - number))
            parts[split].append(rows[first:end])
            first = end
        parts["train"].append(rows[first:])
    empty = np.zeros(0, np.int64)
    return {split: np.sort(np.concatenate([empty, *rows])) for split, rows in parts.items()}


def divided(
    source: FileSource, shares: Mapping[str, float], groups: np.ndarray | None
) -> dict[str, FileSource]:
    """Returns "train" and the splits drawn from it that are not empty, and logs their sizes."""
    rows = split_by_hash(source.names, groups, shares)
    sizes = ", ".join(f"{len(rows[split])} {split}" for split in ("train", *shares))
    logger.info("Split of the files by a hash of their names: %s", sizes)
    return {split: source.select(which) for split, which in rows.items() if len(which)}


def _place(name: str) -> float:
    digest = hashlib.sha256(os.fsencode(name)).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
