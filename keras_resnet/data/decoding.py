"""Decodes images, or crops of them, at the smallest sufficient scale. Needs TensorFlow.

JPEG, PNG, GIF (the first frame), BMP and WebP are recognized by content, not by name. CMYK JPEGs
become RGB. EXIF orientation is not applied, as in every published ImageNet pipeline.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import numpy as np
import tensorflow as tf

# Format of an image by the suffix of its name.
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".webp": "WebP",
}

_FIRST_BYTES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM",
    "WebP": rb"(?s)RIFF....WEBP",
}
_LAST_BYTES = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}

# (height, width) in pixels -> (top, left, height, width) of a window inside, float32.
WindowOf = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def decode_window(
    encoded: tf.Tensor, window_of: WindowOf, size: int, channels: int, antialias: bool
) -> tf.Tensor:
    """Decodes one window of an image and resizes it to float32 `(size, size, channels)`.

    Of a JPEG only the window is decoded, and at the smallest of the scales 1, 1/2, 1/4 and 1/8
    that still has `size` pixels on each side. So the remaining factor is less than two, for which
    plain bilinear interpolation is sufficient; `antialias` costs about as much as decoding. The
    interpolation of other formats, decoded at full scale, is always antialiased.
    """

    def jpeg_window() -> tf.Tensor:
        jpeg = _complete_jpeg(encoded)
        shape = tf.image.extract_jpeg_shape(jpeg)
        window = window_of(shape[0], shape[1])

        def decode(ratio: int) -> tf.Tensor:
            box = _whole_pixels(window / ratio, -(-shape[:2] // ratio))
            return tf.image.decode_and_crop_jpeg(
                jpeg, box, channels, ratio=ratio, dct_method="INTEGER_ACCURATE"
            )

        crop = _at_scale(decode, tf.reduce_min(window[2:]) / size)
        return tf.image.resize(crop, [size, size], antialias=antialias)

    def any_window() -> tf.Tensor:
        image = tf.io.decode_image(encoded, channels, expand_animations=False)
        shape = tf.shape(image)
        top, left, height, width = tf.unstack(_whole_pixels(window_of(shape[0], shape[1]), shape))
        crop = image[top : top + height, left : left + width]
        crop.set_shape([None, None, channels])
        return tf.image.resize(crop, [size, size], antialias=True)

    return tf.cond(tf.io.is_jpeg(encoded), jpeg_window, any_window)


def decode_whole(encoded: tf.Tensor, channels: int, shorter_side: int | None = None) -> tf.Tensor:
    """Decodes an image to uint8 `(height, width, channels)`, and resizes its shorter side.

    A JPEG is decoded at the smallest of the scales 1, 1/2, 1/4 and 1/8 that still has
    `shorter_side` pixels. Raises a `tf.errors.OpError` if the image cannot be decoded to its end.
    """

    def decode(ratio: int) -> tf.Tensor:
        return tf.image.decode_jpeg(encoded, channels, ratio=ratio, dct_method="INTEGER_ACCURATE")

    def jpeg() -> tf.Tensor:
        if shorter_side is None:
            return decode(1)
        own = tf.reduce_min(tf.image.extract_jpeg_shape(encoded)[:2])
        return _at_scale(decode, own / shorter_side)

    other = functools.partial(tf.io.decode_image, encoded, channels, expand_animations=False)
    image = tf.cond(tf.io.is_jpeg(encoded), jpeg, other)
    return resize_shorter_side(tf.ensure_shape(image, [None, None, channels]), shorter_side)


def resize_shorter_side(image: tf.Tensor, shorter_side: int | None) -> tf.Tensor:
    """Resizes the shorter side of a uint8 image, and the longer one in proportion, rounded.

    The interpolation is bilinear and antialiased. With None the image is returned as it is.
    """
    if shorter_side is None:
        return image
    # The shape of the result is static if that of the image is.
    sides = np.array(image.shape[:2]) if None not in image.shape[:2] else tf.shape(image)[:2]
    shortest = min(sides) if isinstance(sides, np.ndarray) else tf.reduce_min(sides)
    scaled = (2 * sides * shorter_side + shortest) // (2 * shortest)
    return to_bytes(tf.image.resize(image, scaled, antialias=True))


def to_bytes(image: tf.Tensor) -> tf.Tensor:
    """Clips a floating-point image to [0, 255] and rounds it to uint8."""
    return tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)


def _at_scale(decode: Callable[[int], tf.Tensor], shrinkage: tf.Tensor) -> tf.Tensor:
    """Calls `decode` with the largest ratio of 1, 2, 4 and 8 that is at most `shrinkage`."""
    power = tf.math.count_nonzero(shrinkage >= (2, 4, 8), dtype=tf.int32)
    return tf.switch_case(power, [functools.partial(decode, ratio) for ratio in (1, 2, 4, 8)])


def _complete_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Returns `encoded`, or an error if it is truncated.

    The window may lie above the truncation, where decoding it succeeds. So a JPEG without the end
    marker is decoded whole first: that fails if it is truncated, not if bytes follow the marker.
    """

    def decoded() -> tf.Tensor:
        with tf.control_dependencies([tf.io.decode_jpeg(encoded)]):
            return tf.identity(encoded)

    ends = tf.strings.substr(encoded, -2, 2) == _LAST_BYTES["JPEG"]
    return tf.cond(ends, lambda: tf.identity(encoded), decoded)


def _whole_pixels(window: tf.Tensor, image_shape: tf.Tensor) -> tf.Tensor:
    """Rounds a window to pixels and limits it to the image, int32."""
    extent = tf.clip_by_value(tf.cast(tf.round(window[2:]), tf.int32), 1, image_shape[:2])
    corner = tf.cast(tf.round(window[:2]), tf.int32)
    return tf.concat([tf.clip_by_value(corner, 0, image_shape[:2] - extent), extent], axis=0)


def image_format(data: bytes) -> str | None:
    """Returns the format by the first bytes of a file, a value of `FORMATS`, or None."""
    return next((name for name, first in _FIRST_BYTES.items() if re.match(first, data)), None)


def decoding_fault(data: bytes) -> str | None:
    """Returns "zero-byte", "truncated" or "unreadable", or None if the image can be decoded."""
    if not data:
        return "zero-byte"
    try:
        tf.io.decode_image(data, channels=3, expand_animations=False)
    except tf.errors.OpError:
        end = _LAST_BYTES.get(image_format(data) or "", b"")
        return "unreadable" if data.rstrip(b"\0").endswith(end) else "truncated"
    return None


def is_cmyk(data: bytes) -> bool:
    """Returns whether the bytes of a readable image are a CMYK JPEG."""
    return image_format(data) == "JPEG" and int(tf.image.extract_jpeg_shape(data)[2]) == 4
