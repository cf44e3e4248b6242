"""What the paper shows by comparing networks, as studies with a table and pictures each."""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_resnet import checks
from keras_resnet.analysis import plots, studies
from keras_resnet.analysis.tables import text_table
from keras_resnet.architectures import find_architecture
from keras_resnet.experiment.settings import Experiment
from keras_resnet.experiment.study import StudyRun, run_study
from keras_resnet.files import write_json


def degradation(
    models: Sequence[str],
    base: Experiment,
    seeds: Sequence[int],
    *,
    jobs: int | None = None,
    reach: Sequence[float] = (0.5, 0.1),
) -> list[dict[str, object]]:
    """Plain against residual nets of several depths (Fig. 1, 4 and 6 of the paper).

    Writes to `base.workdir`: a folder per run, degradation.png, .svg and .csv (error curves),
    table.csv and table.json (final errors, and epochs until the training error was reached).

    Args:
        models: Named networks, plain and residual.
        base: Settings that all share.
        seeds: Seeds that every network is trained with.
        jobs: As in `run_study`.
        reach: Training errors in [0, 1] whose epoch the table tells.

    Returns:
        The table's rows.

    Raises:
        ValueError: An unknown network or wrong setting.
    """
    names = [find_architecture(model).name for model in models]
    if len(set(names)) < len(names):
        raise ValueError(f"`models` must be different networks. Received: models={list(models)}")
    experiments = {name: dataclasses.replace(base, model=name) for name in names}
    runs = _trained(experiments, base, seeds, jobs, reach)
    epochs = _by_label(runs)
    groups = {
        "plain nets": {n: epochs[n] for n in names if find_architecture(n).shortcut is None},
        "residual nets": {n: epochs[n] for n in names if find_architecture(n).shortcut},
    }
    plots.error_curves(
        {name: studies.error_curves(group) for name, group in groups.items() if group},
        Path(base.workdir) / "degradation.png",
        title=f"Plain and residual nets on {_subject(base, seeds)}",
        test_name=base.validation_split,
    )
    return _table(runs, base, reach)


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

    Writes to `base.workdir`: a folder per run, comparison.png, .svg and .csv (final errors),
    curves.png, .svg and .csv (error curves), table.csv and table.json.

    Args:
        experiments: The variants by label.
        base: Settings that all share.
        seeds: Seeds that every variant is trained with.
        title: What is compared.
        jobs: As in `run_study`.
        reach: Training errors in [0, 1] whose epoch the table tells.

    Returns:
        The table's rows.
    """
    runs = _trained(experiments, base, seeds, jobs, reach)
    rows = _table(runs, base, reach)
    title = f"{title} on {_subject(base, seeds)}"
    workdir, split = Path(base.workdir), base.validation_split
    plots.final_errors(rows, workdir / "comparison.png", title=title, test_name=split)
    plots.error_curves(
        {"": studies.error_curves(_by_label(runs))},
        workdir / "curves.png",
        title=title,
        test_name=split,
    )
    return rows


def _trained(experiments, base, seeds, jobs, reach) -> list[StudyRun]:
    for error in reach:
        checks.fraction("reach", error)
    plots.require_matplotlib()
    return run_study(experiments, seeds, base.workdir, jobs=jobs)


def _by_label(runs: Sequence[StudyRun]) -> dict[str, list]:
    labels = dict.fromkeys(run.label for run in runs)
    return {label: [run.epochs for run in runs if run.label == label] for label in labels}


def _subject(base: Experiment, seeds: Sequence[int]) -> str:
    length = f"{base.steps} steps" if base.steps else f"{base.head_epochs + base.epochs} epochs"
    return (
        f"{base.dataset}: {length} of batch {base.batch_size}, rate {base.peak_rate():g}, "
        f"{base.precision}, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
    )


def _table(
    runs: Sequence[StudyRun], base: Experiment, reach: Sequence[float]
) -> list[dict[str, object]]:
    """Computes, prints and writes the table of a study."""
    rows = studies.convergence(_by_label(runs), reach)
    for row in rows:
        own = [run.metrics for run in runs if run.label == row["network"]]
        row["parameters"] = own[0]["parameters"]
        row["multiply_adds"] = own[0]["multiply_adds"]
        row["train_seconds"] = statistics.fmean(metrics["train_seconds"] for metrics in own)
    workdir = Path(base.workdir)
    plots.write_table(workdir / "table.csv", rows)
    write_json(workdir / "table.json", {"settings": dataclasses.asdict(base), "rows": rows})
    print(text_table(_printed(rows, base, reach)))
    print(f"Everything is in {os.fspath(workdir)}")
    return rows


def _printed(rows, base, reach) -> list[dict[str, object]]:
    """Returns what of the table goes on a terminal."""
    return [
        {
            "network": row["network"],
            "parameters": row["parameters"],
            "multiply_adds": row["multiply_adds"],
            "training error %": _percent(row, "training"),
            f"{base.validation_split} error %": _percent(row, "test"),
            **{f"epochs to {100 * error:g} %": _epochs_to(row, error) for error in reach},
            "training s": round(row["train_seconds"]),
        }
        for row in rows
    ]


def _epochs_to(row: Mapping[str, object], error: float) -> str:
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
