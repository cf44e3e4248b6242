"""Fixtures of the tests of experiments."""

import numpy as np
import pytest

from keras_resnet.data.dataset import ArrayDataset


@pytest.fixture
def noise():
    """Images of noise of two classes, without test images."""
    rng = np.random.default_rng(0)
    splits = {
        split: (rng.integers(0, 255, (16, 8, 8, 1), "uint8"), rng.integers(0, 2, 16))
        for split in ("train", "validation")
    }
    return ArrayDataset("noise", splits, class_names=("a", "b"))


@pytest.fixture
def logged(caplog):
    """Returns a function that gives the text that the package has logged so far."""
    caplog.set_level("INFO", "keras_resnet")
    return lambda: "\n".join(caplog.messages)
