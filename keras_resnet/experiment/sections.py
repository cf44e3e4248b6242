"""Sections of a page, each from a folder of results and what else is given. Needs TensorFlow."""

from __future__ import annotations

import csv
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data import ImageDataset
from keras_resnet.evaluation import (
    Evaluation,
    MultiLabelEvaluation,
)
from keras_resnet.experiment import pictures
from keras_resnet.experiment.effort import energy_text
from keras_resnet.experiment.page_tables import Percent, Table, is_number, plain, present, table_of
from keras_resnet.experiment.workdir import read_object
from keras_resnet.training.logs import read_epochs, read_records

MISTAKES = 12
# An SVG with more bytes than this, of many points, is shown as PNG.
LARGEST_SVG = 500_000
_RATE = "images_per_second"

# Plots that are shown where a folder has them: section, heading, and text in place of the picture.
PLOTS = {
    "learning_curve": (
        "Training",
        "Learning curve",
        "Errors on training and validation images, and the learning rate, by epoch; the table has "
        "the numbers",
    ),
    "degradation": ("Training", "Errors by epoch", "Errors of plain and residual nets by epoch"),
    "curves": ("Training", "Errors by epoch", "Errors of every network by epoch"),
    "deepening": (
        "Training",
        "Loss by epoch",
        "Training loss of the shallow net, the deepened one and the deep one from random values, "
        "by epoch; deepening.csv has the numbers",
    ),
    "slimming": (
        "Comparison",
        "Error against multiply-adds",
        "Error of slimmed networks, and of others as small, against their multiply-adds; "
        "slimming.csv has the numbers",
    ),
    "shrinking": (
        "Comparison",
        "Error against multiply-adds",
        "Validation error of the networks tried, in float and in 8-bit integers, against their "
        "multiply-adds; the table has the numbers",
    ),
    "comparison": (
        "Comparison",
        "Comparison",
        "Accuracy or error of the networks side by side; the table has the numbers",
    ),
    "accuracy": (
        "Comparison",
        "Accuracy against multiply-adds",
        "Validation accuracy of the candidates against their multiply-adds; the table has the "
        "numbers",
    ),
    "responses": (
        "Responses",
        "Responses by layer",
        "Standard deviation of the layers' responses, in the order of the layers and in falling "
        "order; the table has the numbers",
    ),
    "cost": (
        "Comparison",
        "Time by batch size",
        "Time and memory of the networks by batch size; the table has the numbers",
    ),
    "confusion": (
        "Classes",
        "Confusion matrix",
        "Predicted class of the images of each true class; confusion.csv has the numbers",
    ),
    "reliability": (
        "Classes",
        "Accuracy by confidence",
        "Accuracy against the probability of the best class; reliability.csv has the numbers",
    ),
    "per_class": (
        "Classes",
        "Error by class",
        "Error of each class with its 95 % interval; the table has the numbers",
    ),
}


class Plot(NamedTuple):
    """A plot of the run's folder; `width` is that at which it was drawn, in CSS pixels."""

    heading: str
    uri: str
    alt: str
    width: int


class Section(NamedTuple):
    """A part of the page; `name` heads it, and `changed` says what was done to `batch`."""

    name: str
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    mistakes: Sequence[pictures.Mistake] = ()
    batch: Sequence[pictures.Picture] = ()
    changed: str = ""
    doubtful: Sequence[pictures.Picture] = ()
    text: str = ""


def training_section(workdir: Path) -> Section:
    """Returns the curves and figures of every epoch."""
    path, rows = workdir / "metrics.jsonl", []
    if path.exists():
        hidden = ("kind", "time")
        rows = [
            {key: value for key, value in row.items() if key not in hidden}
            for row in read_epochs(path)
        ]
    return Section(
        "Training", _plots(workdir, "Training"), present(table_of("Figures of every epoch", rows))
    )


def comparison_section(workdir: Path) -> Section:
    """Returns the networks of a comparison or a study side by side."""
    tables, text = [], ""
    if (workdir / "comparison.json").exists():
        held = read_object(workdir / "comparison.json")
        models = [_without_empty(row) for row in held.get("models", ())]
        tables.append(table_of("Networks, for one image", models))
        costs = [_without_empty(row) for row in held.get("costs", ())]
        tables.append(table_of("Measured on this machine", costs))
        if held.get("failures"):
            text = f"Not measured: {'; '.join(held['failures'])}"
    if (workdir / "table.json").exists():
        held = read_object(workdir / "table.json")
        caption, text = held.get("caption", "Networks of the study"), held.get("text", text)
        if "best" in held:  # of a search
            caption, best = "Trials", held["best"]
            text = f"The best is trial {best}. It is trained anew, in the folder best-trial-{best}."
        tables.append(table_of(caption, held.get("rows", ())))
    return Section("Comparison", _plots(workdir, "Comparison"), present(*tables), text=text)


def responses_section(workdir: Path) -> Section:
    """Returns how strongly the layers of networks respond."""
    if not (workdir / "responses.json").exists():
        return Section("Responses")
    held = read_object(workdir / "responses.json")
    networks, layers = [], []
    for name, rows in held.get("responses", {}).items():
        deviations = [row["std"] for row in rows]
        networks.append(
            {
                "network": name,
                "layers": len(rows),
                "mean": statistics.fmean(deviations),
                "smallest": min(deviations),
                "largest": max(deviations),
            }
        )
        layers += [{"network": name, **row} for row in rows]
    text = (
        f"Standard deviation of the responses of {held['layers'].replace('3x3', 'the 3x3')} layers "
        f"to {held['images']:,} {held['split']} images of {held['dataset']}, after batch "
        "normalization and before the nonlinearity or addition."
    )
    return Section(
        "Responses",
        _plots(workdir, "Responses"),
        present(
            table_of("Standard deviations by network", networks),
            table_of("Standard deviation of every layer", layers, folded=True),
        ),
        text=text,
    )


def classes_section(workdir: Path, result: Evaluation | MultiLabelEvaluation | None) -> Section:
    """Returns the errors of every class, of an evaluation or of per_class.csv."""
    path, rows = workdir / "per_class.csv", []
    if result is not None:
        rows = result.per_class()
    elif path.exists():
        with open(path, encoding="utf-8", newline="") as file:
            rows = [
                {key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)
            ]
    if rows and "average_precision" in rows[0] | rows[-1]:
        return Section("Classes", tables=present(table_of("Labels", rows)))
    shown = [
        {
            "class": str(row["name"]),
            "images": row["images"],
            **{
                f"{name} %": Percent(100 * row[key]) if is_number(row.get(key)) else None
                for key, name in (
                    ("error", "error"),
                    ("low", "from"),
                    ("high", "to"),
                    ("precision", "precision"),
                )
            },
            "most often taken for": str(row.get("taken_for") or ""),
        }
        for row in rows
    ]
    caption = "Classes, with 95 % intervals of their errors"
    return Section("Classes", _plots(workdir, "Classes"), present(table_of(caption, shown)))


def mistakes_section(
    result: Evaluation | None, dataset: ImageDataset | None, model: keras.Model | None
) -> Section:
    """Returns the wrong predictions of the highest scores, with maps where a network has them."""
    name = "Worst mistakes"
    if result is None or dataset is None or not pictures.has_pictures(dataset):
        return Section(name)
    found = pictures.mistakes(result, dataset, MISTAKES, model)
    if not found:
        return Section(name, text=f"All {result.count:,} {result.split} images are right.")
    count = int(np.sum(result.ranking[:, 0] != result.labels))
    text = (
        f"{count:,} of {result.count:,} {result.split} images are wrong. These {len(found)} have "
        "the highest scores."
    )
    if found[0].maps:
        text += (
            " The maps beside them show in warm colors where the network sees evidence for the "
            "class that it predicts, and for the true one (class activation maps, each in colors "
            "from its lowest to its highest value)."
        )
    return Section(name, mistakes=found, text=text)


def settings_section(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> Section:
    """Returns the settings, those that differ from the default first."""
    rows = [
        {
            "setting": name,
            "value": plain(value),
            "default": plain(defaults[name]) if name in defaults else "",
        }
        for name, value in settings.items()
    ]
    chosen = [row for row in rows if row["value"] != row["default"]]
    rest = [{"setting": row["setting"], "value": row["value"]} for row in rows if row not in chosen]
    return Section(
        "Settings",
        (),
        present(
            table_of("Chosen, other than the default", chosen),
            table_of("Left at their default", rest, folded=True),
        ),
    )


def cost_section(
    workdir: Path,
    metrics: Mapping[str, Any],
    result: Evaluation | MultiLabelEvaluation | None,
) -> Section:
    """Returns the size of a network, and the time that it took."""
    path, rates = workdir / "metrics.jsonl", []
    if path.exists():
        rates = [row[_RATE] for row in read_records(path) if _RATE in row]
    figures = {
        "trainable parameters": metrics.get("parameters"),
        "multiply-adds of one image": metrics.get("multiply_adds"),
        "training time (s)": metrics.get("train_seconds"),
        "training steps": metrics.get("steps"),
        "images seen in training": metrics.get("images_seen"),
        "multiply-adds of their forward passes": metrics.get("trained_multiply_adds"),
        "training images/s, median": statistics.median(rates) if rates else None,
        "energy of training (J)": metrics.get("energy_joules"),
        "evaluation images/s": metrics.get(_RATE) if result is None else result.images_per_second,
    }
    rows = [{"figure": key, "value": value} for key, value in figures.items() if value is not None]
    text = ""
    if note := metrics.get(f"{_RATE}_note") if result is None else result.rate_note:
        text = f"Evaluation images/s: {note}. "
    if energy := energy_text(metrics):
        text += f"Energy of training: {energy}."
    if metrics.get("energy_joules") is not None:
        text += " The counters are of whole devices, other processes and idling included."
    return Section("Cost", (), present(table_of("Cost", rows)), text=text)


def environment_section(metrics: Mapping[str, Any]) -> Section:
    """Returns versions, machine and command."""
    found = {name: str(value) for name, value in metrics.get("versions", {}).items()}
    for name in ("threads", "jit_compile", "seed"):
        if name in metrics:
            found[name.replace("_", " ")] = plain(metrics[name])
    if found:
        found["system, of this page"] = platform.platform()
        gpus = tf.config.list_physical_devices("GPU")
        found["processors, of this page"] = f"{os.cpu_count()} CPU cores, {len(gpus)} GPUs"
    if "command" in metrics:
        found["command"] = metrics["command"]
    rows = [{"name": name, "value": value} for name, value in found.items()]
    return Section("Environment", (), present(table_of("Versions and machine", rows)))


def _plots(workdir: Path, section: str) -> list[Plot]:
    found = []
    for name, (own, heading, alt) in PLOTS.items():
        paths = [workdir / f"{name}.svg", workdir / f"{name}.png"]
        there = [path for path in paths if own == section and path.exists()]
        small = [path for path in there if path.stat().st_size <= LARGEST_SVG]
        if there:
            path = (small or there[-1:])[0]
            found.append(Plot(heading, pictures.file_uri(path), alt, pictures.drawn_width(path)))
    return found


def _value(text: str) -> str | float | int:
    """Returns a number of a CSV file, or the text of one that is none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _without_empty(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value not in (None, "unavailable")}
