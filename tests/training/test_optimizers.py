"""Two decays by hand, and what is left out of them."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet.training import sgd
from keras_resnet.training.optimizers import check_optimizer
from tests.helpers import refused


def two_steps(optimizer, gradient=0.5):
    """Kernel and gamma after two steps from 1.0 with the same gradient each."""
    variables = [keras.Variable([1.0], name=name) for name in ("kernel", "gamma")]
    for _ in range(2):
        optimizer.apply([np.full(1, gradient, "f") for _ in variables], variables)
    return [float(v.numpy()[0]) for v in variables]


def by_hand(gradient=0.5, *, l2=0.0, decoupled=0.0, rate=0.1, momentum=0.9):
    weight, velocity = 1.0, 0.0
    for _ in range(2):
        weight -= rate * decoupled * weight
        velocity = momentum * velocity - rate * (gradient + l2 * weight)
        weight += velocity
    return weight


@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize("decay", ["l2", "decoupled"])
def test_both_decays_and_norm_and_bias_left_out(decay, everything):
    """L2 runs through the gradient and the momentum, decoupled decay passes them by."""
    optimizer = sgd(0.1, weight_decay=0.2, decay=decay, decay_norm_and_bias=everything)
    kernel, gamma = two_steps(optimizer)
    assert kernel == pytest.approx(by_hand(**{decay: 0.2}), rel=1e-6)
    assert gamma == pytest.approx(by_hand(**{decay: 0.2 * everything}), rel=1e-6)


def test_l2_equals_half_of_keras_regularizer():
    """A decay of d in the gradient is the regularizer L2(d / 2)."""
    penalty = keras.regularizers.L2(0.05)
    low, high = (float(penalty(keras.ops.array([v]))) for v in (1.999, 2.001))
    assert (high - low) / 0.002 == pytest.approx(0.1 * 2.0, rel=1e-3)


def test_clipping_comes_before_the_decay():
    kernel, gamma = two_steps(sgd(0.1, weight_decay=0.2, clip_norm=0.5), gradient=30.0)
    # Two gradients of 30 have the norm 30 * sqrt(2), which is brought down to 0.5.
    assert kernel == pytest.approx(by_hand(0.5 / np.sqrt(2), l2=0.2), rel=1e-5)
    assert gamma == pytest.approx(kernel)


def test_average_of_weights():
    optimizer = sgd(0.1, weight_decay=0.0, momentum=0.0, ema=0.5)
    variable, average = keras.Variable([1.0]), None
    for _ in range(3):
        optimizer.apply([np.ones(1, "f")], [variable])
        value = float(variable.numpy()[0])
        average = value if average is None else 0.5 * average + 0.5 * value
    optimizer.finalize_variable_values([variable])
    assert float(variable.numpy()[0]) == pytest.approx(average)


def test_bad_decay():
    with refused("`decay`", "'l2', 'decoupled'", "decay='L2'"):
        sgd(0.1, decay="L2")


def test_keras_overwrites_by_averages_on_one_replica_only():
    optimizer = keras.optimizers.AdamW(use_ema=True, ema_overwrite_frequency=3)
    check_optimizer(optimizer, replicas=1)
    check_optimizer(keras.optimizers.AdamW(use_ema=True), replicas=2)
    with refused("`optimizer`", "ema_overwrite_frequency=3"):
        check_optimizer(optimizer, replicas=2)
