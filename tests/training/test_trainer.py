"""The loop: learning, evaluation, callbacks, logs."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import logging
import re
import resource

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.training import (
    Checkpoints,
    MetricsLogger,
    Progress,
    TensorBoardScalars,
    Trainer,
    read_records,
    sgd,
)
from tests.helpers import refused
from tests.training.fakes import (
    assert_same_weights,
    blobs,
    cross_entropy,
    fit,
    make_trainer,
    small_model,
)


def test_learns():
    trainer = make_trainer()
    history = trainer.fit(blobs(), 32, epochs=4, log_every=2)
    assert trainer.step == 16
    assert history.history["accuracy"][-1] > 0.9
    assert history.history["val_accuracy"][-1] > 0.9
    assert history.epoch == [0, 1, 2, 3]


def test_equals_keras_fit():
    """Two epochs of plain SGD give what `model.fit` gives on the same batches."""
    trainer = make_trainer(model=lambda: small_model(l2=1e-3))
    other = small_model(l2=1e-3)
    other.set_weights(trainer.model.get_weights())
    other.compile(sgd(0.05), cross_entropy(), jit_compile=False)
    other.fit(blobs().train_batches(32).take(8), verbose=0)
    for ours, theirs in zip(fit(trainer, 8).model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "batch_size", "cuts_padding"),
    # The last as on a TPU.
    [(37, 8, True), (37, 64, True), (64, 16, True), (1, 4, True), (37, 8, False)],
)
def test_evaluation_counts_each_example_once(size, batch_size, cuts_padding):
    data = blobs(test=size)
    trainer = make_trainer()
    trainer._step.cuts_padding = cuts_padding
    images, labels = data._arrays["test"]
    predictions = np.asarray(trainer.model(images.astype("float32")))
    by_hand = float(np.mean(predictions.argmax(-1) == labels))
    results = trainer.evaluate(data, "test", batch_size)
    assert results["accuracy"] == pytest.approx(by_hand, abs=1e-6)
    loss = keras.losses.sparse_categorical_crossentropy(labels, predictions, from_logits=True)
    assert results["loss"] == pytest.approx(float(np.mean(loss)), rel=1e-5)


def test_evaluation_of_nothing_is_refused(monkeypatch):
    data = blobs(test=6)
    batches = data.eval_batches

    def unreadable(*split, **options):
        return batches(*split, **options).map(
            lambda images, labels, weights: (images, labels, 0 * weights)
        )

    monkeypatch.setattr(data, "eval_batches", unreadable)
    with refused("split", "'test' of 6"):
        make_trainer().evaluate(data, "test", 4)


def test_several_steps_per_call_change_nothing():
    one, several = make_trainer(), make_trainer(steps_per_call=3)
    for trainer in (one, several):
        assert fit(trainer, 10, log_every=4).step == 10
    assert_same_weights(one, several)


def test_fit_resumes_where_it_was():
    parts = make_trainer()
    for steps in (3, 4, 10):
        fit(parts, steps)
    assert_same_weights(fit(make_trainer(), 10), parts)


def test_keras_callbacks(tmp_path):
    """EarlyStopping, ModelCheckpoint and CSVLogger work as they do with `fit`."""
    trainer = make_trainer(1e-6)
    stop = keras.callbacks.EarlyStopping("val_loss", min_delta=1.0, patience=2)
    best, only = tmp_path / "best.weights.h5", {"save_best_only": True, "save_weights_only": True}
    callbacks = [
        stop,
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras"),
        keras.callbacks.ModelCheckpoint(best, **only),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    history = trainer.fit(blobs(), 32, epochs=10, callbacks=callbacks)
    assert len(history.epoch) == 3 and stop.stopped_epoch == 2
    assert trainer.step == 12
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert float(rows[-1]["val_loss"]) == pytest.approx(history.history["val_loss"][-1])
    saved = keras.saving.load_model(tmp_path / "3.keras")
    assert_same_weights(trainer, saved)
    assert int(saved.optimizer.iterations.numpy()) == 12
    assert best.stat().st_size > 0


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard.summary")
    board = keras.callbacks.TensorBoard(tmp_path, histogram_freq=1, update_freq=2)
    make_trainer().fit(blobs(), 32, epochs=2, log_every=2, callbacks=[board])
    found = {}
    for kind in ("train", "validation"):
        (file,) = (tmp_path / kind).glob("events*.v2")
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                found.setdefault((kind, value.tag), []).append(event.step)
    assert found["train", "epoch_loss"] == found["validation", "epoch_loss"] == [0, 1]
    assert found["train", "batch_loss"][-1] <= 8
    assert any("kernel" in tag for _, tag in found)


def test_tensorboard_gets_the_same_scalars_as_the_table(tmp_path):
    pytest.importorskip("tensorboard.summary")
    callbacks = [MetricsLogger(tmp_path), TensorBoardScalars(tmp_path / "board")]
    make_trainer().fit(blobs(), 32, epochs=2, log_every=2, callbacks=callbacks)
    (file,) = (tmp_path / "board").glob("events*.v2")
    found = {
        (value.tag, event.step): float(tf.make_ndarray(value.tensor))
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    }
    expected = {
        (f"{row['kind']}/{name}", row["step"]): value
        for row in read_records(tmp_path / "metrics.jsonl")
        for name, value in row.items()
        if name not in ("kind", "step", "epoch")
    }
    assert found.keys() == expected.keys() and len(found) > 10
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-6)


def test_callbacks_are_called_in_order():
    calls = []
    recorder = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: calls.append("train begin"),
        on_epoch_begin=lambda epoch, logs: calls.append(f"epoch {epoch} begin"),
        on_train_batch_end=lambda batch, logs: calls.append(f"batch {batch} {'loss' in logs}"),
        on_log=lambda step, logs: calls.append(f"log {step}"),
        on_test_end=lambda logs: calls.append(f"test end {sorted(logs)}"),
        on_epoch_end=lambda epoch, logs: calls.append(f"epoch {epoch} end {'val_loss' in logs}"),
        on_train_end=lambda logs: calls.append("train end"),
    )
    make_trainer().fit(blobs(train=64), 32, steps=3, log_every=2, callbacks=[recorder])
    assert calls == [
        "train begin",
        "epoch 0 begin",
        "batch 0 True",
        "log 2",
        "batch 1 True",
        "test end ['accuracy', 'loss']",
        "epoch 0 end True",
        "epoch 1 begin",
        "log 3",
        "batch 0 True",
        "test end ['accuracy', 'loss']",
        "epoch 1 end True",
        "train end",
    ]


def test_a_stop_within_an_epoch_ends_it_as_keras_does(tmp_path):
    """With metrics, validation and a row, and with a checkpoint of that very step."""
    events = []

    class StopAtSix(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = self.model.stop_training or batch == 1 and len(events) == 1

        def on_epoch_end(self, epoch, logs=None):
            events.append((epoch, *sorted(logs)))

    def run(*callbacks):
        trainer, callbacks = make_trainer(), [*callbacks, MetricsLogger(tmp_path)]
        options = {"callbacks": callbacks, "checkpoints": Checkpoints(tmp_path)}
        return trainer, trainer.fit(blobs(), 32, epochs=4, log_every=4, **options)

    names = ("accuracy", "learning_rate", "loss", "val_accuracy", "val_loss")
    trainer, history = run(StopAtSix())
    assert trainer.step == 6 and events == [(0, *names), (1, *names)]
    assert history.epoch == [0, 1]
    assert sorted(path.name for path in tmp_path.glob("*.npz"))[-1] == "step-000000006.npz"
    rows = read_records(tmp_path / "metrics.jsonl")
    kinds = [(row["kind"], row["step"]) for row in rows]
    assert kinds == [("interval", 4), ("epoch", 4), ("interval", 6), ("epoch", 6)]
    assert rows[-1]["val_loss"] == history.history["val_loss"][-1]
    again, history = run()
    assert again.step == 6 and history.epoch == []
    assert_same_weights(trainer, again)


def test_callbacks_find_the_metrics_of_the_step(tmp_path):
    """A file saved between two readings is named by the loss it was saved at."""
    path = tmp_path / "{batch:02d}-{loss:.6f}.weights.h5"
    save = keras.callbacks.ModelCheckpoint(path, save_weights_only=True, save_freq=2)
    make_trainer(steps_per_call=3).fit(blobs(), 32, epochs=1, callbacks=[save])
    found = sorted(path.name for path in tmp_path.iterdir())
    history = make_trainer().fit(blobs(), 32, steps=2).history
    assert found[0] == f"02-{history['loss'][0]:.6f}.weights.h5"
    assert len(found) == 2 and found[1].startswith("04-")


def test_a_mode_without_a_monitor():
    automatic = keras.callbacks.Callback()
    automatic.mode = "auto"
    assert make_trainer().fit(blobs(), 32, steps=1, callbacks=[automatic]).epoch == [0]


def test_keras_progress_bar_stays_silent(capsys):
    make_trainer().fit(blobs(), 32, steps=2, callbacks=[keras.callbacks.ProgbarLogger()])
    assert capsys.readouterr().out == ""


def test_learning_rate_can_be_set_by_a_callback():
    lower = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.5**epoch)
    history = make_trainer(1.0).fit(blobs(), 32, epochs=3, callbacks=[lower])
    assert history.history["learning_rate"] == [1.0, 0.5, 0.25]


def test_logs_are_written_and_cut_back_on_resume(tmp_path):
    fit(make_trainer(), 6, log_every=2, callbacks=[MetricsLogger(tmp_path)])
    rows = read_records(tmp_path / "metrics.jsonl")
    assert [(row["kind"], row["step"], row["epoch"]) for row in rows] == [
        ("interval", 2, 1),
        ("interval", 4, 1),
        ("epoch", 4, 1),
        ("interval", 6, 2),
        ("epoch", 6, 2),
    ]
    # A run that was killed while it wrote, and starts again from step 4.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "inter')
    again = fit(make_trainer(), 4)
    fit(again, 6, log_every=1, callbacks=[MetricsLogger(tmp_path)])
    rows = read_records(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [2, 4, 4, 5, 6, 6]
    table = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    for row, record in zip(table, rows, strict=True):
        for name, value in record.items():
            assert row[name] == str(value)


def test_rows_of_another_type_are_left_out(tmp_path):
    good = {"kind": "epoch", "step": 2, "epoch": 1, "loss": 0.5}
    others = ({"step": "3"}, {"step": True}, {"epoch": 1.5}, {"kind": 3}, {"loss": "0.5"})
    others += ({"loss": 10**400}, {"\ud800": 1.0}, {"": 1.0})
    rows = [{**good, **other} for other in others] + [[good], "row", {"kind": "epoch"}]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in (*rows, good)))
    with pytest.warns(UserWarning, match="Left out") as told:
        assert read_records(path) == [good]
    assert [f"line {i + 1} of" in str(one.message) for i, one in enumerate(told)] == [True] * len(
        rows
    )
    # The record is mended when a run resumes.
    with pytest.warns(UserWarning, match="Left out"):
        fit(make_trainer(), 4, callbacks=[MetricsLogger(tmp_path)])
    assert {row["kind"] for row in read_records(path)} == {"interval", "epoch"}


@contextlib.contextmanager
def full_disk():
    """Lets no file grow, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("logger", [MetricsLogger, TensorBoardScalars])
@pytest.mark.parametrize("at", ["the first step", "a later one"])
def test_full_disk_is_one_line_and_the_run_resumes(tmp_path, logger, at):
    if logger is TensorBoardScalars:
        pytest.importorskip("tensorboard.summary")
    checkpoints = Checkpoints(tmp_path / "checkpoints", every=1)

    def run(*callbacks):
        callbacks = [logger(tmp_path / "logs"), *callbacks]
        return fit(make_trainer(), 4, log_every=1, callbacks=callbacks, checkpoints=checkpoints)

    with contextlib.ExitStack() as stack:
        later = keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs: batch == 2 and stack.enter_context(full_disk())
        )
        if at == "the first step":
            stack.enter_context(full_disk())
        with pytest.raises(OSError, match=str(tmp_path / "logs")) as error:
            run(later)
    assert error.value.errno == errno.EFBIG and "\n" not in str(error.value)
    assert_same_weights(run(), fit(make_trainer(), 4))


def test_progress_prints_lines(capsys):
    make_trainer().fit(blobs(), 32, steps=4, log_every=2, callbacks=[Progress()])
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert printed.out == "" and lines[0].startswith("step 2/4") and "images/s" in lines[0]
    assert "%" in lines[0]
    assert all(name in lines[1] for name in ("loss", "accuracy", "learning_rate"))
    assert lines[2].startswith("epoch 1/1  val_accuracy") and "val_loss" in lines[2]


@pytest.mark.parametrize("colors", [True, False])
def test_progress_draws_a_bar_on_a_terminal(capsys, monkeypatch, colors):
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    if colors:
        monkeypatch.delenv("NO_COLOR", raising=False)
    else:
        monkeypatch.setenv("NO_COLOR", "1")
    make_trainer().fit(blobs(), 32, steps=2, log_every=1, callbacks=[Progress()])
    printed = capsys.readouterr()
    assert printed.out == "" and "\x1b[" in printed.err
    assert "step 2/2" in printed.err and "val_loss" in printed.err
    assert bool(re.search(r"\x1b\[[39]\d", printed.err)) == colors


def test_progress_is_left_out_with_the_log(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr(logging.getLogger("keras_resnet"), "level", logging.WARNING)
    make_trainer().fit(blobs(), 32, steps=2, log_every=1, callbacks=[Progress()])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "argument", "received"),
    [
        ({"batch_size": 32}, "epochs", "epochs=None, steps=None"),
        ({"batch_size": 32, "epochs": 1, "steps": 1}, "epochs", "epochs=1, steps=1"),
        ({"batch_size": 0, "epochs": 1}, "batch_size", "batch_size=0"),
        ({"batch_size": 1000, "epochs": 1}, "batch_size", "batch_size=1000"),
        ({"batch_size": 32, "steps": 1, "log_every": 0}, "log_every", "log_every=0"),
    ],
)
def test_bad_arguments_of_fit(arguments, argument, received):
    with refused(f"`{argument}`", received):
        make_trainer().fit(blobs(), **arguments)


def test_labels_without_an_output_are_refused_before_training():
    dataset, trainer = blobs(), make_trainer()
    dataset.class_names = tuple("01234")
    with refused("`dataset`", "5 classes"):
        trainer.fit(dataset, 32, epochs=1)
    with refused("`dataset`", "5 classes"):
        trainer.evaluate(dataset, "test", 32)


def test_optimizer_options_that_belong_to_the_trainer():
    model = small_model()
    for optimizer, instead in (
        (keras.optimizers.SGD(gradient_accumulation_steps=2), "`micro_batches`"),
        (keras.optimizers.SGD(loss_scale_factor=8.0), "`loss_scale`"),
        (keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()), "inner_optimizer"),
    ):
        with refused("`optimizer`", instead):
            Trainer(model, optimizer, cross_entropy())


def test_step_is_traced_once():
    trainer = fit(make_trainer(steps_per_call=2), 7, log_every=3)
    assert trainer._step.train_several.experimental_get_tracing_count() == 1
    assert tf.distribute.get_strategy() is trainer.strategy
