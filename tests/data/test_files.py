"""Splits by a hash of the names: of flat folders, and of `train/` alone."""

import hashlib
import logging
import os
import shutil

import numpy as np
import pytest
from scipy.stats import binom

from keras_resnet.data import check_data, load_dataset
from keras_resnet.data.files import missing_shares, split_by_hash
from keras_resnet.data.folder import UnreadFilesWarning
from tests.helpers import refused

from .helpers import encode

SHARES = {"validation": 0.1, "test": 0.2}


def names_of(count, start=0):
    return [f"class{i % 3}/{i}.jpg" for i in range(start, start + count)]


def split_of(names, groups, shares):
    """Returns the split of each name."""
    rows = split_by_hash(names, groups, shares)
    return {names[row]: split for split, which in rows.items() for row in which}


def test_a_name_is_placed_by_its_hash():
    names = names_of(3000)
    found = split_of(names, None, SHARES)
    for name in names:
        place = int(hashlib.sha256(name.encode()).hexdigest(), 16) / 2**256
        assert found[name] == ("test" if place < 0.2 else "validation" if place < 0.3 else "train")


def test_shares_are_within_binomial_bounds_in_every_class():
    names, groups = names_of(3000), np.arange(3000) % 3
    rows = split_by_hash(names, groups, SHARES)
    assert sorted(np.concatenate(list(rows.values()))) == list(range(3000))
    for split, share in SHARES.items():
        for count in np.bincount(groups[rows[split]], minlength=3):
            assert binom.ppf(1e-4, 1000, share) <= count <= binom.ppf(1 - 1e-4, 1000, share)


def test_files_that_come_later_move_none_of_the_others():
    names = names_of(300)
    before = split_of(names, np.arange(300) % 3, SHARES)
    more = names_of(350)[::-1]
    after = split_of(more, np.arange(350)[::-1] % 3, SHARES)
    assert {name: after[name] for name in names} == before


def test_no_split_moves_where_the_other_share_is_none():
    both, test = (split_of(names_of(300), None, shares) for shares in (SHARES, {"test": 0.2}))
    assert [k for k, v in both.items() if v == "test"] == [
        k for k, v in test.items() if v == "test"
    ]


@pytest.mark.parametrize("share", [0.001, 0.49])
def test_a_small_class_has_an_image_in_every_split(share):
    for start in range(20):
        names, groups = names_of(6, start), np.array([0, 0, 0, 1, 1, 2])
        rows = split_by_hash(names, groups, {"validation": share, "test": share})
        counts = {split: np.bincount(groups[which], minlength=3) for split, which in rows.items()}
        assert counts["train"].tolist() == [1, 2, 1]
        assert counts["validation"].tolist() == counts["test"].tolist() == [1, 0, 0]


def test_shares_of_the_missing_splits():
    assert missing_shares(["train"]) == {"validation": 0.1, "test": 0.1}
    assert missing_shares(["train"], 0.3, 0.0) == {"validation": 0.3}
    assert missing_shares(["train", "test"]) == missing_shares(["train", "validation"]) == {}
    assert missing_shares(["train", "test"], 0.25) == {"validation": 0.25}
    with refused("val_split", "own validation images", "val_split=0.1"):
        missing_shares(["train", "validation"], 0.1)
    with refused("test_split", "test_split=1.0"):
        missing_shares(["train"], None, 1.0)
    with refused("val_split", "test_split", "val_split=0.5, test_split=0.5"):
        missing_shares(["train"], 0.5, 0.5)


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """Returns a folder of class folders, whose images are all of one color each, and the colors."""
    root = tmp_path_factory.mktemp("data") / "flat"
    colors = {}
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for number in range(30 - 10 * label):
            path = f"{name}/{number}.png"
            colors[path] = 100 * label + number
            image = np.full((8, 8, 3), colors[path], np.uint8)
            (root / path).write_bytes(encode(image, "PNG"))
    return root, colors


@pytest.mark.parametrize("place", ["", "train"])
def test_an_unsplit_folder(flat, tmp_path, caplog, place):
    root, colors = flat
    shutil.copytree(root, tmp_path / "data" / place)
    with caplog.at_level(logging.INFO, logger="keras_resnet"):
        dataset = load_dataset("folder", tmp_path / "data", image_size=8)
    expected = split_of(list(colors), np.repeat([0, 1], [30, 20]), dict.fromkeys(SHARES, 0.1))
    found = {}
    for split in dataset.splits:
        for row, (image, label, _) in enumerate(dataset.whole_images(split)):
            name = dataset.locate(split, row).removeprefix(f"{tmp_path}/data/{place}").lstrip("/")
            assert image.numpy().min() == image.numpy().max() == colors[name]
            assert dataset.class_names[label] == name.partition("/")[0]
            found[name] = split
    assert found == expected
    sizes = check_data(tmp_path / "data").num_images
    assert sizes == dataset.sizes and sum(sizes.values()) == 50
    counts = ", ".join(f"{sizes[split]} {split}" for split in ("train", "validation", "test"))
    assert [r.getMessage() for r in caplog.records if counts in r.getMessage()] != []


def test_a_missing_split_is_drawn_if_its_share_is_given(flat, tmp_path):
    root, _ = flat
    for split in ("train", "test"):
        shutil.copytree(root, tmp_path / split)
    assert load_dataset("folder", tmp_path, image_size=8).sizes == {"train": 50, "test": 50}
    dataset = load_dataset("folder", tmp_path, image_size=8, val_split=0.2)
    assert dataset.sizes["test"] == 50
    assert dataset.sizes["train"] + dataset.sizes["validation"] == 50
    assert np.bincount(dataset.labels("validation")).min() > 0


def test_the_list_of_a_flat_folder_is_kept(flat, tmp_path):
    root, _ = flat
    shutil.copytree(root, tmp_path / "data")
    (tmp_path / "data" / "cat" / "notes.txt").write_text("no image")
    for path in (tmp_path / "data").iterdir():
        os.utime(path, (10**9, 10**9))
    options = {"image_size": 8, "cache_dir": tmp_path / "cache"}
    with pytest.warns(UnreadFilesWarning, match=r"1 \.txt\. Images"):
        first = load_dataset("folder", tmp_path / "data", **options)
    # Without the warning: it was not listed again.
    again = load_dataset("folder", tmp_path / "data", **options)
    assert again.identity() == first.identity()
    other = load_dataset("folder", tmp_path / "data", **options, val_split=0.3)
    assert other.sizes["validation"] > first.sizes["validation"]
    assert other.identity() != first.identity()
