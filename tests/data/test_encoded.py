import re
import warnings

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.data import BadImageWarning, load_dataset
from keras_resnet.data.encoded import EncodedDataset
from keras_resnet.data.transforms import Transforms
from tests.helpers import refused

from .helpers import assert_equal, damage, encode, joined, take

SMALL = {"image_size": 24, "resize_range": (28, 40)}


ignore_warnings = pytest.mark.filterwarnings("ignore::keras_resnet.data.BadImageWarning")


@pytest.fixture
def dataset(folder):
    return load_dataset("folder", folder, **SMALL)


@pytest.fixture
def damaged(folder, photographs):
    """The folder with five training images that cannot be read."""
    damage(folder / "train" / "china", photographs[0])
    return folder


def reading_error(dataset, batch_size):
    """Returns the line of the error that stops reading training batches."""
    with pytest.raises(tf.errors.OpError):
        take(dataset.train_batches(batch_size), 100)
    return str(dataset.reading_error())


def test_static_shapes_and_types(dataset):
    assert dataset.image_shape == (24, 24, 3)
    assert dataset.train_batches(4, shard=(0, 2)).element_spec == (
        tf.TensorSpec((2, 24, 24, 3), tf.uint8),
        tf.TensorSpec((2,), tf.int32),
    )
    assert dataset.eval_batches("validation", 4).element_spec == (
        tf.TensorSpec((4, 24, 24, 3), tf.uint8),
        tf.TensorSpec((4,), tf.int32),
        tf.TensorSpec((4,), tf.float32),
    )


def test_start_step_and_shards_are_exact(dataset):
    fresh = take(dataset.train_batches(4, seed=7), 5)
    first = take(dataset.train_batches(4, seed=7, shard=(0, 2)), 5)
    second = take(dataset.train_batches(4, seed=7, start_step=1, shard=(1, 2)), 4)
    assert_equal(fresh[1:], joined([first[1:], second]))
    # The images are repeated in the second epoch (of 2 steps), their crops are not.
    assert len(np.unique([image for images, _ in fresh for image in images], axis=0)) == 20


def test_images_have_their_labels_and_are_views_of_the_files(dataset, folder):
    transforms = {
        (label, dataset.transforms.evaluation(path.read_bytes()).numpy().tobytes())
        for label, name in enumerate(("china", "flower"))
        for path in (folder / "train" / name).iterdir()
    }
    ((images, labels),) = take(dataset.train_batches(10, augment=False), 1)
    assert {(y, x.tobytes()) for x, y in zip(images, labels, strict=True)} == transforms


def test_evaluation_counts_each_image_once(dataset):
    # 6 images in batches of 4: two batches, the second with 2 images and 2 rows of padding.
    shards = [take(dataset.eval_batches("validation", 4, shard=(i, 2)), 9) for i in range(2)]
    labels, weights = zip(*[batch[1:] for batch in joined(shards)], strict=True)
    assert [w.tolist() for w in weights] == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert np.concatenate(labels)[:6].tolist() == [0, 0, 0, 1, 1, 1]


def test_statistics_are_of_the_training_views(dataset):
    ((images, _),) = take(dataset.train_batches(10, augment=False), 1)
    np.testing.assert_allclose(dataset.mean, images.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(dataset.std, images.std(axis=(0, 1, 2)))


def test_good_images_of_odd_kinds_are_read_without_a_warning(folder, photographs):
    crop = photographs[0][:50, :70]
    place = folder / "train" / "china"
    (place / "png.jpg").write_bytes(encode(crop, "PNG"))
    (place / "cmyk.jpg").write_bytes(encode(crop, mode="CMYK"))
    (place / "gray.jpg").write_bytes(encode(crop, mode="L"))
    (place / "alpha.png").write_bytes(encode(crop, "PNG", "RGBA"))
    (place / "SHOUTED.JPEG").write_bytes(encode(crop) + b"trailing bytes")
    dataset = load_dataset("folder", folder, **SMALL)
    assert dataset.num_examples("train") == 15
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        take(dataset.train_batches(15), 2)
    assert dataset.bad_images.found == {}


KINDS = {
    "zero.jpg": "zero-byte",
    "cut.jpg": "truncated",
    "cut.png": "truncated",
    "text.jpg": "unreadable",
    "gone.jpg": "unreadable",
}


def test_bad_images_are_named_counted_and_replaced(damaged):
    dataset = load_dataset("folder", damaged, **SMALL)
    assert dataset.num_examples("train") == 15
    with pytest.warns(BadImageWarning) as caught:
        batches = take(dataset.train_batches(5, seed=1), 6)  # two epochs
    assert all(images.shape == (5, 24, 24, 3) for images, _ in batches)
    assert all(images.any(axis=(1, 2, 3)).all() for images, _ in batches)
    messages = [str(warning.message) for warning in caught]
    # Each file once, although the second epoch reads it again.
    assert len(messages) == 5
    for name, kind in KINDS.items():
        (message,) = [m for m in messages if str(damaged / "train" / "china" / name) in m]
        assert kind in message
    assert sorted(re.match(r"\D*(\d+)", m)[1] for m in messages) == ["1", "2", "3", "4", "5"]


@ignore_warnings
def test_bad_images_change_neither_resuming_nor_sharding(damaged):
    fresh = take(load_dataset("folder", damaged, **SMALL).train_batches(6, seed=1), 5)
    dataset = load_dataset("folder", damaged, **SMALL)
    parts = (dataset.train_batches(6, seed=1, start_step=2, shard=(i, 2)) for i in range(2))
    assert_equal(fresh[2:], joined(take(part, 3) for part in parts))


@ignore_warnings
def test_the_next_image_stands_in(folder):
    (folder / "train" / "china" / "2.jpg").write_bytes(b"")
    dataset = load_dataset("folder", folder, **SMALL)
    ((images, labels),) = take(dataset.train_batches(10, augment=False), 1)
    _, counts = np.unique(images, axis=0, return_counts=True)
    assert sorted(counts) == [1] * 8 + [2] and labels.sum() == 5
    double = np.unique(images, axis=0)[counts == 2][0]
    following = dataset.transforms.evaluation((folder / "train" / "china" / "3.jpg").read_bytes())
    np.testing.assert_array_equal(double, following)


def test_a_bad_image_of_evaluation_has_no_weight(folder):
    bad = folder / "val" / "flower" / "0.jpg"
    bad.write_bytes(bad.read_bytes()[:700])
    dataset = load_dataset("folder", folder, **SMALL)
    with pytest.warns(BadImageWarning, match=f"1 of .* 100: {bad}.*truncated"):
        batches = take(dataset.eval_batches("validation", 4), 9)
    assert [weights.tolist() for _, _, weights in batches] == [[1, 1, 1, 0], [1, 1, 0, 0]]


@ignore_warnings
def test_more_bad_images_than_allowed_stop_reading(damaged):
    dataset = load_dataset("folder", damaged, max_bad_files=2, **SMALL)
    message = reading_error(dataset, 5)
    assert "Received: max_bad_files=2" in message and "\n" not in message
    assert str(damaged / "train" / "china") in message
    assert len(dataset.bad_images.found) == 3


def test_no_bad_image_is_allowed_with_a_limit_of_none_at_all(folder):
    (folder / "train" / "china" / "2.jpg").write_bytes(b"")
    message = reading_error(load_dataset("folder", folder, max_bad_files=0, **SMALL), 5)
    assert "china/2.jpg" in message and "zero-byte" in message


@ignore_warnings
def test_nothing_but_bad_images_is_an_error_without_any_limit(folder):
    for path in (folder / "train").glob("*/*"):
        path.write_bytes(b"")
    message = reading_error(load_dataset("folder", folder, max_bad_files=None, **SMALL), 1)
    assert "`split`" in message and "Received: split='train' of 10" in message


def test_an_iterator_can_be_left_at_any_time(damaged):
    with pytest.warns(BadImageWarning):
        take(load_dataset("folder", damaged, **SMALL).train_batches(5), 1)


@pytest.mark.parametrize(
    ("option", "value"),
    [("max_bad_files", -1), ("max_bad_files", "many"), ("crop", "none"), ("zoom", 2)],
)
def test_wrong_options(folder, option, value):
    with refused(f"`{option}`", f"{option}={value!r}"):
        load_dataset("folder", folder, **{option: value})


def test_training_images_are_required():
    with refused("`sources`"):
        EncodedDataset("empty", {}, ["a"], Transforms())


class Labeled:
    """One image, three times, with these labels."""

    def __init__(self, encoded, labels):
        self.encoded, self.stored = encoded, np.array(labels)

    def __len__(self):
        return 3

    def read(self, index):
        return tf.constant(self.encoded), tf.constant(self.stored)[index]

    def locate(self, index):
        return f"image {index}"

    def labels(self):
        return self.stored

    def parts(self):
        yield b""


def test_images_labeled_with_no_class_are_bad_images(photographs):
    source = Labeled(encode(photographs[0][:60, :80]), np.int32([1, 2, -1]))
    dataset = EncodedDataset("labeled", {"train": source}, ["a", "b"], Transforms(**SMALL))
    with pytest.warns(BadImageWarning, match=r"image [12] is labeled (2|-1), where there are 2"):
        ((images, labels),) = take(dataset.train_batches(3), 1)
    assert labels.tolist() == [1, 1, 1] and sorted(dataset.bad_images.found) == [
        "image 1",
        "image 2",
    ]
    ((_, _, weights),) = take(dataset.eval_batches("train", 3), 1)
    assert weights.tolist() == [1, 0, 0]
    assert [w for _, _, w in take(dataset.whole_images("train"), 3)] == [1, 0, 0]


def test_several_labels_of_an_image(photographs):
    stored = np.float32([[1, 0], [1, 1], [0, 0]])
    source = Labeled(encode(photographs[0][:60, :80]), stored)
    source.read = lambda index: (
        tf.where(index == 2, b"", source.encoded),
        tf.constant(stored)[index],
    )
    dataset = EncodedDataset(
        *("labeled", {"train": source}, ["a", "b"], Transforms(**SMALL)), multi_label=True
    )
    assert dataset.train_batches(3).element_spec[1] == tf.TensorSpec((3, 2), tf.float32)
    np.testing.assert_array_equal(dataset.labels("train"), stored)
    with pytest.warns(BadImageWarning, match="image 2 is zero-byte"):
        ((_, labels, weights),) = take(dataset.eval_batches("train", 3), 1)
    np.testing.assert_array_equal(labels, [[1, 0], [1, 1], [0, 0]])
    assert weights.tolist() == [1, 1, 0]
    whole = take(dataset.whole_images("train"), 3)
    assert [label.tolist() for _, label, _ in whole] == [[1, 0], [1, 1], [0, 0]]
