"""Summarizes runs of several networks: error curves, final errors, convergence.

A study maps a label to its runs, one a seed. A run is its rows of metrics.jsonl, one an epoch, with
`epoch` (from 1), `accuracy` and `val_accuracy` in [0, 1].
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

Epochs = Sequence[Mapping[str, float]]

# Kinds of errors, and the columns of accuracies that they are computed from.
CURVES = {"training": "accuracy", "test": "val_accuracy"}


def error_curves(study: Mapping[str, Sequence[Epochs]]) -> list[dict[str, object]]:
    """Returns the training and test errors of every network by epoch, over its seeds.

    Curves end where the shortest run of the label ends.

    Returns:
        Rows of `network`, `kind` ("training" or "test"), `epoch` (from 1), and mean, lowest and
        highest error of the seeds in [0, 1]: `error_mean`, `error_low`, `error_high`.
    """
    rows: list[dict[str, object]] = []
    for label, runs in study.items():
        for kind, column in CURVES.items():
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
    study: Mapping[str, Sequence[Epochs]], errors: Sequence[float]
) -> list[dict[str, object]]:
    """Returns the final errors of every network, and the epochs it took to training errors.

    Returns:
        Rows of `network`, `seeds`, mean and deviation of the final training and test error, and
        for each of `errors` in [0, 1] the mean of the epochs it took (of the seeds that reached
        it, or None) and the number of seeds that reached it.
    """
    rows = []
    for label, runs in study.items():
        row: dict[str, object] = {"network": label, "seeds": len(runs)}
        for kind, column in CURVES.items():
            if all(run and column in run[-1] for run in runs):
                row[f"{kind}_error"], row[f"{kind}_error_sd"] = final_errors(runs, column)
        for error in errors:
            reached = [e for run in runs if (e := epochs_to_error(run, error)) is not None]
            name = f"{100 * error:g}_percent"
            row[f"epochs_to_{name}"] = statistics.fmean(reached) if reached else None
            row[f"seeds_at_{name}"] = len(reached)
        rows.append(row)
    return rows
