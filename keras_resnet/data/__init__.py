"""Data sets by name, as `tf.data` pipelines whose every batch is a function of the step.

Needs TensorFlow; each data set imports what it is read with when it is loaded.
"""

from __future__ import annotations

import importlib
import inspect
import os

from keras_resnet.data.dataset import ArrayDataset, ImageDataset

__all__ = ["ArrayDataset", "ImageDataset", "load_dataset"]

# name: (module, function)
_LOADERS = {
    "digits": ("digits", "load_digits"),
}


def load_dataset(
    name: str, data_dir: str | os.PathLike[str] | None = None, **options: object
) -> ImageDataset:
    """Loads a data set by name.

    Args:
        name: "digits" (embedded: scikit-learn's handwritten digits).
        data_dir: Where the data lie, for data sets that are not embedded.
        **options: Passed to the loader of the data set.

    Returns:
        The data set.

    Raises:
        ValueError: if the name is unknown, an option is not one of the data set's, or the data
            are not as they should be.
        ImportError: if the package that reads the data is missing.
    """
    if name not in _LOADERS:
        raise ValueError(f"`name` must be one of {tuple(_LOADERS)}. Received: name={name!r}")
    module, function = _LOADERS[name]
    load = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    known = inspect.signature(load).parameters
    if data_dir is not None:
        options["data_dir"] = os.fspath(data_dir)
    for option, value in options.items():
        if option not in known:
            takes = ", ".join(known) or "no options"
            raise ValueError(f"The data set {name!r} takes {takes}. Received: {option}={value!r}")
    return load(**options)
