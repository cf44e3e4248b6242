"""A run that stops and resumes, within one process; `tests/distributed` kills real ones."""

from __future__ import annotations

import errno
import os
import signal

import keras
import numpy as np
import pytest

from keras_resnet.training import (
    Checkpoints,
    Diverged,
    ErrorWarmup,
    Terminated,
    TrainingStopped,
    make_schedule,
    sgd,
)
from tests.helpers import refused
from tests.training.fakes import assert_same_weights, blobs, fit, make_trainer, small_model


class InterruptionError(Exception):
    """Raised by a test in the middle of training."""


class StopAt(keras.callbacks.Callback):
    """Does something at the end of a step, counted from the start of this call of `fit`."""

    def __init__(self, step, action):
        super().__init__()
        self._left, self._action = step, action

    def on_train_batch_end(self, batch, logs=None):
        self._left -= 1
        if self._left == 0:
            self._action()


def interrupt():
    raise InterruptionError


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def validated(trainer, steps, **options):
    return fit(trainer, steps, validation_split="validation", **options)


def interrupted(trainer, at, steps, *, callbacks=(), **options):
    """Trains, and raises an error after the step `at` of this call."""
    with pytest.raises(InterruptionError):
        validated(trainer, steps, callbacks=[*callbacks, StopAt(at, interrupt)], **options)


def test_interrupted_run_ends_as_if_it_had_not_been(tmp_path):
    def make():
        schedule = make_schedule("steps", 0.05, total_steps=12, boundaries=(9,), warmup_steps=2)
        optimizer = sgd(ErrorWarmup(schedule, 0.02, threshold=0.7, window=3), ema=0.8)
        return make_trainer(model=lambda: small_model(dropout=0.3), optimizer=optimizer)

    saved = {"checkpoints": Checkpoints(tmp_path, every=3), "log_every": 2}
    for stop_after in (4, 3, 5):
        interrupted(make(), stop_after, 12, **saved)
    whole, again = validated(make(), 12, log_every=2), validated(make(), 12, **saved)
    assert_same_weights(whole, again)
    expected, history = (trainer.model.history.history for trainer in (whole, again))
    for name in ("loss", "accuracy", "val_loss"):
        assert history[name][-1] == pytest.approx(expected[name][-1], rel=1e-6)
    # Started once more, a finished run has nothing to do, and its weights are the same.
    assert_same_weights(whole, validated(make(), 12, **saved))


def test_sigterm_saves_and_exits(tmp_path, capsys):
    checkpoints, ended, handler = Checkpoints(tmp_path), [], signal.getsignal(signal.SIGTERM)
    end = keras.callbacks.LambdaCallback(on_train_end=lambda logs: ended.append(True))
    callbacks = [StopAt(3, terminate), end]
    with pytest.raises(Terminated, match="SIGTERM .*3.*step-000000003") as error:
        fit(make_trainer(), 8, checkpoints=checkpoints, callbacks=callbacks)
    assert error.value.code == 143 and ended == [True]
    assert signal.getsignal(signal.SIGTERM) is handler
    assert_same_weights(fit(make_trainer(), 8), fit(make_trainer(), 8, checkpoints=checkpoints))


def test_sigterm_during_the_last_checkpoint_ends_the_process(tmp_path, monkeypatch):
    checkpoints, save = Checkpoints(tmp_path), Checkpoints.save

    def save_and_terminate(self, *args):
        terminate()
        save(self, *args)

    monkeypatch.setattr(Checkpoints, "save", save_and_terminate)
    with pytest.raises(Terminated, match="SIGTERM at step 2; .*step-000000002"):
        fit(make_trainer(), 2, checkpoints=checkpoints)
    monkeypatch.undo()
    assert_same_weights(fit(make_trainer(), 2), fit(make_trainer(), 2, checkpoints=checkpoints))


def test_a_signal_before_the_first_step_ends_at_once(tmp_path):
    begin = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: terminate())
    trainer = make_trainer()
    with pytest.raises(Terminated, match="SIGTERM; there is no checkpoint"):
        fit(trainer, 8, checkpoints=Checkpoints(tmp_path), callbacks=[begin])
    assert trainer.step == 0 and list(tmp_path.glob("*.npz")) == []


def test_a_second_signal_ends_at_once(tmp_path):
    again = StopAt(5, lambda: (terminate(), terminate()))
    with pytest.raises(Terminated, match="SIGTERM; .*step-000000003"):
        fit(make_trainer(), 8, checkpoints=Checkpoints(tmp_path, every=3), callbacks=[again])
    assert [path.name for path in tmp_path.glob("*.npz")] == ["step-000000003.npz"]


def test_ctrl_c_saves_and_is_raised(tmp_path):
    checkpoints, before = Checkpoints(tmp_path), signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        press = StopAt(3, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            fit(make_trainer(), 8, checkpoints=checkpoints, callbacks=[press])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert [path.name for path in tmp_path.glob("*.npz")] == ["step-000000003.npz"]
    assert_same_weights(fit(make_trainer(), 8), fit(make_trainer(), 8, checkpoints=checkpoints))


def test_early_stopping_remembers(tmp_path):
    """Patience counts on over an interruption, and a stopped run stays stopped."""

    def run(*callbacks):
        trainer, checkpoints = make_trainer(1e-6), Checkpoints(tmp_path)
        stop = keras.callbacks.EarlyStopping("val_loss", min_delta=1.0, patience=3)
        options = {"checkpoints": checkpoints, "callbacks": [stop, *callbacks]}
        trainer.fit(blobs(train=64), 32, epochs=9, **options)
        return trainer

    with pytest.raises(InterruptionError):
        run(StopAt(5, interrupt))
    assert run().step == 8
    assert run().step == 8


@pytest.mark.parametrize(
    "callback",
    [
        # The wrong way round, so that the first epoch's weights are the best.
        lambda: keras.callbacks.EarlyStopping(
            "val_accuracy", mode="min", patience=9, restore_best_weights=True
        ),
        pytest.param(
            lambda: keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5),
            marks=pytest.mark.slow,
        ),
        lambda: keras.callbacks.ReduceLROnPlateau("accuracy", patience=0, min_delta=1.0),
        lambda: keras.callbacks.ModelCheckpoint("best.keras", "val_accuracy", save_best_only=True),
    ],
    ids=["EarlyStopping", "LearningRateScheduler", "ReduceLROnPlateau", "ModelCheckpoint"],
)
def test_callbacks_resume_where_they_were(tmp_path, callback, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make():
        return make_trainer(optimizer=keras.optimizers.SGD(0.05))

    whole = validated(make(), 12, callbacks=[callback()])
    checkpoints = Checkpoints(tmp_path, every=3)
    # In the middle of the second epoch of four steps.
    interrupted(make(), 7, 12, checkpoints=checkpoints, callbacks=[callback()])
    again = validated(make(), 12, checkpoints=checkpoints, callbacks=[callback()])
    assert_same_weights(whole, again)


def test_averages_that_lie_in_the_model_between_epochs(tmp_path):
    """A checkpoint at an epoch's end, of four steps, holds the averages where the weights were."""

    def run(how, *args, **options):
        swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
        optimizer = keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9)
        return how(make_trainer(optimizer=optimizer), *args, 12, callbacks=[swap], **options)

    checkpoints = Checkpoints(tmp_path, every=4)
    run(interrupted, 6, checkpoints=checkpoints)
    assert_same_weights(run(validated), run(validated, checkpoints=checkpoints))


def test_diverging_run_stops(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=1)
    with pytest.raises(Diverged, match=r"step [234], .* 1e\+30: .*(nan|inf|finite)") as error:
        fit(make_trainer(1e30), 6, log_every=4, checkpoints=checkpoints)
    assert "\n" not in str(error.value)
    assert all(str(path) in str(error.value) for path in checkpoints.paths()[-1:])
    for path in checkpoints.paths():
        with np.load(path) as file:
            arrays = [file[name] for name in file.files if file[name].dtype == "f"]
        assert all(np.isfinite(array).all() for array in arrays)
    with pytest.raises(Diverged, match="no checkpoints"):
        fit(make_trainer(1e30), 4, log_every=4)


def test_bfloat16_run_resumes_and_notices_what_is_not_finite(tmp_path):
    def make():
        keras.config.set_dtype_policy("bfloat16")
        return make_trainer(optimizer=keras.optimizers.SGD(0.05, momentum=0.9))

    whole = validated(make(), 8)
    assert {str(weight.dtype) for weight in whole.model.trainable_variables} >= {"bfloat16"}
    checkpoints = Checkpoints(tmp_path, every=3)
    interrupted(make(), 5, 8, checkpoints=checkpoints)
    again = make()
    assert_same_weights(whole, validated(again, 8, checkpoints=checkpoints))
    kernel = again.model.trainable_variables[0]
    assert kernel.dtype == "bfloat16"
    kernel.assign(kernel * float("nan"))
    with pytest.raises(Diverged, match="finite"):
        again.fit(blobs(), 32, steps=8)


def test_other_model_and_other_settings_are_refused(tmp_path):
    def run(batch_size=32, seed=0, model="small", optimizer=None):
        checkpoints = Checkpoints(tmp_path, config={"model": model})
        trainer = make_trainer(optimizer=optimizer)
        trainer.fit(blobs(), batch_size, steps=1, checkpoints=checkpoints, seed=seed)

    run()
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.iterdir())
    for received, other in (
        ("optimizer", {"optimizer": keras.optimizers.Adam()}),
        ("batch_size=16", {"batch_size": 16}),
        ("seed=1", {"seed": 1}),
        ("model='other'", {"model": "other"}),
    ):
        with refused("`checkpoints`", received):
            run(**other)
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.iterdir()) == before


def test_full_disk_stops_the_run(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, every=2)
    savez, saved = np.savez, []

    def savez_until_full(file, **arrays):
        saved.append(file)
        if len(saved) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        savez(file, **arrays)

    monkeypatch.setattr(np, "savez", savez_until_full)
    with pytest.raises(TrainingStopped, match="space.*step-000000002"):
        fit(make_trainer(), 8, checkpoints=checkpoints)
    assert [path.name for path in checkpoints.paths()] == ["step-000000002.npz"]


def test_keras_backup_is_refused_beside_checkpoints(tmp_path):
    """It would load its own, older state over that of the checkpoint."""
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", save_freq=False)
    with refused("`callbacks`", "BackupAndRestore", "`checkpoints`"):
        fit(make_trainer(), 1, callbacks=[backup], checkpoints=Checkpoints(tmp_path))
    assert fit(make_trainer(), 1, callbacks=[backup]).step == 1
