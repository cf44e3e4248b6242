"""Notes on files that Pillow writes, and the table of all findings."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from keras_resnet.data import check_data
from keras_resnet.data.decoding import decoding_fault
from keras_resnet.data.traits import shown_size, traits_of

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
OTHER = PICTURE.transpose(Image.Transpose.ROTATE_180)
INDEXED = PICTURE.convert("P")
EXIF = Image.Exif()
EXIF[274] = 6


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


FRAMES = {"save_all": True, "append_images": [OTHER]}
CASES = {
    "jpeg": (saved(PICTURE, "JPEG"), []),
    "turned jpeg": (saved(PICTURE, "JPEG", exif=EXIF), ["turned"]),
    "turned png": (saved(PICTURE, "PNG", exif=EXIF), ["turned"]),
    "png": (saved(PICTURE, "PNG"), []),
    "palette": (saved(INDEXED, "PNG"), ["palette"]),
    "clear palette": (
        saved(INDEXED, "PNG", transparency=0),
        ["palette", "transparent"],
    ),
    "alpha": (saved(PICTURE.convert("RGBA"), "PNG"), ["transparent"]),
    "moving png": (saved(PICTURE, "PNG", **FRAMES), ["animated"]),
    "gif": (saved(PICTURE, "GIF"), []),
    "clear gif": (saved(INDEXED, "GIF", transparency=0), ["transparent"]),
    "moving gif": (saved(INDEXED, "GIF", **FRAMES, disposal=1, optimize=False), ["animated"]),
    "bmp": (saved(PICTURE, "BMP"), []),
    "palette bmp": (saved(INDEXED, "BMP"), ["palette"]),
    "webp": (saved(PICTURE, "WebP"), []),
    "moving webp": (saved(PICTURE, "WebP", **FRAMES), ["animated"]),
    "strip": (saved(PICTURE.resize((90, 20)), "PNG"), ["strip"]),
    "small": (saved(PICTURE.resize((20, 15)), "PNG"), ["small"]),
}


@pytest.mark.parametrize("case", CASES)
def test_traits(case):
    data, expected = CASES[case]
    assert [kind for kind, _ in traits_of(data, shown_size(data), image_size=20)] == expected


@pytest.mark.parametrize("lossless", [False, True])
def test_alpha_of_webp(lossless):
    image = PICTURE.convert("RGBA")
    image.putalpha(PICTURE.convert("L"))
    data = saved(image, "WebP", lossless=lossless)
    assert list(traits_of(data, (20, 30))) == [("transparent", "")]


def test_sizes_are_those_of_the_upright_image():
    assert shown_size(CASES["jpeg"][0]) == (20, 30)
    assert shown_size(CASES["turned jpeg"][0]) == shown_size(CASES["turned png"][0]) == (30, 20)


@pytest.mark.parametrize("case", ["turned jpeg", "clear palette", "moving gif", "moving webp"])
def test_damaged_files_that_are_read_have_traits(case):
    data, _ = CASES[case]
    rng = np.random.default_rng(0)
    damaged = [data[: rng.integers(40, len(data))]]
    for _ in range(3):
        changed = bytearray(data)
        for place in rng.integers(10, len(data), 2):
            changed[place] = rng.integers(256)
        damaged.append(bytes(changed))
    for one in damaged:
        if decoding_fault(one) is None:
            assert len(list(traits_of(one, shown_size(one)))) <= 5


def test_notes_of_a_folder_and_its_table(folder):
    png = folder / "train" / "china" / "0.png"
    png.write_bytes(saved(Image.open(png).convert("P"), "PNG"))
    (folder / "train" / "flower" / "0.jpg").unlink()
    (folder / "val" / "flower" / "0.jpg").write_bytes(b"")
    report = check_data(folder, image_size=61)
    assert report.counts == {"zero-byte": 1}
    assert report.note_counts == {"few images": 1, "palette": 1, "small": 14}
    assert {one.severity for one in report.notes} == {"information"}
    assert len(report.images) == 14 and {one[3:] for one in report.images} == {(60, 80)}
    report.write(folder / "findings.csv")
    with open(folder / "findings.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 17
    assert rows[0] == {
        **{"severity": "warning", "kind": "zero-byte"},
        **{"path": "val/flower/0.jpg", "detail": ""},
    }
    assert {
        "severity": "information",
        "kind": "few images",
        "path": "train/flower",
        "detail": "4",
    } in rows
