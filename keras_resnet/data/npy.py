"""Images of any number of channels in `.npy` files, read in the graph. Needs TensorFlow.

A file holds one array `(height, width, channels)` of uint8, uint16 or floats, as `np.save` writes
it. There is no Python code in the graph, as in `image_files`, so nothing in a file can be run.
"""

from __future__ import annotations

import functools
import io
import os

import numpy as np
import tensorflow as tf

from keras_resnet.data.image_files import require

# Channels that image files have: gray, RGB and RGBA. All others are those of `.npy` files.
IMAGE_CHANNELS = (1, 3, 4)
# Levels of 16 bits for one of 8.
LEVEL_16 = 257.0

MAGIC = b"\x93NUMPY"
# Types by their names in a header, without the order of the bytes.
_TYPES = {
    "u1": tf.uint8,
    "u2": tf.uint16,
    "f2": tf.float16,
    "f4": tf.float32,
    "f8": tf.float64,
}
# As `numpy.lib.format` writes it: type, order of the axes, and three sides of up to six digits.
_HEADER = (
    r"\{'descr': '([<>|])([uf][1248])', 'fortran_order': (False|True), "
    r"'shape': \(([0-9]{1,6}), ([0-9]{1,6}), ([0-9]{1,6})\), \}[ ]*\n"
)


def decode_npy(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes a file to float32 `(height, width, channels)`.

    Levels of 16 bits become those of 8 with fractions, in [0, 255]; floats stay what they are.
    Raises a `tf.errors.OpError` if the file is another, or a value is not finite.
    """
    is_npy = tf.strings.substr(encoded, 0, len(MAGIC)) == MAGIC
    with tf.control_dependencies([require(is_npy, "Not a .npy file")]):
        # Version 1 has two bytes for the length of the header, later ones have four.
        first = tf.io.decode_raw(tf.strings.substr(encoded, 6, 1), tf.uint8)[0] == 1
        start = tf.where(first, 10, 12)
        digits = tf.io.decode_raw(tf.strings.substr(encoded, 8, start - 8), tf.uint8)
    weights = 256 ** tf.range(tf.size(digits))
    length = tf.reduce_sum(tf.cast(digits, tf.int32) * weights)
    header = tf.strings.substr(encoded, start, length)
    known = tf.strings.regex_full_match(header, _HEADER)
    with tf.control_dependencies([require(known, "Not an array of three axes")]):
        words = tf.strings.regex_replace(header, _HEADER, r"\1 \2 \3 \4 \5 \6")
    order, kind, fortran, *sides = tf.unstack(tf.ensure_shape(tf.strings.split(words, " "), [6]))
    shape = tf.strings.to_number(tf.stack(sides), tf.int32)
    content = tf.strings.substr(encoded, start + length, -1)

    def read(dtype: tf.DType) -> tf.Tensor:
        little = functools.partial(tf.io.decode_raw, content, dtype, little_endian=True)
        big = functools.partial(tf.io.decode_raw, content, dtype, little_endian=False)
        values = tf.cast(tf.cond(order == ">", big, little), tf.float32)
        return values / LEVEL_16 if dtype == tf.uint16 else values

    def refused() -> tf.Tensor:
        with tf.control_dependencies([require(False, "Not of uint8, uint16 or float")]):
            return tf.zeros([0])

    readers = [functools.partial(read, dtype) for dtype in _TYPES.values()]
    matches = tf.stack([*(kind == name for name in _TYPES), True])
    which = tf.argmax(tf.cast(matches, tf.int32), output_type=tf.int32)
    values = tf.switch_case(which, [*readers, refused])
    right = (shape[2] == channels) & tf.reduce_all(shape > 0)
    checks = [
        require(right, "Other channels, or none"),
        require(tf.reduce_all(tf.math.is_finite(values)), "Not finite"),
    ]
    with tf.control_dependencies(checks):
        image = tf.cond(
            fortran == "True",
            lambda: tf.transpose(tf.reshape(values, tf.reverse(shape, [0])), [2, 1, 0]),
            lambda: tf.reshape(values, shape),
        )
    return tf.ensure_shape(image, [None, None, channels])


def encode_npy(image: np.ndarray) -> bytes:
    """Returns the bytes of a `.npy` file of an array."""
    buffer = io.BytesIO()
    np.save(buffer, image, allow_pickle=False)
    return buffer.getvalue()


def npy_shape(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """Returns the shape of the array in a file, by its header; () if it cannot be read."""
    try:
        return np.lib.format.open_memmap(path, mode="r").shape
    except (OSError, ValueError, EOFError):
        return ()


def gray_of_npy(data: bytes) -> np.ndarray:
    """Returns the mean over the channels of a readable file, float32 `(height, width, 1)`.

    From its least to its largest value it is in [0, 255], since levels may be of any range.
    """
    gray = np.load(io.BytesIO(data), allow_pickle=False).mean(-1, np.float64, keepdims=True)
    least, largest = gray.min(), gray.max()
    return ((gray - least) * (255 / ((largest - least) or 1.0))).astype("float32")


def npy_fault(data: bytes, channels: int) -> str | None:
    """Returns why a file cannot be read as an image of so many channels, or None if it can."""
    try:
        image = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError):
        return "truncated" if data.startswith(MAGIC) else "unreadable"
    if not isinstance(image, np.ndarray):
        return "unreadable"
    known = image.dtype.kind in "uf" and image.dtype.str[1:] in _TYPES
    if not known or image.ndim != 3 or 0 in image.shape or image.shape[2] != channels:
        return (
            f"an array of {image.dtype} of shape {image.shape}, not of uint8, uint16 or float "
            f"of shape (height, width, {channels})"
        )
    if not np.isfinite(image).all():
        return "not finite in all its values"
    return None
