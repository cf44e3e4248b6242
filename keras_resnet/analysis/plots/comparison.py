"""Networks side by side: accuracy against operations, and cost against batch size."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from keras_resnet.analysis.comparison import Entry
from keras_resnet.analysis.cost import Cost
from keras_resnet.analysis.plots import drawing
from keras_resnet.analysis.plots.drawing import figure, log_axis, title_over, write_table

COLORS = (*drawing.COLORS, "#333333")
MARKERS = "osD^vPX"
# Area of a circle in square points for each million parameters.
AREA = 12.0
# How a circle is drawn, by where its accuracy comes from.
PUBLISHED, TEN_CROPS, MEASURED = (
    {"alpha": 0.55, "linewidths": 0.8, "linestyles": "-"},
    {"alpha": 0.55, "linewidths": 1.2, "linestyles": ":"},
    {"alpha": 0.9, "linewidths": 2.2, "linestyles": "-"},
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
        import textalloc

        axes = fig.subplots()
        axes.set_xscale("log")
        lines = []
        for family, color in colors.items():
            members = sorted((e for e in entries if _family(e) == family), key=_operations)
            if len(members) > 2:
                lines.append((list(map(_operations, members)), list(map(_percent, members))))
                axes.plot(*lines[-1], color=color, linewidth=1, alpha=0.6, zorder=1)
        x, y = list(map(_operations, entries)), list(map(_percent, entries))
        own = [colors[_family(entry)] for entry in entries]
        circles = _scatter(axes, x, y, list(map(_area, entries)), own, list(map(_style, entries)))
        axes.scatter(x, y, s=4, color=own, zorder=2)
        shapes = sorted({"x".join(map(str, entry.image_shape)) for entry in entries})
        axes.set_xlabel(f"multiply-adds of one image of {' or '.join(shapes)} (10⁹)")
        on = f" on {' and '.join(datasets)}" if datasets else ""
        axes.set_ylabel(f"top-1 accuracy{on} (%)")
        axes.grid(alpha=0.3)
        axes.margins(0.12, 0.12)
        axes.set_axisbelow(True)
        log_axis(axes.xaxis)
        _legends(fig, axes, entries)
        # Last, since the places follow from the limits and the layout.
        axes.autoscale(False)
        textalloc.allocate(
            *(axes, x, y, [entry.network.label for entry in entries]),
            scatter_plot=circles,
            **dict(zip(("x_lines", "y_lines"), zip(*lines, strict=True), strict=False)),
            textsize=8.5,
            linecolor="0.6",
            linewidth=0.6,
        )
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
                log_axis(axes.yaxis)
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


def _scatter(axes, x, y, areas, colors, styles):
    """Draws circles as one collection, which labels can keep clear of."""
    from matplotlib.colors import to_rgba

    faded = [to_rgba(c, style["alpha"]) for c, style in zip(colors, styles, strict=True)]
    return axes.scatter(
        *(x, y, areas),
        facecolors=["none" if s is TEN_CROPS else c for c, s in zip(faded, styles, strict=True)],
        edgecolors=["black" if s is MEASURED else c for c, s in zip(faded, styles, strict=True)],
        **{key: [style[key] for style in styles] for key in ("linewidths", "linestyles")},
        zorder=2,
    )


def _legends(fig, axes, entries):
    """Draws which circle is how many parameters, and whose accuracy it is."""
    sizes = (5, 25, 100)
    handles = [_scatter(axes, [], [], AREA * m, ["0.5"], [PUBLISHED]) for m in sizes]
    labels = [f"{millions} M" for millions in sizes]
    place = {"loc": "outside right upper", "labelspacing": 2.6, "handletextpad": 1.4}
    fig.legend(handles, labels, title="parameters", frameon=False, borderpad=1.2, **place)
    names = {"published": PUBLISHED, "published,\n10 crops": TEN_CROPS, "measured": MEASURED}
    shown = {name: style for name, style in names.items() if style in map(_style, entries)}
    handles = [_scatter(axes, [], [], 90, ["0.5"], [style]) for style in shown.values()]
    place = {"loc": "outside right lower"}
    fig.legend(handles, list(shown), title="accuracy", frameon=False, **place)
