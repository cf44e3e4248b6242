"""Data sets by name. Packages that a single one is read with are imported when it is loaded."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path

from keras_resnet.data.dataset import ImageDataset
from keras_resnet.data.digits import load_digits
from keras_resnet.data.folder import load_folder
from keras_resnet.data.idx import load_idx
from keras_resnet.data.names import check_name
from keras_resnet.data.table import load_csv
from keras_resnet.data.tfds import load_cifar, load_imagenet2012, load_tfds
from keras_resnet.data.transforms import Transforms
from keras_resnet.utils.remote import is_remote, local_copy

_LOADERS: dict[str, Callable[..., ImageDataset]] = {
    "digits": load_digits,
    "cifar10": functools.partial(load_cifar, "cifar10"),
    "cifar100": functools.partial(load_cifar, "cifar100"),
    "imagenet2012": load_imagenet2012,
    "folder": load_folder,
    "csv": load_csv,
    "idx": load_idx,
}


def load_dataset(
    name: str, data_dir: str | os.PathLike[str] | None = None, **options: object
) -> ImageDataset:
    """Loads a data set by name.

    Args:
        name: "digits" (scikit-learn's handwritten digits, embedded); "cifar10", "cifar100" or
            "imagenet2012" (prepared by TensorFlow Datasets); "tfds:NAME" (any other data set with
            an image and a label that TensorFlow Datasets has prepared); "folder" (class folders
            of images, in `train/`, `val/` and `test/` or to be split); "csv" (images that a file
            with the columns path, label and perhaps split lists); "idx" (files of MNIST,
            Fashion-MNIST and the like).
        data_dir: The folder of "folder" and "idx", the file of "csv", or where TensorFlow Datasets
            keeps its data, or None. Those of "folder", "csv" and "idx" may be at an address such as
            gs://bucket/photos, as `utils.remote` says: they have a local copy, which is brought up
            to date first.
        **options: Passed to the loader: `max_bad_files` and the attributes of `Transforms` for
            "imagenet2012", "tfds:NAME", "folder" and "csv"; for "folder" and "csv" also
            `val_split` and `test_split`, for "folder" `cache_dir`; `image_size`, `classes` and
            `per_class` for "digits"; `crop` and `flip` for "idx".

    Returns:
        The data set.

    Raises:
        ValueError: If the name is unknown, the data set does not take an option or it is out of
            range, or the data are missing or invalid.
        ImportError: If the package that reads the data is missing.
    """
    load, known = _loader(name), option_names(name)
    if data_dir is not None:
        options["data_dir"] = os.fspath(data_dir)
        if is_remote(data_dir) and load in (load_folder, load_csv, load_idx):
            options["data_dir"] = os.fspath(_local_data(str(data_dir)))
    for option, value in options.items():
        if option not in known:
            takes = ", ".join(known) or "no options"
            raise ValueError(
                f"`{option}` is no option of the data set {name!r}, which takes {takes}. "
                f"Received: {option}={value!r}"
            )
    return load(**options)


def _local_data(address: str) -> Path:
    """Returns the local copy of the folder at an address; of a CSV file, that of its folder."""
    folder, _, name = address.rpartition("/")
    if name.lower().endswith(".csv") and is_remote(folder):  # It lists images in its folder.
        return local_copy("data_dir", folder) / name
    return local_copy("data_dir", address)


def option_names(name: str) -> list[str]:
    """Returns the options of `load_dataset` that a data set takes, `data_dir` among them.

    Raises:
        ValueError: If the name is unknown.
    """
    # `**transforms` stands for the attributes of `Transforms`.
    names = list(inspect.signature(_loader(name)).parameters)
    if "transforms" in names:
        names.remove("transforms")
        names += [field.name for field in dataclasses.fields(Transforms)]
    return names


def _loader(name: str) -> Callable[..., ImageDataset]:
    check_name(name)
    if name in _LOADERS:
        return _LOADERS[name]
    return functools.partial(load_tfds, name.partition(":")[2])
