"""MNIST's files: what is read, and what is refused."""

import gzip
import struct

import numpy as np
import pytest

from keras_resnet.data import load_dataset
from keras_resnet.data.idx import read_idx
from tests.helpers import refused


def idx(array):
    """Returns the bytes of an idx file."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def some(count, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 16, 12)), np.arange(count) % 4 + 1


TRAIN, TEST = some(45, 0), some(8, 1)


def write(root, form="{split}-{kind}-idx{axes}-ubyte"):
    for split, (images, labels) in (("train", TRAIN), ("t10k", TEST)):
        for kind, array in (("images", images), ("labels", labels)):
            path = root / form.format(split=split, kind=kind, axes=array.ndim)
            data = idx(array)
            path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return root


@pytest.mark.parametrize(
    "form",
    [
        "{split}-{kind}-idx{axes}-ubyte",
        "{split}-{kind}.idx{axes}-ubyte",
        "emnist-letters-{split}-{kind}-idx{axes}-ubyte.gz",
    ],
)
def test_images_and_labels_are_those_of_the_files(tmp_path, form):
    dataset = load_dataset("idx", write(tmp_path, form))
    assert dataset.class_names == ("1", "2", "3", "4") and dataset.image_shape == (16, 12, 1)
    assert dataset.sizes == {"train": 41, "validation": 4, "test": 8}
    parts = {"train": (TRAIN, slice(0, 41)), "validation": (TRAIN, slice(41, 45))}
    for split, ((images, labels), rows) in (parts | {"test": (TEST, slice(8))}).items():
        ((found, classes, weights),) = dataset.eval_batches(split, len(labels[rows]))
        np.testing.assert_array_equal(found[..., 0], images[rows])
        np.testing.assert_array_equal(classes + 1, labels[rows])
        assert weights.numpy().all()


def test_nothing_is_augmented_unless_asked_for(tmp_path):
    write(tmp_path)
    plain = load_dataset("idx", tmp_path)
    assert plain.num_draws == 0
    padded = load_dataset("idx", tmp_path, crop="pad")
    assert (padded.augmentation.padding, padded.augmentation.flip) == (1, False)
    assert load_dataset("idx", tmp_path, crop="pad", flip=True).augmentation.flip
    for options, word in (({"flip": True}, "flip"), ({"crop": "scale"}, "crop")):
        with refused(word):
            load_dataset("idx", tmp_path, **options)


def test_the_test_images_may_be_missing(tmp_path):
    for path in write(tmp_path).glob("t10k*"):
        path.unlink()
    assert load_dataset("idx", tmp_path).splits == ("train", "validation")
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with refused("data_dir", "train-labels-idx1-ubyte", "['train-images-idx3-ubyte']"):
        load_dataset("idx", tmp_path)


GOOD = idx(np.arange(1, 4))
GZIPPED = gzip.compress(GOOD, mtime=0)  # ids of tests hold it: the same in every process


@pytest.mark.parametrize(
    ("name", "data", "word"),
    [
        ("a", b"", "no header"),
        ("a", GOOD[:6], "no header"),
        ("a", b"\0\0\x0d\1" + GOOD[4:], "no header"),
        ("a", idx(np.ones((1, 3))), "no header"),
        ("a", b"\x1f\x8b" + GOOD, "no header"),
        ("a", GOOD[:-1], "2 bytes"),
        ("a", GOOD + b"\0", "more bytes"),
        ("a", GOOD[:4] + b"\xff" * 4 + GOOD[8:], "shape (4294967295,)"),
        ("a", GOOD[:4] + bytes(4), "shape (0,)"),
        ("a.gz", GOOD, "Not a gzipped file"),
        ("a.gz", GZIPPED[:-9], "end"),
        ("a.gz", GZIPPED[:12] + b"\xff\xff" + GZIPPED[14:], "whole idx"),
        ("a.gz", gzip.compress(GOOD[:4] + b"\xff" * 4, mtime=0), "shape (4294967295,)"),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, data, word):
    path = tmp_path / name
    path.write_bytes(data)
    with refused("data_dir", str(path), word):
        read_idx(path, 1)


def test_files_that_do_not_belong_together(tmp_path):
    write(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(TEST[1][:-1]))
    with refused("data_dir", "8 images", "7 labels"):
        load_dataset("idx", tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(TEST[1] + 1))
    with refused("data_dir", "test labels [5]"):
        load_dataset("idx", tmp_path)
    (tmp_path / "t10k-labels.idx1-ubyte").write_bytes(idx(TEST[1]))
    with refused("data_dir", "one train-images-idx3-ubyte"):
        load_dataset("idx", tmp_path)
