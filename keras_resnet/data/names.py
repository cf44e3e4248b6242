"""Names of data sets. Light to import: no TensorFlow."""

from __future__ import annotations

# Names for `load_dataset`, which also knows tfds:NAME.
DATASETS = ("digits", "cifar10", "cifar100", "imagenet2012", "folder", "csv", "idx")


def check_name(name: str) -> str:
    """Returns the name if it is that of a data set; raises a ValueError if not."""
    prefix, _, in_tfds = name.partition(":")
    if name not in DATASETS and (prefix != "tfds" or not in_tfds):
        raise ValueError(
            f"`dataset` must be one of {', '.join(DATASETS)}, or tfds:NAME. "
            f"Received: dataset={name!r}"
        )
    return name
