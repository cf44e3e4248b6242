"""The course of one training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_resnet.analysis.plots.drawing import (
    BLUE,
    GREEN,
    ORANGE,
    VERMILION,
    epoch_axis,
    error_axis,
    figure,
    log_axis,
    lone_point,
    title_over,
    write_table,
)


def learning_curve(
    epochs: Sequence[Mapping[str, float]],
    path: str | Path,
    *,
    title: str,
    watched: str = "validation",
    final: tuple[str, float] | None = None,
) -> None:
    """Draws the errors on training images and on a watched split, and the learning rate, by epoch.

    Args:
        epochs: One row per epoch with `epoch` (from 1), `accuracy`, `val_accuracy` where there
            was validation, and `learning_rate`; accuracies in [0, 1].
        path: Where the PNG goes; SVG and CSV go beside it.
        title: What was trained, on what.
        watched: Name of the split that `val_accuracy` is of.
        final: Name of a split and the error measured on it after training, in [0, 1].
    """
    write_table(Path(path).with_suffix(".csv"), epochs)
    with figure(path) as fig:
        error, rate = fig.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        x = [row["epoch"] for row in epochs]
        curves = (
            ("accuracy", "training", BLUE, "-", "o"),
            ("val_accuracy", watched, ORANGE, "--", "s"),
        )
        for key, label, color, style, marker in curves:
            if all(key in row for row in epochs):
                y = [100 * (1 - row[key]) for row in epochs]
                mark = lone_point(y, marker, "none")
                error.plot(x, y, style, color=color, label=label, linewidth=1.6, **mark)
        if final is not None:
            y = 100 * final[1]
            label = f"{final[0]}, after training: {y:.2f} %"
            error.plot([x[-1]], [y], "D", color=VERMILION, label=label)
        error_axis(error)
        error.set_ylabel("error (%)")
        error.legend(frameon=False)
        title_over(fig, title)
        rates = [row["learning_rate"] for row in epochs]
        rate.plot(x, rates, color=GREEN, drawstyle="steps-post", **lone_point(rates))
        rate.set_yscale("log")
        log_axis(rate.yaxis, subs=(1,), numticks=3)
        rate.set_ylabel("learning rate")
        epoch_axis(rate)
        rate.grid(alpha=0.3)
