"""Two decays by hand, and what is left out of them."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet.training import Checkpoints, make_optimizer, sgd
from keras_resnet.training.optimizers import OPTIMIZERS, check_optimizer
from tests.helpers import refused
from tests.training.fakes import assert_same_weights, fit, make_trainer


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


def adamw_by_hand(gradient, weight=1.0, *, rate, decay, factor=1.0):
    """Two steps of decoupled decay and Adam, from the paper's formulas (arXiv 1711.05101)."""
    mean = square = 0.0
    for step in (1, 2):
        weight -= rate * decay * weight
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.99 * square + 0.01 * gradient**2
        update = (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.99**step)) + 1e-7)
        weight -= factor * rate * update
    return weight


@pytest.mark.parametrize("rates", [None, {"kernel": 0.25}])
def test_adamw_by_name_with_options_decay_and_layer_rates(rates):
    optimizer = make_optimizer(
        "adamw",
        0.1,
        options={"beta_2": 0.99},
        weight_decay=0.2,
        decay_norm_and_bias=False,
        rates=rates,
    )
    kernel, gamma = two_steps(optimizer)
    factor = 1.0 if rates is None else 0.25
    expected = adamw_by_hand(0.5, rate=0.1, decay=0.2, factor=factor)
    assert kernel == pytest.approx(expected, rel=1e-5)
    assert gamma == pytest.approx(adamw_by_hand(0.5, rate=0.1, decay=0.0), rel=1e-5)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(copy) is type(optimizer) and copy.get_config() == optimizer.get_config()


def test_lion_by_name():
    """Every weight moves by the learning rate against the sign of its gradient."""
    kernel, gamma = two_steps(make_optimizer("lion", 0.1))
    assert kernel == gamma == pytest.approx(0.8)


def test_names_are_those_of_keras():
    assert {"adam", "adamw", "lamb", "lion", "muon", "rmsprop", "sgd"} <= set(OPTIMIZERS)
    for name, kind in OPTIMIZERS.items():
        assert type(make_optimizer(name, 0.1)) is kind
        assert type(make_optimizer(name, 0.1, rates={"conv": 0.5})).__bases__[1] is kind


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("adan", {}, ("`optimizer`", "'adamw'", "optimizer='adan'")),
        ("adamw", {"beta_3": 0.9}, ("`optimizer_options` of 'adamw'", "beta_1", "beta_3=0.9")),
        ("adamw", {"weight_decay": 0.1}, ("`weight_decay` sets that", "weight_decay=0.1")),
        ("sgd", {"momentum": 0.5}, ("`momentum` sets that", "momentum=0.5")),
    ],
)
def test_other_names_and_options_are_refused(name, options, named):
    with refused(*named):
        make_optimizer(name, 0.1, options=options)


@pytest.mark.parametrize(
    "name", ["muon", *(pytest.param(n, marks=pytest.mark.slow) for n in ("adamw", "lamb", "lion"))]
)
def test_half_precision_run_with_another_optimizer_resumes(name, tmp_path):
    def make():
        keras.utils.clear_session(free_memory=False)
        keras.config.set_dtype_policy("mixed_float16")
        rates = {"conv2d": 0.5}
        optimizer = make_optimizer(name, 0.01, weight_decay=0.1, ema=0.7, rates=rates)
        return make_trainer(optimizer=optimizer)

    whole = fit(make(), 3)
    fit(make(), 2, checkpoints=Checkpoints(tmp_path))
    assert_same_weights(whole, fit(make(), 3, checkpoints=Checkpoints(tmp_path)))
