"""Folders of photographs, and elements of pipelines, for the tests of the data sets."""

import io
import itertools
import pathlib

import numpy as np
from PIL import Image


def encode(image, form="JPEG", mode="RGB", **options):
    """Returns the bytes of an image as Pillow writes it."""
    buffer = io.BytesIO()
    Image.fromarray(image).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def write_folder(root: pathlib.Path, photographs, train=5, val=3, size=(60, 80)):
    """Writes a folder of two classes of crops of photographs, JPEGs and one PNG."""
    rng = np.random.default_rng(0)
    height, width = size
    for split, count in (("train", train), ("val", val)):
        for name, photograph in zip(("china", "flower"), photographs, strict=True):
            place = root / split / name
            place.mkdir(parents=True)
            for number in range(count):
                top, left = rng.integers(0, 427 - height), rng.integers(0, 640 - width)
                crop = photograph[top : top + height, left : left + width]
                (place / f"{number}.jpg").write_bytes(encode(crop, quality=92))
    png = root / "train" / "china" / "0.jpg"
    png.with_suffix(".png").write_bytes(encode(np.asarray(Image.open(png)), "PNG"))
    png.unlink()
    return root


def take(pipeline, count):
    """Returns the first elements of a pipeline as tuples of arrays."""
    return [tuple(x.numpy() for x in element) for element in itertools.islice(pipeline, count)]


def assert_equal(these, those):
    """Asserts that elements of two pipelines are equal bit for bit."""
    assert len(these) == len(those)
    for this, that in zip(these, those, strict=True):
        for x, y in zip(this, that, strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)


def joined(shards):
    """Returns the batches of several shards, concatenated."""
    return [
        tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))
        for batches in zip(*shards, strict=True)
    ]


def damage(place: pathlib.Path, photograph):
    """Writes five files that cannot be read into a class folder, one of each kind."""
    crop = photograph[:60, :80]
    jpeg, png = encode(crop), encode(crop, "PNG")
    (place / "zero.jpg").write_bytes(b"")
    (place / "cut.jpg").write_bytes(jpeg[: len(jpeg) * 2 // 3])
    (place / "cut.png").write_bytes(png[: len(png) // 2])
    (place / "text.jpg").write_bytes(b"<html>404</html>")
    (place / "gone.jpg").symlink_to(place / "nowhere")
