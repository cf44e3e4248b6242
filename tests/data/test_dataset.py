import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.data.augmentation import PadCropFlip
from keras_resnet.data.dataset import ArrayDataset
from keras_resnet.data.order import train_order
from keras_resnet.preprocessing import Preprocessing, sides_of
from tests.helpers import refused

from .helpers import assert_equal, joined, take


def images_and_labels(count, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 4, 6, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(count)  # tells which image it is
    return images, rng.integers(0, classes, count)


@pytest.fixture(scope="module")
def dataset():
    splits = {"train": images_and_labels(37), "test": images_and_labels(23, seed=1)}
    return ArrayDataset("noise", splits, "abcde", PadCropFlip((128.0, 128.0, 128.0), padding=1))


def test_statistics_are_of_the_training_split(dataset):
    images = images_and_labels(37)[0] / 1.0
    np.testing.assert_allclose(dataset.mean, images.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(dataset.std, images.std(axis=(0, 1, 2)))
    assert dataset.image_shape == (4, 6, 3) and dataset.class_names == tuple("abcde")
    assert dataset.splits == ("train", "test") and dataset.num_examples("test") == 23


def test_static_shapes_and_types(dataset):
    images, labels = dataset.train_batches(8, shard=(1, 2)).element_spec
    assert images == tf.TensorSpec((4, 4, 6, 3), tf.uint8)
    assert labels == tf.TensorSpec((4,), tf.int32)
    _, _, weights = dataset.eval_batches("test", 8, shard=(1, 2)).element_spec
    assert weights == tf.TensorSpec((4,), tf.float32)


def test_an_epoch_visits_each_image_at_most_once_with_its_label(dataset):
    images, labels = images_and_labels(37)
    batches = take(dataset.train_batches(8, augment=False), 12)
    epochs = [np.concatenate([b[0][:, 0, 0, 0] for b in batches[i : i + 4]]) for i in (0, 4, 8)]
    for epoch in epochs:
        assert len(set(epoch)) == 32
    assert any((epochs[0] != epochs[1]).tolist()) and any((epochs[1] != epochs[2]).tolist())
    for batch, batch_labels in batches:
        which = batch[:, 0, 0, 0]
        np.testing.assert_array_equal(batch, images[which])
        np.testing.assert_array_equal(batch_labels, labels[which])


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize("start_step", [1, 3, 4, 9])
def test_start_step_is_exact(dataset, augment, start_step):
    fresh = take(dataset.train_batches(8, seed=5, augment=augment), start_step + 6)
    resumed = take(dataset.train_batches(8, seed=5, augment=augment, start_step=start_step), 6)
    assert_equal(fresh[start_step:], resumed)


@pytest.mark.parametrize("count", [2, 4])
def test_shards_put_together_are_the_global_batch(dataset, count):
    whole = take(dataset.train_batches(8, seed=3, start_step=2), 6)
    parts = (dataset.train_batches(8, seed=3, start_step=2, shard=(i, count)) for i in range(count))
    assert_equal(whole, joined(take(part, 6) for part in parts))


def test_the_seed_names_order_and_augmentation(dataset):
    one, same, other = (take(dataset.train_batches(8, seed=s), 3) for s in (1, 1, 2))
    assert_equal(one, same)
    assert any((x[0] != y[0]).any() for x, y in zip(one, other, strict=True))


def test_augmentation_changes_images_and_not_the_order(dataset):
    changed, plain = (take(dataset.train_batches(8, augment=a), 2) for a in (True, False))
    for (x, x_labels), (y, y_labels) in zip(changed, plain, strict=True):
        assert (x != y).any()
        np.testing.assert_array_equal(x_labels, y_labels)


def test_a_batch_may_be_the_whole_split(dataset):
    assert dataset.steps_per_epoch(37) == 1
    for images, _ in take(dataset.train_batches(37, augment=False), 2):
        assert sorted(images[:, 0, 0, 0]) == list(range(37))


# By hand: 23 images in batches of 6 are 4 batches, the last with 5 images and one row of padding;
# in batches of 10 they are 3, the last with 3 images and 7 rows of padding; one of 32 has 9.
@pytest.mark.parametrize(
    ("batch_size", "count", "batches", "padding"),
    [(6, 1, 4, 1), (6, 3, 4, 1), (10, 2, 3, 7), (10, 5, 3, 7), (32, 4, 1, 9), (23, 1, 1, 0)],
)
def test_evaluation_counts_each_image_once(dataset, batch_size, count, batches, padding):
    images, labels = images_and_labels(23, seed=1)
    parts = (dataset.eval_batches("test", batch_size, shard=(i, count)) for i in range(count))
    shards = [take(part, 100) for part in parts]
    assert [len(shard) for shard in shards] == [batches] * count
    rows = [np.concatenate(column) for column in zip(*joined(shards), strict=True)]
    assert len(rows[0]) == batches * batch_size
    assert rows[2].tolist() == [1.0] * 23 + [0.0] * padding
    np.testing.assert_array_equal(rows[0][:23], images)
    np.testing.assert_array_equal(rows[1][:23], labels)
    assert (rows[1] >= 0).all() and (rows[1] < 5).all()


def test_epochs_are_unrelated_permutations():
    """Unlike those of `index_shuffle`, which correlate to 0.67 between neighbors at this size."""
    size = 45_000
    order = train_order(size, size)
    epochs = [indices.numpy() for _, indices in order.take(5)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(size))
    correlations = np.corrcoef([np.arange(size), *epochs]) - np.eye(6)
    assert np.abs(correlations).max() < 5 / np.sqrt(size)


def test_order_numbers_its_steps():
    steps = [int(step) for step, _ in train_order(10, 3, seed=1, start_step=2).take(5)]
    assert steps == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("batch_size", 38), ("batch_size", 0), ("batch_size", 2.5)),
        *(("shard", (2, 2)), ("shard", (0, 0))),
        *(("seed", -1), ("seed", True), ("start_step", -1)),
    ],
)
def test_wrong_training_arguments(dataset, argument, value):
    with refused(f"`{argument}`", f"{argument}={value}"):
        dataset.train_batches(**{"batch_size": 8, argument: value})


def test_wrong_evaluation_arguments_and_shards(dataset):
    with refused("`split`", "split='validation'"):
        dataset.eval_batches("validation", 8)
    with refused("`batch_size`", "batch_size=0"):
        dataset.eval_batches("test", 0)
    with refused("`batch_size`", "batch_size=9"):
        dataset.eval_batches("test", 9, shard=(0, 2))
    with refused("`batch_size`", "batch_size=8"):
        dataset.train_batches(8, shard=(0, 3))


IMAGES, LABELS = images_and_labels(6)


@pytest.mark.parametrize(
    ("splits", "received"),
    [
        ({}, "[]"),
        ({"train": (IMAGES, LABELS), "dev": (IMAGES, LABELS)}, "'dev'"),
        ({"train": (IMAGES / 255, LABELS)}, "float64"),
        ({"train": (IMAGES[..., 0], LABELS)}, "(6, 4, 6)"),
        ({"train": (IMAGES[:0], LABELS[:0])}, "(0, 4, 6, 3)"),
        ({"train": (IMAGES, LABELS[:5])}, "(5,)"),
        ({"train": (IMAGES, LABELS / 2)}, "float64"),
        ({"train": (IMAGES, LABELS + 5)}, "[5, 9]"),
        ({"train": (IMAGES, LABELS - 5)}, "[-5, -1]"),
        ({"train": (IMAGES, LABELS), "test": (IMAGES[:, :3], LABELS)}, "(3, 6, 3)"),
    ],
)
def test_wrong_arrays(splits, received):
    with refused("`splits`", received):
        ArrayDataset("wrong", splits, "abcde")


def test_labels_in_a_column_are_those_of_keras_data_sets():
    splits = {"train": (IMAGES, LABELS)}
    column = ArrayDataset("column", {"train": (IMAGES, LABELS[:, np.newaxis])}, "abcde")
    assert column.identity() == ArrayDataset("row", splits, "abcde").identity()
    assert_equal(
        take(column.train_batches(6), 1),
        take(ArrayDataset("row", splits, "abcde").train_batches(6), 1),
    )


def test_several_labels_of_an_image():
    labels = np.eye(5)[LABELS] + np.eye(5)[(LABELS + 1) % 5]
    dataset = ArrayDataset("many", {"train": (IMAGES, labels)}, "abcde", multi_label=True)
    assert dataset.labels("train").dtype == np.float32
    np.testing.assert_array_equal(dataset.labels("train"), labels)
    assert dataset.train_batches(4, shard=(0, 2)).element_spec[1] == tf.TensorSpec(
        (2, 5), "float32"
    )
    ((images, batch, weights),) = take(dataset.eval_batches("train", 6), 1)
    np.testing.assert_array_equal(batch, labels)
    assert weights.tolist() == [1] * 6 and images.shape == IMAGES.shape
    for wrong in (labels / 2, labels[:, :4], LABELS):
        with refused("`splits`", str(wrong.shape)):
            ArrayDataset("many", {"train": (IMAGES, wrong)}, "abcde", multi_label=True)


def test_labels_are_those_of_the_stored_order(dataset):
    np.testing.assert_array_equal(dataset.labels("test"), images_and_labels(23, seed=1)[1])
    with refused("`split`", "validation"):
        dataset.labels("validation")


def test_identity_tells_data_from_others():
    changed = IMAGES.copy()
    changed[3] += 1
    others = [
        ArrayDataset("a", {"train": (images, labels)}, names).identity()
        for images, labels, names in (
            (IMAGES, LABELS, "abcde"),
            (IMAGES, LABELS, "abcdf"),
            (IMAGES[:5], LABELS[:5], "abcde"),
            (IMAGES, LABELS[::-1], "abcde"),
            (changed, LABELS, "abcde"),
        )
    ]
    assert others[0]["class_names"] == list("abcde") and others[0]["images"] == {"train": 6}
    assert len(set(map(str, others))) == len(others)


def test_the_description_of_what_evaluation_does(dataset):
    own = dataset.preprocessing()
    assert (own.mean, own.std) == (tuple(dataset.mean), tuple(dataset.std))
    assert (own.resize, own.source) == (None, dataset.name)
    assert sides_of(own.image_size) == dataset.image_shape[:2]
    given = Preprocessing(own.mean, own.std, 99, 120, "bicubic", ("a",), "x", bgr=True)
    described = dataset.preprocessing(given)
    assert described == dataclasses.replace(own, bgr=True)
