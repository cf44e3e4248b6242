"""CIFAR-10 and CIFAR-100 as in section 4.2 of the paper. Needs TensorFlow (Datasets)."""

from __future__ import annotations

import functools
import os

from keras_resnet.data import prepared
from keras_resnet.data.augmentation import PadCropFlip
from keras_resnet.data.dataset import ArrayDataset


def load_cifar(name: str, data_dir: str | os.PathLike[str] | None = None) -> ArrayDataset:
    """CIFAR-10 or CIFAR-100 with the paper's 45 000 training and 5000 validation images.

    The paper does not say which images it holds out: here they are the last tenth of TFDS's
    stored order, in which the classes are mixed. The test split is the official one.

    Args:
        name: "cifar10" or "cifar100".
        data_dir: Where TensorFlow Datasets keeps its data; None for its own default.

    Returns:
        uint8 RGB images of shape `(32, 32, 3)`, augmented by 4 pixels of padding, a random crop
        and a mirror image.

    Raises:
        ValueError: if the data are not prepared.
        ImportError: if TensorFlow Datasets is missing.
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


load_cifar10 = functools.partial(load_cifar, "cifar10")
load_cifar100 = functools.partial(load_cifar, "cifar100")
