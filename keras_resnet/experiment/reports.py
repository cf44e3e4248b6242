"""What the paper shows by comparing networks, as studies with a table and pictures each."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_resnet.analysis import plots, studies
from keras_resnet.architectures import find_architecture
from keras_resnet.experiment.settings import Experiment
from keras_resnet.experiment.study import Study, StudyRun, attempt_study
from keras_resnet.utils import checks
from keras_resnet.utils.files import write_json
from keras_resnet.utils.tables import text_table


def degradation(
    models: Sequence[str],
    base: Experiment,
    seeds: Sequence[int],
    *,
    jobs: int | None = None,
    reach: Sequence[float] = (0.5, 0.1),
) -> list[dict[str, object]]:
    """Plain against residual nets of several depths (Fig. 1, 4 and 6 of the paper).

    Writes to the `workdir` of `base`: a folder per run, degradation.png, .svg and .csv (error
    curves), table.csv and table.json (final errors, and epochs until the training error was
    reached). Where runs had to stop, such as those that diverged, they are named there, and the
    report is of the others.

    Args:
        models: Named networks, plain and residual.
        base: Settings that all share.
        seeds: Seeds that every network is trained with.
        jobs: As in `run_study`.
        reach: Training errors in [0, 1] whose epoch the table tells.

    Returns:
        The table's rows. `train_seconds` is wall time: compilation is included, and so is what
        runs side by side cost each other.

    Raises:
        ValueError: An unknown network or wrong setting.
        TrainingStopped: Runs had to stop; all of the report is written.
    """
    names = [find_architecture(model).name for model in models]
    checks.different("models", names, "networks")

    experiments = {name: base.replace(model=name) for name in names}
    study, rows, subject = _studied(experiments, base, seeds, jobs, reach)
    groups = {"plain nets": {}, "residual nets": {}}
    for name, epochs in _by_label(study.finished).items():
        kind = "residual nets" if find_architecture(name).shortcut else "plain nets"
        groups[kind][name] = epochs
    if study.finished:
        plots.error_curves(
            {name: studies.error_curves(group) for name, group in groups.items() if group},
            Path(base.output.workdir) / "degradation.png",
            title=f"Plain and residual nets on {subject}",
            test_name=base.data.validation_split,
        )
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
) -> list[dict[str, object]]:
    """Variants of one experiment: errors, parameters, operations and time next to each other.

    Writes to the `workdir` of `base`: a folder per run, comparison.png, .svg and .csv (final
    errors), curves.png, .svg and .csv (error curves), table.csv and table.json. Where runs had to
    stop, they are named there, and the report is of the others.

    Args:
        experiments: The variants by label.
        base: Settings that all share.
        seeds: Seeds that every variant is trained with.
        title: What is compared.
        jobs: As in `run_study`.
        reach: Training errors in [0, 1] whose epoch the table tells.

    Returns:
        The table's rows, as those of `degradation`.

    Raises:
        ValueError: A setting is wrong.
        TrainingStopped: Runs had to stop; all of the report is written.
    """
    study, rows, subject = _studied(experiments, base, seeds, jobs, reach)
    workdir = Path(base.output.workdir)
    options = {"title": f"{title} on {subject}", "test_name": base.data.validation_split}
    if study.finished:
        finished = [row for row in rows if row["seeds"]]
        plots.final_errors(finished, workdir / "comparison.png", **options)
        curves = {"": studies.error_curves(_by_label(study.finished))}
        plots.error_curves(curves, workdir / "curves.png", **options)
    study.expect_all_finished()
    return rows


def _studied(
    experiments: Mapping[str, Experiment],
    base: Experiment,
    seeds: Sequence[int],
    jobs: int | None,
    reach: Sequence[float],
) -> tuple[Study, list[dict[str, object]], str]:
    """Trains and writes the table; returns study, table, and what a title says of them."""
    for error in reach:
        checks.fraction("reach", error)
    plots.require_matplotlib()
    study = attempt_study(experiments, seeds, base.output.workdir, jobs=jobs)
    rows = _table(study, list(experiments), base, reach)
    subject = _subject(base, seeds)
    if study.stopped:
        stopped = ", ".join(f"{one.label} (seed {one.seed})" for one in study.stopped)
        subject += f"; stopped before their end: {stopped}"
    return study, rows, subject


def _by_label(runs: Sequence[StudyRun]) -> dict[str, list]:
    labels = dict.fromkeys(run.label for run in runs)
    return {label: [run.epochs for run in runs if run.label == label] for label in labels}


def _subject(base: Experiment, seeds: Sequence[int]) -> str:
    training = base.optimization
    length = _counted(training.head_epochs + training.epochs, "epoch")
    if training.steps is not None:
        length = _counted(training.steps, "step")
    return (
        f"{base.data.dataset}: {length} of batch {training.batch_size}, "
        f"rate {training.peak_rate:g}, {base.devices.precision}, {_counted(len(seeds), 'seed')}"
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _table(
    study: Study, labels: Sequence[str], base: Experiment, reach: Sequence[float]
) -> list[dict[str, object]]:
    """Computes, prints and writes the table of a study."""
    by_label = {
        row["network"]: row for row in studies.convergence(_by_label(study.finished), reach)
    }
    rows = [by_label.get(label, {"network": label, "seeds": 0}) for label in labels]
    for row in rows:
        own = [run.metrics for run in study.finished if run.label == row["network"]]
        if own:
            row["parameters"] = own[0]["parameters"]
            row["multiply_adds"] = own[0]["multiply_adds"]
            row["train_seconds"] = statistics.fmean(metrics["train_seconds"] for metrics in own)
            final = [metrics.get(f"{base.data.validation_split}_accuracy") for metrics in own]
            if None not in final:
                # Of the finished models, whose weights or statistics may have been averaged since
                # the last epoch.
                errors = [1.0 - accuracy for accuracy in final]
                row["test_error"] = statistics.fmean(errors)
                row["test_error_sd"] = statistics.stdev(errors) if len(errors) > 1 else None
        stopped = [one for one in study.stopped if one.label == row["network"]]
        if stopped:
            row["stopped"] = " | ".join(f"seed {one.seed}: {one.reason}" for one in stopped)
    workdir = Path(base.output.workdir)
    plots.write_table(workdir / "table.csv", rows)
    write_json(workdir / "table.json", {"settings": base.flat(), "rows": rows})
    print(text_table(_printed(rows, study, base, reach)))
    print("wall s: of a run, with compilation, and with what runs side by side cost each other")
    if base.optimization.ema is not None:
        print("training error: of the weights as they were trained; the other: of their average")
    print(f"Everything is in {os.fspath(workdir)}")
    return rows


def _printed(rows, study, base, reach) -> list[dict[str, object]]:
    """Returns what of the table goes on a terminal."""
    printed = []
    for row in rows:
        line = {
            "network": row["network"],
            "parameters": row.get("parameters", "-"),
            "multiply_adds": row.get("multiply_adds") or "-",
            "training error %": _percent(row, "training"),
            f"{base.data.validation_split} error %": _percent(row, "test"),
            **{f"epochs to {100 * error:g} %": _epochs_to(row, error) for error in reach},
            "wall s": round(row["train_seconds"]) if row["seeds"] else "-",
        }
        if study.stopped:
            seeds = [str(one.seed) for one in study.stopped if one.label == row["network"]]
            line["stopped"] = f"seed {', '.join(seeds)}" if seeds else ""
        printed.append(line)
    return printed


def _epochs_to(row: Mapping[str, object], error: float) -> str:
    if not row["seeds"]:
        return "-"
    name = f"{100 * error:g}_percent"
    epochs, seeds = row[f"epochs_to_{name}"], row[f"seeds_at_{name}"]
    some = "" if seeds == row["seeds"] else f" ({seeds} of {row['seeds']})"
    return "never" if epochs is None else f"{epochs:.1f}{some}"


def _percent(row: Mapping[str, object], kind: str) -> str:
    if f"{kind}_error" not in row:
        return "-"
    deviation = row[f"{kind}_error_sd"]
    spread = "" if deviation is None else f" +- {100 * deviation:.2f}"
    return f"{100 * row[f'{kind}_error']:.2f}{spread}"
