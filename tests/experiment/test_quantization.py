"""Images that the ranges of 8-bit integers are measured on."""

import keras
import numpy as np

from keras_resnet.data import ArrayDataset
from keras_resnet.experiment.quantization import _quantized, _some_images, trained_network
from keras_resnet.experiment.settings import Experiment
from tests.helpers import refused
from tests.training.fakes import small_model


def test_ranges_come_from_images_of_all_classes():
    """Of splits sorted by class, as folders are."""
    labels = np.repeat(np.arange(20), 40)
    pixels = np.broadcast_to(labels[:, None, None, None], (800, 2, 2, 1)).astype("uint8")
    few = (pixels[::100], labels[::100])
    names = [f"class {i}" for i in range(20)]
    dataset = ArrayDataset("sorted", {"train": (pixels, labels), "test": few}, names)
    batches = _some_images(dataset, "train")
    assert [len(batch) for batch in batches] == [64] * 8 and batches[0].dtype == np.float32
    counts = np.unique(np.concatenate(batches)[:, 0, 0, 0], return_counts=True)[1]
    assert len(counts) == 20 and np.ptp(counts) <= 1
    (batch,) = _some_images(dataset, "test")
    np.testing.assert_array_equal(batch, few[0])


def test_names_beside_the_trained_network_are_its_classes(tmp_path):
    images = np.zeros((4, 2, 2, 1), np.uint8), np.array([0, 1, 0, 1])
    dataset = ArrayDataset("two", {"train": images, "test": images}, ["cat", "dog"])
    inputs = keras.Input((2, 2, 1))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    path = tmp_path / "model.keras"
    keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x)).save(path)
    trained_network(str(path), Experiment(), dataset)
    (tmp_path / "labels.txt").write_text("dog\ncat\n")
    with refused("`init`", "with other class names"):
        trained_network(str(path), Experiment(), dataset)


def test_images_whose_levels_have_fractions_are_refused():
    """As those of 16 bits, and of `.npy` files, which integers in [0, 255] would lose."""
    pixels = np.random.default_rng(0).uniform(0, 255, (8, 8, 8, 1)).astype("float32")
    parts = {split: (pixels, np.arange(8) % 4) for split in ("train", "test")}
    with refused("`bits`", "'deep'"):
        _quantized(small_model(), ArrayDataset("deep", parts, list("abcd")))
