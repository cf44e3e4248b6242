"""Decodes images, or crops of them at the smallest sufficient scale. Needs TensorFlow.

JPEG, PNG, GIF, BMP and WebP are recognized by content, not by name. Of an animation the first frame
is read, transparent pixels are composited over white except for four channels, which are RGBA, and
CMYK JPEGs become RGB. Of 16 bits per channel the upper 8 are kept, or with `bits=16` all: images
are float32 then, in the same [0, 255]. Images of other than 1, 3 and 4 channels are `.npy` files,
always read as float32. Images are turned upright by their EXIF orientation; windows and sizes are
those of the upright image. Whether an image is read or refused does not depend on the window or
scale.

JPEGs are read as libjpeg does, by training, evaluation, prediction and exported modules alike: what
it only warns of is no error, such as rows that are missing in front of an end marker, which become
gray. `check_data` finds such files.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Collection

import numpy as np
import tensorflow as tf

from keras_resnet.data.image_files import (
    MAX_PIXELS,
    decode_other,
    gray,
    image_format,
    image_size,
    limited,
    with_alpha,
    with_channels,
)
from keras_resnet.data.npy import IMAGE_CHANNELS, decode_npy, npy_fault
from keras_resnet.data.orientation import (
    orientation_of_jpeg,
    orientation_of_other,
    stored_window,
    upright,
    upright_size,
)
from keras_resnet.preprocessing import Size, sides_of

# Format of an image by the suffix of its name.
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".webp": "WebP",
}

# The same of images of other than 1, 3 and 4 channels.
ARRAYS = {".npy": "NumPy"}

# Files and folders of operating systems that lie beside images.
_SYSTEM_FILES = {"__MACOSX", "Thumbs.db", "desktop.ini"}

# Length of the longest strip that is resized, as a multiple of its width.
LONGEST = 16

_LAST_BYTES = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}

# (height, width) in pixels -> (top, left, height, width) of a window inside, float32.
WindowOf = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def is_hidden(name: str) -> bool:
    """Returns whether a file or folder of a folder of images is passed over by its name."""
    return name.startswith(".") or name in _SYSTEM_FILES


def formats_of(channels: int) -> dict[str, str]:
    """Returns the format by suffix of the files that have images of so many channels."""
    return FORMATS if channels in IMAGE_CHANNELS else ARRAYS


def is_image_file(path: str, regular: bool = False, formats: Collection[str] = FORMATS) -> bool:
    """Returns whether a file of a folder of images is read as one, by its suffix.

    A pipe or device may block for good when it is opened. A broken link, or one of a circle, is a
    bad image. What is known to be a `regular` file is not looked up again.
    """
    file = regular or os.path.isfile(path) or not os.path.exists(path)
    return file and os.path.splitext(path)[1].lower() in formats


def decode_window(
    encoded: tf.Tensor,
    window_of: WindowOf,
    size: Size,
    channels: int,
    antialias: bool,
    bits: int = 8,
) -> tf.Tensor:
    """Decodes one window of an image and resizes it to float32 `(height, width, channels)`.

    The size is that of the upright image. Of a JPEG only the window is decoded, and at the smallest
    of the scales 1, 1/2, 1/4 and 1/8 that still has `size` pixels on each side. So the remaining
    factor is less than two, for which plain bilinear interpolation is sufficient; `antialias` costs
    about as much as decoding. The interpolation of other formats, decoded at full scale, is always
    antialiased.
    """
    encoded = tf.convert_to_tensor(encoded)
    sides = sides_of(size)

    def jpeg_window() -> tf.Tensor:
        shape = tf.image.extract_jpeg_shape(encoded)[:2]
        jpeg = limited(encoded, shape)
        orientation = orientation_of_jpeg(encoded)
        window = placed(shape, orientation)

        def decode(ratio: int) -> tf.Tensor:
            scaled = -(-shape // ratio)
            top, left, height, width = tf.unstack(_whole_pixels(window / ratio, scaled))
            # To the last row, so that damage below the window is noticed. What libjpeg only warns
            # of, such as rows that end too early in front of an end marker, is not.
            box = tf.stack([top, left, scaled[0] - top, width])
            return _decode_jpeg(jpeg, box, channels, ratio)[:height]

        stored = _stored_sides(size, orientation)
        crop = _at_scale(decode, tf.reduce_min(window[2:] / tf.cast(stored, tf.float32)))
        return upright(tf.image.resize(crop, stored, antialias=antialias), orientation)

    def any_window() -> tf.Tensor:
        image, orientation = _decode_stored(encoded, channels, bits)
        shape = tf.shape(image)[:2]
        window = _whole_pixels(placed(shape, orientation), shape)
        top, left, height, width = tf.unstack(window)
        crop = image[top : top + height, left : left + width]
        if channels in IMAGE_CHANNELS:
            crop = with_channels(crop, channels)
        stored = _stored_sides(size, orientation)
        return upright(tf.image.resize(crop, stored, antialias=True), orientation)

    def placed(shape: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
        height, width = tf.unstack(size := upright_size(shape, orientation))
        return stored_window(window_of(height, width), size, orientation)

    if channels in IMAGE_CHANNELS:
        image = tf.cond(tf.io.is_jpeg(encoded), jpeg_window, any_window)
    else:
        image = any_window()
    return tf.ensure_shape(image, (*sides, channels))


def decode_whole(
    encoded: tf.Tensor,
    channels: int,
    shorter_side: Size | None = None,
    interpolation: str = "bilinear",
    bits: int = 8,
) -> tf.Tensor:
    """Decodes an image to `(height, width, channels)`, and resizes its shorter side.

    It is uint8, or with 16 bits and from a `.npy` file float32. With height and width the upright
    image just covers these. A JPEG is decoded at its full scale, as by Pillow and torchvision,
    since the scales of the format are sharper than antialiased interpolation. Raises a
    `tf.errors.OpError` if the image cannot be decoded to its end.
    """
    encoded = tf.convert_to_tensor(encoded)

    def resized(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
        side = shorter_side
        if isinstance(side, tuple):
            side = _stored_sides(side, orientation)
        return upright(resize_shorter_side(image, side, interpolation), orientation)

    def whole_jpeg() -> tf.Tensor:
        shape = tf.image.extract_jpeg_shape(encoded)[:2]
        jpeg = limited(encoded, shape)

        image = _decode_jpeg(jpeg, tf.concat([[0, 0], shape], axis=0), channels, 1)
        image = tf.cast(image, tf.float32) if bits == 16 else image
        return resized(image, orientation_of_jpeg(encoded))

    def other() -> tf.Tensor:
        image, orientation = _decode_stored(encoded, channels, bits)
        if channels in IMAGE_CHANNELS:
            image = with_channels(image, channels)
        return resized(image, orientation)

    if channels not in IMAGE_CHANNELS:
        return other()
    image = tf.cond(tf.io.is_jpeg(encoded), whole_jpeg, other)
    # Bicubic interpolation goes beyond; levels of 8 bits are limited as they are rounded.
    return tf.clip_by_value(image, 0.0, 255.0) if bits == 16 else image


def _decode_stored(encoded: tf.Tensor, channels: int, bits: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a file that is no JPEG as it is stored; returns the image and its orientation."""
    if channels not in IMAGE_CHANNELS:
        return decode_npy(encoded, channels), tf.constant(1)
    return decode_other(encoded, channels, bits), orientation_of_other(encoded)


def resize_shorter_side(
    image: tf.Tensor, shorter_side: Size | tf.Tensor | None, interpolation: str = "bilinear"
) -> tf.Tensor:
    """Resizes the shorter side of an image, and the longer one in proportion, rounded down.

    The interpolation, "bilinear" or "bicubic", is antialiased; levels of uint8 are rounded again,
    those of float32 not. Rounding of sides is torchvision's. Of an
    image longer than `LONGEST` times its shorter side the middle is taken, which bounds the memory.
    With height and width, the image just covers these: one of its sides gets that length. With None
    the image is returned as it is.
    """
    if shorter_side is None:
        return image
    # The shape of the result is static if that of the image is.
    static = None not in image.shape[:2]
    sides = np.array(image.shape[:2]) if static else tf.shape(image)[:2]
    shortest = sides.min() if static else tf.reduce_min(sides)
    kept = (np.minimum if static else tf.minimum)(sides, LONGEST * shortest)
    top, left = (sides - kept)[0] // 2, (sides - kept)[1] // 2
    middle = image[top : top + kept[0], left : left + kept[1]]
    if isinstance(shorter_side, int):
        scaled = kept * shorter_side // shortest
    else:
        # Cross products tell which side is the tighter one; the other is rounded down.
        covered = shorter_side if not static else np.array(shorter_side)
        by_height = covered[0] * kept[1] >= covered[1] * kept[0]
        where = np.where if static else tf.where
        scaled = where(by_height, kept * covered[0] // kept[0], kept * covered[1] // kept[1])
    resized = tf.image.resize(middle, scaled, interpolation, antialias=True)
    return to_bytes(resized) if image.dtype == tf.uint8 else resized


def crop_center(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Returns the center of an image, `(height, width)` pixels; its place is torchvision's."""
    # Halves are rounded to even numbers, by TensorFlow as by Python.
    top, left = tf.unstack(tf.cast(tf.round((tf.shape(image)[:2] - size) / 2), tf.int32))
    return tf.slice(image, [top, left, 0], [*size, image.shape[-1]])


def _stored_sides(size: Size, orientation: tf.Tensor) -> tf.Tensor:
    """Returns height and width of the stored image for a size of the upright one, int32."""
    return upright_size(tf.constant(sides_of(size)), orientation)


def to_bytes(image: tf.Tensor) -> tf.Tensor:
    """Clips a floating-point image to [0, 255] and rounds it to uint8."""
    return tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)


def _at_scale(decode: Callable[[int], tf.Tensor], shrinkage: tf.Tensor) -> tf.Tensor:
    """Calls `decode` with the largest ratio of 1, 2, 4 and 8 that is at most `shrinkage`."""
    power = tf.math.count_nonzero(shrinkage >= (2, 4, 8), dtype=tf.int32)
    return tf.switch_case(power, [functools.partial(decode, ratio) for ratio in (1, 2, 4, 8)])


def _decode_jpeg(encoded: tf.Tensor, box: tf.Tensor, channels: int, ratio: int) -> tf.Tensor:
    """Decodes `(top, left, height, width)`, in pixels of the reduced image, to uint8."""

    def decode(channels: int) -> tf.Tensor:
        return tf.image.decode_and_crop_jpeg(
            encoded, box, channels, ratio=ratio, dct_method="INTEGER_ACCURATE"
        )

    if channels == 3:
        return decode(3)
    if channels == 4:
        return with_alpha(decode(3))
    cmyk = tf.image.extract_jpeg_shape(encoded)[2] == 4
    return tf.cond(cmyk, lambda: gray(decode(3)), lambda: decode(1))


def _whole_pixels(window: tf.Tensor, image_shape: tf.Tensor) -> tf.Tensor:
    """Rounds a window to pixels and limits it to the image, int32."""
    extent = tf.clip_by_value(tf.cast(tf.round(window[2:]), tf.int32), 1, image_shape[:2])
    corner = tf.cast(tf.round(window[:2]), tf.int32)
    return tf.concat([tf.clip_by_value(corner, 0, image_shape[:2] - extent), extent], axis=0)


def decoding_fault(data: bytes, channels: int = 3) -> str | None:
    """Returns why an image of so many channels cannot be read, or None if it can.

    That is "zero-byte", "too large" (more than `MAX_PIXELS`), "truncated" or "unreadable", or what
    else `npy_fault` says.
    """
    if not data:
        return "zero-byte"
    if channels not in IMAGE_CHANNELS:
        return npy_fault(data, channels)
    try:
        if math.prod(image_size(data)) > MAX_PIXELS:
            return "too large"
        _decode_rgb(data)
    except tf.errors.OpError:
        end = _LAST_BYTES.get(image_format(data) or "", b"")
        return "unreadable" if data.rstrip(b"\0").endswith(end) else "truncated"
    return None


@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def _decode_rgb(encoded: tf.Tensor) -> tf.Tensor:
    return decode_whole(encoded, channels=3)
