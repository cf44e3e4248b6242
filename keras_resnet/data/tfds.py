"""CIFAR, ImageNet and other data sets of TensorFlow Datasets. Needs TensorFlow (Datasets).

Every loader raises a ValueError if the data are not prepared or an option is out of range, and an
ImportError if TensorFlow Datasets is missing. Its `data_dir` is where TensorFlow Datasets keeps its
data, None for its own default; `max_bad_files` and `transforms` are as for `load_folder`.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet.data.augmentation import PadCropFlip
from keras_resnet.data.dataset import SPLITS, ArrayDataset
from keras_resnet.data.encoded import EncodedDataset
from keras_resnet.data.transforms import Transforms
from keras_resnet.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from keras_resnet.utils import checks

# A TFRecord is its length (8 bytes), a checksum of that (4), the data, and a checksum of them (4).
_HEADER, _LENGTH, _FOOTER = 12, 8, 4


def load_cifar(
    name: str, data_dir: str | os.PathLike[str] | None = None, *, flip: bool = True
) -> ArrayDataset:
    """Returns CIFAR-10 or CIFAR-100 as in section 4.2 of the paper.

    The paper has 45,000 training and 5000 validation images, but does not say which the latter
    are: here they are the last tenth of TFDS's stored order, in which the classes are mixed.

    The images are uint8 RGB of shape `(32, 32, 3)`, augmented by `PadCropFlip`, with
    mirror images if `flip`.
    """
    checks.boolean("flip", flip)
    builder = _builder(name, data_dir)
    images, labels = _read_arrays(builder, "train")
    held_out = len(images) // 10
    splits = {
        "train": (images[:-held_out], labels[:-held_out]),
        "validation": (images[-held_out:], labels[-held_out:]),
        "test": _read_arrays(builder, "test"),
    }
    dataset = ArrayDataset(name, splits, builder.info.features["label"].names)
    dataset.augmentation = PadCropFlip(fill=dataset.mean, flip=flip)
    return dataset


def load_imagenet2012(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    max_bad_files: int | None = 100,
    **transforms: Any,
) -> EncodedDataset:
    """Returns ImageNet (ILSVRC 2012), its classes named by their WordNet ids.

    Its splits are "train" and "validation", the 50,000 images that results are reported on. The
    labels of the test images are not public.
    """
    options = Transforms(**transforms)
    builder = _builder("imagenet2012", data_dir)
    statistics = (IMAGENET_MEAN, IMAGENET_STD) if options.channels == 3 else None
    sources = {split: RecordSource(builder, split) for split in ("train", "validation")}
    names = builder.info.features["label"].names
    return EncodedDataset(builder.name, sources, names, options, statistics, max_bad_files)


def load_tfds(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    max_bad_files: int | None = 100,
    **transforms: Any,
) -> EncodedDataset:
    """Returns any data set with features "image" and "label", such as "oxford_flowers102".

    Of its splits, "train", "validation" and "test" are used, each as it is. Mean and standard
    deviation are estimated from 1024 training images.
    """
    options = Transforms(**transforms)
    builder = _builder(name, data_dir)
    features, splits = builder.info.features, builder.info.splits
    if not splits and not builder.is_prepared():
        raise _not_prepared(builder)
    if not {"image", "label"} <= set(features) or "train" not in splits:
        raise ValueError(
            "`dataset` must have a split 'train' and the features 'image' and 'label'. "
            f"Received: dataset='tfds:{name}' with splits {sorted(splits)} and features "
            f"{sorted(features)}"
        )
    sources = {split: RecordSource(builder, split) for split in SPLITS if split in splits}
    names = features["label"].names
    return EncodedDataset(name, sources, names, options, max_bad_files=max_bad_files)


def _builder(name: str, data_dir: str | os.PathLike[str] | None) -> Any:
    """Returns the TFDS builder of a data set by its name in TFDS."""
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


def _not_prepared(builder: Any) -> ValueError:
    """Returns the error for missing data, with the command that prepares them."""
    root = builder.data_dir_root
    return ValueError(
        f"`data_dir` must hold {builder.name} as TensorFlow Datasets prepares it; "
        f"`tfds build {builder.name} --data_dir {root}` does (it needs the package "
        f"importlib_resources). Received: data_dir={str(root)!r}"
    )


def _read_arrays(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns all images and labels of a split of images of one size, in stored order."""
    try:
        pipeline = builder.as_dataset(split=split, shuffle_files=False)
    except AssertionError as error:
        raise _not_prepared(builder) from error
    batches = list(pipeline.batch(1000).as_numpy_iterator())
    images, labels = (np.concatenate([b[key] for b in batches]) for key in ("image", "label"))
    return images, labels


class RecordSource:
    """The encoded images of a split by position, from either kind of file that TFDS writes.

    ArrayRecord files have random access; TFRecord files, TFDS's default, are indexed once. Raises a
    ValueError if the data are not prepared, or records are missing.
    """

    reads_labels = True

    def __init__(self, builder: Any, split: str):
        import tensorflow_datasets as tfds

        self._name = f"{builder.name}/{split}"
        self._version = builder.version
        try:
            self._records = builder.as_data_source(
                split=split, decoders={"image": tfds.decode.SkipDecoding()}
            )
        except (AssertionError, NotImplementedError) as error:
            if not builder.is_prepared():
                raise _not_prepared(builder) from error
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

    @functools.cached_property
    def _labels(self) -> np.ndarray:
        return np.array([self._records[i]["label"] for i in range(len(self))], np.int32)

    def labels(self) -> np.ndarray:
        return self._labels

    def parts(self) -> Iterator[bytes]:
        yield f"{self._name} {self._version} {len(self)}".encode()

    def locate(self, index: int) -> str:
        return f"record {index} of {self._name}"

    def _record(self, index: np.int64) -> tuple[bytes, np.int32]:
        record = self._records[int(index)]
        return record["image"], np.int32(record["label"])


class TFRecords:
    """The "image" bytes and "label" of the examples of TFRecord files by position."""

    def __init__(self, paths: Sequence[str]):
        self._paths = paths
        spans = [_record_spans(path) for path in paths]
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
        image, label = features["image"].bytes_list, features["label"].int64_list
        return {"image": image.value[0], "label": label.value[0]}


def _record_spans(path: str) -> np.ndarray:
    """Returns offset and length of the data of each record of a file, int64 of shape `(n, 2)`."""
    spans = []
    position, size = 0, os.path.getsize(path)
    # Unbuffered, since only the 8 bytes of each record's length are wanted.
    with open(path, "rb", buffering=0) as file:
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
