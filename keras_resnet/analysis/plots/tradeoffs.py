"""Error against operations of slimmed networks, and of others as small."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.analysis.plots import drawing


def error_against_operations(
    rows: Sequence[Mapping[str, Any]],
    path: str | Path,
    *,
    title: str,
    split: str = "test",
    full: str = "full",
) -> None:
    """Draws the error of networks against their multiply-adds, a line a method.

    Points are means over the seeds, bars go from the lowest to the highest seed.

    Args:
        rows: One per seed and network: `method`, `share`, `multiply_adds`, and the accuracy in
            [0, 1] under the name of the `split`; further columns go into the CSV.
        path: Path of the PNG; SVG and CSV go beside it.
        title: Title of the figure.
        split: Split of the accuracy, such as "test".
        full: The method that is one network, in front of all others.
    """
    methods = list(dict.fromkeys(row["method"] for row in rows if row["method"] != full))
    with drawing.titled_figure(path, rows, title) as fig:
        axes = fig.subplots()
        for method, color in zip([full, *methods], drawing.COLORS, strict=False):
            own = [row for row in rows if row["method"] == method]
            shares = sorted({row["share"] for row in own})
            groups = [[row for row in own if row["share"] == share] for share in shares]
            x = [statistics.fmean(r["multiply_adds"] for r in group) / 1e6 for group in groups]
            errors = [[100 - 100 * r[f"{split}_accuracy"] for r in group] for group in groups]
            y = [statistics.fmean(values) for values in errors]
            below = [mean - min(values) for mean, values in zip(y, errors, strict=True)]
            above = [max(values) - mean for mean, values in zip(y, errors, strict=True)]
            marker = "s" if method == full else "o"
            style = {"color": color, "linewidth": 1.6, "markersize": 5, "capsize": 3}
            axes.errorbar(x, y, (below, above), marker=marker, label=method, **style)
        axes.set_xscale("log")
        drawing.log_axis(axes.xaxis)
        drawing.from_zero(axes.yaxis)
        axes.set(xlabel="multiply-adds of one image (10⁶)", ylabel=f"{split} error (%)")
        axes.grid(alpha=0.3)
        bars = "bars: lowest to highest seed" if len({row["seed"] for row in rows}) > 1 else None
        axes.legend(frameon=False, title=bars, title_fontsize="small")
