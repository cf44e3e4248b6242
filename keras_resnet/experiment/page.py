"""The report of a run, an evaluation or a comparison: one HTML page that needs nothing else.

Pictures, styles and the few lines of script are inside of it, and it loads nothing from elsewhere.
Needs TensorFlow and, for what is written, Jinja2 (`pip install keras-deep-residual[train]`).
"""

from __future__ import annotations

import csv
import logging
import os
import platform
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.analysis import plots
from keras_resnet.data import ImageDataset
from keras_resnet.data.check import DataReport
from keras_resnet.evaluation import (
    Evaluation,
    LabelCandidate,
    MultiLabelEvaluation,
    calibration_error,
    evaluate,
    overview_of,
    reliability,
)
from keras_resnet.experiment import pictures
from keras_resnet.experiment.settings import Experiment
from keras_resnet.experiment.workdir import CONFIG, read_object
from keras_resnet.training.logs import read_epochs, read_records
from keras_resnet.utils import checks
from keras_resnet.utils.escapes import visible
from keras_resnet.utils.files import write_text
from keras_resnet.utils.statistics import wilson_interval
from keras_resnet.utils.tables import cell_text, heading_text, write_table

logger = logging.getLogger(__name__)

REPORT = "report.html"
MISTAKES, TRAINING_IMAGES = 12, 24
# Findings that are listed; their kinds are counted in any case.
LISTED = 200
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
    "comparison": (
        "Comparison",
        "Comparison",
        "Accuracy or error of the networks side by side; the table has the numbers",
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


class Cell(NamedTuple):
    """A cell of a table: the text that is shown, and a number to sort by, if it has one."""

    text: str
    number: float | None = None


class Table(NamedTuple):
    """A table whose columns can be sorted; a folded one opens when it is asked for."""

    caption: str
    headings: Sequence[str]
    numeric: Sequence[bool]
    rows: Sequence[Sequence[Cell]]
    folded: bool = False


class _Percent(float):
    """A number that is shown with two decimals."""


class Plot(NamedTuple):
    """A plot of the run's folder; `width` is that at which it was drawn, in CSS pixels."""

    heading: str
    uri: str
    alt: str
    width: int


class Section(NamedTuple):
    """A part of the page; `name` heads it."""

    name: str
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    mistakes: Sequence[pictures.Mistake] = ()
    batch: Sequence[pictures.Picture] = ()
    doubtful: Sequence[pictures.Picture] = ()
    text: str = ""


def require_jinja() -> Any:
    """Returns Jinja2, or raises an ImportError that says what to install."""
    return checks.import_extra("jinja2", "Reports", "train")


def write_report(
    workdir: str | os.PathLike,
    *,
    title: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    model: keras.Model | None = None,
    dataset: ImageDataset | None = None,
    result: Evaluation | MultiLabelEvaluation | None = None,
    check: DataReport | None = None,
    wrong_labels: Sequence[LabelCandidate] = (),
) -> Path:
    """Writes report.html from what a folder of results holds, and from what else is given.

    The folder may be that of a run, an evaluation, a study or a comparison, also of an earlier
    version: what it does not hold is left out.

    Args:
        workdir: The folder.
        title: Title of the page; by default the folder's name.
        metrics: Content of metrics.json, where that is not written yet.
        model: The trained model, for class activation maps.
        dataset: The images, for the number in each class, a training batch, and mistakes.
        result: What the model predicts for a split of `dataset`.
        check: Faults found in the data.
        wrong_labels: Images whose label is likely wrong.

    Returns:
        The path of the page.

    Raises:
        ValueError: If a file of the folder is damaged.
        ImportError: If Jinja2 is not installed.
    """
    jinja = require_jinja()
    workdir = Path(workdir)
    ranked = result if isinstance(result, Evaluation) else None
    if metrics is None:
        path = workdir / "metrics.json"
        metrics = read_object(path) if path.exists() else {}
    path = workdir / CONFIG
    settings = read_object(path) if path.exists() else {}

    sections = [
        _training(workdir),
        _comparison(workdir),
        _classes(workdir, result),
        _mistakes(ranked, dataset, model),
        _data(dataset, check, wrong_labels, settings),
        _settings(settings),
        _cost(workdir, metrics, ranked),
        _environment(metrics),
    ]
    environment = jinja.Environment(
        loader=jinja.PackageLoader("keras_resnet.experiment", "."),
        autoescape=True,
        undefined=jinja.StrictUndefined,
        # Of the text of others; what a macro returns is markup, and no `str` itself.
        finalize=lambda value: visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(REPORT).render(
        title=title or workdir.resolve().name,
        written=time.strftime("%Y-%m-%d %H:%M"),
        headline=_headline(metrics),
        sections=[section for section in sections if any(section[1:])],
    )
    write_text(workdir / REPORT, page)
    return workdir / REPORT


def write_evaluation(
    result: Evaluation | MultiLabelEvaluation,
    workdir: str | os.PathLike,
    title: str,
    table: str = "csv",
) -> dict[str, float]:
    """Writes what an evaluation tells of each class and image, as tables and plots.

    These are per_class, confusion and reliability, of which the latter needs probabilities, and
    predictions. Labels that do not exclude each other have the tables only.

    Args:
        result: The evaluation.
        workdir: Folder to write to.
        title: Title of the plots.
        table: Format of predictions: "csv", "json" or "parquet".

    Returns:
        `calibration_error`, in [0, 1], where there are probabilities.
    """
    workdir = Path(workdir)
    write_table(workdir / f"predictions.{table}", result.predictions())
    if not isinstance(result, Evaluation):
        write_table(workdir / "per_class.csv", result.per_class())
        return {}
    names = result.class_names
    plots.confusion_matrix(result.confusion, names, workdir / "confusion.png", title=title)
    plots.class_errors(result.per_class(), workdir / "per_class.png", title=title)
    if result.average != "softmax":
        return {}
    hits = result.ranking[:, 0] == result.labels
    error = calibration_error(result.scores, hits)
    rows = reliability(result.scores, hits)
    curves = {" + ".join(Path(name).name for name in result.models): rows}
    title += f", expected calibration error {100 * error:.2f} %"
    plots.reliability_diagram(curves, workdir / "reliability.png", title=title)
    return {"calibration_error": error}


def report_run(
    experiment: Experiment,
    model: keras.Model,
    dataset: ImageDataset,
    metrics: Mapping[str, Any],
    title: str,
) -> None:
    """Predicts the class of every image of the last split, and writes what follows from it.

    Writes what `write_evaluation` does, and report.html. A model that `evaluate` does not take,
    such as one around a Hub module, has a page without them.

    Args:
        experiment: The settings; their `workdir` is the folder.
        model: The trained model.
        dataset: Its data.
        metrics: Content of metrics.json, which need not be written yet.
        title: Title of page and plots.
    """
    workdir, result = experiment.output.workdir, None
    try:
        batch_size = experiment.optimization.batch_size
        result = evaluate(model, dataset, split=metrics["split"], batch_size=batch_size)
    except ValueError as error:
        logger.info(f"{REPORT} is without classes and mistakes: {error}")
    else:
        metrics = {**metrics, **write_evaluation(result, workdir, title)}
    write_report(workdir, title=title, metrics=metrics, model=model, dataset=dataset, result=result)


def _headline(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Returns the figures at the top: what each is, its value, and what belongs to it."""
    split, found = metrics.get("split", ""), []
    if metrics.get(f"{split}_accuracy") is not None:
        accuracy, count = metrics[f"{split}_accuracy"], metrics.get(f"{split}_images")
        interval = _percents(wilson_interval(accuracy, count)) if count else ""
        note = f"{interval} at 95 %, {count:,} images" if count else ""
        found.append((f"{split} accuracy", f"{100 * accuracy:.2f} %", note))
    for top in ("top1", "top5"):
        if metrics.get(f"{top}_error") is not None:
            ends = metrics.get(f"{top}_error_interval_95")
            note = f"{_percents(ends)} at 95 %" if ends else ""
            name = f"{split} {top.replace('p', 'p-')} error"
            found.append((name, f"{100 * metrics[f'{top}_error']:.2f} %", note))
    for key, name in (("top5_accuracy", "top-5 accuracy"), ("accuracy", "accuracy")):
        own = f"train_{key}" if key == "accuracy" else f"{split}_{key}"
        if own in metrics and own != f"{split}_accuracy":
            where = "training" if key == "accuracy" else split
            found.append((f"{where} {name}", f"{100 * metrics[own]:.2f} %", ""))
    if f"{split}_loss" in metrics:
        found.append((f"{split} loss", f"{metrics[f'{split}_loss']:.4f}", "cross-entropy, nats"))
    if "calibration_error" in metrics:
        error = f"{100 * metrics['calibration_error']:.2f} %"
        found.append(("calibration error", error, "expected, of 15 intervals"))
    if "images" in metrics:
        left_out = metrics.get("left_out")
        note = f"{left_out:,} could not be read" if left_out else ""
        found.append(("images", f"{metrics['images']:,}", note))
    if "parameters" in metrics:
        found.append(("parameters", f"{metrics['parameters']:,}", "trainable"))
    if metrics.get("multiply_adds"):
        found.append(("multiply-adds", f"{metrics['multiply_adds']:,}", "of one image"))
    if "train_seconds" in metrics:
        note = f"{metrics['epochs']} epochs" if "epochs" in metrics else ""
        found.append(("training time", _duration(metrics["train_seconds"]), note))
    return found


def _training(workdir: Path) -> Section:
    path, rows = workdir / "metrics.jsonl", []
    if path.exists():
        hidden = ("kind", "time")
        rows = [
            {key: value for key, value in row.items() if key not in hidden}
            for row in read_epochs(path)
        ]
    return Section(
        "Training", _plots(workdir, "Training"), _tables(_table("Figures of every epoch", rows))
    )


def _comparison(workdir: Path) -> Section:
    tables, text = [], ""
    if (workdir / "comparison.json").exists():
        held = read_object(workdir / "comparison.json")
        models = [_without_empty(row) for row in held.get("models", ())]
        tables.append(_table("Networks, for one image", models))
        costs = [_without_empty(row) for row in held.get("costs", ())]
        tables.append(_table("Measured on this machine", costs))
        if held.get("failures"):
            text = f"Not measured: {'; '.join(held['failures'])}"
    if (workdir / "table.json").exists():
        held = read_object(workdir / "table.json")
        tables.append(_table("Networks of the study", held.get("rows", ())))
    return Section("Comparison", _plots(workdir, "Comparison"), _tables(*tables), text=text)


def _classes(workdir: Path, result: Evaluation | MultiLabelEvaluation | None) -> Section:
    path, rows = workdir / "per_class.csv", []
    if result is not None:
        rows = result.per_class()
    elif path.exists():
        with open(path, encoding="utf-8", newline="") as file:
            rows = [
                {key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)
            ]
    if rows and "average_precision" in rows[0] | rows[-1]:
        return Section("Classes", tables=_tables(_table("Labels", rows)))
    shown = [
        {
            "class": str(row["name"]),
            "images": row["images"],
            **{
                f"{name} %": _Percent(100 * row[key]) if _is_number(row.get(key)) else None
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
    return Section("Classes", _plots(workdir, "Classes"), _tables(_table(caption, shown)))


def _mistakes(
    result: Evaluation | None, dataset: ImageDataset | None, model: keras.Model | None
) -> Section:
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


def _data(
    dataset: ImageDataset | None,
    check: DataReport | None,
    wrong_labels: Sequence[LabelCandidate],
    settings: Mapping[str, Any],
) -> Section:
    tables: list[Table | None] = []
    batch: list[pictures.Picture] = []
    doubtful: list[pictures.Picture] = []
    text = ""
    if dataset is not None:
        counts: dict[str, np.ndarray] = {}
        for split in dataset.splits:
            labels, classes = dataset.labels(split), len(dataset.class_names)
            several = labels.ndim > 1
            counts[split] = labels.sum(0) if several else np.bincount(labels, minlength=classes)
        rows = [
            {"class": name, **{split: int(own[i]) for split, own in counts.items()}}
            for i, name in enumerate(dataset.class_names)
        ]
        tables.append(_table("Images of each class", rows))
        sizes = ", ".join(f"{size:,} {split}" for split, size in dataset.sizes.items())
        shape = "x".join(map(str, dataset.image_shape))
        text = f"{dataset.name}: {sizes} images, {shape} as the network takes them."
        if pictures.has_pictures(dataset):
            batch = pictures.training_batch(dataset, TRAINING_IMAGES, settings.get("seed", 0))
    if check is not None:
        overview = overview_of(check, wrong_labels)
        sizes = ", ".join(f"{size:,} {split}" for split, size in check.num_images.items())
        text = text or f"{check.folder}: {sizes} images."
        found = [
            {"path": one.path, "fault": one.fault, "detail": one.detail}
            for one in check.findings[:LISTED]
        ]
        tables.append(_table("Faults and notes", overview.faults))
        beginning = "The first " if len(check.findings) > LISTED else ""
        tables.append(_table(f"{beginning}{len(found)} files and folders with faults", found))
        tables.append(_table("Classes", overview.classes))
        tables.append(_table("Shorter sides in pixels", overview.sizes))
        doubtful = [
            pictures.Picture(one.uri, f"{one.path}: {pair.fault}", f"{pair.fault}: {one.path}")
            for pair in overview.duplicates
            for one in (pair.original, pair.copy)
        ]
        doubtful += [
            pictures.Picture(
                one.image.uri,
                f"{one.image.path}: labeled {one.given}, likely {one.likely}",
                f"{one.given}, likely {one.likely} ({100 * one.confidence:.0f} %)",
            )
            for one in overview.labels
        ]
        if not found:
            text += " Nothing is wrong with the files."
    return Section("Data", (), _tables(*tables), batch=batch, doubtful=doubtful, text=text)


def _settings(settings: Mapping[str, Any]) -> Section:
    defaults = Experiment().flat()
    rows = [
        {
            "setting": name,
            "value": _plain(value),
            "default": _plain(defaults[name]) if name in defaults else "",
        }
        for name, value in settings.items()
    ]
    chosen = [row for row in rows if row["value"] != row["default"]]
    rest = [row for row in rows if row["value"] == row["default"]]
    return Section(
        "Settings",
        (),
        _tables(
            _table("Chosen, other than the default", chosen),
            _table("Left at their default", [_only(row, "setting", "value") for row in rest], True),
        ),
    )


def _cost(workdir: Path, metrics: Mapping[str, Any], result: Evaluation | None) -> Section:
    path, rates = workdir / "metrics.jsonl", []
    if path.exists():
        rates = [row[_RATE] for row in read_records(path) if _RATE in row]
    figures = {
        "trainable parameters": metrics.get("parameters"),
        "multiply-adds of one image": metrics.get("multiply_adds"),
        "training time (s)": metrics.get("train_seconds"),
        "training steps": metrics.get("steps"),
        "training images/s, median": statistics.median(rates) if rates else None,
        "evaluation images/s": metrics.get(_RATE) if result is None else result.images_per_second,
        **{key: value for key, value in metrics.items() if "joules" in key or "energy" in key},
    }
    rows = [{"figure": key, "value": value} for key, value in figures.items() if value is not None]
    return Section("Cost", (), _tables(_table("Cost", rows)))


def _environment(metrics: Mapping[str, Any]) -> Section:
    found = {name: str(value) for name, value in metrics.get("versions", {}).items()}
    for name in ("threads", "jit_compile", "seed"):
        if name in metrics:
            found[name.replace("_", " ")] = _plain(metrics[name])
    if found:
        found["system, of this page"] = platform.platform()
        gpus = tf.config.list_physical_devices("GPU")
        found["processors, of this page"] = f"{os.cpu_count()} CPU cores, {len(gpus)} GPUs"
    if "command" in metrics:
        found["command"] = metrics["command"]
    rows = [{"name": name, "value": value} for name, value in found.items()]
    return Section("Environment", (), _tables(_table("Versions and machine", rows)))


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


def _table(caption: str, rows: Iterable[Mapping[str, Any]], folded: bool = False) -> Table | None:
    """Returns rows as a table with a column for every key that any of them has."""
    rows = list(rows)
    if not rows:
        return None
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    numeric = [
        any(cell.number is not None for cell in column)
        and all(cell.number is not None or cell.text in ("", "unavailable") for cell in column)
        for column in zip(*cells, strict=True)
    ]
    return Table(caption, list(map(heading_text, columns)), numeric, cells, folded)


def _tables(*tables: Table | None) -> list[Table]:
    return [table for table in tables if table is not None]


def _cell(value: Any) -> Cell:
    if value is None:
        return Cell("")
    if isinstance(value, _Percent):
        return Cell(f"{value:.2f}", value)
    if _is_number(value):
        return Cell(cell_text(value), float(value))
    return Cell(_plain(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _plain(value: Any) -> str:
    """Returns a setting as text."""
    if value is None or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(own)}" for key, own in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    return str(value)


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


def _only(row: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: row[key] for key in keys}


def _percents(interval: Sequence[float]) -> str:
    low, high = interval
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def _duration(seconds: float) -> str:
    """Returns a time as text: "41 s", "3 min 12 s", "5 h 2 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
