"""Whether XLA compiles the step where nobody says: by device, or by a trial before the run."""

from __future__ import annotations

import types

import pytest
import tensorflow as tf

from keras_resnet.training import Checkpoints, xla
from keras_resnet.training import trainer as trainer_module
from tests.training.fakes import assert_same_weights, blobs, make_trainer, small_model


@pytest.fixture
def on_gpu(monkeypatch):
    monkeypatch.setattr(xla, "_lies_on_gpus", lambda model: True)


@pytest.fixture
def trials(monkeypatch):
    """The trials of runs that are all worth one; `answer` is what they find."""
    found = types.SimpleNamespace(answer=False, batches=[])

    def try_it(step, batch):
        xla.xla_is_quicker(step, batch)
        found.batches.append(batch)
        return found.answer

    monkeypatch.setattr(trainer_module, "WORTH_A_TRIAL", 1)
    monkeypatch.setattr(trainer_module, "xla_is_quicker", try_it)
    return found


def strategy(replicas=1):
    return types.SimpleNamespace(num_replicas_in_sync=replicas)


def test_default_by_device(monkeypatch):
    tpu = object.__new__(tf.distribute.TPUStrategy)
    assert xla.default_jit_compile(tpu, small_model()) is True
    assert xla.default_jit_compile(strategy(), small_model()) is False
    monkeypatch.setattr(xla, "_lies_on_gpus", lambda model: True)
    assert xla.default_jit_compile(strategy(), small_model()) is None
    assert xla.default_jit_compile(strategy(2), small_model()) is None
    assert xla.default_jit_compile(strategy(2), small_model(synchronized=True)) is False
    monkeypatch.setattr(xla, "is_op_determinism_enabled", lambda: True)
    assert xla.default_jit_compile(strategy(), small_model()) is False


@pytest.mark.parametrize("seconds", [(1.0, 0.7), (1.0, 1.2)])
def test_the_quicker_one_is_taken(monkeypatch, capsys, seconds):
    clock = types.SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)

    def trial(jit_compile):
        def run(batch):
            clock.now += seconds[jit_compile]

        return run

    monkeypatch.setattr(xla, "time", clock)
    assert xla.xla_is_quicker(types.SimpleNamespace(trial=trial), ()) == (seconds[1] < seconds[0])
    assert f"the pass takes {seconds[1]:.2f} of the time without it" in capsys.readouterr().err


def test_off_where_it_fails(capsys):
    def trial(jit_compile):
        def run(batch):
            if jit_compile:
                raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

        return run

    assert not xla.xla_is_quicker(types.SimpleNamespace(trial=trial), ())
    assert "off, since it fails (ResourceExhaustedError)" in capsys.readouterr().err


def test_a_trial_changes_nothing(on_gpu, trials, capsys):
    def model():
        return small_model(dropout=0.5)

    runs = make_trainer(model=model), make_trainer(model=model, jit_compile=False)
    for trainer in runs:
        trainer.fit(blobs(), 32, steps=3)
    assert [images.shape for images, _ in trials.batches] == [(32, 8, 8, 1)]
    assert "of the time without it" in capsys.readouterr().err
    assert_same_weights(*runs)


def test_a_run_goes_on_as_its_trial_said(on_gpu, trials, tmp_path):
    trials.answer = True
    for steps in (2, 4):
        resumed = make_trainer()
        resumed.fit(blobs(), 32, steps=steps, checkpoints=Checkpoints(tmp_path))
    whole = make_trainer(jit_compile=True)
    whole.fit(blobs(), 32, steps=4)
    assert len(trials.batches) == 1
    assert_same_weights(resumed, whole)


def test_a_short_run_tries_nothing(on_gpu, capsys):
    make_trainer().fit(blobs(), 32, steps=2)
    assert "XLA" not in capsys.readouterr().err
