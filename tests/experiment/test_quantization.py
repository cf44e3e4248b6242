"""Images that the ranges of 8-bit integers are measured on."""

import numpy as np

from keras_resnet.data import ArrayDataset
from keras_resnet.experiment.quantization import _quantized, _some_images
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


def test_images_whose_levels_have_fractions_are_refused():
    """As those of 16 bits, and of `.npy` files, which integers in [0, 255] would lose."""
    pixels = np.random.default_rng(0).uniform(0, 255, (8, 8, 8, 1)).astype("float32")
    parts = {split: (pixels, np.arange(8) % 4) for split in ("train", "test")}
    with refused("`bits`", "'deep'"):
        _quantized(small_model(), ArrayDataset("deep", parts, list("abcd")))
