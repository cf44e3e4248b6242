"""Curves of networks: errors, losses and learning rates by epoch, and responses by layer."""

from __future__ import annotations

import dataclasses
import itertools
import math
import operator
import statistics
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.analysis.plots import drawing
from keras_resnet.analysis.responses import LayerResponse

Rows = Sequence[Mapping[str, Any]]

TRAINING_MARKER, TEST_MARKER = "o", "D"


def learning_curve(
    epochs: Sequence[Mapping[str, float]],
    path: str | Path,
    *,
    title: str,
    watched: str = "validation",
    final: tuple[str, float] | None = None,
) -> None:
    """Draws the errors on training images and on a watched split, and the learning rate, by epoch.

    `epochs` has a row per epoch with `epoch` (from 1), `accuracy`, `val_accuracy` where there was
    validation, and `learning_rate`; accuracies are in [0, 1]. `watched` is the split of
    `val_accuracy`; `final` is a split and the error measured on it after training, in [0, 1].
    """
    with drawing.titled_figure(path, epochs, title) as fig:
        error, rate = fig.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        x = [row["epoch"] for row in epochs]
        for key, label, color, style, marker in (
            ("accuracy", "training", drawing.BLUE, "-", "o"),
            ("val_accuracy", watched, drawing.ORANGE, "--", "s"),
        ):
            if all(key in row for row in epochs):
                y = [100 * (1 - row[key]) for row in epochs]
                mark = _lone_point(y, marker, "none")
                error.plot(x, y, style, color=color, label=label, linewidth=1.6, **mark)
        if final is not None:
            split, last = final[0], 100 * final[1]
            label = f"{split}, after training: {last:.2f} %"
            error.plot([x[-1]], [last], "D", color=drawing.VERMILION, label=label)
        drawing.error_axis(error)
        error.set_ylabel("error (%)")
        error.legend(frameon=False)
        rates = [row["learning_rate"] for row in epochs]
        # The rate of a row is that of its epoch, which begins where the one before it ends.
        begin = [epoch - 1 for epoch in x[:1]]
        rate.plot(begin + x, rates[:1] + rates, color=drawing.GREEN, drawstyle="steps-pre")
        rate.set_yscale("log")
        drawing.log_axis(rate.yaxis, subs=(1,), most=3)
        rate.set_ylabel("learning rate")
        _epoch_axis(rate)
        rate.grid(alpha=0.3)


def range_test(
    rows: Rows, path: str | Path, *, title: str, suggestion: float | None = None
) -> None:
    """Draws the loss against a learning rate that rises, and the learning rate it suggests.

    `rows` are those of `training.RangeTest.rows`.
    """
    with drawing.titled_figure(path, rows, title) as fig:
        axes = fig.subplots()
        rates = [row["learning_rate"] for row in rows]
        for name, label, style in (
            ("loss", "of each batch", {"color": drawing.SKY, "linewidth": 0.8}),
            ("smoothed_loss", "moving average", {"color": drawing.BLUE, "linewidth": 1.6}),
        ):
            axes.plot(rates, [row[name] for row in rows], label=label, **style)
        if suggestion is not None:
            style = {"color": drawing.VERMILION, "linestyle": "--", "linewidth": 1.2}
            axes.axvline(suggestion, label=f"falls fastest: {suggestion:.2g}", **style)
        axes.set_xscale("log")
        drawing.log_axis(axes.xaxis, subs=(1,))
        axes.set_xlabel("learning rate")
        axes.set_ylabel("training loss")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)


def error_curves(panels: Mapping[str, Rows], path: str | Path, *, title: str) -> None:
    """Draws the error against epochs, a panel for each group of networks, as in Fig. 6.

    Lines are means over the seeds, dashed for training and solid for the other split; the band goes
    from the lowest to the highest seed. `panels` has rows of `analysis.studies.error_curves` by the
    title of their panel, whose kinds are in the legend.
    """
    by_curve = operator.itemgetter("network", "kind")
    curves = {
        name: [(*curve, list(rows)) for curve, rows in itertools.groupby(panel, by_curve)]
        for name, panel in panels.items()
    }
    size = (1.2 + 4.4 * len(panels), 4.2 + 0.11 * max(map(len, curves.values())))
    every_row = [row for panel in panels.values() for row in panel]
    with drawing.titled_figure(path, every_row, title, size) as fig:
        all_axes = fig.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (name, panel) in zip(all_axes, curves.items(), strict=True):
            labels = list(dict.fromkeys(label for label, _, _ in panel))
            bands = False
            for label, kind, rows in panel:
                color = drawing.COLORS[labels.index(label) % len(drawing.COLORS)]
                mean, low, high = (
                    [100 * row[f"error_{figure}"] for row in rows]
                    for figure in ("mean", "low", "high")
                )
                if kind == "training":  # hollow, so that one marker does not hide the other
                    line, width, mark = "--", 1.2, (TRAINING_MARKER, "none")
                else:
                    line, width, mark = "-", 2.0, (TEST_MARKER, "full")
                style = {"color": color, "linewidth": width, "label": f"{label}, {kind}"}
                epochs = [row["epoch"] for row in rows]
                axes.plot(epochs, mean, line, **style, **_lone_point(mean, *mark))
                axes.fill_between(epochs, low, high, color=color, alpha=0.15, linewidth=0)
                bands |= low != high and len(rows) > 1
            if bands:
                _name_bands(axes)
            drawing.error_axis(axes)
            axes.set_title(name, fontsize="medium")
            _epoch_axis(axes)
            # Below, since curves may go anywhere.
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": 2}
            axes.legend(frameon=False, fontsize="small", **below)
        all_axes[0].set_ylabel("error (%)")


def final_errors(rows: Rows, path: str | Path, *, title: str, watched: str = "test") -> None:
    """Draws the final errors side by side: means over the seeds, with one standard deviation.

    The rows are those of `analysis.studies.convergence`; further columns go into the CSV.
    `watched` is the split of the errors beside those of training.
    """
    with drawing.titled_figure(path, rows, title, (1.8 + 1.3 * len(rows), 4.2)) as fig:
        axes = fig.subplots()
        deviations = any(row.get("training_error_sd") is not None for row in rows)
        for side, kind, marker, color in (
            (-1, "training", TRAINING_MARKER, drawing.ORANGE),
            (1, watched, TEST_MARKER, drawing.BLUE),
        ):
            if not all(f"{kind}_error" in row for row in rows):
                continue
            means = [100 * row[f"{kind}_error"] for row in rows]
            # One seed has no deviation, which is not one of zero.
            spreads = [
                100 * sd if (sd := row[f"{kind}_error_sd"]) is not None else math.nan
                for row in rows
            ]
            places = [i + 0.08 * side for i in range(len(rows))]
            style = {"fmt": marker, "color": color, "capsize": 4, "label": f"{kind} error"}
            axes.errorbar(places, means, spreads if deviations else None, **style)
            for place, mean in zip(places, means, strict=True):
                align = {"ha": "right" if side < 0 else "left", "va": "center"}
                # On white, to be legible also where a grid line passes.
                box = {"facecolor": "white", "linewidth": 0, "pad": 0.5}
                offset = {"xytext": (8 * side, 0), "textcoords": "offset points"}
                axes.annotate(
                    f"{mean:.2f}", (place, mean), **offset, **align, fontsize="small", bbox=box
                )
        axes.set_xticks(range(len(rows)), [str(row["network"]) for row in rows])
        axes.set_xlim(-0.6, len(rows) - 0.4)
        axes.margins(y=0.15)
        drawing.from_zero(axes.yaxis)
        axes.set_ylabel("error after the last epoch (%)")
        axes.grid(axis="y", alpha=0.3)
        bars = "bars: one standard deviation of the seeds" if deviations else None
        axes.legend(frameon=False, title=bars, title_fontsize="small")


def deepening(rows: Rows, networks: Sequence[str], path: str | Path, *, title: str) -> None:
    """Draws the training loss of a network deepened half-way, beside the deep one from scratch.

    Lines are means over the seeds; the band goes from the lowest to the highest seed. There is a
    row per network, seed and epoch: `network`, `seed`, `epoch` from 1, and `loss`, the
    cross-entropy in nats; further columns go into the CSV. `networks` are the shallow network, the
    deepened one, and that from scratch; one without rows is left out.
    """
    styles = ((drawing.BLUE, "-"), (drawing.VERMILION, "-"), (drawing.ORANGE, "--"))
    with drawing.titled_figure(path, rows, title) as fig:
        axes = fig.subplots()
        for network, (color, line) in zip(networks, styles, strict=True):
            own = [row for row in rows if row["network"] == network]
            if not own:
                continue
            epochs = sorted({row["epoch"] for row in own})
            losses = [[row["loss"] for row in own if row["epoch"] == epoch] for epoch in epochs]
            mean, low, high = (
                [pick(values) for values in losses] for pick in (statistics.fmean, min, max)
            )
            style = {"color": color, "linewidth": 1.6, "label": network}
            axes.plot(epochs, mean, line, **style, **_lone_point(mean))
            axes.fill_between(epochs, low, high, color=color, alpha=0.15, linewidth=0)
            if network == networks[0]:
                style = {"color": "0.4", "linewidth": 1, "linestyle": ":"}
                axes.axvline(epochs[-1] + 0.5, label="deepened here", **style)
        if len({row["seed"] for row in rows}) > 1:
            _name_bands(axes)
        axes.set_yscale("log")
        drawing.log_axis(axes.yaxis)
        _epoch_axis(axes)
        axes.set_ylabel("training loss (cross-entropy, nats)")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)


def responses(
    networks: Mapping[str, Sequence[LayerResponse]],
    path: str | Path,
    *,
    title: str,
    plain: Collection[str] = (),
) -> None:
    """Draws standard deviations of layer responses, in the layers' order and in falling order.

    As in Fig. 7 of arXiv 1512.03385. `networks` has results of `layer_responses` by label; those
    whose label is in `plain` are dashed.
    """
    rows = [
        {"network": label, **dataclasses.asdict(layer)}
        for label, layers in networks.items()
        for layer in layers
    ]
    orders = {"order": "from input to output", "rank": "by falling standard deviation"}
    with drawing.titled_figure(path, rows, title, (7.0, 6.4)) as fig:
        panels = fig.subplots(2, 1, sharey=True)
        for panel, (key, order) in zip(panels, orders.items(), strict=True):
            for (label, layers), color in zip(networks.items(), itertools.cycle(drawing.COLORS)):
                points = sorted((getattr(layer, key), layer.std) for layer in layers)
                style = {"color": color, "linewidth": 1.6, "label": label}
                line = "--" if label in plain else "-"
                panel.plot(*zip(*points, strict=True), line, **style)
            drawing.from_zero(panel.yaxis)
            panel.xaxis.get_major_locator().set_params(integer=True)
            panel.set(xlabel=f"layer, {order}", ylabel="std of responses (after BN)")
            panel.grid(alpha=0.3)
        # Outside: lines of deep networks fill a panel.
        handles, labels = panels[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)


def _epoch_axis(axes) -> None:
    """Makes the x axis one of epochs, which are whole also where there is only one."""
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.set_xlabel("epoch")


def _lone_point(values: Sequence[float], marker: str = "o", fill: str = "full") -> dict[str, str]:
    """Returns options that mark a curve of a single point, which would not show otherwise."""
    return {"marker": marker, "fillstyle": fill} if len(values) == 1 else {}


def _name_bands(axes) -> None:
    """Explains the bands around the curves in the legend."""
    label = "band: lowest to highest seed"
    axes.fill_between([], [], color="0.5", alpha=0.3, linewidth=0, label=label)
