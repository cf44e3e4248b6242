"""Reliability of probabilities: accuracy against confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.analysis.plots import drawing


def reliability_diagram(
    curves: Mapping[str, Sequence[Mapping[str, Any]]], path: str | Path, *, title: str
) -> None:
    """Draws accuracy and number of images by confidence, for one or more models.

    On the diagonal probabilities are what they say; below it the model is too sure of itself. The
    rows, which the CSV has, too, are those of `evaluation.reliability`, by name of the curve.
    """
    table = [{"model": name, **row} for name, rows in curves.items() for row in rows]
    with drawing.titled_figure(path, table, title, (7.0, 6.4)) as fig:
        upper, lower = fig.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 100], [0, 100], color="0.6", linestyle=":", label="as they say")
        for name, rows in curves.items():
            confidence = [100 * row["confidence"] for row in rows]
            (line,) = upper.plot(
                confidence, [100 * row["accuracy"] for row in rows], marker="o", label=name
            )
            lower.step(
                [100 * row["low"] for row in rows] + [100 * rows[-1]["high"]],
                [row["images"] for row in rows] + [rows[-1]["images"]],
                where="post",
                color=line.get_color(),
            )
        upper.set(ylabel="accuracy (%)", ylim=(-2, 102))
        lower.set(xlabel="probability of the best class (%)", xlim=(0, 100), ylabel="images")
        lower.set_yscale("symlog", linthresh=1)
        lower.set_ylim(bottom=0)
        lower.yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
        for axes in (upper, lower):
            axes.grid(alpha=0.3)
        upper.legend(frameon=False, loc="upper left")
