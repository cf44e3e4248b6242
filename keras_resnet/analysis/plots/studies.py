"""Several networks over several seeds on one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_resnet.analysis.plots.drawing import (
    BLUE,
    COLORS,
    ORANGE,
    epoch_axis,
    error_axis,
    figure,
    lone_point,
    name_bands,
    title_over,
    write_table,
)
from keras_resnet.analysis.studies import ErrorCurve

TRAINING_MARK, TEST_MARK = "o", "D"


def error_curves(
    panels: Mapping[str, Sequence[ErrorCurve]],
    path: str | Path,
    *,
    title: str,
    test_name: str = "test",
) -> None:
    """Draws the error against epochs, a panel for each group of networks, as in Fig. 6.

    Lines are means over the seeds, solid for test and dashed for training; the band goes from the
    lowest to the highest seed.

    Args:
        panels: Curves by the title of their panel.
        path: Where the PNG goes; SVG and CSV go beside it.
        title: What was trained, on what.
        test_name: What the evaluated split is called in the legend.
    """
    rows = [row for curves in panels.values() for curve in curves for row in curve.rows()]
    write_table(Path(path).with_suffix(".csv"), rows)
    entries = max(map(len, panels.values()))
    with figure(path, size=(1.2 + 4.4 * len(panels), 4.2 + 0.11 * entries)) as fig:
        title_over(fig, title)
        axes = fig.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, (name, curves) in zip(axes, panels.items(), strict=True):
            labels = list(dict.fromkeys(curve.label for curve in curves))
            for curve in curves:
                color = COLORS[labels.index(curve.label) % len(COLORS)]
                mean, low, high = (
                    [100 * error for error in errors]
                    for errors in (curve.mean, curve.low, curve.high)
                )
                test = curve.kind == "test"
                axis.plot(
                    curve.epochs,
                    mean,
                    "-" if test else "--",
                    color=color,
                    linewidth=2.0 if test else 1.2,
                    label=f"{curve.label}, {test_name if test else 'training'}",
                    # Hollow, so that one does not hide the other.
                    **lone_point(mean, *((TEST_MARK,) if test else (TRAINING_MARK, "none"))),
                )
                axis.fill_between(curve.epochs, low, high, color=color, alpha=0.15, linewidth=0)
            if any(curve.low != curve.high and len(curve.mean) > 1 for curve in curves):
                name_bands(axis)
            error_axis(axis)
            axis.set_title(name, fontsize="medium")
            epoch_axis(axis)
            # Below, since curves may go anywhere.
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": 2}
            axis.legend(frameon=False, fontsize="small", **below)
        axes[0].set_ylabel("error (%)")


def final_errors(
    rows: Sequence[Mapping[str, object]], path: str | Path, *, title: str, test_name: str = "test"
) -> None:
    """Draws the final errors side by side: means over the seeds, with one standard deviation.

    Args:
        rows: As `analysis.studies.convergence` returns them; further columns go into the CSV.
        path: Where the PNG goes; SVG and CSV go beside it.
        title: What was trained, on what.
        test_name: What the evaluated split is called in the legend.
    """
    write_table(Path(path).with_suffix(".csv"), rows)
    with figure(path, size=(1.8 + 1.3 * len(rows), 4.2)) as fig:
        axis = fig.subplots()
        deviations = any(row.get("training_error_sd") is not None for row in rows)
        for side, kind, name, marker, color in (
            (-1, "training", "training", TRAINING_MARK, ORANGE),
            (1, "test", test_name, TEST_MARK, BLUE),
        ):
            if not all(f"{kind}_error" in row for row in rows):
                continue
            means = [100 * row[f"{kind}_error"] for row in rows]
            spreads = [100 * (row[f"{kind}_error_sd"] or 0.0) for row in rows]
            places = [i + 0.08 * side for i in range(len(rows))]
            axis.errorbar(
                *(places, means, spreads if deviations else None),
                **{"fmt": marker, "color": color, "capsize": 4, "label": f"{name} error"},
            )
            for place, mean in zip(places, means, strict=True):
                axis.annotate(
                    f"{mean:.2f}",
                    (place, mean),
                    (8 * side, 0),
                    textcoords="offset points",
                    ha="right" if side < 0 else "left",
                    va="center",
                    fontsize="small",
                    # Whole also where a line of the grid passes.
                    bbox={"facecolor": "white", "linewidth": 0, "pad": 0.5},
                )
        axis.set_xticks(range(len(rows)), [str(row["network"]) for row in rows])
        axis.set_xlim(-0.6, len(rows) - 0.4)
        # In this order: a limit ends the margins.
        axis.margins(y=0.15)
        axis.set_ylim(bottom=-0.05 * axis.get_ylim()[1])  # room for whole markers at zero
        axis.set_ylabel("error after the last epoch (%)")
        axis.grid(axis="y", alpha=0.3)
        bars = "bars: one standard deviation of the seeds" if deviations else None
        axis.legend(frameon=False, title=bars, title_fontsize="small")
        title_over(fig, title)
