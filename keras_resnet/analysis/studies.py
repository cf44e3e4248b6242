"""Several runs of several networks, read together: error curves, final errors, convergence.

A study is given as its epochs: for each label a list of runs, one a seed, and each run as its rows
of metrics.jsonl, one an epoch, with `epoch` (from 1), `accuracy` and `val_accuracy` in [0, 1].
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

Epochs = Sequence[Mapping[str, float]]

# Name of a curve, and the column of accuracies that it is drawn from.
CURVES = {"training": "accuracy", "test": "val_accuracy"}


@dataclasses.dataclass(frozen=True)
class ErrorCurve:
    """How an error falls, over the seeds.

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
        """The curve as rows of a table."""
        return [
            {
                "network": self.label,
                "kind": self.kind,
                "epoch": epoch,
                "error_mean": mean,
                "error_low": low,
                "error_high": high,
            }
            for epoch, mean, low, high in zip(
                self.epochs, self.mean, self.low, self.high, strict=True
            )
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


def epochs_to_error(run: Epochs, error: float, column: str = "accuracy") -> int | None:
    """Returns the first epoch whose error is at most `error`, or None if there is none.

    Args:
        run: Rows, one an epoch.
        error: Error in [0, 1].
        column: Accuracy that the error is the rest of.
    """
    # Beyond rounding: 1 - 0.9 is a little less than 0.1.
    return next((int(row["epoch"]) for row in run if 1.0 - row[column] <= error + 1e-9), None)


def final_errors(runs: Sequence[Epochs], column: str) -> tuple[float, float | None]:
    """Mean and sample standard deviation over the seeds of the last epoch's error, in [0, 1].

    The deviation of a single run is None.
    """
    errors = [1.0 - run[-1][column] for run in runs]
    return statistics.fmean(errors), statistics.stdev(errors) if len(errors) > 1 else None


def convergence(
    study: Mapping[str, Sequence[Epochs]], errors: Sequence[float]
) -> list[dict[str, object]]:
    """How fast and how far every network came: one row each.

    Args:
        study: Runs by label.
        errors: Training errors in [0, 1] to reach.

    Returns:
        Rows of `network`, `seeds`, mean and deviation of the final training and test error, and
        for each error the mean of the epochs it took (of the seeds that reached it, or None) and
        how many seeds reached it.
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
