"""Format, size and pixels of image files, in the graph. Needs TensorFlow.

TensorFlow's decoders read a palette's indices as colors, the hidden colors of transparent pixels
and every frame of an animation, and take any size. Here an image is read right or refused, with a
`tf.errors.OpError`. There is no Python code in the graph, since exported models read files with it.

A file may claim more memory than it has bytes. The pixels of one take at most some 1.2 GB, whatever
its format: `MAX_PIXELS` times 4 bytes as decoded, twice 3 as RGB, and what bands of it take; with
16 bits of each channel kept, four times as much. JPEGs for a small window or size take a fraction,
as they are decoded at a scale.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import tensorflow as tf

# Largest number of pixels that is decoded.
MAX_PIXELS = 100_000_000
# Pixels that are converted at a time, to numbers of up to 4 bytes.
_BAND = 1 << 21

# Format of an image by its first bytes, in which "." stands for any byte.
_FIRST_BYTES = {
    "JPEG": b"\xff\xd8\xff",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "GIF": b"GIF8.a",
    "BMP": b"BM",
    "WebP": b"RIFF....WEBP",
}

# Bytes of a file that tell format and size.
_HEADER = 32


def image_format(data: bytes) -> str | None:
    """Returns the format of a file by its first bytes, a key of the table, or None."""
    matches = (name for name, first in _FIRST_BYTES.items() if re.match(first, data, re.DOTALL))
    return next(matches, None)


def is_cmyk(data: bytes) -> bool:
    """Returns whether the bytes of a readable image are a CMYK JPEG."""
    return image_format(data) == "JPEG" and int(tf.image.extract_jpeg_shape(data)[2]) == 4


def is_16_bit(data: bytes) -> bool:
    """Returns whether the bytes of a readable image are a PNG of 16 bits per channel."""
    return image_format(data) == "PNG" and data[24:25] == b"\x10"


def image_size(data: bytes) -> tuple[int, int]:
    """Returns height and width in pixels by the header of a file, 0 if it has none of ours."""
    is_jpeg = image_format(data) == "JPEG"
    size = tf.image.extract_jpeg_shape(data)[:2] if is_jpeg else _other_size(_header(data))
    return tuple(size.numpy().tolist())


def limited(encoded: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns an image file as it is if its height times width is at most `MAX_PIXELS`."""
    fits = tf.reduce_prod(tf.cast(size, tf.int64)) <= MAX_PIXELS
    with tf.control_dependencies([require(fits, "Image too large")]):
        return tf.identity(encoded)


# Not inlined, since the branches not taken would cost each JPEG a tenth more.
@tf.function(autograph=False, experimental_attributes={"_noinline": True})
def decode_other(encoded: tf.Tensor, channels: int, bits: int = 8) -> tf.Tensor:
    """Decodes an image file that is no JPEG for `with_channels`: uint8, or with 16 bits float32.

    The last axis is `channels` where the decoder converts to it, else 3 (RGB) or 4 (RGBA). Levels
    of 16 bits are in [0, 255] with fractions.
    """
    head = _header(encoded)
    encoded = limited(encoded, _other_size(head))
    decoders: list[Callable[[], tf.Tensor]] = [
        functools.partial(_decode_png, encoded, head, channels, bits),
        functools.partial(_decode_gif, encoded, channels),
        functools.partial(_decode_bmp, encoded, head),
        functools.partial(_decode_webp, encoded, head),
        functools.partial(_decode, encoded, channels),  # refuses it
    ]
    with tf.device("/cpu:0"):  # a GPU would not notice an index outside of a palette
        if bits == 16:
            decoders = [functools.partial(_as_float, decode) for decode in decoders]
        return tf.switch_case(_position(head), decoders)


def with_channels(image: tf.Tensor, channels: int) -> tf.Tensor:
    """Converts RGB or RGBA to `channels`: composites over white for 1 and 3, and keeps alpha for 4.

    An image without alpha is opaque.
    """
    if channels == 4:
        image = tf.cond(tf.shape(image)[2] == 4, lambda: image, lambda: with_alpha(image))
        return tf.ensure_shape(image, [None, None, 4])

    def composited() -> tf.Tensor:
        if channels == 3:
            return _in_bands(image, _over_white, 3)
        return _in_bands(image, lambda band: _gray(_over_white(band)), 1)

    def colored() -> tf.Tensor:
        return tf.cond(tf.shape(image)[2] > channels, lambda: gray(image), lambda: image)

    transparent = tf.shape(image)[2] == 4
    image = tf.cond(transparent, composited, (lambda: image) if channels == 3 else colored)
    return tf.ensure_shape(image, [None, None, channels])


def with_alpha(image: tf.Tensor) -> tf.Tensor:
    """Adds an alpha channel of 255 to RGB."""
    image = tf.ensure_shape(image, [None, None, 3])
    return tf.pad(image, [[0, 0], [0, 0], [0, 1]], constant_values=tf.cast(255, image.dtype))


def gray(image: tf.Tensor) -> tf.Tensor:
    """Converts RGB to one channel."""
    return _in_bands(image, _gray, 1)


def _in_bands(
    image: tf.Tensor, convert: Callable[[tf.Tensor], tf.Tensor], channels: int
) -> tf.Tensor:
    """Converts the colors of an image a few rows at a time, to save memory."""
    height, width = tf.unstack(tf.shape(image)[:2])
    rows = tf.maximum(1, _BAND // width)
    count = -(-height // rows)
    shape = [None, None, channels]
    bands = tf.TensorArray(image.dtype, count, element_shape=shape, infer_shape=False)

    def one(i: tf.Tensor, bands: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        return i + 1, bands.write(i, convert(image[i * rows : (i + 1) * rows]))

    _, bands = tf.while_loop(lambda i, _: i < count, one, [0, bands], parallel_iterations=1)
    return bands.concat()


def _decode(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    return tf.io.decode_image(encoded, channels, expand_animations=False)


def require(condition: tf.Tensor | bool, message: str) -> tf.Operation:
    """Returns an operation that fails with a `tf.errors.OpError` unless a condition holds."""
    # A single op, where `tf.debugging.Assert` adds control flow.
    return tf.raw_ops.Assert(condition=condition, data=[message])


def _header(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the first bytes of a file, int64, with zeros behind the end of a shorter one."""
    head = tf.io.decode_raw(encoded, tf.uint8, fixed_length=_HEADER)
    return tf.cast(tf.ensure_shape(head, [_HEADER]), tf.int64)


def _position(head: tf.Tensor) -> tf.Tensor:
    """Returns the position of a format among PNG, GIF, BMP, WebP and others."""
    others = list(_FIRST_BYTES.values())[1:]
    matches = [
        tf.reduce_all([head[i] == byte for i, byte in enumerate(first) if byte != ord(".")])
        for first in others
    ]
    return tf.argmax(tf.cast([*matches, True], tf.int32), output_type=tf.int32)


def _other_size(head: tf.Tensor) -> tf.Tensor:
    sizes = (_png_size, _gif_size, _bmp_size, _webp_size, _no_size)
    return tf.switch_case(_position(head), [functools.partial(size, head) for size in sizes])


def _number(some: tf.Tensor) -> tf.Tensor:
    """Returns the number that bytes are, the lowest first."""
    return tf.reduce_sum(some * [256**i for i in range(some.shape[0])])


def _png_size(head: tf.Tensor) -> tf.Tensor:
    return tf.stack([_number(head[23:19:-1]), _number(head[19:15:-1])])


def _gif_size(head: tf.Tensor) -> tf.Tensor:
    return tf.stack([_number(head[8:10]), _number(head[6:8])])


def _bmp_size(head: tf.Tensor) -> tf.Tensor:
    height = _number(head[22:26])
    return tf.stack([tf.minimum(height, 2**32 - height), _number(head[18:22])])  # may be negative


def _webp_size(head: tf.Tensor) -> tf.Tensor:
    lossy = tf.stack([_number(head[28:30]), _number(head[26:28])]) % 2**14
    lossless = 1 + _number(head[21:25]) // tf.constant([2**14, 1], tf.int64) % 2**14
    extended = 1 + tf.stack([_number(head[27:30]), _number(head[24:27])])
    return tf.where(head[15] == ord("X"), extended, tf.where(head[15] == ord("L"), lossless, lossy))


def _no_size(head: tf.Tensor) -> tf.Tensor:
    return tf.zeros_like(head[:2])


def _as_float(decode: Callable[[], tf.Tensor]) -> tf.Tensor:
    return tf.cast(decode(), tf.float32)


def _decode_png(encoded: tf.Tensor, head: tf.Tensor, channels: int, bits: int) -> tf.Tensor:
    # Transparency is an alpha channel by the type of color, or a chunk. Other bytes that read like
    # that chunk cost time and change nothing.
    chunk = tf.size(tf.strings.split(encoded, b"tRNS", maxsplit=1)) > 1
    transparent = (head[25] & 4 > 0) | chunk

    def decode(channels: int) -> tf.Tensor:
        if bits == 8:
            return _decode(encoded, channels)
        # Levels of 8 bits become 257 times as much, so these are whole numbers again.
        return tf.cast(tf.io.decode_png(encoded, channels, tf.uint16), tf.float32) / 257.0

    # To four channels TensorFlow fills 1 to 4 bits with an alpha of 1 in 255.
    opaque = 3 if channels == 4 else channels
    return tf.cond(transparent, lambda: decode(4), lambda: decode(opaque))


def _decode_bmp(encoded: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    """Decodes uncompressed BMPs of 8, 24 and 32 bits; those have no alpha channel."""
    pixels, info, bits = _number(head[10:14]), _number(head[14:18]), head[28]
    compression = tf.io.decode_raw(tf.strings.substr(encoded, 30, 4), tf.int32)
    plain = tf.reduce_all(compression == 0) & (info >= 40) & (bits >= 8)
    image = tf.ensure_shape(_decode(encoded, 3), [None, None, 3])

    def colored() -> tf.Tensor:
        palette = tf.strings.substr(encoded, 14 + info, pixels - 14 - info)
        palette = tf.reshape(tf.io.decode_raw(palette, tf.uint8), [-1, 4])[:, 2::-1]
        return _in_bands(image, lambda band: tf.gather(palette, tf.cast(band[..., 0], tf.int32)), 3)

    with tf.control_dependencies([require(plain, "BMP of another kind")]):
        return tf.cond(bits == 8, colored, lambda: image)


def _decode_webp(encoded: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    """Decodes WebP, of an animation the first frame."""
    flags = head[20]
    animated = (head[15] == ord("X")) & (flags & 2 > 0)

    def first_frame() -> tf.Tensor:
        # Frames are decoded as RGBA whatever the flag for alpha says, and without it TensorFlow
        # 2.21 reserves memory for RGB only, and writes behind its end.
        flag = tf.gather([bytes([i]) for i in range(256)], flags | 16)
        parts = tf.strings.substr(encoded, 0, 20), flag, tf.strings.substr(encoded, 21, -1)
        return _decode(tf.strings.join(parts), 4)

    return tf.cond(animated, first_frame, lambda: _decode(encoded, 0))


def _decode_gif(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes the first frame of a GIF, white where it is transparent or does not reach.

    For four channels it is RGBA, else RGB.
    TensorFlow would unpack all frames. So the file is written anew: header, first frame, end.
    """
    data = tf.cast(tf.io.decode_raw(encoded, tf.uint8), tf.int32)

    def palette_size(flags: tf.Tensor) -> tf.Tensor:
        return tf.where(flags & 128 > 0, tf.bitwise.left_shift(6, flags & 7), 0)

    def few(at: tf.Tensor, blocks: tf.Tensor) -> tf.Tensor:
        # Encoders fill the 255 bytes of a block; a file of tiny ones would take minutes.
        return blocks <= 1000 + at // 128

    def end_of_blocks(at: tf.Tensor, blocks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        end, blocks = tf.while_loop(
            lambda at, blocks: (data[at] > 0) & few(at, blocks),
            lambda at, blocks: [at + 1 + data[at], blocks + 1],
            [at, blocks],
        )
        return end + 1, blocks

    def pass_extension(
        at: tf.Tensor, blocks: tf.Tensor, clear: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        control = data[at + 1] == 0xF9
        index = tf.cond(control & (data[at + 3] & 1 > 0), lambda: data[at + 6], lambda: -1)
        return *end_of_blocks(at + 2, blocks), tf.where(control, index, clear)

    first = 13 + palette_size(data[10])
    start, blocks, clear = tf.while_loop(
        lambda at, blocks, _: (data[at] == 0x21) & few(at, blocks), pass_extension, [first, 0, -1]
    )
    own = palette_size(data[start + 9])
    end, blocks = end_of_blocks(start + 10 + own + 1, blocks)
    palette = tf.where(own > 0, [start + 10, own], [13, first - 13])
    color = palette[0] + 3 * clear

    is_color = (clear >= 0) & (3 * clear < palette[1])

    def cleared(level: bytes) -> tf.Tensor:
        parts = tf.strings.substr(encoded, 0, color), tf.strings.substr(encoded, color + 3, -1)
        return tf.strings.join(parts, 3 * level)

    def frame(level: bytes) -> tf.Tensor:
        """Returns it with this level where it is transparent."""
        file = tf.cond(is_color, lambda: cleared(level), lambda: encoded)
        parts = [
            *(tf.strings.substr(file, 0, first), tf.strings.substr(file, start, 1)),
            bytes(4),  # at the corner, since TensorFlow's canvas ends where the frame does
            *(tf.strings.substr(file, start + 5, end - start - 5), b";"),
        ]
        return _decode(tf.strings.join(parts), 3)

    canvas, corner, extent = (
        data[at : at + 4 : 2] + 256 * data[at + 1 : at + 4 : 2] for at in (6, start + 1, start + 5)
    )
    # By `tf.reverse`, since an optimizer of TensorFlow complains of negative strides.
    margins = tf.reverse(tf.stack([corner, canvas - corner - extent], axis=1), [0])
    wrong = [
        require(tf.reduce_all(margins >= 0), "GIF frame off canvas"),
        require(few(end, blocks), "GIF of tiny blocks"),
    ]
    with tf.control_dependencies(wrong):
        image = frame(b"\xff")
    margins = tf.concat([margins, [[0, 0]]], axis=0)
    white = tf.pad(image, margins, constant_values=tf.uint8.max)
    if channels != 4:
        return white
    solid = tf.reduce_all(image == frame(b"\0"), axis=2, keepdims=True)
    return tf.concat([white, tf.pad(255 * tf.cast(solid, tf.uint8), margins)], axis=2)


def _over_white(image: tf.Tensor) -> tf.Tensor:
    if image.dtype == tf.float32:
        return 255.0 - (255.0 - image[..., :3]) * image[..., 3:] / 255.0
    alpha = tf.cast(image[..., 3:], tf.uint16)
    covered = tf.cast(255 - image[..., :3], tf.uint16) * alpha
    return 255 - tf.cast((covered + 127) // 255, tf.uint8)


def _gray(image: tf.Tensor) -> tf.Tensor:
    return tf.image.rgb_to_grayscale(tf.ensure_shape(image, [None, None, 3]))
