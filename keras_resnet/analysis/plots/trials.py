"""What a search has found: accuracy against operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_resnet.analysis.plots.drawing import (
    COLORS,
    ERROR_TICKS,
    VERMILION,
    error_axis,
    figure,
    log_axis,
    title_over,
    write_table,
)


def search(
    rows: Sequence[Mapping[str, object]],
    path: str | Path,
    *,
    title: str,
    best: str | None = None,
    max_multiply_adds: int | None = None,
) -> None:
    """Draws the validation accuracy of the candidates against their multiply-adds.

    A circle's area grows with the parameters, its colour tells the kind of block; those that were
    trained for fewer epochs than others are hollow. The line joins the candidates than which none
    is both cheaper and more accurate, among those with all epochs. Crosses at the bottom were over
    the budget, or diverged.

    Args:
        rows: One per candidate: `trial`, `network`, `block`, `parameters`, `multiply_adds`,
            `epochs`, and `val_accuracy` in [0, 1] or None; further columns go into the CSV.
        path: Where the PNG goes; SVG and CSV go beside it.
        title: What was searched, on what.
        best: The `trial` to name, or None.
        max_multiply_adds: The budget to mark, or None.
    """
    write_table(Path(path).with_suffix(".csv"), rows)
    trained = [row for row in rows if row["val_accuracy"] is not None]
    most = max((row["epochs"] for row in trained), default=0)
    largest = max((row["parameters"] for row in trained), default=1)
    blocks = sorted({str(row["block"]) for row in rows})
    with figure(path, size=(8.0, 4.8)) as fig:
        axis = fig.subplots()
        axis.set_xscale("log")
        front = pareto_front([row for row in trained if row["epochs"] == most])
        if len(front) > 1:
            axis.plot(
                *_points(front), color="0.6", linewidth=1, zorder=1, label="best for its cost"
            )
        # Blocks in the colours that are no mark's.
        for block, color in zip(blocks, (c for c in COLORS if c != VERMILION), strict=False):
            for full in (True, False):
                own = [
                    row
                    for row in trained
                    if row["block"] == block and (row["epochs"] == most) == full
                ]
                if own:
                    axis.scatter(
                        *_points(own),
                        s=[200 * row["parameters"] / largest + 12 for row in own],
                        facecolor=color if full else "none",
                        edgecolor=color,
                        alpha=0.7,
                        zorder=3,
                        label=f"{block} blocks" + ("" if full else ", fewer epochs"),
                    )
        over = sorted({r["multiply_adds"] / 1e6 for r in rows if r["val_accuracy"] is None})
        error_axis(axis)
        axis.invert_yaxis()
        axis.set_yticks(ERROR_TICKS, [100 - tick for tick in ERROR_TICKS])
        if over:
            axis.plot(over, [100] * len(over), "x", color="0.4", label="over budget or failed")
        if max_multiply_adds is not None:
            axis.axvline(
                max_multiply_adds / 1e6, color="0.4", linewidth=1, linestyle=":", label="budget"
            )
        for row in trained:
            if row["trial"] == best:
                axis.plot(*_points([row]), "+", color=VERMILION, zorder=4, label="chosen")
                title += f"; chosen: {row['network']}, {100 * row['val_accuracy']:.2f} %"
        log_axis(axis.xaxis)
        axis.set_xlabel("multiply-adds of one image (10⁶)")
        axis.set_ylabel("validation accuracy (%)")
        fig.legend(loc="outside right center", frameon=False, title="area: parameters")
        title_over(fig, title)


def pareto_front(rows: Sequence[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """Returns the rows than which none is both cheaper and more accurate, the cheapest first."""
    front: list[Mapping[str, object]] = []
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
