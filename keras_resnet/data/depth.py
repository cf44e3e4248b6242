"""Channels and bits of the images of a data set, looked up in some of its files. TensorFlow."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping

from keras_resnet.data.files import FileSource
from keras_resnet.data.image_files import is_16_bit
from keras_resnet.data.npy import IMAGE_CHANNELS, npy_shape
from keras_resnet.data.order import spread
from keras_resnet.data.transforms import Transforms

logger = logging.getLogger(__name__)

# Files that are looked at, spread over all.
_SAMPLE = 64
# Bytes of a PNG up to the bits of a channel.
_PNG_HEAD = 32


def kept_bits(transforms: Transforms, source: FileSource) -> Transforms:
    """Returns the transforms with 16 bits where most images of a sample are PNGs of so many."""
    if not transforms.of_files:
        return transforms
    count = 0
    sample = spread(len(source), _SAMPLE)
    for index in sample.tolist():
        path = source.locate(index)
        if path.lower().endswith(".png"):
            count += is_16_bit(_beginning(path))
    if 2 * count <= len(sample):
        return transforms
    logger.info("Images are PNGs of 16 bits per channel, all of which are kept (bits=8 does not).")
    return dataclasses.replace(transforms, bits=16)


def checked_channels(sources: Mapping[str, FileSource], channels: int) -> None:
    """Raises a ValueError if the first array of a split has other channels than those asked for.

    One that cannot be read is met, and counted, in training.
    """
    if channels in IMAGE_CHANNELS:
        return
    for source in sources.values():
        path = source.locate(0)
        shape = npy_shape(path)
        if shape and (len(shape) != 3 or shape[2] != channels):
            raise ValueError(
                "`channels` must be those of the arrays (height, width, channels) in .npy files. "
                f"Received: channels={channels}, and {path!r} of shape {shape}"
            )


def _beginning(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_PNG_HEAD)
    except OSError:
        return b""
