"""Traits of readable image files by their bytes, without decoding. Needs TensorFlow."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_resnet.data.image_files import image_format
from keras_resnet.data.image_files import image_size as stored_size
from keras_resnet.data.npy import MAGIC as NPY
from keras_resnet.data.orientation import orientation_of_jpeg, orientation_of_other
from keras_resnet.preprocessing import Size, sides_of

# Length of a long strip, as a multiple of its width.
STRIP = 4


class Facts(NamedTuple):
    """An image of a folder that can be read.

    Attributes:
        path: The file, relative to the folder.
        split: Its split.
        label: Its class.
        height: Height in pixels of the upright image.
        width: Width in pixels of the upright image.
    """

    path: str
    split: str
    label: str
    height: int
    width: int


def traits_of(
    data: bytes, size: tuple[int, int], image_size: Size | None = None
) -> Iterator[tuple[str, str]]:
    """Yields kind and detail of what is special about the bytes of a readable image.

    `size` is that of `shown_size`.

    The kinds are "turned" (by its EXIF orientation), "palette", "transparent" (it has an alpha
    channel or a transparent color, used or not), "animated", "strip" (longer than four times its
    shorter side), and "small" (a side is shorter than that of `image_size`).
    """
    if (orientation := _orientation(data)) != 1:
        yield "turned", f"EXIF orientation {orientation}"
    if of_format := _OF_FORMAT.get(image_format(data) or ""):
        yield from ((kind, "") for kind in of_format(data))
    shorter, longer = sorted(size)
    shown = f"{size[1]} x {size[0]}"
    if longer > STRIP * shorter:
        yield "strip", shown
    if image_size is not None and np.less(size, sides_of(image_size)).any():
        yield "small", shown


def shown_size(data: bytes) -> tuple[int, int]:
    """Returns height and width in pixels of the bytes of an image, turned upright.

    Of an array of a `.npy` file they are its own, and 0 of a file without a known header.
    """
    if data.startswith(NPY):
        return np.load(io.BytesIO(data), allow_pickle=False).shape[:2]
    height, width = stored_size(data)
    return (width, height) if _orientation(data) > 4 else (height, width)


def _orientation(data: bytes) -> int:
    return int(_read_orientation(data))


# A graph, since its many small operations take milliseconds one by one.
@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def _read_orientation(encoded: tf.Tensor) -> tf.Tensor:
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: orientation_of_jpeg(encoded),
        lambda: orientation_of_other(encoded),
    )


def _of_png(data: bytes) -> Iterator[str]:
    names = set()
    at = 8
    while at + 8 <= len(data):  # chunks, to the pixels
        length, name = struct.unpack_from(">I4s", data, at)
        if name == b"IDAT":
            break
        names.add(name)
        at += 12 + length
    color = data[25]
    if color == 3:
        yield "palette"
    if color & 4 or b"tRNS" in names:
        yield "transparent"
    if b"acTL" in names:
        yield "animated"


def _of_bmp(data: bytes) -> Iterator[str]:
    if struct.unpack_from("<H", data, 28)[0] <= 8:
        yield "palette"


def _of_webp(data: bytes) -> Iterator[str]:
    extended = data[12:16] == b"VP8X"
    if (extended and data[20] & 16) or (data[12:16] == b"VP8L" and data[24] & 16):
        yield "transparent"
    if extended and data[20] & 2:
        yield "animated"


def _of_gif(data: bytes) -> Iterator[str]:
    """A GIF always has a palette, so that this is nothing special."""
    frames, transparent = 0, False
    at = 13 + _palette_bytes(data[10])
    while at + 10 < len(data) and frames < 2 and data[at] in (0x21, 0x2C):
        if data[at] == 0x21:  # an extension
            transparent |= data[at + 1] == 0xF9 and bool(data[at + 3] & 1)
            at += 2
        else:  # a frame
            frames += 1
            at += 11 + _palette_bytes(data[at + 9])
        while at < len(data) and data[at]:  # blocks
            at += 1 + data[at]
        at += 1
    if transparent:
        yield "transparent"
    if frames > 1:
        yield "animated"


def _palette_bytes(flags: int) -> int:
    return 6 << (flags & 7) if flags & 128 else 0


_OF_FORMAT = {"PNG": _of_png, "BMP": _of_bmp, "WebP": _of_webp, "GIF": _of_gif}
