"""Errors by class: the confusion matrix, and the error of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.analysis.plots import drawing
from keras_resnet.utils.escapes import visible

# With more classes than this, cells and bars are too small for names and numbers.
READABLE = 30

# Cells along each side of a matrix of groups of classes, and rows of a list.
GROUPS, LISTED = 100, 15
WIDE = (11.0, 5.2)
SHARE = "share of the true class (%)"


def confusion_matrix(
    counts: np.ndarray, class_names: Sequence[str], path: str | Path, *, title: str
) -> None:
    """Draws how often images of each class are predicted to be of each.

    Up to 30 classes have a cell with its number for each pair. More are shown in groups of
    neighbors, beside a list of the most frequent mistakes; the CSV has the whole matrix. `counts`
    are images by true class (row) and predicted class (column), integers `(classes, classes)`.
    """
    names = list(class_names)
    if len(set(names)) < len(names):
        names = [f"{i} {name}" for i, name in enumerate(names)]
    rows = [
        {"true class": name, **dict(zip(names, row.tolist(), strict=True))}
        for name, row in zip(names, counts, strict=True)
    ]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    few = len(counts) <= READABLE
    side = 2.6 + 0.42 * len(counts)
    with drawing.titled_figure(path, rows, title, (side + 0.6, side) if few else WIDE) as fig:
        if few:
            _cells(fig, counts, shares, class_names)
        else:
            matrix, bars = fig.subplots(1, 2, width_ratios=(7, 5))
            _groups(fig, matrix, shares)
            _mistakes(bars, shares, class_names)


def class_errors(rows: Sequence[Mapping[str, Any]], path: str | Path, *, title: str) -> None:
    """Draws the error of each class with its 95 % interval.

    Up to 30 classes have a bar each, worst first. More are shown as one curve, beside a list of
    the worst. The rows, which the CSV has as given, are one per class with `name`, `images`, and,
    where it has images, `error`, `low` and `high` in [0, 1].
    """
    ranked = sorted((row for row in rows if row["images"]), key=lambda row: -row["error"])
    few = len(ranked) <= READABLE
    size = (7.0, 1.4 + 0.3 * len(ranked)) if few else WIDE
    with drawing.titled_figure(path, rows, title, size) as fig:
        if few:
            _bars(fig.subplots(), ranked)
        else:
            curve, bars = fig.subplots(1, 2, width_ratios=(5, 6))
            low, error, high = (
                [100 * row[key] for row in ranked[::-1]] for key in ("low", "error", "high")
            )
            x = np.arange(1, len(ranked) + 1)
            band = {"color": drawing.BLUE, "alpha": 0.25, "linewidth": 0}
            curve.fill_between(x, low, high, label="95 % interval", **band)
            curve.plot(x, error, color=drawing.BLUE, linewidth=1.6, label="error")
            curve.set(xlabel="classes, best first", xlim=(1, len(ranked)))
            curve.set(ylabel="top-1 error (%)", ylim=(-3, 103))
            curve.grid(alpha=0.3)
            _bars(bars, ranked[:LISTED])
            bars.set_title(f"the worst {LISTED}, with 95 % intervals", fontsize="medium")
        # Outside: bars may fill all of the axes.
        place = f"outside lower {'center' if few else 'left'}"
        fig.legend(*fig.axes[0].get_legend_handles_labels(), loc=place, ncols=2, frameon=False)


def _cells(fig, counts, shares, class_names):
    axes = fig.subplots()
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    fig.colorbar(image, ax=axes, shrink=0.8, label=SHARE)
    for (i, j), count in np.ndenumerate(counts):
        if count:
            color = "white" if shares[i, j] > 0.5 else drawing.VERMILION if i != j else "black"
            axes.text(j, i, f"{count}", ha="center", va="center", color=color, fontsize="small")
    places, names = range(len(class_names)), list(map(_short, class_names))
    upright = max(map(len, names)) > 3
    axes.set_xticks(places, names, rotation=90 if upright else 0)
    axes.set_yticks(places, names)
    axes.set(xlabel="predicted class", ylabel="true class")


def _groups(fig, axes, shares):
    from matplotlib.colors import LogNorm

    # Groups of classes: single cells of 1000 classes are less than a pixel.
    size = -(-len(shares) // GROUPS)
    starts = np.arange(0, len(shares), size)
    sums = np.add.reduceat(np.add.reduceat(shares, starts, axis=0), starts, axis=1)
    # Means over the true classes, sums over the predicted ones.
    means = sums / np.diff(np.append(starts, len(shares)))[:, None]
    end = len(starts) * size
    # Mistakes are rare: on a linear scale only the diagonal would show.
    norm = LogNorm(vmin=0.1, vmax=100, clip=True)
    image = axes.imshow(100 * means, cmap="Blues", norm=norm, extent=(0, end, end, 0))
    fig.colorbar(image, ax=axes, shrink=0.8, label=SHARE, extend="min", format="{x:g}")
    numbers = f"(number, groups of {size})" if size > 1 else "(number)"
    axes.set(xlabel=f"predicted class {numbers}", ylabel=f"true class {numbers}")


def _mistakes(axes, shares, class_names):
    wrong = shares * (1 - np.eye(len(shares)))
    order = np.argsort(-wrong, axis=None, kind="stable")[:LISTED]
    pairs = [divmod(int(place), len(shares)) for place in order if wrong.flat[place]]
    axes.barh(range(len(pairs)), [100 * wrong[pair] for pair in pairs], color=drawing.ORANGE)
    names = [f"{_short(class_names[i])} taken for {_short(class_names[j])}" for i, j in pairs]
    axes.set_yticks(range(len(pairs)), names, fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel(SHARE)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlim(left=0)
    axes.set_title(f"the most frequent mistakes{'' if pairs else ': none'}", fontsize="medium")


def _bars(axes, rows):
    errors = 100 * np.array([[row["error"], row["low"], row["high"]] for row in rows])
    y = np.arange(len(rows))
    axes.barh(y, errors[:, 0], color=drawing.ORANGE, label="top-1 error")
    spread = np.abs(errors[:, 1:] - errors[:, :1]).T
    # A bar of no error does not show, and its interval looks like one.
    style = {"fmt": "o", "markersize": 3.5, "color": "black", "capsize": 3}
    axes.errorbar(errors[:, 0], y, xerr=spread, **style, label="95 % interval")
    axes.set_yticks(y, [f"{_short(row['name'])} ({row['images']})" for row in rows])
    axes.invert_yaxis()
    axes.set(xlabel="top-1 error (%)", ylabel="class (images)")
    drawing.from_zero(axes.xaxis)
    axes.grid(axis="x", alpha=0.3)


def _short(name, longest=24):
    name = visible(name)
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
