"""Own runs beside the paper's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.analysis.plots import drawing


def beside_the_paper(rows: Sequence[Mapping[str, Any]], path: str | Path, *, title: str) -> None:
    """Draws own figures on the left and the paper's on the right, a line for each network.

    The two have axes of their own, since other data have other errors: the order is what may be
    compared. A dot is a seed, a diamond the mean with its 95 % interval, and a square the paper's
    value.

    Args:
        rows: One per network and figure: `network`, `plain` (whether it has no shortcuts),
            `figure` (its name, which ends in its unit), `values` by seed, `mean`, `low`, `high`
            (None where not known), and `paper` or None.
        path: The picture, .png or .svg.
        title: Its title.
    """
    figures = list(dict.fromkeys(row["figure"] for row in rows))
    networks = list(dict.fromkeys(row["network"] for row in rows))
    panels: list[tuple[str, bool]] = []
    for figure in figures:
        panels.append((figure, False))
        if any(row["paper"] is not None for row in rows if row["figure"] == figure):
            panels.append((figure, True))
    size = (1.6 + 3.2 * len(panels), 1.4 + 0.34 * len(networks))
    with drawing.figure(path, size) as fig:
        fig.suptitle(title, fontsize="medium")
        grid = fig.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (figure, theirs) in zip(grid, panels, strict=True):
            for row in (row for row in rows if row["figure"] == figure):
                y = networks.index(row["network"])
                color = drawing.VERMILION if row["plain"] else drawing.BLUE
                if theirs:
                    if row["paper"] is not None:
                        axes.plot(row["paper"], y, "s", color=color)
                    continue
                axes.plot(row["values"], [y] * len(row["values"]), ".", color=color, alpha=0.5)
                if row["mean"] is not None:
                    axes.plot(row["mean"], y, "D", color=color, markersize=5)
                if row["low"] is not None:
                    axes.hlines(y, max(0.0, row["low"]), row["high"], color=color, linewidth=1.2)
            axes.set_xlabel(f"{'paper' if theirs else 'here'}: {figure}")
            axes.set_yticks(range(len(networks)), networks)
            axes.set_ylim(len(networks) - 0.5, -0.5)
            axes.grid(alpha=0.3)
