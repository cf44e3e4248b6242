import shutil

import numpy as np
import pytest

from keras_resnet.data import Finding, check, check_data, load_dataset
from keras_resnet.data.decoding import decode_whole, decoding_fault
from tests.helpers import refused

from .helpers import damage, encode


def test_a_good_folder(folder):
    report = check_data(str(folder))
    assert report.findings == () and report.counts == {}
    assert report.num_images == {"train": 10, "validation": 6} and report.folder == str(folder)


def test_every_fault_is_found(folder, photographs):
    crop = photographs[0][:60, :80]
    china = folder / "train" / "china"
    damage(china, photographs[0])
    (china / "cmyk.jpg").write_bytes(encode(crop, mode="CMYK"))
    (china / "png.jpg").write_bytes(encode(crop, "PNG"))
    (china / "jpeg.png").write_bytes(encode(crop)[:-100])
    (china / "notes.txt").write_text("not an image")
    (china / "folder.jpg").mkdir()
    (china / "folder.jpg" / "1.jpg").write_bytes(b"")
    (folder / "train" / "rose").mkdir()
    shutil.copytree(folder / "val" / "china", folder / "val" / "tulip")
    report = check_data(folder, workers=2)
    assert report.num_images == {"train": 18, "validation": 9}
    assert report.findings == (
        Finding("cmyk", "train/china/cmyk.jpg"),
        Finding("truncated", "train/china/cut.jpg"),
        Finding("truncated", "train/china/cut.png"),
        Finding("not an image", "train/china/folder.jpg", "folder of 1 files"),
        Finding("unreadable", "train/china/gone.jpg", "No such file or directory"),
        Finding("mislabeled", "train/china/jpeg.png", "JPEG, not PNG"),
        Finding("truncated", "train/china/jpeg.png"),
        Finding("not an image", "train/china/notes.txt"),
        Finding("mislabeled", "train/china/png.jpg", "PNG, not JPEG"),
        Finding("unreadable", "train/china/text.jpg"),
        Finding("zero-byte", "train/china/zero.jpg"),
        Finding("empty class", "train/rose"),
        Finding("unknown class", "val/tulip", f"not in {folder}/train"),
    )
    assert list(report.counts.items()) == [
        *(("zero-byte", 1), ("truncated", 3), ("unreadable", 2), ("mislabeled", 2), ("cmyk", 1)),
        *(("not an image", 2), ("empty class", 1), ("unknown class", 1)),
    ]


def test_names_and_number_of_classes(folder):
    (folder / "train" / "flower").rename(folder / "train" / "a\nb")
    shutil.rmtree(folder / "val")
    shutil.rmtree(folder / "train" / "china")
    found = [(finding.fault, finding.path) for finding in check_data(folder).findings]
    assert found == [("one class", "train"), ("name of a class", "train/a\nb")]


@pytest.mark.parametrize("split", ["Train", "val"])
@pytest.mark.parametrize("fault", ["empty split", "empty class", "unknown class"])
def test_what_training_refuses_is_found(folder, split, fault):
    (folder / "train").rename(folder / "Train")
    if fault == "empty split":
        shutil.rmtree(folder / split)
        (folder / split).mkdir()
        detail = "without class folders"
    elif fault == "empty class":
        (place := folder / split / "flower").rename(folder / "old")
        place.mkdir()
        detail = ""
    else:
        (folder / "Train" / "flower").rename(folder / "Train" / "rose")
        detail = f"not in {folder}/Train"
    found = [finding for finding in check_data(folder).findings if finding.fault == fault]
    assert found and {finding.detail for finding in found} == {detail}
    with refused("`data_dir`", f"Received: '{folder}/{found[0].path}'"):
        load_dataset("folder", folder)


def test_a_missing_folder(tmp_path):
    with refused("`data_dir`", tmp_path / "no"):
        check_data(tmp_path / "no")


@pytest.mark.parametrize("options", [{}, {"mode": "L"}, {"mode": "CMYK"}, {"quality": 100}])
def test_damage_inside_of_a_jpeg_is_found(folder, photographs, options):
    pytest.importorskip("simplejpeg")
    china, crop = folder / "train" / "china", photographs[0][:120, :160]
    whole = encode(crop, **options)
    closed = whole[: len(whole) // 2] + b"\xff\xd9"
    # All readers take it, and its last rows are one gray.
    assert decoding_fault(closed) is None
    assert np.ptp(decode_whole(closed, 1)[-16:]) == 0 < np.ptp(decode_whole(whole, 1)[-16:])
    for name, data in {"whole": whole, "more": whole + b"more", "closed": closed}.items():
        (china / f"{name}.jpg").write_bytes(data)
    report = check_data(folder)
    (found,) = [finding for finding in report.findings if finding.fault == "damaged"]
    assert found.path == "train/china/closed.jpg" and "premature end" in found.detail
    assert report.unsearched == 0


def test_without_the_extra_damage_inside_is_not_looked_for(folder, photographs, monkeypatch):
    monkeypatch.setattr(check, "_strict_decoder", lambda: None)
    whole = encode(photographs[0][:120, :160])
    (folder / "train" / "china" / "closed.jpg").write_bytes(whole[:-900] + b"\xff\xd9")
    report = check_data(folder)
    assert report.findings == () and report.unsearched == 16


def write_arrays(folder, sizes=(4,) * 6, channels=5):
    """Writes arrays of noise of two classes, and returns them by path."""
    rng, arrays = np.random.default_rng(0), {}
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number, side in enumerate(sizes):
            path = folder / name / f"{number}.npy"
            arrays[path] = rng.normal(size=(side, 2 * side, channels)).astype("float32")
            np.save(path, arrays[path])
    return arrays


def test_arrays_are_checked_like_images(tmp_path):
    folder = tmp_path / "train"
    arrays = write_arrays(folder, sizes=(8, 8, 8, 8, 30))
    np.save(folder / "b" / "copy.npy", 2 * arrays[folder / "a" / "4.npy"])
    np.save(folder / "a" / "many.npy", np.zeros((4, 4, 6)))
    (folder / "a" / "cut.npy").write_bytes((folder / "a" / "0.npy").read_bytes()[:-9])
    (folder / "a" / "picture.png").write_bytes(encode(np.zeros((4, 4, 3), np.uint8), "PNG"))
    with refused("`channels`"):
        check_data(tmp_path, channels=0)
    report = check_data(tmp_path, duplicates=True, image_size=9, channels=5)
    assert [(one.fault, one.path) for one in report.findings] == [
        ("truncated", "train/a/cut.npy"),
        ("other array", "train/a/many.npy"),
        ("not an image", "train/a/picture.png"),
        ("leak", "train/b/copy.npy"),
    ]
    assert "(4, 4, 6)" in report.findings[1].detail and report.unsearched == 0
    assert sum(report.num_images.values()) == 13 and report.note_counts == {"small": 8}
    assert {(one.height, one.width) for one in report.images} == {(8, 16), (30, 60)}
    notes = [check_data(tmp_path, image_size=size, channels=5) for size in ("8x16", (8, 17))]
    assert [one.note_counts for one in notes] == [{}, {"small": 8}] and report.channels == 5
    # Without image files the arrays are found by themselves.
    (folder / "a" / "picture.png").unlink()
    assert check_data(tmp_path, duplicates=True, image_size=9).counts == {
        "truncated": 1,
        "other array": 1,
        "leak": 1,
    }
    write_arrays(tmp_path / "gray" / "train", channels=3)
    assert check_data(tmp_path / "gray").counts == {"not an image": 12, "empty class": 2}
