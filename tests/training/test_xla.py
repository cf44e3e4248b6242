"""Whether XLA compiles the step where nobody says: by device, or by a trial before the run."""

from __future__ import annotations

import types

import keras
import pytest
import tensorflow as tf

from keras_resnet.training import Checkpoints, xla
from keras_resnet.training import trainer as trainer_module
from tests.training.fakes import OwnCount, assert_same_weights, blobs, make_trainer, small_model


@pytest.fixture
def on_gpu(monkeypatch):
    monkeypatch.setattr(xla, "_lies_on_gpus", lambda model: True)


@pytest.fixture
def trials(monkeypatch):
    """The trials of runs that are all worth one: stand-ins that say yes, unless told otherwise."""
    found = types.SimpleNamespace(by=lambda *_: None, answer=True, batches=[])

    def try_it(step, read_batch):
        batch = read_batch()
        found.by(step, lambda: batch)
        found.batches.append(batch)
        return found.answer

    monkeypatch.setattr(trainer_module, "WORTH_A_TRIAL", 1)
    monkeypatch.setattr(trainer_module, "try_xla", try_it)
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


class Passes:
    """A step whose passes take the given seconds of a clock, or fail."""

    def __init__(self, monkeypatch, without, with_xla):
        self.strategy = tf.distribute.get_strategy()
        self.outcomes = {False: without, True: with_xla}
        self.calls = 0
        self.now = 0.0
        monkeypatch.setattr(xla, "time", types.SimpleNamespace(perf_counter=lambda: self.now))

    def pass_alone(self, *, jit_compile):
        def run(batch):
            self.calls += 1
            outcome = self.outcomes[jit_compile]
            if isinstance(outcome, Exception):
                raise outcome
            self.now += outcome

        return run


@pytest.mark.parametrize(
    ("seconds", "use", "calls"), [(0.7, True, 12), (0.97, False, 12), (9.0, False, 4)]
)
def test_the_quicker_one_is_taken(monkeypatch, capsys, seconds, use, calls):
    passes = Passes(monkeypatch, 1.0, seconds)
    assert xla.try_xla(passes, tuple) is use
    assert passes.calls == calls
    said = capsys.readouterr().err.splitlines()[-1]
    answer = "on" if use else "off"
    assert said == f"XLA: {answer}; the pass takes {seconds:.2f} of the time without it"


@pytest.mark.parametrize("error", [tf.errors.ResourceExhaustedError, tf.errors.NotFoundError])
def test_off_where_it_fails(monkeypatch, capsys, error):
    passes = Passes(monkeypatch, 1.0, error(None, None, "no such library\nat all"))
    assert xla.try_xla(passes, tuple) is False
    assert capsys.readouterr().err.endswith("XLA: off; it fails: no such library\n")


def test_what_fails_without_it_is_not_its_fault(monkeypatch):
    error = tf.errors.InvalidArgumentError(None, None, "label 7 of 4")
    with pytest.raises(tf.errors.InvalidArgumentError, match="label 7"):
        xla.try_xla(Passes(monkeypatch, error, 1.0), tuple)


def test_a_trial_changes_nothing(on_gpu, trials, capsys):
    def model():
        inner = small_model(dropout=0.5)
        return keras.Model(inner.input, OwnCount()(inner.output))

    trials.by, trials.answer = xla.try_xla, False
    runs = make_trainer(model=model), make_trainer(model=model, jit_compile=False)
    for trainer in runs:
        trainer.fit(blobs(), 32, steps=3)
    assert [images.shape for images, _ in trials.batches] == [(32, 8, 8, 1)]
    assert "of the time without it" in capsys.readouterr().err
    assert_same_weights(*runs)


def test_a_run_goes_on_as_its_trial_said(on_gpu, trials, tmp_path):
    for steps in (2, 4):
        resumed = make_trainer()
        resumed.fit(blobs(), 32, steps=steps, checkpoints=Checkpoints(tmp_path))
    whole = make_trainer(jit_compile=True)
    whole.fit(blobs(), 32, steps=4)
    assert len(trials.batches) == 1 and resumed.jit_compile
    assert_same_weights(resumed, whole)
    asked_for = make_trainer(jit_compile=False)
    asked_for.fit(blobs(), 32, steps=5, checkpoints=Checkpoints(tmp_path))
    assert not asked_for.jit_compile


def test_a_run_that_becomes_long_is_tried(on_gpu, trials, monkeypatch, tmp_path):
    monkeypatch.setattr(trainer_module, "WORTH_A_TRIAL", 3)
    trainer = make_trainer()
    trainer.fit(blobs(), 32, steps=2, checkpoints=Checkpoints(tmp_path))
    assert not trials.batches and not trainer.jit_compile
    # What a short run leaves behind says nothing of a long one.
    assert Checkpoints(tmp_path).newest({}).details["xla_is_quicker"] is None
    trainer.fit(blobs(), 32, steps=5)
    assert len(trials.batches) == 1 and trainer.jit_compile
    assert trainer._step._train.experimental_get_tracing_count() == 2
