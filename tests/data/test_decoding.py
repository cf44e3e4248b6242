import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet.data.decoding import decode_whole, decode_window, decoding_fault
from keras_resnet.data.image_files import image_format, is_cmyk

from .helpers import encode


def whole(height, width):
    return tf.cast(tf.stack([0, 0, height, width]), tf.float32)


def window(*numbers):
    return lambda height, width: tf.constant(numbers, tf.float32)


def pillow_resized(image, box, size):
    """Returns `image` cropped to (top, left, height, width) and resized by Pillow, antialiased."""
    top, left, height, width = box
    cut = Image.fromarray(image[top : top + height, left : left + width])
    return np.asarray(cut.resize((size, size), Image.Resampling.BILINEAR), float)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_every_format_is_told_by_its_bytes_and_read(photographs, form):
    data = encode(photographs[0], form)
    assert image_format(data).upper() == form and decoding_fault(data) is None
    image = decode_window(data, whole, 64, 3, antialias=True).numpy()
    assert image.dtype == np.float32 and image.shape == (64, 64, 3)
    assert np.abs(image - pillow_resized(photographs[0], (0, 0, 427, 640), 64)).mean() < 3


def test_the_window_is_what_pillow_cuts_and_resizes(photographs):
    data = encode(photographs[0], "PNG")
    box = 100, 200, 150, 180
    image = decode_window(data, window(*box), 96, 3, antialias=True).numpy()
    # Pillow rounds to whole levels.
    assert np.abs(image - pillow_resized(photographs[0], box, 96)).max() < 1.01


@pytest.mark.parametrize(("size", "ratio"), [(300, 1), (150, 2), (75, 4), (30, 8)])
def test_a_jpeg_is_decoded_at_the_smallest_sufficient_scale(photographs, size, ratio):
    data = encode(photographs[0], quality=95)
    box = 40, 80, 320, 480
    image = decode_window(data, window(*box), size, 3, antialias=False).numpy()
    part = tf.image.decode_and_crop_jpeg(
        data, [x // ratio for x in box], 3, ratio=ratio, dct_method="INTEGER_ACCURATE"
    )
    np.testing.assert_array_equal(image, tf.image.resize(part, [size, size]))
    assert np.abs(image - pillow_resized(photographs[0], box, size)).mean() < 6


def test_a_window_is_held_inside_the_image(photographs):
    for form in ("JPEG", "PNG"):
        data = encode(photographs[0][:20, :31], form)
        far = decode_window(data, window(19.9, 30.9, 0.2, 0.2), 4, 3, antialias=False)
        np.testing.assert_allclose(far, np.broadcast_to(far[:1, :1], (4, 4, 3)), atol=1e-4)
        beyond = decode_window(data, window(-3.0, -2.0, 50.0, 50.0), 26, 3, antialias=False)
        np.testing.assert_array_equal(beyond, decode_window(data, whole, 26, 3, antialias=False))


def test_grayscale_and_color_become_what_is_asked_for(photographs):
    gray, color = (encode(photographs[0], mode=mode) for mode in ("L", "RGB"))
    as_color = decode_window(gray, whole, 32, 3, antialias=False).numpy()
    np.testing.assert_array_equal(as_color[..., 0], as_color[..., 2])
    assert decode_window(color, whole, 32, 1, antialias=False).shape == (32, 32, 1)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_alpha_of_png_is_that_of_pillow(photographs, mode, bits):
    image = Image.fromarray(photographs[0][:20, :30]).convert(mode)
    if mode == "RGBA":
        image.putalpha(image.convert("L"))
    file = io.BytesIO()
    image.save(file, "PNG", **({"transparency": 0} if mode == "P" else {}))
    decoded = decode_whole(file.getvalue(), 4, bits=bits).numpy()
    np.testing.assert_array_equal(decoded, np.asarray(image_again(file).convert("RGBA")))


def test_alpha_of_gif_is_that_of_pillow(photographs):
    file = io.BytesIO()
    image = Image.fromarray(photographs[0][:20, :30]).quantize(8)
    image.save(file, "GIF", transparency=int(np.asarray(image)[0, 0]))
    decoded, expected = decode_whole(file.getvalue(), 4), image_again(file).convert("RGBA")
    alpha = np.asarray(expected)[..., 3]
    assert 0 < (alpha == 0).mean() < 1
    np.testing.assert_array_equal(decoded[..., 3], alpha)
    seen = alpha > 0
    np.testing.assert_array_equal(decoded.numpy()[seen], np.asarray(expected)[seen])


def image_again(file):
    return Image.open(io.BytesIO(file.getvalue()))


def test_cmyk_becomes_rgb(photographs):
    data = encode(photographs[0], mode="CMYK", quality=95)
    assert is_cmyk(data) and not is_cmyk(encode(photographs[0])) and decoding_fault(data) is None
    image = decode_window(data, whole, 64, 3, antialias=True).numpy()
    assert np.abs(image - pillow_resized(photographs[0], (0, 0, 427, 640), 64)).mean() < 3


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_fails_even_above_the_cut(photographs, progressive):
    data = encode(photographs[0], progressive=progressive)
    for length in (len(data) // 2, len(data) - 1):
        assert decoding_fault(data[:length]) == "truncated"
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode_window(data[:length], window(0, 0, 32, 32), 16, 3, antialias=False)


def test_damage_below_the_window_is_noticed(photographs):
    data = bytearray(encode(photographs[0]))
    data[len(data) * 3 // 4 : len(data) * 3 // 4 + 2] = b"\xff\xc0"  # a second frame header
    assert decoding_fault(bytes(data)) == "unreadable"
    for size in (16, 4):  # at full scale and at 1/8
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode_window(bytes(data), window(0, 0, 32, 32), size, 3, antialias=False)


def test_bytes_after_a_jpeg_do_no_harm(photographs):
    data = encode(photographs[0])
    more = data + b"trailing"
    assert decoding_fault(more) is None
    this, that = (decode_window(x, whole, 100, 3, antialias=False) for x in (data, more))
    np.testing.assert_array_equal(this, that)


def test_faults_by_kind(photographs):
    png = encode(photographs[0], "PNG")
    assert decoding_fault(b"") == "zero-byte"
    assert decoding_fault(png[: len(png) // 2]) == "truncated"
    assert decoding_fault(b"not an image") == "unreadable"
    assert decoding_fault(png[:40] + bytes(len(png) - 60) + png[-20:]) == "unreadable"
    assert image_format(b"not an image") is None
