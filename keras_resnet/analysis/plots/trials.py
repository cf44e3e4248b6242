"""Accuracy against operations of the candidates of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.analysis.plots import drawing


def search(
    rows: Sequence[Mapping[str, Any]],
    path: str | Path,
    *,
    title: str,
    best: str | None = None,
    max_multiply_adds: int | None = None,
) -> None:
    """Draws the validation accuracy of the candidates against their multiply-adds.

    The area of a circle grows with the parameters, and its color is that of the kind of block;
    candidates that were trained for fewer epochs than others are hollow. The staircase is
    the best accuracy at each cost, of those with all epochs. Crosses at the bottom were over the
    budget, diverged, or ran out of memory.

    Args:
        rows: One per candidate: `trial`, `network`, `block`, `parameters`, `multiply_adds`,
            `epochs`, and `val_accuracy` in [0, 1] or None; further columns go into the CSV.
        path: Path of the PNG; SVG and CSV go beside it.
        title: Title of the figure.
        best: The `trial` to name, or None.
        max_multiply_adds: The budget to mark, or None.
    """
    trained = [row for row in rows if row["val_accuracy"] is not None]
    most = max((row["epochs"] for row in trained), default=0)
    largest = max((row["parameters"] for row in trained), default=1)
    over = sorted({r["multiply_adds"] / 1e6 for r in rows if r["val_accuracy"] is None})
    chosen = [row for row in trained if row["trial"] == best]
    for row in chosen:
        title += f"; chosen: {row['network']}, {100 * row['val_accuracy']:.2f} %"
    with drawing.titled_figure(path, rows, title, (8.0, 4.8)) as fig:
        axes = fig.subplots()
        axes.set_xscale("log")
        front = pareto_front([row for row in trained if row["epochs"] == most])
        if len(trained) > 1:
            # What is best for its cost stays so until a dearer candidate is better.
            dearest = max(row["multiply_adds"] for row in trained)
            stairs = [*front, {**front[-1], "multiply_adds": dearest}]
            style = {"color": "0.6", "linewidth": 1, "zorder": 1, "drawstyle": "steps-post"}
            axes.plot(*_points(stairs), **style, label="best for its cost")
        # Vermilion is the color of the chosen one.
        colors = [color for color in drawing.COLORS if color != drawing.VERMILION]
        for block, color in zip(sorted({str(r["block"]) for r in rows}), colors, strict=False):
            own = [row for row in trained if row["block"] == block]
            for face, full, label in ((color, True, ""), ("none", False, ", fewer epochs")):
                if alike := [row for row in own if (row["epochs"] == most) == full]:
                    sizes = [200 * row["parameters"] / largest + 12 for row in alike]
                    style = {"facecolor": face, "edgecolor": color, "alpha": 0.7, "zorder": 3}
                    axes.scatter(*_points(alike), sizes, label=f"{block} blocks{label}", **style)
        drawing.error_axis(axes)
        axes.invert_yaxis()
        axes.set_yticks(drawing.ERROR_TICKS, [100 - tick for tick in drawing.ERROR_TICKS])
        if over:
            axes.plot(over, [100] * len(over), "x", color="0.4", label="over budget or failed")
        if max_multiply_adds is not None:
            budget = max_multiply_adds / 1e6
            axes.axvline(budget, color="0.4", linewidth=1, linestyle=":", label="budget")
        for row in chosen:
            axes.plot(*_points([row]), "+", color=drawing.VERMILION, zorder=4, label="chosen")
        drawing.log_axis(axes.xaxis)
        axes.set(xlabel="multiply-adds of one image (10⁶)", ylabel="validation accuracy (%)")
        fig.legend(loc="outside right center", frameon=False, title="area: parameters")


def pareto_front(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the rows than which none is both cheaper and more accurate, the cheapest first."""
    front: list[Mapping[str, Any]] = []
    for row in sorted(rows, key=lambda row: (row["multiply_adds"], -row["val_accuracy"])):
        if not front or row["val_accuracy"] > front[-1]["val_accuracy"]:
            front.append(row)
    return front


def _points(rows):
    """Returns multiply-adds (10⁶), and errors (%), which the axis labels as accuracies."""
    return (
        [row["multiply_adds"] / 1e6 for row in rows],
        [100 * (1 - row["val_accuracy"]) for row in rows],
    )
