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
from tests.training.fakes import assert_same_weights, blobs, make_trainer, small_model


class InterruptionError(Exception):
    """Raised by a test in the middle of training."""


class StopAt(keras.callbacks.Callback):
    """Does something at the end of a step, counted from the start of this call of `fit`."""

    def __init__(self, step, action):
        super().__init__()
        self._at, self._action = (step,), action
        self._seen = []

    def on_train_batch_end(self, batch, logs=None):
        self._seen.append(batch)
        if len(self._seen) == self._at[0]:
            self._action()


def interrupt():
    raise InterruptionError


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def dropout_model():
    return small_model(dropout=0.3)


def rich_optimizer():
    schedule = make_schedule("steps", 0.05, total_steps=12, boundaries=(9,), warmup_steps=2)
    return sgd(ErrorWarmup(schedule, 0.02, threshold=0.7, window=3), ema=0.8)


def test_interrupted_run_ends_as_if_it_had_not_been(tmp_path):
    def make():
        return make_trainer(model=dropout_model, optimizer=rich_optimizer())

    options = {"steps": 12, "log_every": 2}
    whole = make()
    expected = whole.fit(blobs(), 32, **options).history
    for stop_after in (4, 3, 5):
        with pytest.raises(InterruptionError):
            make().fit(
                blobs(),
                32,
                checkpoints=Checkpoints(tmp_path, every=3),
                callbacks=[StopAt(stop_after, interrupt)],
                **options,
            )
    again = make()
    history = again.fit(blobs(), 32, checkpoints=Checkpoints(tmp_path, every=3), **options).history
    assert_same_weights(whole, again)
    for name in ("loss", "accuracy", "val_loss"):
        assert history[name][-1] == pytest.approx(expected[name][-1], rel=1e-6)
    # Started once more, a finished run has nothing to do, and its weights are the same.
    finished = make()
    finished.fit(blobs(), 32, checkpoints=Checkpoints(tmp_path, every=3), **options)
    assert_same_weights(whole, finished)


def test_sigterm_saves_and_exits(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path)
    trainer = make_trainer()
    ended = []
    end = keras.callbacks.LambdaCallback(on_train_end=lambda logs: ended.append(True))
    with pytest.raises(Terminated, match="SIGTERM .*3.*step-000000003") as error:
        trainer.fit(
            blobs(), 32, steps=8, checkpoints=checkpoints, callbacks=[StopAt(3, terminate), end]
        )
    assert error.value.code == 143 and ended == [True]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    again, whole = make_trainer(), make_trainer()
    again.fit(blobs(), 32, steps=8, checkpoints=checkpoints)
    whole.fit(blobs(), 32, steps=8)
    assert_same_weights(whole, again)


def test_early_stopping_remembers(tmp_path):
    """Patience counts on over an interruption, and a stopped run stays stopped."""

    def run(*callbacks):
        trainer = make_trainer(1e-6)
        stop = keras.callbacks.EarlyStopping("val_loss", min_delta=1.0, patience=3)
        trainer.fit(
            blobs(train=64),
            32,
            epochs=9,
            checkpoints=Checkpoints(tmp_path),
            callbacks=[stop, *callbacks],
        )
        return trainer

    with pytest.raises(InterruptionError):
        run(StopAt(5, interrupt))
    assert run().step == 8
    assert run().step == 8


@pytest.mark.parametrize(
    "callback",
    [
        lambda: keras.callbacks.EarlyStopping(
            # The wrong way round, so that the first epoch's weights are the best.
            "val_accuracy",
            mode="min",
            patience=9,
            restore_best_weights=True,
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

    whole = make()
    whole.fit(blobs(), 32, steps=12, callbacks=[callback()])
    checkpoints = Checkpoints(tmp_path, every=3)
    with pytest.raises(InterruptionError):  # in the middle of the second epoch of four steps
        make().fit(
            blobs(),
            32,
            steps=12,
            checkpoints=checkpoints,
            callbacks=[callback(), StopAt(7, interrupt)],
        )
    again = make()
    again.fit(blobs(), 32, steps=12, checkpoints=checkpoints, callbacks=[callback()])
    assert_same_weights(whole, again)


def test_averages_that_lie_in_the_model_between_epochs(tmp_path):
    """A checkpoint at an epoch's end, of four steps, holds the averages where the weights were."""

    def run(*callbacks, checkpoints=None):
        swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
        optimizer = keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9)
        trainer = make_trainer(optimizer=optimizer)
        trainer.fit(blobs(), 32, steps=12, checkpoints=checkpoints, callbacks=[swap, *callbacks])
        return trainer

    checkpoints = Checkpoints(tmp_path, every=4)
    with pytest.raises(InterruptionError):
        run(StopAt(6, interrupt), checkpoints=checkpoints)
    assert_same_weights(run(), run(checkpoints=checkpoints))


def test_diverging_run_stops(tmp_path):
    checkpoints = Checkpoints(tmp_path, every=1)
    trainer = make_trainer(1e30)
    with pytest.raises(Diverged, match=r"step [234], .* 1e\+30: .*(nan|inf|finite)") as error:
        trainer.fit(blobs(), 32, steps=6, log_every=4, checkpoints=checkpoints)
    assert "\n" not in str(error.value)
    for path in checkpoints.paths():
        assert str(path) in str(error.value) or path != checkpoints.paths()[-1]
        with np.load(path) as file:
            assert all(
                np.isfinite(file[name]).all() for name in file.files if file[name].dtype == "f"
            )
    with pytest.raises(Diverged, match="no checkpoints"):
        make_trainer(1e30).fit(blobs(), 32, steps=4, log_every=4)


def test_other_model_and_other_settings_are_refused(tmp_path):
    def run(trainer, batch_size=32, seed=0, **config):
        checkpoints = Checkpoints(tmp_path, config=config)
        trainer.fit(blobs(), batch_size, steps=1, checkpoints=checkpoints, seed=seed)

    run(make_trainer(), model="small")
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.iterdir())
    for arguments, received in (
        ({"trainer": make_trainer(optimizer=keras.optimizers.Adam())}, "optimizer"),
        ({"trainer": make_trainer(), "batch_size": 16}, "batch_size=16"),
        ({"trainer": make_trainer(), "seed": 1}, "seed=1"),
        ({"trainer": make_trainer(), "model": "other"}, "model='other'"),
    ):
        with refused("`checkpoints`", received):
            run(**{"model": "small", **arguments})
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
        make_trainer().fit(blobs(), 32, steps=8, checkpoints=checkpoints)
    assert [path.name for path in checkpoints.paths()] == ["step-000000002.npz"]


def test_keras_backup_is_refused_beside_checkpoints(tmp_path):
    """It would load its own, older state over that of the checkpoint."""
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", save_freq=False)
    with refused("`callbacks`", "BackupAndRestore", "`checkpoints`"):
        make_trainer().fit(
            blobs(), 32, steps=1, callbacks=[backup], checkpoints=Checkpoints(tmp_path)
        )
    trainer = make_trainer()
    trainer.fit(blobs(), 32, steps=1, callbacks=[backup], validation_split=None)
    assert trainer.step == 1
