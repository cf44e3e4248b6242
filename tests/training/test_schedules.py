"""Learning rates by step, by hand."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from keras_resnet.training import (
    ErrorWarmup,
    LinearWarmup,
    make_schedule,
    scaled_learning_rate,
    sgd,
)
from tests.helpers import refused
from tests.training.fakes import fit, make_trainer


def rates(schedule, steps) -> list[float]:
    return [float(schedule(step)) for step in steps]


def test_steps_divide_at_the_boundary():
    schedule = make_schedule("steps", 0.1, total_steps=64000, boundaries=(32000, 48000))
    steps = (0, 31999, 32000, 47999, 48000, 63999)
    assert rates(schedule, steps) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize(
    ("name", "half", "end"),
    [("cosine", 0.1, 0.0), ("polynomial", 0.05, 0.0), ("constant", 0.2, 0.2)],
)
def test_cosine_and_polynomial_reach_zero(name, half, end):
    schedule = make_schedule(name, 0.2, total_steps=100)
    assert rates(schedule, (0, 50, 100)) == pytest.approx([0.2, half, end], abs=1e-8)


@pytest.mark.parametrize("name", ["constant", "steps", "cosine", "polynomial"])
def test_linear_warmup_of_any_schedule(name):
    plain = make_schedule(name, 0.4, total_steps=100, boundaries=(50,))
    warm = make_schedule(name, 0.4, total_steps=100, boundaries=(50,), warmup_steps=4)
    shares = [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    steps = (0, 1, 2, 3, 4, 60)
    expected = [share * rate for share, rate in zip(shares, rates(plain, steps), strict=True)]
    assert rates(warm, steps) == pytest.approx(expected)


def test_warmup_can_start_above_zero():
    schedule = LinearWarmup(make_schedule("constant", 0.8, total_steps=9), steps=2, start=0.5)
    assert rates(schedule, (0, 1, 2)) == pytest.approx([0.6, 0.8, 0.8])


def test_linear_scaling():
    assert scaled_learning_rate(0.1, 1024) == pytest.approx(0.4)
    assert scaled_learning_rate(0.1, 64, base_batch=128) == pytest.approx(0.05)


def test_error_warmup_ends_below_the_threshold_and_stays_ended():
    schedule = ErrorWarmup(make_schedule("constant", 0.1, total_steps=9), 0.01, 0.8, window=10)
    average, steps = 1.0, 0
    for _ in range(3):
        schedule.observe(0.75, steps := steps + 1)
        average += (0.75 - average) / 10
    assert average > 0.8
    assert float(schedule(steps)) == pytest.approx(0.01)
    while average >= 0.8:
        schedule.observe(0.0, steps := steps + 1)
        average -= average / 10
    assert rates(schedule, (steps - 1, steps)) == pytest.approx([0.01, 0.1])
    for step in range(50):
        schedule.observe(1.0, steps + 1 + step)
    assert rates(schedule, (steps - 1, steps, steps + 50)) == pytest.approx([0.01, 0.1, 0.1])


def test_error_warmup_in_training():
    """The learning rate rises when the warm-up is over, and falls at the milestone."""
    steps = make_schedule("steps", 0.1, total_steps=32, boundaries=(28,))
    schedule = ErrorWarmup(steps, 0.01, 0.6, window=2)
    trainer = make_trainer(optimizer=sgd(schedule))
    values = []
    recorder = keras.callbacks.Callback()
    recorder.on_log = lambda step, logs: values.append(logs["learning_rate"])
    fit(trainer, 32, log_every=1, callbacks=[recorder])
    values = np.array(values)
    assert values[0] == pytest.approx(0.01)
    assert values[27] == pytest.approx(0.1) and values[28] == pytest.approx(0.01)
    changes = np.flatnonzero(~np.isclose(values[1:], values[:-1]))
    assert len(changes) == 2
    # The step that ended the warm-up was taken at its rate.
    assert changes[0] + 1 == schedule.end.numpy()
    assert float(schedule.error.numpy()) < 0.6


@pytest.mark.parametrize("name", ["steps", "error"])
def test_schedules_survive_serialization(name):
    schedule = make_schedule("steps", 0.1, total_steps=9, boundaries=(5,), warmup_steps=3)
    if name == "error":
        schedule = ErrorWarmup(schedule, 0.02, end=4)
    optimizer = sgd(schedule)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    steps = range(9)
    assert rates(again._learning_rate, steps) == pytest.approx(rates(schedule, steps))
    assert type(again) is type(optimizer) and again.l2 == optimizer.l2


@pytest.mark.parametrize(
    ("call", "received"),
    [
        (lambda: make_schedule("step", 0.1, total_steps=9), "schedule='step'"),
        (lambda: make_schedule("steps", 0.1, total_steps=9), "boundaries=()"),
        (lambda: make_schedule("steps", 0.1, total_steps=9, boundaries=(5, 3)), "(5, 3)"),
        (lambda: ErrorWarmup(None, threshold=1.5), "threshold=1.5"),
        (lambda: ErrorWarmup(None, window=0), "window=0"),
        (lambda: LinearWarmup(None, 0), "steps=0"),
        (lambda: LinearWarmup(None, 1, start=math.nan), "start=nan"),
    ],
)
def test_bad_arguments(call, received):
    with refused(received):
        call()
