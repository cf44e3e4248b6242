"""Times of a network's forms against the batch size."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.analysis.plots import drawing


def timings(rows: Sequence[Mapping[str, Any]], path: str | Path, *, title: str) -> None:
    """Draws the time of an image, a line per form; bars span the middle half of the rounds.

    The rows are those of `analysis.timing.summarize`, of any batch sizes.
    """
    sizes = sorted({row["batch_size"] for row in rows})
    forms = dict.fromkeys(row["form"] for row in rows)
    with drawing.titled_figure(path, rows, title) as fig:
        axes = fig.subplots()
        for form, color in zip(forms, itertools.cycle(drawing.COLORS)):
            own = [row for row in rows if row["form"] == form]
            places = [sizes.index(row["batch_size"]) for row in own]
            low, middle, high = (
                [1000 * row[name] / row["batch_size"] for row in own]
                for name in ("first_quartile", "seconds", "third_quartile")
            )
            bars = [[m - one for m, one in zip(middle, low, strict=True)],
                    [one - m for m, one in zip(middle, high, strict=True)]]  # fmt: skip
            axes.errorbar(places, middle, bars, fmt="o-", color=color, capsize=3, label=form)
        axes.set_yscale("log")
        drawing.log_axis(axes.yaxis)
        axes.set_xticks(range(len(sizes)), list(map(str, sizes)))
        axes.set(xlabel="batch size (images)", ylabel="time of an image (ms)")
        axes.grid(alpha=0.3)
        fig.legend(loc="outside right upper", frameon=False)
