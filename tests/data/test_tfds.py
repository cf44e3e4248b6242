import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_resnet.data import BadImageWarning, load_dataset
from keras_resnet.data.augmentation import PadCropFlip
from keras_resnet.data.tfds import TFRecords
from keras_resnet.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from tests.helpers import refused

from .helpers import assert_equal, encode, joined, take

SMALL = {"image_size": 24}


def prepare(name, data_dir, splits, file_format="tfrecord"):
    """Prepares a small TFDS data set from given examples instead of a download."""
    builder = tfds.builder(name, data_dir=data_dir, file_format=file_format)
    builder._split_generators = lambda manager: {
        split: iter(enumerate(examples)) for split, examples in splits.items()
    }
    builder.download_and_prepare()
    return data_dir


@pytest.fixture(scope="module")
def encoded(photographs):
    images = [encode(photographs[i % 2][i : i + 60, 3 * i : 3 * i + 90]) for i in range(11)]
    examples = [
        {"image": image, "label": i % 2, "file_name": f"{i}.JPEG"} for i, image in enumerate(images)
    ]
    return {"train": examples, "validation": examples[:5]}


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def imagenet_dir(request, tmp_path_factory, encoded):
    place = tmp_path_factory.mktemp(request.param)
    in_files = {split: [in_file(place, one) for one in encoded[split]] for split in encoded}
    return prepare("imagenet2012", str(place), in_files, request.param)


def in_file(place, example, *keys):
    """Returns an example whose image is an open file, as TFDS reads them, and only these keys."""
    path = place / example["file_name"]
    path.write_bytes(example["image"])
    chosen = {key: example[key] for key in keys or example}
    return {**chosen, "image": tf.io.gfile.GFile(str(path), "rb")}


def test_imagenet_of_either_file_format(imagenet_dir, encoded):
    dataset = load_dataset("imagenet2012", imagenet_dir, **SMALL)
    assert dataset.splits == ("train", "validation") and len(dataset.class_names) == 1000
    assert dataset.class_names[0] == "n01440764"
    assert dataset.num_examples("train") == 11 and dataset.num_examples("validation") == 5
    assert (dataset.mean, dataset.std) == (IMAGENET_MEAN, IMAGENET_STD)
    expected = {
        (e["label"], dataset.transforms.evaluation(e["image"]).numpy().tobytes())
        for e in encoded["validation"]
    }
    found = set()
    for images, labels, weights in take(dataset.eval_batches("validation", 3), 9):
        rows = zip(images, labels, weights, strict=True)
        found |= {(y, x.tobytes()) for x, y, weight in rows if weight}
    assert found == expected


def test_imagenet_resumes_and_shards_exactly(imagenet_dir):
    dataset = load_dataset("imagenet2012", imagenet_dir, crop="inception", **SMALL)
    fresh = take(dataset.train_batches(4, seed=2), 5)
    parts = (dataset.train_batches(4, seed=2, start_step=3, shard=(i, 2)) for i in range(2))
    assert_equal(fresh[3:], joined(take(part, 2) for part in parts))


def test_a_bad_record_is_named(tmp_path, encoded):
    examples = list(encoded["train"])
    examples[4] = {**examples[4], "image": examples[4]["image"][:600]}
    train = [in_file(tmp_path, example) for example in examples]
    prepare("imagenet2012", str(tmp_path), {"train": train, "validation": train[:1]})
    dataset = load_dataset("imagenet2012", tmp_path, **SMALL)
    with pytest.warns(BadImageWarning, match=r"\d+ of imagenet2012/train.*truncated"):
        take(dataset.train_batches(11), 1)
    assert len(dataset.bad_images.found) == 1


def test_a_cut_record_file_is_refused(tmp_path):
    path = str(tmp_path / "records")
    with tf.io.TFRecordWriter(path) as writer:
        for text in (b"one", b"three"):
            feature = {
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[text])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[len(text)])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())
    records = TFRecords([path, path])
    assert len(records) == 4
    assert records[1] == records[3] == {"image": b"three", "label": 5}
    data = pathlib.Path(path).read_bytes()
    for length in (len(data) - 1, len(data) - 30, 5):
        (tmp_path / "cut").write_bytes(data[:length])
        with refused("`data_dir`", tmp_path / "cut"):
            TFRecords([str(tmp_path / "cut")])


def test_imagenet_of_mock_data():
    with tfds.testing.mock_data(num_examples=7):
        dataset = load_dataset("imagenet2012", **SMALL)
        assert dataset.num_examples("train") == 7
        ((images, labels),) = take(dataset.train_batches(7), 1)
    assert images.shape == (7, 24, 24, 3) and images.dtype == np.uint8
    assert ((labels >= 0) & (labels < 1000)).all()


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_of_mock_data(name, classes):
    with tfds.testing.mock_data(num_examples=30):
        dataset = load_dataset(name)
    assert dataset.name == name and len(dataset.class_names) == classes
    assert dataset.image_shape == (32, 32, 3)
    # A tenth of the training images is held out: 5000 of the real 50 000.
    sizes = [dataset.num_examples(split) for split in ("train", "validation", "test")]
    assert sizes == [27, 3, 30]
    assert dataset.augmentation == PadCropFlip(fill=dataset.mean, padding=4, flip=True)
    ((images, _),) = take(dataset.train_batches(27), 1)
    ((plain, _),) = take(dataset.train_batches(27, augment=False), 1)
    assert images.dtype == np.uint8 and (images != plain).any()


def test_cifar_of_prepared_files(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
    examples = [{"id": f"{i}", "image": image, "label": i % 10} for i, image in enumerate(images)]
    prepare("cifar10", str(tmp_path), {"train": examples, "test": examples[:4]})
    dataset = load_dataset("cifar10", tmp_path)
    assert len(dataset.class_names) == 10 and dataset.num_examples("test") == 4
    held_out = take(dataset.eval_batches("validation", 2), 2)
    kept = take(dataset.train_batches(18, augment=False), 1)
    rows = np.concatenate([held_out[0][0], kept[0][0]])
    assert {x.tobytes() for x in rows} == {x.tobytes() for x in images}


def test_any_other_classification_of_tfds(tmp_path, encoded):
    train = [in_file(tmp_path, example, "label") for example in encoded["train"]]
    examples = {"train": train, "validation": train[:5], "test": train[:2]}
    dataset = load_dataset("tfds:beans", prepare("beans", str(tmp_path), examples), **SMALL)
    assert dataset.name == "beans" and dataset.splits == ("train", "validation", "test")
    assert dataset.class_names == ("angular_leaf_spot", "bean_rust", "healthy")
    assert dataset.num_examples("train") == 11 and dataset.num_examples("test") == 2
    (batch,) = take(dataset.eval_batches("train", 11), 1)
    assert sorted(batch[1]) == sorted(example["label"] for example in encoded["train"])
    np.testing.assert_allclose(dataset.mean, batch[0].mean(axis=(0, 1, 2)), rtol=1e-5)


def test_what_tfds_has_no_images_and_labels_of(tmp_path):
    with refused("`dataset`", "'tfds:no_such_data'"):
        load_dataset("tfds:no_such_data", tmp_path)
    with refused("`data_dir`", "`tfds build beans"):
        load_dataset("tfds:beans", tmp_path)
    with refused("`dataset`", "tfds:NAME", "dataset='tfds:'"):
        load_dataset("tfds:", tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagenet2012"])
def test_data_that_are_not_prepared(name, tmp_path):
    build = f"`tfds build {name} --data_dir {tmp_path}`"
    with refused("`data_dir`", build, f"data_dir='{tmp_path}'"):
        load_dataset(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_tfds_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"keras-deep-residual\[datasets\]"):
        load_dataset("cifar10")
