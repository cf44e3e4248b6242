"""Rows and thumbnails of a page about a folder of images. Needs TensorFlow."""

from __future__ import annotations

import base64
import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_resnet.data.check import FAULTS, NOTES, DataReport, Duplicate
from keras_resnet.data.decoding import ARRAYS, decode_whole, decoding_fault, resize_shorter_side
from keras_resnet.data.npy import gray_of_npy
from keras_resnet.evaluation.labels import LabelCandidate

# Shorter side of a thumbnail in pixels.
THUMBNAIL = 96
# Shorter sides, in pixels, between the bars of the histogram.
EDGES = (32, 64, 128, 224, 320, 480, 720, 1080, 2160)


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """A small picture.

    Attributes:
        path: The file, relative to the folder.
        uri: The picture as a data URI; "" where the file cannot be read.
    """

    path: str
    uri: str


@dataclasses.dataclass(frozen=True)
class DuplicateRow:
    """A pair of files with the same picture, and which fault this is."""

    fault: str
    detail: str
    original: Thumbnail
    copy: Thumbnail


@dataclasses.dataclass(frozen=True)
class LabelRow:
    """An image whose label is likely wrong."""

    image: Thumbnail
    given: str
    likely: str
    confidence: float


@dataclasses.dataclass(frozen=True)
class DataOverview:
    """Content of a page about a folder of images.

    Attributes:
        faults: Rows of severity, kind, files, and what training does: faults and notes.
        classes: Rows of a class: its name, readable images in each split, and of all how many are
            landscape, portrait and square.
        sizes: Rows of shorter sides in pixels and number of images.
        duplicates: The pairs that are shown: leaks first, then pictures in two classes.
        labels: The likely wrong labels that are shown, the likeliest first.
        more_duplicates: Number of pairs that are not shown.
        more_labels: Number of likely wrong labels that are not shown.
    """

    faults: tuple[dict[str, str | int], ...]
    classes: tuple[dict[str, str | int], ...]
    sizes: tuple[dict[str, str | int], ...]
    duplicates: tuple[DuplicateRow, ...]
    labels: tuple[LabelRow, ...]
    more_duplicates: int = 0
    more_labels: int = 0


def overview_of(
    report: DataReport, candidates: Sequence[LabelCandidate] = (), most: int = 24
) -> DataOverview:
    """Returns what a page shows of a report, with at most `most` pairs and labels each."""
    root = Path(report.folder)
    order = list(FAULTS)
    pairs = sorted(report.duplicates, key=lambda pair: (order.index(pair.fault), pair.path))
    return DataOverview(
        _faults(report),
        _classes(report),
        size_rows([min(one.height, one.width) for one in report.images]),
        tuple(_duplicate(root, pair) for pair in pairs[:most]),
        tuple(_label(root, one) for one in candidates[:most]),
        max(0, len(pairs) - most),
        max(0, len(candidates) - most),
    )


def data_uri(kind: str, data: bytes) -> str:
    """Returns an image file of a kind, such as "jpeg" or "svg+xml", as the URI of an `<img>`."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _faults(report: DataReport) -> tuple[dict[str, str | int], ...]:
    severity = {one.fault: one.severity for one in (*report.findings, *report.notes)}
    counts = {**report.counts, **report.note_counts}
    handling = {**FAULTS, **NOTES}
    return tuple(
        {"severity": severity[kind], "kind": kind, "files": n, "in training": handling[kind]}
        for kind, n in counts.items()
    )


def _classes(report: DataReport) -> tuple[dict[str, str | int], ...]:
    splits = collections.Counter((one.label, one.split) for one in report.images)
    shapes = collections.Counter(
        (one.label, int(np.sign(one.width - one.height))) for one in report.images
    )
    return tuple(
        {
            "class": name,
            **{split: splits[name, split] for split in report.num_images},
            "landscape": shapes[name, 1],
            "portrait": shapes[name, -1],
            "square": shapes[name, 0],
        }
        for name in sorted({one.label for one in report.images})
    )


def size_rows(shorter: Sequence[int]) -> tuple[dict[str, str | int], ...]:
    """Returns rows of shorter sides in pixels and number of images."""
    counts = np.bincount(np.digitize(shorter, EDGES), minlength=len(EDGES) + 1)
    names = [f"below {EDGES[0]}"]
    names += [f"{low} to {high - 1}" for low, high in zip(EDGES, EDGES[1:], strict=False)]
    names += [f"{EDGES[-1]} and more"]
    return tuple(
        {"shorter side": name, "images": int(count)}
        for name, count in zip(names, counts, strict=True)
    )


def _duplicate(root: Path, pair: Duplicate) -> DuplicateRow:
    original, copy = (_thumbnail(root, path) for path in (pair.original, pair.path))
    return DuplicateRow(pair.fault, pair.finding.detail, original, copy)


def _label(root: Path, one: LabelCandidate) -> LabelRow:
    path = one.path.relative_to(root) if one.path.is_relative_to(root) else one.path
    return LabelRow(_thumbnail(root, str(path)), one.given, one.likely, one.confidence)


def _thumbnail(root: Path, path: str) -> Thumbnail:
    try:
        data = (root / path).read_bytes()
    except OSError:
        return Thumbnail(path, "")
    if Path(path).suffix.lower() in ARRAYS:  # A pair or label is of readable files.
        small = resize_shorter_side(tf.cast(gray_of_npy(data), tf.uint8), THUMBNAIL)
        return Thumbnail(path, data_uri("jpeg", tf.io.encode_jpeg(small, quality=85).numpy()))
    if decoding_fault(data):
        return Thumbnail(path, "")
    return Thumbnail(path, data_uri("jpeg", _small_jpeg(data).numpy()))


@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def _small_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    return tf.io.encode_jpeg(decode_whole(encoded, 3, shorter_side=THUMBNAIL), quality=85)
