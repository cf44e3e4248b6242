"""Measured cost: times, memory and energy, and where they are unavailable."""

from __future__ import annotations

import subprocess
import types

import keras
import numpy as np
import pytest
from keras import layers

from keras_resnet.analysis import cost
from keras_resnet.analysis.cost import MeasurementError, measure, measure_all, measure_apart
from tests.helpers import refused


def small_model(output=lambda x: layers.Dense(3, activation="softmax")(x), sides=8):
    inputs = keras.Input((sides, sides, 3))
    x = layers.Conv2D(4, 3)(inputs)
    return keras.Model(inputs, output(layers.GlobalAveragePooling2D()(x)), name="small")


class Clock:
    """A clock that only sleeping moves."""

    now = 0.0

    def perf_counter(self):
        return self.now


def meter(clock, watts=10.0):
    return types.SimpleNamespace(
        read=lambda: clock.now, joules=lambda before, after: (after - before) * watts or None
    )


class Memory:
    def restart(self):
        self.restarted = True

    def peak(self):
        return 1234 if self.restarted else None


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(cost, "time", clock)
    return clock


def phase_of(clock, durations, *, repeats=10, seconds=100.0, meter=None):
    durations = iter(durations)

    def step():
        clock.now += next(durations)

    return cost._measure_phase(step, 4, repeats, seconds, Memory(), meter)


def test_median_and_quartiles_leave_the_warm_up_out(clock):
    # Two slow steps of warm-up, then five in no order, one of them an outlier.
    phase = phase_of(clock, [100, 50, 4, 8, 6, 2, 1000], repeats=5)
    assert phase.repeats == 5
    assert phase.seconds_per_image == 6 / 4
    assert (phase.first_quartile, phase.third_quartile) == (4 / 4, 8 / 4)
    assert phase.memory_bytes == 1234 and phase.joules_per_image is None


def test_slow_steps_are_repeated_three_times(clock):
    assert phase_of(clock, [1] * 5, seconds=0.5).repeats == 3
    assert phase_of(clock, [1] * 9, seconds=6.5).repeats == 7


def test_energy_per_image_is_that_of_the_measured_steps(clock):
    phase = phase_of(clock, [100, 50, 4, 8, 6], repeats=3, meter=meter(clock))
    assert phase.joules_per_image == pytest.approx(18 * 10 / (3 * 4))
    assert "J/image" in str(phase)


def test_energy_that_was_not_counted_is_unavailable(clock):
    phase = phase_of(clock, [1] * 5, repeats=3, meter=meter(clock, watts=0.0))
    assert phase.joules_per_image is None
    assert "energy unavailable" in str(phase)


def test_measure_on_this_machine():
    result = measure(small_model, 2, repeats=3, seconds=0.1)
    assert (result.name, result.batch_size, result.image_shape) == ("small", 2, (8, 8, 3))
    for phase in (result.forward, result.training):
        assert phase.repeats >= 3
        assert 0 < phase.first_quartile <= phase.seconds_per_image <= phase.third_quartile < 10
        assert phase.joules_per_image is None or phase.joules_per_image > 0
        assert phase.memory_bytes is None or phase.memory_bytes > 0
    row = result.row()
    assert row["image_shape"] == "8x8x3" and row["precision"] == "float32"
    assert row["training_seconds_per_image"] == result.training.seconds_per_image
    assert all(not isinstance(value, dict) for value in row.values())


def test_inference_alone_at_an_open_size():
    result = measure(
        lambda: small_model(sides=None),
        1,
        image_size="12x8",
        training=False,
        repeats=3,
        seconds=0.1,
    )
    assert result.image_shape == (12, 8, 3) and result.training is None
    assert not any(key.startswith("training_") for key in result.row())


def test_host_memory_is_what_the_process_grew_by():
    memory = cost._Memory(None)
    if memory.peak() is None and cost._largest_resident_bytes() is None:
        pytest.skip("no /proc on this system")
    size = 300 * 2**20
    block = np.ones(size, "uint8")
    grown = memory.peak()
    # As much as the block, less the memory that the process had freed before.
    assert grown is None or grown <= 1.5 * size
    assert cost._largest_resident_bytes() >= block.nbytes


def test_gpu_memory_is_tensorflows_peak():
    peaks = {"GPU:0": 0}
    gpu = types.SimpleNamespace(
        reset_memory_stats=lambda device: peaks.update({device: 10}),
        get_memory_info=lambda device: {"current": 1, "peak": peaks[device]},
    )
    memory = cost._Memory(gpu)
    memory.restart()
    assert memory.peak() == 10


def test_a_subprocess():
    result = measure_apart("ResNet20", 2, image_size="8x16", training=False, repeats=3, seconds=0.1)
    assert (result.name, result.image_shape, result.training) == ("ResNet20", (8, 16, 3), None)
    assert result.forward.seconds_per_image > 0
    # Weights and graph take megabytes, and the process itself hundreds, which are not counted.
    assert result.forward.memory_bytes is None or 2**20 < result.forward.memory_bytes < 2**29


def test_failures_are_results_too(monkeypatch):
    outcomes = iter([(-9, "", ""), (1, "", "Traceback\nValueError: too small"), (1, "", "")])

    def run(command, **options):
        return subprocess.CompletedProcess(command, *next(outcomes))

    monkeypatch.setattr(cost.subprocess, "run", run)
    failures = list(measure_all(["VGG16", "ResNet20", "ResNet18"], [8]))
    assert all(isinstance(failure, MeasurementError) for failure in failures)
    assert [str(failure) for failure in failures] == [
        "VGG16, batch 8: killed by signal 9, as systems do where memory runs out",
        "ResNet20, batch 8: ValueError: too small",
        "ResNet18, batch 8: no message",
    ]


@pytest.mark.parametrize(
    ("name", "batch_size", "options", "received"),
    [
        ("ResNet51", 1, {}, "model='ResNet51'"),
        ("ResNet50", 0, {}, "batch_size=0"),
        ("ResNet50", 1, {"repeats": 2}, "repeats=2"),
        ("ResNet50", 1, {"seconds": 0}, "seconds=0"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(name, batch_size, options, received):
    with refused(f"`{received.partition('=')[0]}`", received):
        measure_all([name], [batch_size], **options)


def test_models_that_are_not_classifiers():
    with refused("`build`", "(None, 2, 2)"):
        measure(lambda: small_model(lambda x: layers.Reshape((2, 2))(x)), 1)
