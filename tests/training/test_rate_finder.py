"""The range test: rates, losses, and what it leaves behind."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet.training import find_learning_rate, sgd
from keras_resnet.training.rate_finder import steepest
from tests.helpers import refused
from tests.training.fakes import blobs, cross_entropy, small_model


def find(model, **options):
    return find_learning_rate(model, sgd, cross_entropy(), blobs(), 32, **options)


def test_losses_are_those_of_training_with_rising_rates():
    keras.utils.set_random_seed(0)
    model = small_model(dropout=0.2)
    before = model.get_weights()
    found = find(model, lowest=1e-3, highest=10.0, steps=12, smoothing=0.5)
    after = model.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    np.testing.assert_allclose(found.rates, np.geomspace(1e-3, 10.0, 12)[: len(found.rates)])
    # By Keras's own steps, each with its rate.
    model.compile(sgd(1e-3), cross_entropy(), jit_compile=False)
    losses = []
    batches = blobs().train_batches(32)
    for rate, (images, labels) in zip(found.rates, batches, strict=False):
        model.optimizer.learning_rate = rate
        losses.append(float(model.train_on_batch(images, labels)))
    np.testing.assert_allclose(found.losses[:6], losses[:6], rtol=1e-3)
    average, smoothed = 0.0, []
    for step, loss in enumerate(found.losses, start=1):
        average = 0.5 * average + 0.5 * loss
        smoothed.append(average / (1 - 0.5**step))
    np.testing.assert_allclose(found.smoothed, smoothed)
    assert found.rows()[2] == {
        "step": 3,
        "learning_rate": found.rates[2],
        "loss": found.losses[2],
        "smoothed_loss": found.smoothed[2],
    }


def test_it_ends_where_the_loss_diverges():
    model = small_model()
    found = find(model, lowest=1e-2, highest=1e6, steps=30, smoothing=0.0, divergence=2.0)
    assert len(found.losses) < 30 and not model.stop_training
    lowest = np.minimum.accumulate(found.losses)
    assert all(found.losses[:-1] <= 2.0 * lowest[:-1])


def test_suggestion_is_where_the_loss_falls_fastest():
    """Of a loss that falls as a sigmoid over the logarithm, in its middle, at 0.01."""
    rates = np.geomspace(1e-6, 1e2, 81)
    losses = 2.0 / (1.0 + np.exp(3.0 * (np.log10(rates) + 2.0)))
    assert steepest(list(rates), list(losses)) == pytest.approx(1e-2)
    assert steepest(list(rates), list(-losses)) is None
    assert steepest([0.1, 0.2], [2.0, 1.0]) is None


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"lowest": 0.0}, ("lowest=0.0",)),
        ({"highest": 1e-7}, ("`highest`", "1e-06")),
        ({"steps": 3}, ("steps=3",)),
        ({"smoothing": 1.0}, ("smoothing=1.0",)),
        ({"divergence": 1.0}, ("divergence=1.0",)),
    ],
)
def test_wrong_numbers_are_refused(options, named):
    with refused(*named):
        find(small_model(), **options)
