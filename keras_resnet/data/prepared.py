"""Files of data sets that TensorFlow Datasets has prepared. Needs TensorFlow.

Nothing is downloaded: data that are not prepared raise an error that says how to prepare them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# A TFRecord is its length (8 bytes), a checksum of that (4), the data, and a checksum of them (4).
_HEADER, _LENGTH, _FOOTER = 12, 8, 4


def builder(name: str, data_dir: str | os.PathLike[str] | None) -> Any:
    """Returns the TFDS builder of a data set by its name in TFDS.

    Raises:
        ImportError: If TFDS is missing.
        ValueError: If TFDS knows no such data set.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"{name} is read with TensorFlow Datasets: install keras-deep-residual[datasets]."
        ) from error
    try:
        return tfds.builder(name, data_dir=data_dir and os.fspath(data_dir))
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            "`dataset` must be one that TensorFlow Datasets knows, or has prepared in `data_dir`. "
            f"Received: dataset='tfds:{name}'"
        ) from error


def not_prepared(builder: Any) -> ValueError:
    """Returns the error for missing data, with the command that prepares them."""
    root = builder.data_dir_root
    return ValueError(
        f"`data_dir` must hold {builder.name} as TensorFlow Datasets prepares it; "
        f"`tfds build {builder.name} --data_dir {root}` does (it needs the package "
        f"importlib_resources). Received: data_dir={str(root)!r}"
    )


def read_arrays(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns all images and labels of a split of images of one size, in stored order.

    Raises:
        ValueError: If the data are not prepared.
    """
    try:
        pipeline = builder.as_dataset(split=split, shuffle_files=False)
    except AssertionError as error:
        raise not_prepared(builder) from error
    batches = list(pipeline.batch(1000).as_numpy_iterator())
    images, labels = (np.concatenate([b[key] for b in batches]) for key in ("image", "label"))
    return images, labels


class RecordSource:
    """The encoded images of a split by position, from either kind of file that TFDS writes.

    ArrayRecord files have random access. TFRecord files, TFDS's default, are indexed once.

    Args:
        builder: The TFDS builder of a data set with features "image" and "label".
        split: The split in TFDS.

    Raises:
        ValueError: If the data are not prepared, or records are missing.
    """

    def __init__(self, builder: Any, split: str):
        import tensorflow_datasets as tfds

        self._name = f"{builder.name}/{split}"
        try:
            self._records = builder.as_data_source(
                split=split, decoders={"image": tfds.decode.SkipDecoding()}
            )
        except (AssertionError, NotImplementedError) as error:
            if not builder.is_prepared():
                raise not_prepared(builder) from error
            info = builder.info.splits[split]
            self._records = TFRecords([os.fspath(path) for path in info.filepaths])
            if len(self._records) != info.num_examples:
                raise ValueError(
                    f"`data_dir` must have the {info.num_examples} records of {self._name}. "
                    f"Received: {len(self._records)} in {os.fspath(info.filepaths[0])} and others"
                ) from error

    def __len__(self) -> int:
        return len(self._records)

    def read(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        encoded, label = tf.numpy_function(self._record, [index], [tf.string, tf.int32])
        return tf.ensure_shape(encoded, []), tf.ensure_shape(label, [])

    def locate(self, index: int) -> str:
        return f"record {index} of {self._name}"

    def _record(self, index: np.int64) -> tuple[bytes, np.int32]:
        record = self._records[int(index)]
        return record["image"], np.int32(record["label"])


class TFRecords:
    """The examples of TFRecord files by position: their "image" bytes and "label".

    Raises:
        ValueError: If a file ends within a record.
    """

    def __init__(self, paths: Sequence[str]):
        self._paths = list(paths)
        spans = [_record_spans(path) for path in self._paths]
        self._file_of = np.repeat(np.arange(len(spans)), [len(span) for span in spans])
        self._spans = np.concatenate(spans)

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, index: int) -> dict[str, Any]:
        offset, length = map(int, self._spans[index])
        # Opened for each record: ImageNet has as many files as a process may have open.
        with open(self._paths[self._file_of[index]], "rb", buffering=0) as file:
            data = os.pread(file.fileno(), length, offset)
        features = tf.train.Example.FromString(data).features.feature
        return {
            "image": features["image"].bytes_list.value[0],
            "label": features["label"].int64_list.value[0],
        }


def _record_spans(path: str) -> np.ndarray:
    """Returns offset and length of the data of each record of a file, int64 of shape `(n, 2)`."""
    spans = []
    size = os.path.getsize(path)
    # Unbuffered, since only the 8 bytes of each record's length are wanted.
    with open(path, "rb", buffering=0) as file:
        position = 0
        while position < size:
            header = os.pread(file.fileno(), _LENGTH, position)
            length = struct.unpack("<Q", header)[0] if len(header) == _LENGTH else size
            spans.append((position + _HEADER, length))
            position += _HEADER + length + _FOOTER
    if position != size:
        raise ValueError(
            f"`data_dir` must have whole TFRecord files. Received: {path}, which ends in a record"
        )
    return np.array(spans, np.int64).reshape(-1, 2)
