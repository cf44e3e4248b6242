"""One table of kinds of image files: each is read alike, or refused alike, by all that read files.

These are training, evaluation (crops and whole images), prediction, the check of a folder, and the
signature of exported modules that takes files.
"""

import io
import struct

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from sklearn.datasets import load_sample_images

from keras_resnet.data import Transforms, check_data, image_files
from keras_resnet.data.decoding import decode_whole
from keras_resnet.evaluation.predictor import read_images
from keras_resnet.export import export_hub

from .data.helpers import encode

SIDE = 24
RGB = np.ascontiguousarray(load_sample_images().images[0][100:340:10, 200:440:10])
ALPHA = np.linspace(0, 255, SIDE * SIDE).astype(np.uint8).reshape(SIDE, SIDE)
RGBA = np.dstack([RGB, ALPHA])
PALETTE = Image.fromarray(RGB).quantize(16)
LEVELS = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * 113  # 16 bits


def save(image, form, **options):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def patched(data, position, part):
    return data[:position] + part + data[position + len(part) :]


def over_white(data):
    """Returns the pixels of an image file as Pillow composites them."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    image = image.convert("RGB").convert("RGBA") if image.mode == "CMYK" else image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(white, image).convert("RGB"))


JPEG, PNG, GIF = encode(RGB), save(RGB, "PNG"), save(PALETTE, "GIF")
BMP, PALETTE_BMP, WEBP = save(RGB, "BMP"), save(PALETTE, "BMP"), save(RGB, "WEBP")
ANIMATION = {"save_all": True, "append_images": [Image.fromarray(255 - RGB)]}
LARGE = 60_000
TURNED = Image.Exif()
TURNED[0x0112] = 6


def turned_late_jpeg():
    """A turned JPEG with 3,000 bytes of another program in front of its EXIF."""
    turned = save(RGB, "JPEG", quality=95, exif=TURNED)
    end = 2 + 2 + 16  # of JFIF's segment
    return turned[:end] + b"\xff\xed" + struct.pack(">H", 3002) + 3000 * b"8" + turned[end:]


def turned_marked_webp():
    """A turned WebP whose EXIF begins as that of a JPEG."""
    turned = save(RGB, "WEBP", lossless=True, exif=TURNED)
    at = turned.index(b"EXIF")
    content = b"Exif\0\0" + turned[at + 8 :]
    chunk = b"EXIF" + struct.pack("<I", len(content)) + content
    return turned[:4] + struct.pack("<I", at - 8 + len(chunk)) + turned[8:at] + chunk


def tiny_blocks_gif():
    """A GIF with a comment of 3,000 blocks of one byte each."""
    frame = 13 + 3 * 16
    return GIF[:frame] + b"\x21\xfe" + 3000 * b"\x01x" + b"\0" + GIF[frame:]


def own_palette_gif():
    """A GIF whose palette, with a transparent color, is that of its frame."""
    size = GIF[10] & 7
    frame = 13 + 3 * 2 ** (size + 1)
    head = GIF[:10] + bytes([GIF[10] & 127]) + GIF[11:13]
    control = b"\x21\xf9\x04\x01\0\0\x05\0"
    flags = bytes([128 | size])
    return head + control + GIF[frame : frame + 9] + flags + GIF[13:frame] + GIF[frame + 10 :]


def small_frame_gif():
    """A GIF of 20x20 pixels on a canvas of 24x24."""
    return patched(save(PALETTE.crop((0, 0, 20, 20)), "GIF"), 6, struct.pack("<HH", SIDE, SIDE))


def small_frame():
    canvas = np.full_like(RGB, 255)
    canvas[:20, :20] = np.asarray(PALETTE.convert("RGB"))[:20, :20]
    return canvas


def text(words):
    chunks = PngInfo()
    chunks.add_text("Comment", words)
    return chunks


def text_first_png():
    """A PNG with a transparent color, and the names of chunks in a text in front of that."""
    data = save(PALETTE, "PNG", transparency=5, pnginfo=text("IDAT"))
    assert data.index(b"IDAT") < data.index(b"tRNS")
    return data


def large_jpeg():
    return patched(JPEG, JPEG.index(b"\xff\xc0") + 5, struct.pack(">HH", LARGE, LARGE))


# Bytes, and the pixels where those of Pillow are not what is expected.
READ = {
    "jpeg": JPEG,
    "progressive.jpeg": encode(RGB, progressive=True),
    "gray.jpeg": encode(RGB, mode="L"),
    "cmyk.jpeg": encode(RGB, mode="CMYK"),
    "rgb.jpeg": encode(RGB, keep_rgb=True),
    "trailing.jpeg": JPEG + b"more",
    "png": PNG,
    "gray.png": encode(RGB, "PNG", "L"),
    "bits.png": encode(RGB, "PNG", "1"),
    "palette.png": save(PALETTE, "PNG"),
    "alpha.png": save(RGBA, "PNG"),
    "gray-alpha.png": save(Image.fromarray(RGBA).convert("LA"), "PNG"),
    "palette-clear.png": save(PALETTE, "PNG", transparency=5),
    "color-clear.png": save(RGB, "PNG", transparency=tuple(map(int, RGB[0, 0]))),
    "clear-behind-text.png": text_first_png(),
    "text-of-chunks.png": save(RGB, "PNG", pnginfo=text("tRNS")),
    "16.png": (save(LEVELS, "PNG"), np.repeat(LEVELS[..., None] >> 8, 3, axis=2)),
    "gif": GIF,
    "clear.gif": save(PALETTE, "GIF", transparency=5, comment=b"x" * 700),
    "own-palette.gif": own_palette_gif(),
    "small-frame.gif": (small_frame_gif(), small_frame()),
    "animated.gif": save(PALETTE, "GIF", **ANIMATION),
    "cut-second-frame.gif": (save(PALETTE, "GIF", **ANIMATION)[:-9], over_white(GIF)),
    "bmp": BMP,
    "32.bmp": save(RGBA, "BMP"),
    "gray.bmp": save(RGB[..., 0], "BMP"),
    "palette.bmp": PALETTE_BMP,
    "webp": WEBP,
    "lossless.webp": save(RGB, "WEBP", lossless=True),
    "alpha.webp": save(RGBA, "WEBP"),
    "lossless-alpha.webp": save(RGBA, "WEBP", lossless=True),
    "animated.webp": save(RGB, "WEBP", **ANIMATION),
    "turned.jpeg": save(RGB, "JPEG", quality=95, exif=TURNED),
    "turned.png": save(RGB, "PNG", exif=TURNED),
    "turned-late.jpeg": turned_late_jpeg(),
    "turned-marked.webp": turned_marked_webp(),
    "turned.webp": save(RGB, "WEBP", lossless=True, exif=TURNED),
    "animated-alpha.webp": save(RGBA, "WEBP", lossless=True, **ANIMATION),
}
# Bytes and fault.
REFUSED = {
    "empty.jpeg": (b"", "zero-byte"),
    "text.png": (b"<html>404</html>", "unreadable"),
    "short.png": (b"x", "unreadable"),
    "tiff.png": (save(RGB, "TIFF"), "unreadable"),
    "cut.jpeg": (JPEG[:-1], "truncated"),
    # A second frame header among the rows.
    "damaged.jpeg": (patched(JPEG, len(JPEG) - 60, b"\xff\xc0"), "unreadable"),
    "cut.png": (PNG[:-40], "truncated"),
    "damaged.png": (patched(PNG, len(PNG) // 2, b"damage"), "unreadable"),
    "cut.gif": (GIF[:-9], "unreadable"),
    "cut.bmp": (BMP[:-9], "unreadable"),
    "cut.webp": (WEBP[:-9], "unreadable"),
    "1.bmp": (encode(RGB, "BMP", "1"), "unreadable"),
    "4.bmp": (patched(PALETTE_BMP, 28, b"\x04"), "unreadable"),
    "compressed.bmp": (patched(PALETTE_BMP, 30, b"\x01"), "unreadable"),
    "no-color.bmp": (patched(PALETTE_BMP, len(PALETTE_BMP) - SIDE, b"\xff"), "unreadable"),
    "no-frame.gif": (GIF[: 13 + 3 * 16] + b";" + GIF[14 + 3 * 16 :], "unreadable"),
    "tiny-blocks.gif": (tiny_blocks_gif(), "unreadable"),
    "outside.gif": (patched(GIF, 6, struct.pack("<HH", SIDE, SIDE - 1)), "unreadable"),
    "large.jpeg": (large_jpeg(), "too large"),
    "large.png": (patched(PNG, 16, struct.pack(">II", LARGE, LARGE)), "too large"),
    "large.gif": (patched(GIF, 6, struct.pack("<HH", LARGE, LARGE)), "too large"),
    "large.bmp": (patched(BMP, 18, struct.pack("<ii", LARGE, -LARGE)), "too large"),
    "large.webp": (patched(READ["alpha.webp"], 24, b"\xff" * 6), "too large"),
    "large-lossy.webp": (patched(WEBP, 26, b"\xff\x3f\xff\x3f"), "too large"),
    "large-lossless.webp": (patched(READ["lossless.webp"], 21, b"\xff" * 3 + b"\x0f"), "too large"),
}


def place(folder, name):
    return folder / "train" / "a" / (name if "." in name else f"x.{name}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "train" / "a").mkdir(parents=True)
    for name, entry in (READ | REFUSED).items():
        place(folder, name).write_bytes(entry if isinstance(entry, bytes) else entry[0])
    return folder


@pytest.fixture(scope="module", params=[1, 3], ids=["gray", "rgb"])
def readers(request, tmp_path_factory):
    """Functions of a path, in the order of the table's description, and their channels."""
    channels = request.param
    whole = Transforms(SIDE, channels, resize_range=(SIDE, SIDE), eval_resize=SIDE, lighting=0)
    draws = tf.constant([0.5] * whole.num_draws)  # no flip
    scalar = [tf.TensorSpec([], tf.string)]
    train, evaluate, decode = (
        tf.function(function, input_signature=scalar, autograph=False)
        for function in (
            lambda encoded: whole.training(encoded, draws),
            whole.evaluation,
            lambda encoded: decode_whole(encoded, channels),
        )
    )
    inputs = keras.Input((SIDE, SIDE, channels))
    net = keras.Model(inputs, keras.layers.Flatten()(inputs))
    path = export_hub(net, tmp_path_factory.mktemp("module") / "m", preprocessing="none")
    module = tf.saved_model.load(str(path))

    def exported(path):
        files = tf.constant([path.read_bytes()])
        rows = module.signatures["serving_bytes"](encoded=files)
        if error := rows["error"].numpy()[0]:
            raise ValueError(error)
        return tf.reshape(rows["features"], whole.shape)

    return channels, {
        "training": lambda path: train(path.read_bytes()),
        "evaluation": lambda path: evaluate(path.read_bytes()),
        "whole images": lambda path: decode(path.read_bytes()),
        "prediction": lambda path: next(read_images(path, whole))[1],
        "exported": exported,
    }


# Each in a loop, since the fixtures of every test empty TensorFlow's caches of functions.
def test_all_read_the_same_pixels(folder, readers):
    channels, functions = readers
    for name, entry in READ.items():
        expected = over_white(entry) if isinstance(entry, bytes) else entry[1]
        if channels == 1:
            image = Image.fromarray(expected.astype(np.uint8))
            expected = np.asarray(image.convert("L"))[..., np.newaxis]
        whole = functions["whole images"](place(folder, name)).numpy()
        # By Pillow's arithmetic, in which saturated colors of a JPEG have another gray.
        tolerance = 10 if "jpeg" in name else 3 - channels
        np.testing.assert_allclose(whole.astype(float), expected, atol=tolerance, err_msg=name)
        for way, read in functions.items():
            pixels = read(place(folder, name))
            np.testing.assert_allclose(pixels, whole, atol=1e-3, err_msg=f"{name} by {way}")


def test_all_refuse_the_same_files(folder, readers):
    for name, (_, fault) in REFUSED.items():
        for way, read in readers[1].items():
            error = refusal(read, place(folder, name))
            assert error is not None, f"{name} is read by {way}"
            assert way != "prediction" or f"which is {fault}" in error


def refusal(read, path):
    """Returns the message of the error, or None if the file is read."""
    try:
        read(path)
    except (tf.errors.OpError, ValueError) as error:
        return str(error)
    return None


def test_check_data_names_the_fault_of_each(folder):
    kinds = {"cmyk.jpeg": "cmyk", "16.png": "16-bit", "train": "one class"}
    expected = kinds | {name: fault for name, (_, fault) in REFUSED.items()}
    found = {f.path.split("/")[-1]: f.fault for f in check_data(folder).findings}
    assert found == expected


def test_the_limit_of_pixels():
    assert image_files.MAX_PIXELS == 100_000_000
    assert (
        image_files.limited(tf.constant("file"), tf.constant([10_000, 10_000])).numpy() == b"file"
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="too large"):
        image_files.limited(tf.constant("file"), tf.constant([10_001, 10_000]))


@pytest.mark.parametrize("band", [1, 5 * SIDE, 1 << 30])
def test_bands_of_rows_give_the_same_pixels(monkeypatch, band):
    monkeypatch.setattr(image_files, "_BAND", band)
    for name in ("alpha.png", "palette.bmp", "cmyk.jpeg", "gif"):
        data = READ[name]
        rgb = decode_whole(data, 3)
        np.testing.assert_allclose(rgb, over_white(data), atol=3 if name == "cmyk.jpeg" else 0)
        expected = tf.image.rgb_to_grayscale(rgb)
        np.testing.assert_array_equal(decode_whole(data, 1), expected)
