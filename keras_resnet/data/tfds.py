"""Any image classification that TensorFlow Datasets knows. Needs TensorFlow (Datasets)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from keras_resnet.data import prepared
from keras_resnet.data.encoded import EncodedDataset
from keras_resnet.data.views import Views


def load_tfds(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    max_bad_files: int | None = 100,
    **views: Any,
) -> EncodedDataset:
    """A data set with features "image" and "label", as TensorFlow Datasets has prepared it.

    Of its splits, "train", "validation" and "test" are used, each as it is.

    Args:
        name: Name in TFDS, such as "oxford_flowers102" or "beans".
        data_dir: Where TensorFlow Datasets keeps its data; None for its own default.
        max_bad_files: Distinct bad images to go on after with a warning each; None for no limit.
        **views: Attributes of `Views`, as for "imagenet2012".

    Returns:
        The data set; its mean and standard deviation are those of some training images.

    Raises:
        ValueError: if there is no such data set, it is not prepared or holds something else, or an
            option is out of range.
        ImportError: if TensorFlow Datasets is missing.
    """
    options = Views(**views)
    builder = prepared.builder(name, data_dir)
    features, splits = builder.info.features, builder.info.splits
    if not splits and not builder.is_prepared():
        raise prepared.not_prepared(builder)
    if not {"image", "label"} <= set(features) or "train" not in splits:
        raise ValueError(
            "`dataset` must have a split 'train' and the features 'image' and 'label'. "
            f"Received: dataset='tfds:{name}' with splits {sorted(splits)} and features "
            f"{sorted(features)}"
        )
    own = [split for split in ("train", "validation", "test") if split in splits]
    return encoded_dataset(name, builder, own, options, max_bad_files)


def encoded_dataset(
    name: str,
    builder: Any,
    splits: Iterable[str],
    views: Views,
    max_bad_files: int | None,
    statistics: tuple[Sequence[float], Sequence[float]] | None = None,
) -> EncodedDataset:
    """Returns some splits of what TensorFlow Datasets has prepared, still as encoded images.

    Args:
        name: What it is called here.
        builder: As `prepared.builder` gives it.
        splits: Names of the splits.
        views: How the images are cut and changed.
        max_bad_files: As in `load_tfds`.
        statistics: Mean and standard deviation per channel; None for those of some images.
    """
    return EncodedDataset(
        name,
        {split: prepared.RecordSource(builder, split) for split in splits},
        builder.info.features["label"].names,
        views,
        statistics=statistics,
        max_bad_files=max_bad_files,
    )
