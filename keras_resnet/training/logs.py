"""Metrics of a run: as JSON lines, as CSV, for TensorBoard, and on the terminal."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import keras
import tensorflow as tf

from keras_resnet.utils import checks
from keras_resnet.utils.escapes import is_line
from keras_resnet.utils.files import append_text, naming, parse_json, write_text
from keras_resnet.utils.terminal import format_seconds, show, start_bar


class Recorder(keras.callbacks.Callback):
    """Passes the values of each logging interval and each epoch to `_add`; knows their step."""

    def on_train_begin(self, logs=None) -> None:
        self._step = self.params["first_step"]

    def on_log(self, step: int, logs: Mapping[str, float]) -> None:
        self._step = step
        self._add("interval", (step - 1) // self.params["steps"], logs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._add("epoch", epoch, logs or {})


class MetricsLogger(Recorder):
    """Writes a row for each logging interval and each epoch of `Trainer.fit`.

    `metrics.jsonl` is the record; `metrics.csv` holds the same rows as a table. A row has `kind`
    (`"interval"` or `"epoch"`), `step`, `epoch` (counted from 1) and the values. When a run resumes
    from a checkpoint, rows of steps that will be done again are dropped first.

    Args:
        directory: Where to write; made if missing.
    """

    def __init__(self, directory: str | os.PathLike):
        super().__init__()
        self.records = Path(directory) / "metrics.jsonl"
        self.table = Path(directory) / "metrics.csv"
        self._columns: list[str] = []

    def on_train_begin(self, logs=None) -> None:
        super().on_train_begin(logs)
        self.records.parent.mkdir(parents=True, exist_ok=True)
        rows = [row for row in read_records(self.records) if row["step"] <= self._step]
        write_text(self.records, "".join(json.dumps(row) + "\n" for row in rows))
        self._write_table(rows)

    def _add(self, kind: str, epoch: int, logs: Mapping[str, float]) -> None:
        row = {"kind": kind, "step": self._step, "epoch": epoch + 1, **logs}
        append_text(self.records, json.dumps(row) + "\n")
        if set(row) <= set(self._columns):
            append_text(self.table, _csv([row], self._columns))
        else:
            self._write_table(read_records(self.records))

    def _write_table(self, rows: list[dict]) -> None:
        names = {name: name for row in rows for name in row}
        self._columns = list(names)
        write_text(self.table, _csv([names, *rows], self._columns) if rows else "")


class TensorBoardScalars(Recorder):
    """Writes for TensorBoard what `MetricsLogger` writes as rows, by step.

    Needs the package tensorboard; `tensorboard_installed` says whether it is there. Where a resumed
    run does steps again, TensorBoard shows those that came last.

    Args:
        directory: Where to write; made if missing.
    """

    def __init__(self, directory: str | os.PathLike):
        super().__init__()
        self.directory = os.fspath(directory)

    def on_train_begin(self, logs=None) -> None:
        super().on_train_begin(logs)
        with naming(self.directory):
            self._writer = tf.summary.create_file_writer(self.directory)

    def on_train_end(self, logs=None) -> None:
        with naming(self.directory):
            self._writer.close()

    def _add(self, kind: str, epoch: int, logs: Mapping[str, float]) -> None:
        with naming(self.directory), self._writer.as_default(self._step):
            for name, value in logs.items():
                tf.summary.scalar(f"{kind}/{name}", value)


class Progress(keras.callbacks.Callback):
    """Shows steps, speed, time left, loss, metrics and learning rate while `Trainer.fit` runs.

    On standard error: draws a bar with `rich` where that is a terminal and rich is installed, and
    prints a line for each logging interval otherwise. Nothing is shown where the level of the
    logger `keras_resnet` is above INFO.
    """

    def on_train_begin(self, logs=None) -> None:
        self._bar = start_bar(self.params["last_step"], self.params["first_step"])

    def on_log(self, step: int, logs: Mapping[str, float]) -> None:
        shown, last_step = dict(logs), self.params["last_step"]
        speed, input_wait = shown.pop("images_per_second", None), shown.pop("input_wait", None)
        parts = [f"step {step}/{last_step}"]
        if speed:
            parts.append(f"{speed:.0f} images/s")
            if input_wait is not None:
                parts.append(f"{100 * input_wait:.0f} % waiting for input")
            seconds = (last_step - step) * self.params["batch_size"] / speed
            parts.append(f"{format_seconds(seconds)} left")
        status = "  ".join([*parts, _values(shown)])
        if self._bar is None:
            show(status)
        else:
            self._bar.update(self._bar.task_ids[0], completed=step, status=status)

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        values = {name: value for name, value in (logs or {}).items() if "val_" in name}
        if values:
            line = f"epoch {epoch + 1}/{self.params['epochs']}  {_values(values)}"
            if self._bar is None:
                show(line)
            else:
                self._bar.console.print(line, highlight=False)

    def on_train_end(self, logs=None) -> None:
        if self._bar is not None:
            self._bar.stop()


def tensorboard_installed() -> bool:
    """Returns whether TensorFlow can write summaries."""
    return importlib.util.find_spec("tensorboard") is not None


def read_records(path: str | os.PathLike) -> list[dict]:
    """Reads the rows of a `metrics.jsonl`; a missing file has none.

    A last line that was cut off is left out, and damaged lines before it with a warning.
    """
    path = Path(path)
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    rows = []
    # After the last line break comes nothing, or a row that a killed run was writing.
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = parse_json(line)
            if not _is_row(row):
                raise ValueError("it is no row of metrics")
        except (ValueError, AttributeError) as error:
            warnings.warn(f"Left out line {number} of {path}: {error}", stacklevel=2)
        else:
            rows.append(row)
    return rows


def _is_row(row: dict) -> bool:
    """Returns whether a row has a kind and a place, and else numbers under names of one line."""
    values = {name: value for name, value in row.items() if name != "kind"}
    return (
        row.get("kind") in ("interval", "epoch")
        and all(checks.is_whole(row.get(name)) for name in ("step", "epoch"))
        and all(map(is_line, values))
        and all(
            isinstance(value, float) or (checks.is_whole(value) and abs(value) < 2**63)
            for value in values.values()
        )
    )


def read_epochs(path: str | os.PathLike) -> list[dict]:
    """Reads those rows of a `metrics.jsonl` that were written at the end of an epoch."""
    return [row for row in read_records(path) if row["kind"] == "epoch"]


def _values(logs: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in logs.items())


def _csv(rows: list[dict], columns: list[str]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, lineterminator="\n").writerows(rows)
    return text.getvalue()
