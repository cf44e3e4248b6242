"""Orientation of images by their EXIF metadata, in the graph. Needs TensorFlow.

A camera stores the pixels as its sensor has them, and a number from 1 to 8 that says how they have
to be turned to be upright. An upright image is the stored one, transposed for 5 to 8, and then
flipped left to right for 2, 3, 6 and 7, and upside down for 3, 4, 7 and 8.

Source: tag 274 in section 4.6 of the Exif 2.32 standard, CIPA DC-008.
"""

from __future__ import annotations

import tensorflow as tf

# Bytes at the beginning of a JPEG in which the metadata begin, behind those of other programs.
_FRONT = 2**16
# Bytes of the metadata that are searched for the orientation: it is among the first entries.
_METADATA = 2048
_TAG = 274


def orientation_of_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the orientation of a JPEG, an int32 scalar from 1 to 8, 1 where it has none."""
    return _orientation(encoded, _end_of(b"Exif\0\0", tf.strings.substr(encoded, 0, _FRONT)))


# Not inlined, as `decode_other`: nearly all images are JPEGs.
@tf.function(autograph=False, experimental_attributes={"_noinline": True})
def orientation_of_other(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the orientation of a PNG or WebP, and 1 for all others."""
    front = tf.strings.substr(encoded, 0, _FRONT)  # since pixels may be megabytes
    png = _end_of(b"eXIf", tf.strings.split(front, b"IDAT", maxsplit=1)[0])
    # In WebP the chunk comes after the pixels, and its size is between name and content. Some
    # programs write a JPEG's mark in front of the latter.
    is_webp = tf.strings.substr(encoded, 8, 4) == b"WEBP"
    webp = 4 + tf.cond(
        is_webp, lambda: _end_of(b"EXIF", encoded), lambda: tf.strings.length(encoded)
    )
    marked = tf.strings.substr(encoded, tf.minimum(webp, tf.strings.length(encoded)), 6)
    webp += 6 * tf.cast(marked == b"Exif\0\0", tf.int32)
    return _orientation(encoded, tf.where(is_webp, webp, png))


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns a stored image `(H, W, C)` upright."""

    def turned() -> tf.Tensor:
        turned = tf.cond(orientation > 4, lambda: _transposed(image), lambda: image)
        rows, columns = _flips(orientation)
        turned = tf.cond(rows, lambda: tf.reverse(turned, [0]), lambda: turned)
        return tf.cond(columns, lambda: tf.reverse(turned, [1]), lambda: turned)

    return tf.cond(orientation == 1, lambda: image, turned)


def upright_size(size: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Returns height and width of the upright image from those of the stored one, or back."""
    # Negative strides are beyond one of TensorFlow's optimizers, which complains.
    return tf.where(orientation > 4, tf.reverse(size, [0]), size)


def stored_window(window: tf.Tensor, size: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Returns where a window of the upright image is in the stored one.

    Args:
        window: `(top, left, height, width)`, float32.
        size: Height and width of the upright image.
        orientation: From 1 to 8.
    """
    corner, extent = window[:2], window[2:]
    opposite = tf.cast(size, window.dtype) - corner - extent
    corner = tf.where(tf.stack(_flips(orientation)), opposite, corner)
    return tf.concat([upright_size(part, orientation) for part in (corner, extent)], axis=0)


def _transposed(image: tf.Tensor) -> tf.Tensor:
    """Returns an image with rows and columns exchanged."""
    # oneDNN takes `tf.transpose` over, and logs an error for images of integers.
    height, width, channels = (image.shape[i] or tf.shape(image)[i] for i in range(3))
    places = tf.range(width)[:, None] + width * tf.range(height)
    return tf.gather(tf.reshape(image, [-1, channels]), places)


def _flips(orientation: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns whether rows and columns are reversed, after the transposition."""
    rows = tf.reduce_any(orientation == (3, 4, 7, 8))
    columns = tf.reduce_any(orientation == (2, 3, 6, 7))
    return rows, columns


def _end_of(mark: bytes, part: tf.Tensor) -> tf.Tensor:
    """Returns the position behind the first `mark`, or one behind the end where there is none."""
    return tf.strings.length(tf.strings.split(part, mark, maxsplit=1)[0]) + len(mark)


def _orientation(encoded: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Returns the orientation that a TIFF header at `start`, and the entries behind it, tell."""
    start = tf.minimum(start, tf.strings.length(encoded))
    data = tf.strings.substr(encoded, start, _METADATA)
    metadata = tf.io.decode_raw(data, tf.uint8, fixed_length=_METADATA)
    metadata = tf.cast(tf.ensure_shape(metadata, [_METADATA]), tf.int32)
    little = tf.reduce_all(metadata[:4] == (73, 73, 42, 0))
    known = little | tf.reduce_all(metadata[:4] == (77, 77, 0, 42))

    def numbers(places: tf.Tensor, length: int) -> tf.Tensor:
        places = tf.expand_dims(places, -1) + tf.range(length)
        some = tf.gather(metadata, tf.clip_by_value(places, 0, _METADATA - 1))
        weights = [256**i for i in range(length)]
        return tf.reduce_sum(some * tf.where(little, weights, weights[::-1]), axis=-1)

    # A damaged file may say anything; more entries than these do not fit.
    first = tf.clip_by_value(numbers(tf.constant(4), 4), 0, _METADATA)
    entries = first + 2 + 12 * tf.range(tf.minimum(numbers(first, 2), _METADATA // 12))
    values = tf.where(numbers(entries, 2) == _TAG, numbers(entries + 8, 2), 1)
    value = tf.reduce_max(tf.concat([[1], values], axis=0))
    return tf.where(known & (value <= 8), value, 1)
