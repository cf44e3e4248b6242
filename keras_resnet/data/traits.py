"""Traits of readable image files by their bytes, without decoding. Needs TensorFlow."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import tensorflow as tf

from keras_resnet.data.image_files import image_format, image_size, is_16_bit, is_cmyk
from keras_resnet.data.orientation import orientation_of_jpeg, orientation_of_other, upright_size


def traits(data: bytes) -> Iterator[tuple[str, str]]:
    """Yields kind and detail of what is special about the bytes of a readable image.

    The kinds are "cmyk", "16-bit", "palette", "transparent" (it has an alpha channel or transparent
    color, used or not), "animated", and "turned" (by its EXIF orientation).
    """
    if is_cmyk(data):
        yield "cmyk", ""
    if is_16_bit(data):
        yield "16-bit", ""
    yield from ((kind, "") for kind in _OF_FORMAT.get(image_format(data) or "", _none)(data))
    if (orientation := orientation_of(data)) != 1:
        yield "turned", f"EXIF orientation {orientation}"


def orientation_of(data: bytes) -> int:
    """Returns the EXIF orientation of the bytes of an image, 1 where it has none."""
    read = orientation_of_jpeg if image_format(data) == "JPEG" else orientation_of_other
    return int(read(tf.constant(data)))


def shown_size(data: bytes) -> tuple[int, int]:
    """Returns height and width in pixels of the bytes of an image, turned upright."""
    height, width = upright_size(tf.constant(image_size(data)), tf.constant(orientation_of(data)))
    return int(height), int(width)


def _none(data: bytes) -> Iterator[str]:
    return iter(())


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
