"""Studies that compare networks as the paper does, with a table and pictures each."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.analysis import plots, studies
from keras_resnet.architectures import find_architecture
from keras_resnet.experiment.card import origin
from keras_resnet.experiment.page import require_jinja, write_report
from keras_resnet.experiment.settings import Data, Experiment, Optimization
from keras_resnet.experiment.study import Study, StudyRun, attempt_study, run_study
from keras_resnet.training.best import AVERAGED
from keras_resnet.utils import checks
from keras_resnet.utils.files import write_json
from keras_resnet.utils.tables import text_table, write_table
from keras_resnet.utils.terminal import RESULTS

# Settings of `pretrain`: all images of seven of the digits.
FIRST_DIGITS = Experiment(
    data=Data("digits", classes=(0, 1, 2, 3, 4, 5, 6)),
    optimization=Optimization(epochs=30, warmup="linear"),
)
_OF_FIRST_NETWORK = (
    *("model", "depth", "block", "widening", "shortcut", "version", "squeeze_excitation"),
    *("precision", "deterministic"),
)

Row = dict[str, Any]


def degradation(
    models: Sequence[str],
    base: Experiment,
    seeds: Sequence[int],
    *,
    jobs: int | None = None,
    reach: Sequence[float] = (0.5, 0.1),
) -> list[Row]:
    """Trains plain and residual nets of several depths alike (Fig. 1, 4 and 6 of the paper).

    Writes to the `workdir` of `base`: a folder per run, degradation.png, .svg and .csv (error
    curves), table.csv and table.json (final errors by split, such as `validation_error`, and epochs
    until the training errors of `reach`, in [0, 1]), and report.html. Where runs had to stop, such
    as those that diverged, they are named there, the report is of the others, and a TrainingStopped
    is raised in the end.

    Returns:
        The table's rows. `train_seconds` is wall time: compilation is included, and so is what
        runs side by side cost each other.
    """
    names = [find_architecture(model).name for model in models]
    checks.different("models", names, "networks")
    experiments = {name: base.replace(model=name) for name in names}
    study, rows, subject = _studied(experiments, base, seeds, jobs, reach)
    if study.finished:
        title, watched = f"Plain and residual nets on {subject}", base.data.validation_split
        curves = studies.curves_by_kind(_by_label(study.finished), watched)
        path = Path(base.output.workdir) / "degradation.png"
        plots.error_curves(curves, path, title=title)
        write_report(path.parent, title=title, metrics=origin())
    study.expect_all_finished()
    return rows


def side_by_side(
    experiments: Mapping[str, Experiment],
    base: Experiment,
    seeds: Sequence[int],
    *,
    title: str,
    jobs: int | None = None,
    reach: Sequence[float] = (0.1,),
) -> list[Row]:
    """Compares variants of one experiment: errors, parameters, operations and time.

    Writes to the `workdir` of `base`: a folder per run, comparison.png, .svg and .csv (final
    errors), curves.png, .svg and .csv (error curves), table.csv, table.json and report.html. Runs
    that had to stop, and what is returned, are as with `degradation`.
    """
    study, rows, subject = _studied(experiments, base, seeds, jobs, reach)
    workdir = Path(base.output.workdir)
    title, watched = f"{title} on {subject}", base.data.validation_split
    if finished := [row for row in rows if row["seeds"]]:
        plots.final_errors(finished, workdir / "comparison.png", title=title, watched=watched)
        curves = {"": studies.error_curves(_by_label(study.finished), watched)}
        plots.error_curves(curves, workdir / "curves.png", title=title)
        write_report(workdir, title=title, metrics=origin())
    study.expect_all_finished()
    return rows


def pretrain(settings: Experiment, jobs: int | None = None) -> str:
    """Trains the network of `settings` on the digits 0 to 6, and returns the model's path."""
    if settings.data.dataset != "digits":
        raise ValueError(
            "`init` must name a trained network for another data set than the digits. "
            f"Received: dataset={settings.data.dataset!r} without init"
        )
    own = settings.flat()
    first = FIRST_DIGITS.replace(**{name: own[name] for name in _OF_FIRST_NETWORK})
    (run,) = run_study({"pretrained": first}, [0], settings.output.workdir, jobs=jobs)
    return str(run.workdir / "model.keras")


def transfer(
    settings: Experiment, seeds: Sequence[int], *, scratch: bool = True, jobs: int | None = None
) -> list[Row]:
    """Fine-tunes `settings.init` with every seed, and trains `settings.model` from random values.

    From scratch means `settings.model` on the same images, for as many epochs as head and rest
    have together, at the same learning rate for all layers. Writes and returns what `side_by_side`
    does.
    """
    experiments, network = {"fine-tuned": settings}, settings.network
    if scratch:
        epochs = settings.optimization.head_epochs + settings.optimization.epochs
        defaults = {"init": None, "head_epochs": 0, "freeze_bn": False, "rate_decay": 1.0}
        experiments["from scratch"] = settings.replace(**defaults, epochs=epochs)
    init = str(network.init)
    name = Path(init).name if network.init_is_model else init
    return side_by_side(experiments, settings, seeds, title=f"From {name}", jobs=jobs)


def write_rows(workdir: str | os.PathLike, rows: Sequence[Row], **others: object) -> None:
    """Writes table.csv and table.json, which holds other values in front of the rows."""
    write_table(Path(workdir) / "table.csv", rows)
    write_json(Path(workdir) / "table.json", {**others, "rows": rows})


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun: "3 seeds"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def threads_of(runs: Sequence[Mapping[str, Any]]) -> str:
    """Returns the threads an operation had in runs, from their metrics: "1", or "1, 2"."""
    return ", ".join(map(str, sorted({run["threads"] for run in runs if "threads" in run})))


def _studied(
    experiments: Mapping[str, Experiment],
    base: Experiment,
    seeds: Sequence[int],
    jobs: int | None,
    reach: Sequence[float],
) -> tuple[Study, list[Row], str]:
    """Trains, and shows and writes the table; returns study, table, and the subject of a title."""
    for error in reach:
        checks.fraction("reach", error)
    plots.require_matplotlib()
    require_jinja()
    study = attempt_study(experiments, seeds, base.output.workdir, jobs=jobs)
    found = studies.convergence(_by_label(study.finished), reach, base.data.validation_split)
    ended = {row["network"]: row for row in found}
    rows: list[Row] = [ended.get(name, {"network": name, "seeds": 0}) for name in experiments]
    for row in rows:
        _add_figures(row, study, base)
    write_rows(base.output.workdir, rows, settings=base.flat())
    RESULTS.info(text_table([_shown(row, study, base, reach) for row in rows]))
    RESULTS.info(
        "wall s: of a run, with compilation, and with what concurrent runs cost each other"
    )
    if not base.devices.deterministic:
        used = threads_of([run.metrics for run in study.finished]) or "an unknown number of"
        RESULTS.info(
            f"The same seeds give other figures with other threads than {used}, which --jobs "
            "divides the cores into; with --deterministic they do not"
        )
    if base.optimization.ema is not None:
        RESULTS.info(
            "training error, and curves: of the weights as trained; other errors: of their average"
        )
    RESULTS.info(f"Everything is in {base.output.workdir}")

    training, steps = base.optimization, base.optimization.steps
    epochs = counted(training.head_epochs + training.epochs, "epoch")
    length = epochs if steps is None else counted(steps, "step")
    subject = (
        f"{base.data.dataset}: {length} of batch {training.batch_size}, learning rate "
        f"{training.peak_rate:g}, {base.devices.precision}, {counted(len(seeds), 'seed')}"
    )
    if study.stopped:
        stopped = ", ".join(f"{one.label} (seed {one.seed})" for one in study.stopped)
        subject += f"; stopped before their end: {stopped}"
    return study, rows, subject


def _by_label(runs: Sequence[StudyRun]) -> dict[str, list]:
    labels = dict.fromkeys(run.label for run in runs)
    return {label: [run.epochs for run in runs if run.label == label] for label in labels}


def _add_figures(row: Row, study: Study, base: Experiment) -> None:
    """Adds to a row the figures of its trained models, and the reasons where runs had to stop."""
    own = [run.metrics for run in study.finished if run.label == row["network"]]
    if own:
        row["parameters"] = own[0]["parameters"]
        row["multiply_adds"] = own[0]["multiply_adds"]
        row["train_seconds"] = statistics.fmean(metrics["train_seconds"] for metrics in own)
        row["threads"] = threads_of(own)
        row["jobs"] = study.jobs
        # Of the trained models, whose weights or statistics may have been averaged since the last
        # epoch, on the last split there is.
        ends = {
            kind: (f"{kind}_accuracy", [[metrics] for metrics in own]) for kind in _splits(study)
        }
        watched = base.data.validation_split
        if base.optimization.ema is not None and watched not in ends:
            runs = _by_label(study.finished)[row["network"]]
            ends[watched] = (f"{AVERAGED}val_accuracy", runs)
        for kind, (column, runs) in ends.items():
            if all(run and column in run[-1] for run in runs):
                row[f"{kind}_error"], row[f"{kind}_error_sd"] = studies.final_errors(runs, column)
    stopped = [one for one in study.stopped if one.label == row["network"]]
    if stopped:
        row["stopped"] = " | ".join(f"seed {one.seed}: {one.reason}" for one in stopped)


def _shown(row: Row, study: Study, base: Experiment, reach: Sequence[float]) -> Row:
    """Returns the columns shown on the terminal."""
    kinds = dict.fromkeys(("training", base.data.validation_split, *_splits(study)))
    line = {
        "network": row["network"],
        "parameters": row.get("parameters", "-"),
        "multiply_adds": row.get("multiply_adds") or "-",
        **{f"{kind} error %": _percent(row, kind) for kind in kinds},
        **{f"epochs to {100 * error:g} %": _epochs_to(row, error) for error in reach},
        "wall s": round(row["train_seconds"]) if row["seeds"] else "-",
    }
    if study.stopped:
        seeds = [str(one.seed) for one in study.stopped if one.label == row["network"]]
        line["stopped"] = f"seed {', '.join(seeds)}" if seeds else ""
    return line


def _splits(study: Study) -> list[str]:
    """Returns the split that the trained models were evaluated on, but that of training."""
    found = {run.metrics.get("split") for run in study.finished}
    return sorted(split for split in found if split not in (None, "train"))


def _epochs_to(row: Row, error: float) -> str:
    if not row["seeds"]:
        return "-"
    name = f"{100 * error:g}_percent"
    epochs, seeds = row[f"epochs_to_{name}"], row[f"seeds_at_{name}"]
    some = "" if seeds == row["seeds"] else f" ({seeds} of {row['seeds']})"
    return "never" if epochs is None else f"{epochs:.1f}{some}"


def _percent(row: Row, kind: str) -> str:
    if f"{kind}_error" not in row:
        return "-"
    deviation = row[f"{kind}_error_sd"]
    spread = "" if deviation is None else f" +- {100 * deviation:.2f}"
    return f"{100 * row[f'{kind}_error']:.2f}{spread}"
