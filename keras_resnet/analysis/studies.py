"""Summarizes runs of several networks: error curves, final errors, convergence.

A study maps a label to its runs, one a seed. A run is its rows of metrics.jsonl, one an epoch, with
`epoch` (from 1), `accuracy` and `val_accuracy` in [0, 1].
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

Epochs = Sequence[Mapping[str, float]]

# Names of the curves, and the columns of accuracies that they are drawn from.
CURVES = {"training": "accuracy", "test": "val_accuracy"}


@dataclasses.dataclass(frozen=True)
class ErrorCurve:
    """The error of a network at each epoch, over its seeds.

    Attributes:
        label: The network.
        kind: "training" or "test".
        epochs: Epochs, from 1.
        mean: Mean error over the seeds at each epoch, in [0, 1].
        low: Lowest error of a seed.
        high: Highest error of a seed.
    """

    label: str
    kind: str
    epochs: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def rows(self) -> list[dict[str, object]]:
        """Returns the curve as rows of a table."""
        columns = {
            "epoch": self.epochs,
            "error_mean": self.mean,
            "error_low": self.low,
            "error_high": self.high,
        }
        network = {"network": self.label, "kind": self.kind}
        return [
            network | dict(zip(columns, row, strict=True))
            for row in zip(*columns.values(), strict=True)
        ]


def error_curves(study: Mapping[str, Sequence[Epochs]]) -> list[ErrorCurve]:
    """Returns the training and the test curve of every network, over its seeds.

    Args:
        study: Runs by label. Curves end where the shortest run of the label ends.
    """
    curves = []
    for label, runs in study.items():
        for kind, column in CURVES.items():
            if not all(column in row for run in runs for row in run):
                continue
            errors = [[1.0 - row[column] for row in run] for run in runs]
            by_epoch = list(zip(*errors, strict=False))
            curves.append(
                ErrorCurve(
                    label,
                    kind,
                    tuple(range(1, len(by_epoch) + 1)),
                    tuple(map(statistics.fmean, by_epoch)),
                    tuple(map(min, by_epoch)),
                    tuple(map(max, by_epoch)),
                )
            )
    return curves


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
    """Returns the final errors of every network and the epochs that it took, one row each.

    Args:
        study: Runs by label.
        errors: Training errors in [0, 1] to reach.

    Returns:
        Rows of `network`, `seeds`, mean and deviation of the final training and test error, and
        for each error the mean of the epochs it took (of the seeds that reached it, or None) and
        the number of seeds that reached it.
    """
    rows = []
    for label, runs in study.items():
        row: dict[str, object] = {"network": label, "seeds": len(runs)}
        for kind, column in CURVES.items():
            if all(column in run[-1] for run in runs):
                row[f"{kind}_error"], row[f"{kind}_error_sd"] = final_errors(runs, column)
        for error in errors:
            reached = [e for run in runs if (e := epochs_to_error(run, error)) is not None]
            name = f"{100 * error:g}_percent"
            row[f"epochs_to_{name}"] = statistics.fmean(reached) if reached else None
            row[f"seeds_at_{name}"] = len(reached)
        rows.append(row)
    return rows
