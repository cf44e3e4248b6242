"""Micro-batches that double where the first step runs out of memory."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.training import Checkpoints, Trainer
from tests.training.fakes import assert_same_weights, blobs, fit, make_trainer


@pytest.fixture
def memory(monkeypatch):
    """Messages of errors that the next steps raise after they have changed everything."""
    failures, train = [], Trainer._train_steps

    def train_steps(trainer, count):
        def run(batches):
            train(trainer, count)(batches)
            if failures:
                raise tf.errors.ResourceExhaustedError(None, None, failures.pop())

        return run

    monkeypatch.setattr(Trainer, "_train_steps", train_steps)
    return failures


@pytest.mark.parametrize("steps_per_call", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_that_did_not_fit_equals_one_of_smaller_parts(
    tmp_path, memory, caplog, steps_per_call
):
    caplog.set_level(logging.INFO, "keras_resnet")
    options = {"steps_per_call": steps_per_call}
    whole = fit(make_trainer(micro_batches=2, **options), 5)
    caplog.clear()
    memory.append("OOM when allocating")
    checkpoints = Checkpoints(tmp_path, every=3)
    first = make_trainer(auto_micro_batches=True, **options)
    fit(first, 4, checkpoints=checkpoints)
    assert first.micro_batches == 2 and not memory
    lines = [message for message in caplog.messages if "Out of memory" in message]
    assert len(lines) == 1 and "OOM" in lines[0] and "micro_batches=2, of 16" in lines[0]
    # It resumes with as many parts, without a failure.
    again = make_trainer(auto_micro_batches=True, **options)
    fit(again, 5, checkpoints=checkpoints)
    assert again.micro_batches == 2
    assert_same_weights(whole, again)


def test_images_are_sampled_as_before_after_a_failure(memory):
    whole = fit(make_trainer(micro_batches=2), 3, sampling="balanced")
    memory.append("OOM when allocating")
    again = make_trainer(auto_micro_batches=True)
    calls, train_batches = [], Trainer._train_batches

    def recorded(trainer, dataset, batch_size, seed, start, shares=None):
        calls.append(shares)
        return train_batches(trainer, dataset, batch_size, seed, start, shares)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_train_batches", recorded)
        fit(again, 3, sampling="balanced")
    first, second = calls
    np.testing.assert_array_equal(first, second)
    assert_same_weights(whole, again)


@pytest.mark.parametrize(("auto", "batch_size"), [(False, 32), (True, 31)])
def test_otherwise_the_error_is_raised(memory, auto, batch_size):
    """Where it was not asked for, or the batch cannot be cut."""
    memory.append("OOM when allocating")
    trainer = make_trainer(auto_micro_batches=auto)
    with pytest.raises(tf.errors.ResourceExhaustedError, match="OOM when allocating"):
        trainer.fit(blobs(), batch_size, steps=2, validation_split=None)
