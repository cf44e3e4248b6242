import json
import os
import shutil
import unittest.mock

import pytest

from keras_resnet.data import BadImageWarning, load_dataset
from keras_resnet.data import folder as folders
from keras_resnet.data.folder import UnreadFilesWarning, index_folder
from tests.helpers import refused

SMALL = {"image_size": 24}


@pytest.fixture
def aged(folder):
    """Returns the folder with old times of change."""
    for path in folder.glob("*/*"):
        os.utime(path, (10**9, 10**9))
    return folder


@pytest.fixture
def scans(monkeypatch):
    """Returns a list that collects the split folders as they are scanned."""
    listed = []
    scan = folders.scan_split
    monkeypatch.setattr(
        folders, "scan_split", lambda path, *all: listed.append(path.name) or scan(path, *all)
    )
    return listed


def test_a_folder(folder):
    (folder / "train" / ".hidden").mkdir()
    dataset = load_dataset("folder", folder, **SMALL)
    assert dataset.name == "photos" and dataset.class_names == ("china", "flower")
    assert dataset.splits == ("train", "validation")
    assert dataset.num_examples("train") == 10 and dataset.num_examples("validation") == 6
    shutil.copytree(folder / "val", folder / "test")
    shutil.rmtree(folder / "test" / "china")
    dataset = load_dataset("folder", folder, **SMALL)
    assert dataset.splits == ("train", "validation", "test")
    labels = [int(x) for _, ys, _ in dataset.eval_batches("test", 3) for x in ys]
    assert labels == [1, 1, 1]  # classes are those of the training split


def test_other_names_of_the_splits(folder):
    for name, other in (("train", "Train"), ("val", "validation"), ("validation", "VALID")):
        (folder / name).rename(folder / other)
        if other != "Train":
            assert load_dataset("folder", folder, **SMALL).splits == ("train", "validation")


def test_what_is_not_read_is_said_with_its_number(folder):
    place = folder / "train" / "china"
    for number in range(14):
        (place / f"{number}.TIF").write_bytes(b"")
    (place / "more" / "deep").mkdir(parents=True)
    for name in ("more/1.jpg", "more/deep/2.jpg", "README", "x.\x1b[2Jx"):
        (place / name).write_bytes(b"")
    (folder / "train" / "3.jpg").write_bytes(b"")
    (folder / "extra").mkdir()
    words = (
        r"1 .\x1b[2jx",
        "14 .tif",
        "2 in folders",
        "1 without a suffix",
        "1 outside",
        "folder 'extra'",
    )
    with pytest.warns(UnreadFilesWarning) as warned:
        assert load_dataset("folder", folder, **SMALL).num_examples("train") == 10
    (line,) = (str(warning.message) for warning in warned)
    assert [word for word in words if word not in line] == [] and line.isprintable()


def test_hidden_files_and_pipes_are_no_images(folder):
    """A pipe would block when it is opened."""
    place = folder / "train" / "china"
    for name in ("._0.jpg", ".DS_Store", "Thumbs.db"):
        (place / name).write_bytes(b"no image")
    (folder / "train" / "__MACOSX").mkdir()
    os.mkfifo(place / "pipe.png")
    (place / "link.png").symlink_to(place / "pipe.png")
    content = folders.scan_split(folder / "train")
    assert list(content) == ["china", "flower"] and len(content["china"].files) == 5
    assert content["china"].others == ("link.png", "pipe.png")


def test_links_that_lead_nowhere_are_bad_images(folder):
    """A link to itself does not refuse the whole data set."""
    place = folder / "train" / "china"
    for name, target in (("loop.jpg", "loop.jpg"), ("a\x1b[2J.jpg", "nowhere"), ("4.png", "1.jpg")):
        (place / name).symlink_to(target)
    assert len(folders.scan_split(folder / "train")["china"].files) == 8
    with pytest.warns(BadImageWarning) as warned:
        images, _ = next(iter(load_dataset("folder", folder, **SMALL).train_batches(13)))
    said = sorted(str(one.message).partition("china/")[2] for one in warned)
    assert [line.partition(" is unreadable (")[0] for line in said] == [r"a\x1b[2J.jpg", "loop.jpg"]
    assert all(line.isprintable() for line in said) and images.shape[0] == 13


def test_names_need_not_be_utf8(folder):
    path = folder / "train" / "china"
    os.rename(path / "1.jpg", os.fsencode(path) + b"/\xff\xfe.jpg")
    images, _ = next(iter(load_dataset("folder", folder, **SMALL).train_batches(10)))
    assert images.shape[0] == 10


def test_the_list_is_kept_and_used(aged, scans, tmp_path):
    first = index_folder(aged, tmp_path / "cache")
    assert scans == ["train", "val"]
    assert index_folder(aged, tmp_path / "cache") == first and len(scans) == 2
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] == [".json"]
    assert index_folder(aged) == first and len(scans) == 4  # without a cache


def test_two_folders_share_a_cache(aged, scans, tmp_path):
    other = shutil.copytree(aged, tmp_path / "other")
    (other / "train" / "china" / "1.jpg").unlink()
    os.utime(other / "train" / "china", (10**9, 10**9))
    for _ in range(2):
        assert len(index_folder(aged, tmp_path / "cache")["train"]["china"]) == 5
        assert len(index_folder(other, tmp_path / "cache")["train"]["china"]) == 4
    assert len(scans) == 4


@pytest.mark.parametrize("change", ["add", "remove", "rename", "class", "split"])
def test_a_changed_folder_is_listed_again(aged, tmp_path, change):
    index_folder(aged, tmp_path / "cache")
    place = aged / "train" / "flower"
    if change == "add":
        shutil.copy(place / "1.jpg", place / "9.jpg")
    elif change == "remove":
        (place / "1.jpg").unlink()
    elif change == "rename":
        (place / "1.jpg").rename(place / "8.jpg")
    elif change == "class":
        shutil.copytree(place, aged / "train" / "tulip")
    else:
        shutil.copytree(aged / "val", aged / "test")
    assert index_folder(aged, tmp_path / "cache") == index_folder(aged)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"version": 1', '"version": 0'),
        lambda text: "[]",
        lambda text: "[" * 100_000,
        lambda text: json.dumps({"version": 1, "splits": {"train": {"china": [1, 2]}}}),
        lambda text: json.dumps({"version": 1, "splits": {"train": {"china": [[1], ["a"]]}}}),
        lambda text: json.dumps({"version": 1, "splits": 3}),
    ],
)
def test_a_damaged_list_is_made_again(aged, tmp_path, damage):
    good = index_folder(aged, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    text = kept.read_text()
    kept.write_text(damage(text))
    assert index_folder(aged, tmp_path / "cache") == good
    assert kept.read_text() == text


def test_a_folder_changed_a_moment_ago_is_not_trusted_to_the_clock(folder, tmp_path):
    index_folder(folder, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_failed_write_leaves_the_kept_list(aged, tmp_path, monkeypatch):
    index_folder(aged, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    text = kept.read_text()
    (aged / "train" / "china" / "1.jpg").unlink()
    os.utime(aged / "train" / "china", (2 * 10**9 // 2, 10**9 + 1))

    full = unittest.mock.Mock(side_effect=OSError(28, "No space left on device"))
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="space"):
        index_folder(aged, tmp_path / "cache")
    assert kept.read_text() == text and list((tmp_path / "cache").iterdir()) == [kept]


def test_wrong_folders(folder, tmp_path):
    def check(data_dir, *words):
        with refused("`data_dir`", *words):
            load_dataset("folder", data_dir, **SMALL)

    check(None, "data_dir=None")
    check(tmp_path / "no", f"data_dir='{tmp_path}/no'")
    check(folder / "train" / "china", "'train'")
    empty = tmp_path / "empty"
    (empty / "train").mkdir(parents=True)
    check(empty, f"Received: '{empty}/train'")
    (folder / "val" / "rose").mkdir()
    check(folder, ".jpg, .jpeg, .png, .gif, .bmp, .webp", f"Received: '{folder}/val/rose'")
    shutil.copy(folder / "val" / "china" / "0.jpg", folder / "val" / "rose" / "0.jpg")
    check(folder, "'train'", f"Received: '{folder}/val/rose'")
    (folder / "train" / "rose").mkdir()
    check(folder, f"Received: '{folder}/train/rose'")
