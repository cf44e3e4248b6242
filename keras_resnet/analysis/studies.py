"""Summarizes runs of several networks: error curves, final errors, convergence.

A study maps a label to its runs, one a seed. A run is its rows of metrics.jsonl, one an epoch, with
`epoch` (from 1), `accuracy` and `val_accuracy` in [0, 1].
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from keras_resnet.architectures import find_architecture

Epochs = Sequence[Mapping[str, float]]


def columns(watched: str) -> dict[str, str]:
    """Returns the columns of accuracies by the kind of their errors: "training", or a split."""
    return {"training": "accuracy", watched: "val_accuracy"}


def error_curves(
    study: Mapping[str, Sequence[Epochs]], watched: str = "test"
) -> list[dict[str, object]]:
    """Returns the errors of every network by epoch, over its seeds.

    Curves end where the shortest run of the label ends.

    Args:
        study: The runs by label.
        watched: Split that the runs were evaluated on after each epoch.

    Returns:
        Rows of `network`, `kind` ("training" or `watched`), `epoch` (from 1), and mean, lowest and
        highest error of the seeds in [0, 1]: `error_mean`, `error_low`, `error_high`.
    """
    rows: list[dict[str, object]] = []
    for label, runs in study.items():
        for kind, column in columns(watched).items():
            if not all(column in row for run in runs for row in run):
                continue
            by_seed = [[1.0 - row[column] for row in run] for run in runs]
            for epoch, errors in enumerate(zip(*by_seed, strict=False), start=1):
                rows.append(
                    {
                        "network": label,
                        "kind": kind,
                        "epoch": epoch,
                        "error_mean": statistics.fmean(errors),
                        "error_low": min(errors),
                        "error_high": max(errors),
                    }
                )
    return rows


def curves_by_kind(
    study: Mapping[str, Sequence[Epochs]], watched: str = "test"
) -> dict[str, list[dict[str, object]]]:
    """Returns the `error_curves` of plain and of residual nets, by the title of their panel.

    Labels of `study` are names of networks; a kind without one is left out.
    """
    kinds: dict[str, dict[str, Sequence[Epochs]]] = {"plain nets": {}, "residual nets": {}}
    for name, runs in study.items():
        kinds["plain nets" if find_architecture(name).plain else "residual nets"][name] = runs
    return {kind: error_curves(own, watched) for kind, own in kinds.items() if own}


def epochs_to_error(run: Epochs, error: float) -> int | None:
    """Returns the first epoch whose training error is at most `error`, in [0, 1], or None."""
    # Beyond rounding: 1 - 0.9 is a little less than 0.1.
    reached = (int(row["epoch"]) for row in run if 1.0 - row["accuracy"] <= error + 1e-9)
    return next(reached, None)


def final_errors(runs: Sequence[Epochs], column: str) -> tuple[float, float | None]:
    """Returns mean and sample standard deviation over the seeds of the last epoch's error.

    Both are in [0, 1]; the deviation of a single run is None.
    """
    errors = [1.0 - run[-1][column] for run in runs]
    return statistics.fmean(errors), statistics.stdev(errors) if len(errors) > 1 else None


def convergence(
    study: Mapping[str, Sequence[Epochs]], errors: Sequence[float], watched: str = "test"
) -> list[dict[str, object]]:
    """Returns the final errors of every network, and the epochs it took to training errors.

    Args:
        study: The runs by label.
        errors: Training errors in [0, 1].
        watched: Split that the runs were evaluated on after each epoch.

    Returns:
        Rows of `network`, `seeds`, mean and deviation of the final errors in training
        (`training_error`, `training_error_sd`) and on `watched` (`test_error`, for one), and for
        each of `errors` in [0, 1] the mean of the epochs it took (of the seeds that reached
        it, or None) and the number of seeds that reached it.
    """
    rows = []
    for label, runs in study.items():
        row: dict[str, object] = {"network": label, "seeds": len(runs)}
        for kind, column in columns(watched).items():
            if all(run and column in run[-1] for run in runs):
                row[f"{kind}_error"], row[f"{kind}_error_sd"] = final_errors(runs, column)
        for error in errors:
            reached = [e for run in runs if (e := epochs_to_error(run, error)) is not None]
            name = f"{100 * error:g}_percent"
            row[f"epochs_to_{name}"] = statistics.fmean(reached) if reached else None
            row[f"seeds_at_{name}"] = len(reached)
        rows.append(row)
    return rows
