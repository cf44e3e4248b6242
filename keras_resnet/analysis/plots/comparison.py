"""Networks side by side: accuracy against operations, and cost against batch size."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path

from keras_resnet.analysis.comparison import Entry
from keras_resnet.analysis.cost import Cost
from keras_resnet.analysis.plots import drawing
from keras_resnet.analysis.plots.drawing import figure, title_over, write_table
from keras_resnet.analysis.plots.labels import label_circles

COLORS = (*drawing.COLORS, "#333333")
MARKERS = "osD^vPX"
# Area of a circle in square points for each million parameters.
AREA = 12.0
# How a circle is drawn, by where its accuracy comes from.
PUBLISHED, TEN_CROPS, MEASURED = (
    {"alpha": 0.55, "linewidth": 0.8},
    {"alpha": 0.55, "linewidth": 1.2, "linestyle": ":", "fill": False},
    {"alpha": 0.9, "linewidth": 2.2},
)


def accuracy_against_operations(entries: Sequence[Entry], path: str | Path) -> bool:
    """Draws the well-known figure: operations across, accuracy up, circles by parameters.

    Networks of one family share a colour and, from three on, a line. Accuracies that the user has
    measured are framed in black; published ones of 10 crops are hollow, because they are not to be
    compared with those of one.

    Args:
        entries: Networks; those without an accuracy are left to the CSV.
        path: Where the PNG goes; SVG and CSV go beside it.

    Returns:
        Whether there was a figure to draw: without any accuracy only the CSV is written.
    """
    write_table(Path(path).with_suffix(".csv"), [entry.row() for entry in entries])
    entries = [entry for entry in entries if entry.accuracy is not None]
    if not entries:
        return False
    colors = dict(zip(dict.fromkeys(map(_family, entries)), itertools.cycle(COLORS)))
    datasets = list(dict.fromkeys(filter(None, (entry.accuracy.dataset for entry in entries))))
    with figure(path, size=(9.0, 6.0)) as fig:
        axes = fig.subplots()
        axes.set_xscale("log")
        for family, color in colors.items():
            members = [entry for entry in entries if _family(entry) == family]
            if len(members) > 2:
                members.sort(key=_operations)
                axes.plot(
                    [_operations(entry) for entry in members],
                    [_percent(entry) for entry in members],
                    color=color,
                    linewidth=1,
                    alpha=0.6,
                    zorder=1,
                )
            for entry in members:
                style = _style(entry)
                axes.scatter(
                    _operations(entry),
                    _percent(entry),
                    s=_area(entry),
                    facecolor=color if style.get("fill", True) else "none",
                    edgecolor="black" if style is MEASURED else color,
                    **{key: value for key, value in style.items() if key != "fill"},
                    zorder=2,
                )
                axes.plot(_operations(entry), _percent(entry), ".", color=color, markersize=3)
        shapes = sorted({"x".join(map(str, entry.image_shape)) for entry in entries})
        axes.set_xlabel(f"multiply-adds of one image of {' or '.join(shapes)} (10⁹)")
        on = f" on {' and '.join(datasets)}" if datasets else ""
        axes.set_ylabel(f"top-1 accuracy{on} (%)")
        _plain_numbers(axes.xaxis, (1, 2, 5))
        axes.grid(alpha=0.3)
        axes.margins(0.12, 0.12)
        axes.set_axisbelow(True)
        _legends(fig, axes, entries)
        circles = [
            (_operations(entry), _percent(entry), math.sqrt(_area(entry) / math.pi))
            for entry in entries
        ]
        label_circles(fig, axes, circles, [entry.network.label for entry in entries])
    return True


def cost_against_batch(costs: Sequence[Cost], path: str | Path) -> bool:
    """Draws time and energy per image, and peak memory, against the batch size.

    Forward passes above, training steps below; the bars span the middle half of the repeats.

    Args:
        costs: Measurements of any networks at any batch sizes.
        path: Where the PNG goes; SVG and CSV go beside it.

    Returns:
        Whether there was anything to draw.
    """
    if not costs:
        return False
    write_table(Path(path).with_suffix(".csv"), [cost.row() for cost in costs])
    names = list(dict.fromkeys(cost.name for cost in costs))
    phases = ["forward"] + ["training"] * any(cost.training for cost in costs)
    with figure(path, size=(12.0, 3.6 * len(phases) + 0.6)) as fig:
        grid = fig.subplots(len(phases), 3, sharex=True, squeeze=False)
        for row, phase in zip(grid, phases, strict=True):
            for i, name in enumerate(names):
                series = sorted(
                    (cost for cost in costs if cost.name == name and getattr(cost, phase)),
                    key=lambda cost: cost.batch_size,
                )
                style = {
                    "color": COLORS[i % len(COLORS)],
                    "marker": MARKERS[i % len(MARKERS)],
                    "linestyle": ("-", "--", ":")[i // len(COLORS) % 3],
                    "linewidth": 1.4,
                    "markersize": 5,
                    "label": name,
                }
                _draw_series(row, [(c.batch_size, getattr(c, phase)) for c in series], style)
            what = "forward pass" if phase == "forward" else "training step"
            labels = ("time per image (s)", "peak memory (MiB)", "energy per image (J)")
            for axes, label in zip(row, labels, strict=True):
                axes.set_ylabel(f"{what}:\n{label}")
                axes.grid(alpha=0.3)
                if not axes.lines:
                    axes.text(0.5, 0.5, "unavailable", transform=axes.transAxes, ha="center")
                    axes.set_yticks([])
                    continue
                axes.set_yscale("log")
                low, high = axes.get_ylim()
                _plain_numbers(
                    axes.yaxis, (1, 2, 5) if high > 20 * low else (1, 1.5, 2, 3, 4, 5, 7)
                )
        sizes = sorted({cost.batch_size for cost in costs})
        for axes in grid[-1]:
            axes.set_xscale("log")
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.minorticks_off()
            axes.set_xlabel("batch size (images)")
        handles, labels = grid[0][0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside right upper", frameon=False)
        shapes = sorted({"x".join(map(str, cost.image_shape)) for cost in costs})
        first = costs[0]
        title_over(
            fig,
            f"measured on a {first.device} in {first.precision}, images of {' or '.join(shapes)}",
        )
    return True


def _draw_series(row, points, style):
    time, memory, energy = row
    if points:
        size, middle = zip(*((b, p.seconds_per_image) for b, p in points), strict=True)
        below = [p.seconds_per_image - p.first_quartile for _, p in points]
        above = [p.third_quartile - p.seconds_per_image for _, p in points]
        time.errorbar(size, middle, yerr=(below, above), capsize=2, **style)
    for axes, values in (
        (memory, [(b, p.memory_bytes and p.memory_bytes / 2**20) for b, p in points]),
        (energy, [(b, p.joules_per_image) for b, p in points]),
    ):
        known = [(b, value) for b, value in values if value is not None]
        if known:
            axes.plot(*zip(*known, strict=True), **style)


def _plain_numbers(axis, steps):
    """Labels a logarithmic axis at these multiples of powers of ten, without the powers."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_locator(NullLocator())


def _operations(entry: Entry) -> float:
    return entry.complexity.multiply_adds / 1e9


def _area(entry: Entry) -> float:
    return AREA * entry.complexity.parameters / 1e6


def _percent(entry: Entry) -> float:
    return 100 * entry.accuracy.top1


def _family(entry: Entry) -> str:
    """Returns the letters that a name begins with: ResNet of ResNet50_v1.5."""
    word = re.match(r"[A-Za-z]*", Path(entry.network.label).stem).group()
    kin = {"InceptionV": "Inception", "Xception": "Inception", "MobileNetV": "MobileNet"}
    return kin.get(word, word)


def _style(entry: Entry) -> dict[str, object]:
    if entry.accuracy.measured:
        return MEASURED
    return TEN_CROPS if entry.accuracy.protocol == "10 crops" else PUBLISHED


def _legends(fig, axes, entries):
    """Draws which circle is how many parameters, and whose accuracy it is."""
    sizes = [
        axes.scatter(
            [], [], s=AREA * millions, facecolor="0.8", edgecolor="0.4", label=f"{millions} M"
        )
        for millions in (5, 25, 100)
    ]
    by_size = fig.legend(
        handles=sizes,
        title="parameters",
        loc="outside right upper",
        frameon=False,
        labelspacing=2.6,
        handletextpad=1.4,
        borderpad=1.2,
    )
    by_size.set_in_layout(True)
    texts = {
        id(PUBLISHED): "published",
        id(TEN_CROPS): "published,\n10 crops",
        id(MEASURED): "measured",
    }
    styles = {id(style): style for style in map(_style, entries)}
    handles = [
        axes.scatter(
            [],
            [],
            s=90,
            facecolor="0.6" if style.get("fill", True) else "none",
            edgecolor="black" if style is MEASURED else "0.4",
            label=texts[key],
            **{name: value for name, value in style.items() if name != "fill"},
        )
        for key, style in styles.items()
    ]
    fig.legend(handles=handles, title="accuracy", loc="outside right lower", frameon=False)
