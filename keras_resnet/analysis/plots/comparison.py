"""Networks side by side: accuracy against operations, and cost against batch size."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_resnet.analysis.comparison import Entry
from keras_resnet.analysis.cost import Cost
from keras_resnet.analysis.plots import drawing
from keras_resnet.analysis.published import Accuracy
from keras_resnet.utils.tables import write_table

COLORS = (*drawing.COLORS, "#333333")
MARKERS = "osD^vPX"
# Area of a circle in square points for each million parameters.
AREA = 12.0
# Styles of circles, by where their accuracies come from.
PUBLISHED: dict[str, Any] = {"alpha": 0.55, "linewidths": 0.8, "linestyles": "-"}
TEN_CROPS: dict[str, Any] = {"alpha": 0.55, "linewidths": 1.2, "linestyles": ":"}
MEASURED: dict[str, Any] = {"alpha": 0.9, "linewidths": 2.2, "linestyles": "-"}


class Quantity(NamedTuple):
    """Quantity that is measured: name, unit, attribute, and how much of it makes a unit."""

    name: str
    unit: str
    attribute: str
    size: float = 1


TIME = Quantity("time per image", "s", "seconds_per_image")
MEMORY = Quantity("peak memory", "MiB", "memory_bytes", 2**20)
ENERGY = Quantity("energy per image", "J", "joules_per_image")
QUANTITIES = (TIME, MEMORY, ENERGY)


def accuracy_against_operations(entries: Sequence[Entry], path: str | Path) -> bool:
    """Draws top-1 accuracy against multiply-adds, the area of a circle by the parameters.

    Networks of one family share a color, and three or more whose accuracies are of one source and
    protocol share a line. Accuracies that the user has measured are framed in black; published ones
    of 10 crops are hollow, because they are not to be compared with those of one. Networks without
    an accuracy appear in the CSV only.

    Returns:
        Whether there was a figure to draw: without any accuracy only the CSV is written.
    """
    write_table(Path(path).with_suffix(".csv"), [entry.row() for entry in entries])
    shown = [(entry, entry.accuracy) for entry in entries if entry.accuracy is not None]
    if not shown:
        return False
    x = [entry.complexity.multiply_adds / 1e9 for entry, _ in shown]
    y = [100 * accuracy.top1 for _, accuracy in shown]
    areas = [AREA * entry.complexity.parameters / 1e6 for entry, _ in shown]
    styles = [_style(accuracy) for _, accuracy in shown]
    families = [_family(entry) for entry, _ in shown]
    colors = dict(zip(dict.fromkeys(families), itertools.cycle(COLORS)))
    own_colors = [colors[family] for family in families]
    with drawing.figure(path, size=(9.0, 6.0)) as fig:
        import textalloc

        axes = fig.subplots()
        axes.set_xscale("log")
        x_lines: list[Any] = []
        y_lines: list[Any] = []
        origins = [_origin(accuracy) for _, accuracy in shown]
        kinds = list(zip(families, origins, strict=True))
        for kind in dict.fromkeys(kinds):
            members = sorted((x[i], y[i]) for i, own in enumerate(kinds) if own == kind)
            if len(members) > 2:
                across, up = zip(*members, strict=True)
                axes.plot(across, up, color=colors[kind[0]], linewidth=1, alpha=0.6, zorder=1)
                x_lines.append(across)
                y_lines.append(up)
        circles = _scatter(axes, x, y, areas, own_colors, styles)
        axes.scatter(x, y, s=4, color=own_colors, zorder=2)
        shapes = sorted({"x".join(map(str, entry.image_shape)) for entry, _ in shown})
        axes.set_xlabel(f"multiply-adds of one image of {' or '.join(shapes)} (10⁹)")
        datasets = dict.fromkeys(filter(None, (accuracy.dataset for _, accuracy in shown)))
        on = f" on {' and '.join(datasets)}" if datasets else ""
        axes.set_ylabel(f"top-1 accuracy{on} (%)")
        axes.grid(alpha=0.3)
        axes.margins(0.12, 0.12)
        axes.set_axisbelow(True)
        drawing.log_axis(axes.xaxis)
        _legends(fig, axes, styles)
        # Last, since the places follow from the limits and the layout.
        axes.autoscale(False)
        textalloc.allocate(
            *(axes, x, y, [entry.network.label for entry, _ in shown]),
            scatter_plot=circles,
            x_lines=x_lines,
            y_lines=y_lines,
            textsize=8.5,
            linecolor="0.6",
            linewidth=0.6,
        )
    return True


def cost_against_batch(costs: Sequence[Cost], path: str | Path) -> bool:
    """Draws time and energy per image, and peak memory, against the batch size.

    Forward passes above, training steps below; the bars span the middle half of the repeats. The
    networks and batch sizes may be any. What the machine cannot tell is named in the title.
    Returns whether there was anything to draw.
    """
    if not costs:
        return False
    names = list(dict.fromkeys(cost.name for cost in costs))
    by_size = sorted(costs, key=lambda cost: cost.batch_size)
    phases = {"forward": "forward pass", "training": "training step"}
    if not any(cost.training for cost in costs):
        del phases["training"]
    measured = [phase for cost in costs for phase in (cost.forward, cost.training) if phase]
    shown = [one for one in QUANTITIES if _values(measured, one) != [None] * len(measured)]
    missing = [one.name for one in QUANTITIES if one not in shown]
    shapes = sorted({"x".join(map(str, cost.image_shape)) for cost in costs})
    machine = f"measured on a {costs[0].device} in {costs[0].precision}"
    title = f"{machine}, images of {' or '.join(shapes)}"
    title += f"; unavailable: {', '.join(missing)}" if missing else ""
    size = (4.0 * len(shown) + 1.0, 3.6 * len(phases) + 0.6)
    with drawing.titled_figure(path, [cost.row() for cost in costs], title, size) as fig:
        grid = fig.subplots(len(phases), len(shown), sharex=True, squeeze=False)
        for row, (phase, step) in zip(grid, phases.items(), strict=True):
            for i, name in enumerate(names):
                style = {
                    "color": COLORS[i % len(COLORS)],
                    "marker": MARKERS[i % len(MARKERS)],
                    "linestyle": ("-", "--", ":")[i // len(COLORS) % 3],
                    "linewidth": 1.4,
                    "markersize": 5,
                    "label": name,
                }
                own = [(c.batch_size, getattr(c, phase)) for c in by_size if c.name == name]
                points = [(b, figures) for b, figures in own if figures]
                for axes, quantity in zip(row, shown, strict=True):
                    _draw_series(axes, quantity, points, style)
            for axes, quantity in zip(row, shown, strict=True):
                axes.set_ylabel(f"{step}:\n{quantity.name} ({quantity.unit})")
                axes.grid(alpha=0.3)
                if not axes.lines:
                    axes.text(0.5, 0.5, "unavailable", transform=axes.transAxes, ha="center")
                    axes.set_yticks([])
                    continue
                axes.set_yscale("log")
                drawing.log_axis(axes.yaxis)
        sizes = list(dict.fromkeys(cost.batch_size for cost in by_size))
        for axes in grid[-1]:
            if len(sizes) > 1:
                axes.set_xscale("log")
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.minorticks_off()
            axes.set_xlabel("batch size (images)")
        handles, labels = grid[0][0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside right upper", frameon=False)
    return True


def _values(phases, quantity):
    """Returns the values of a quantity in its unit; None where the machine cannot tell."""
    values = (getattr(phase, quantity.attribute) for phase in phases)
    return [None if value is None else value / quantity.size for value in values]


def _draw_series(axes, quantity, points, style):
    values = _values([phase for _, phase in points], quantity)
    known = [(*point, y) for point, y in zip(points, values, strict=True) if y is not None]
    if not known:
        return
    x, phases, y = zip(*known, strict=True)
    if quantity is not TIME:
        axes.plot(x, y, **style)
        return
    below = [p.seconds_per_image - p.first_quartile for p in phases]
    above = [p.third_quartile - p.seconds_per_image for p in phases]
    axes.errorbar(x, y, yerr=(below, above), capsize=2, **style)


def _family(entry: Entry) -> str:
    """Returns the letters that a name begins with: ResNet of ResNet50_v1.5."""
    word = re.split(r"[^A-Za-z]", Path(entry.network.label).stem)[0]
    kin = {"InceptionV": "Inception", "Xception": "Inception", "MobileNetV": "MobileNet"}
    return kin.get(word, word)


def _origin(accuracy: Accuracy) -> tuple[str, str]:
    """Returns what accuracies on one line have in common: the protocol, and how they came about."""
    own = "measured" if accuracy.measured else accuracy.recipe or accuracy.source
    return accuracy.protocol, own


def _style(accuracy: Accuracy) -> dict[str, Any]:
    if accuracy.measured:
        return MEASURED
    return TEN_CROPS if accuracy.protocol == "10 crops" else PUBLISHED


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


def _legends(fig, axes, styles):
    """Explains the areas of circles and, by their style, the sources of the accuracies."""
    sizes = (5, 25, 100)
    handles = [_scatter(axes, [], [], AREA * m, ["0.5"], [PUBLISHED]) for m in sizes]
    labels = [f"{millions} M" for millions in sizes]
    place = {"loc": "outside right upper", "labelspacing": 2.6, "handletextpad": 1.4}
    fig.legend(handles, labels, title="parameters", frameon=False, borderpad=1.2, **place)
    names = {"published": PUBLISHED, "published,\n10 crops": TEN_CROPS, "measured": MEASURED}
    shown = {name: style for name, style in names.items() if style in styles}
    handles = [_scatter(axes, [], [], 90, ["0.5"], [style]) for style in shown.values()]
    fig.legend(handles, list(shown), title="accuracy", frameon=False, loc="outside right lower")
