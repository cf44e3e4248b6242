"""From encoded bytes to a piece of an image, decoding no more of it than is asked for.

Needs TensorFlow. Images are told apart by their bytes, never by the name of their file: JPEG, PNG,
GIF (the first frame), BMP and WebP. CMYK JPEGs become RGB. EXIF orientation is not applied, as in
every published ImageNet pipeline.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

# What an image's name may end in, and the format that this promises.
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".webp": "WebP",
}

_JPEG_END = b"\xff\xd9"
_PNG_END = b"IEND\xaeB`\x82"
_JPEG_RATIOS = (1, 2, 4, 8)

# (height, width) in pixels -> (top, left, height, width) of a window inside, float32.
WindowOf = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def decode_window(
    encoded: tf.Tensor, window_of: WindowOf, size: int, channels: int, antialias: bool
) -> tf.Tensor:
    """Decodes one window of an image and resizes it to a square.

    Of a JPEG only the window is decoded, and at the smallest of the scales 1, 1/2, 1/4 and 1/8
    that still has `size` pixels on each side. So what is left to shrink is less than a factor of
    two, which plain bilinear interpolation can do; `antialias` costs about as much as decoding.

    Args:
        encoded: Bytes of the image, a string scalar.
        window_of: Chooses the window from the height and width of the image.
        size: Height and width of the result.
        channels: 3 for RGB, 1 for grey.
        antialias: Whether interpolation averages over all pixels it passes, where it shrinks.
            Other formats than JPEG, decoded at full scale only, always do.

    Returns:
        float32 in [0, 255] of shape `(size, size, channels)`.

    Raises:
        tf.errors.OpError: if the image cannot be decoded to its end.
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

        shrinkage = tf.reduce_min(window[2:]) / size
        fitting = tf.math.count_nonzero(shrinkage >= _JPEG_RATIOS[1:], dtype=tf.int32)
        crop = tf.switch_case(fitting, [functools.partial(decode, r) for r in _JPEG_RATIOS])
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
    """Decodes all of an image, and resizes it with its aspect ratio kept.

    A JPEG is decoded at the smallest of the scales 1, 1/2, 1/4 and 1/8 that still has
    `shorter_side` pixels.

    Args:
        encoded: Bytes of the image, a string scalar.
        channels: 3 for RGB, 1 for grey.
        shorter_side: Pixels of the shorter side of the result; None for the image's own.

    Returns:
        uint8 in [0, 255] of shape `(height, width, channels)`.

    Raises:
        tf.errors.OpError: if the image cannot be decoded to its end.
    """

    def decode(ratio: int) -> tf.Tensor:
        return tf.image.decode_jpeg(encoded, channels, ratio=ratio, dct_method="INTEGER_ACCURATE")

    def jpeg() -> tf.Tensor:
        if shorter_side is None:
            return decode(1)
        own = tf.reduce_min(tf.image.extract_jpeg_shape(encoded)[:2])
        fitting = tf.math.count_nonzero(own / shorter_side >= _JPEG_RATIOS[1:], dtype=tf.int32)
        return tf.switch_case(fitting, [functools.partial(decode, r) for r in _JPEG_RATIOS])

    def other() -> tf.Tensor:
        return tf.io.decode_image(encoded, channels, expand_animations=False)

    image = tf.cond(tf.io.is_jpeg(encoded), jpeg, other)
    return resize_shorter_side(tf.ensure_shape(image, [None, None, channels]), shorter_side)


def resize_shorter_side(image: tf.Tensor, shorter_side: int | None) -> tf.Tensor:
    """An image with its shorter side resized, and the longer one in proportion, rounded.

    Args:
        image: uint8 in [0, 255] of shape `(height, width, channels)`.
        shorter_side: Pixels of the shorter side of the result; None for the image as it is.

    Returns:
        uint8, by bilinear interpolation that averages over all pixels it passes where it shrinks.
    """
    if shorter_side is None:
        return image
    # Where the sides are known while the graph is built, those of the result are too.
    sides = np.array(image.shape[:2]) if None not in image.shape[:2] else tf.shape(image)[:2]
    shortest = min(sides) if isinstance(sides, np.ndarray) else tf.reduce_min(sides)
    scaled = (2 * sides * shorter_side + shortest) // (2 * shortest)
    return to_bytes(tf.image.resize(image, scaled, antialias=True))


def to_bytes(image: tf.Tensor) -> tf.Tensor:
    """Floating-point levels rounded to uint8 and clipped to [0, 255]."""
    return tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)


def _complete_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """`encoded`, or an error if it is cut.

    A truncated JPEG would pass unseen wherever the window lies above the cut. So one that does not
    end as it should is decoded whole first: that fails if it is cut, not if bytes follow its end.
    """

    def decoded() -> tf.Tensor:
        with tf.control_dependencies([tf.io.decode_jpeg(encoded)]):
            return tf.identity(encoded)

    ends = tf.strings.substr(encoded, -2, 2) == _JPEG_END
    return tf.cond(ends, lambda: tf.identity(encoded), decoded)


def _whole_pixels(window: tf.Tensor, image_shape: tf.Tensor) -> tf.Tensor:
    """`window` rounded to pixels and held inside the image, int32."""
    extent = tf.clip_by_value(tf.cast(tf.round(window[2:]), tf.int32), 1, image_shape[:2])
    corner = tf.cast(tf.round(window[:2]), tf.int32)
    return tf.concat([tf.clip_by_value(corner, 0, image_shape[:2] - extent), extent], axis=0)


def image_format(data: bytes) -> str | None:
    """The format that the first bytes of a file tell, a value of `FORMATS`, or None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"BM"):
        return "BMP"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    return None


def decoding_fault(data: bytes) -> str | None:
    """Why an image cannot be decoded: "zero-byte", "truncated" or "unreadable"; None if it can."""
    if not data:
        return "zero-byte"
    try:
        tf.io.decode_image(data, channels=3, expand_animations=False)
    except tf.errors.OpError:
        end = {"JPEG": _JPEG_END, "PNG": _PNG_END}.get(image_format(data) or "", b"")
        return "unreadable" if data.rstrip(b"\0").endswith(end) else "truncated"
    return None


def is_cmyk(data: bytes) -> bool:
    """Whether `data`, the bytes of a readable image, is a JPEG of four inks instead of RGB."""
    return image_format(data) == "JPEG" and int(tf.image.extract_jpeg_shape(data)[2]) == 4
