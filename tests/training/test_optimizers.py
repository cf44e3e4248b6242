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
    layers = [keras.layers.Dense(1, use_bias=False), keras.layers.BatchNormalization()]
    for layer in layers:
        layer.build((None, 1))
    kernel, gamma = layers[0].kernel, layers[1].gamma
    for variable in (kernel, gamma):
        variable.assign(np.ones(variable.shape))
    for _ in range(2):
        optimizer.apply(
            [gradient * np.ones(v.shape, "f") for v in (kernel, gamma)], [kernel, gamma]
        )
    return float(kernel.numpy().item()), float(gamma.numpy().item())


def by_hand(gradient=0.5, *, l2=0.0, decoupled=0.0, rate=0.1, momentum=0.9):
    weight, velocity = 1.0, 0.0
    for _ in range(2):
        weight -= rate * decoupled * weight
        velocity = momentum * velocity - rate * (gradient + l2 * weight)
        weight += velocity
    return weight


def test_l2_runs_through_the_gradient():
    kernel, gamma = two_steps(sgd(0.1, weight_decay=0.2))
    assert kernel == pytest.approx(by_hand(l2=0.2), rel=1e-6)
    assert gamma == pytest.approx(by_hand(l2=0.2), rel=1e-6)


def test_decoupled_decay_passes_the_momentum_by():
    kernel, _ = two_steps(sgd(0.1, weight_decay=0.2, decay="decoupled"))
    assert kernel == pytest.approx(by_hand(decoupled=0.2), rel=1e-6)


@pytest.mark.parametrize("decay", ["l2", "decoupled"])
def test_norm_and_bias_can_be_left_out(decay):
    kernel, gamma = two_steps(sgd(0.1, weight_decay=0.2, decay=decay, decay_norm_and_bias=False))
    hand = {"l2": 0.2} if decay == "l2" else {"decoupled": 0.2}
    assert kernel == pytest.approx(by_hand(**hand), rel=1e-6)
    assert gamma == pytest.approx(by_hand(), rel=1e-6)


def test_l2_equals_half_of_keras_regularizer():
    """A decay of d in the gradient is the regularizer L2(d / 2)."""
    x = keras.Variable([2.0])
    penalty = keras.regularizers.L2(0.05)
    low, high = (float(penalty(keras.ops.array([v]))) for v in (1.999, 2.001))
    assert (high - low) / 0.002 == pytest.approx(0.1 * float(x.numpy()[0]), rel=1e-3)


def test_clipping_comes_before_the_decay():
    kernel, gamma = two_steps(sgd(0.1, weight_decay=0.2, clip_norm=0.5), gradient=30.0)
    # Two gradients of 30 have the norm 30 * sqrt(2), which is brought down to 0.5.
    assert kernel == pytest.approx(by_hand(0.5 / np.sqrt(2), l2=0.2), rel=1e-5)
    assert gamma == pytest.approx(kernel)


def test_average_of_weights():
    optimizer = sgd(0.1, weight_decay=0.0, momentum=0.0, ema=0.5)
    variable = keras.Variable([1.0])
    values = []
    for _ in range(3):
        optimizer.apply([np.ones(1, "f")], [variable])
        values.append(float(variable.numpy()[0]))
    average = values[0]
    for value in values[1:]:
        average = 0.5 * average + 0.5 * value
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
