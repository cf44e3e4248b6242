"""CIFAR, ImageNet and other data sets of TensorFlow Datasets. Needs TensorFlow (Datasets).

Every loader raises a ValueError if the data are not prepared or an option is out of range, and an
ImportError if TensorFlow Datasets is missing. Its `data_dir` is where TensorFlow Datasets keeps its
data, None for its own default; `max_bad_files` and `views` are as for `load_folder`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from keras_resnet.data import prepared
from keras_resnet.data.augmentation import PadCropFlip
from keras_resnet.data.dataset import SPLITS, ArrayDataset
from keras_resnet.data.encoded import EncodedDataset
from keras_resnet.data.views import Views

# Of the training images of ImageNet, as torchvision gives them for [0, 1].
_IMAGENET_MEAN = tuple(255 * mean for mean in (0.485, 0.456, 0.406))
_IMAGENET_STD = tuple(255 * std for std in (0.229, 0.224, 0.225))


def load_cifar(name: str, data_dir: str | os.PathLike[str] | None = None) -> ArrayDataset:
    """Returns CIFAR-10 or CIFAR-100 as in section 4.2 of the paper.

    The paper has 45,000 training and 5000 validation images, but does not say which the latter
    are: here they are the last tenth of TFDS's stored order, in which the classes are mixed. The
    test split is the official one.
    The images are uint8 RGB of shape `(32, 32, 3)`, augmented by 4 pixels of padding, a random
    crop and a random horizontal flip.
    """
    builder = prepared.builder(name, data_dir)
    images, labels = prepared.read_arrays(builder, "train")
    held_out = len(images) // 10
    splits = {
        "train": (images[:-held_out], labels[:-held_out]),
        "validation": (images[-held_out:], labels[-held_out:]),
        "test": prepared.read_arrays(builder, "test"),
    }
    dataset = ArrayDataset(name, splits, builder.info.features["label"].names)
    dataset.augmentation = PadCropFlip(fill=dataset.mean)
    return dataset


def load_imagenet2012(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    max_bad_files: int | None = 100,
    **views: Any,
) -> EncodedDataset:
    """Returns ImageNet (ILSVRC 2012), its classes named by their WordNet ids.

    Its splits are "train" and "validation", the 50,000 images that results are reported on. The
    labels of the test images are not public.
    """
    options = Views(**views)
    builder = prepared.builder("imagenet2012", data_dir)
    statistics = (_IMAGENET_MEAN, _IMAGENET_STD) if options.channels == 3 else None
    splits = ("train", "validation")
    return _encoded_dataset(builder.name, builder, splits, options, max_bad_files, statistics)


def load_tfds(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    max_bad_files: int | None = 100,
    **views: Any,
) -> EncodedDataset:
    """Returns any data set with features "image" and "label", such as "oxford_flowers102".

    Of its splits, "train", "validation" and "test" are used, each as it is. Mean and standard
    deviation are estimated from 1024 training images.
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
    own = [split for split in SPLITS if split in splits]
    return _encoded_dataset(name, builder, own, options, max_bad_files)


def _encoded_dataset(
    name: str,
    builder: Any,
    splits: Iterable[str],
    views: Views,
    max_bad_files: int | None,
    statistics: tuple[Sequence[float], Sequence[float]] | None = None,
) -> EncodedDataset:
    sources = {split: prepared.RecordSource(builder, split) for split in splits}
    names = builder.info.features["label"].names
    return EncodedDataset(name, sources, names, views, statistics, max_bad_files)
