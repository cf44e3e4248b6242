"""The loss of a net that was deepened half-way, beside that of the deep net from scratch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_resnet.analysis.plots.drawing import (
    BLUE,
    ORANGE,
    VERMILION,
    epoch_axis,
    figure,
    log_axis,
    lone_point,
    name_bands,
    title_over,
    write_table,
)


def deepening(
    rows: Sequence[Mapping[str, object]],
    networks: Sequence[str],
    path: str | Path,
    *,
    title: str,
) -> None:
    """Draws the training loss against epochs, a line for each net.

    Lines are means over the seeds; the band goes from the lowest to the highest seed.

    Args:
        rows: One per net, seed and epoch: `network`, `seed`, `epoch` from 1, and `loss`, the
            cross-entropy in nats; further columns go into the CSV.
        networks: The shallow net, the deepened one, and that from scratch; one without rows is
            left out.
        path: Where the PNG goes; SVG and CSV go beside it.
        title: What was trained, on what.
    """
    write_table(Path(path).with_suffix(".csv"), rows)
    styles = ((BLUE, "-"), (VERMILION, "-"), (ORANGE, "--"))
    with figure(path) as fig:
        axis = fig.subplots()
        for network, (color, style) in zip(networks, styles, strict=True):
            own = [row for row in rows if row["network"] == network]
            if not own:
                continue
            epochs = sorted({row["epoch"] for row in own})
            losses = [[row["loss"] for row in own if row["epoch"] == epoch] for epoch in epochs]
            means = [sum(values) / len(values) for values in losses]
            axis.plot(
                *(epochs, means, style),
                color=color,
                linewidth=1.6,
                label=network,
                **lone_point(means),
            )
            low, high = ([pick(values) for values in losses] for pick in (min, max))
            axis.fill_between(epochs, low, high, color=color, alpha=0.15, linewidth=0)
            if network == networks[0]:
                style = {"color": "0.4", "linewidth": 1, "linestyle": ":"}
                axis.axvline(epochs[-1] + 0.5, label="deepened here", **style)
        if len({row["seed"] for row in rows}) > 1:
            name_bands(axis)
        axis.set_yscale("log")
        log_axis(axis.yaxis)
        epoch_axis(axis)
        axis.set_ylabel("training loss (cross-entropy, nats)")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
        title_over(fig, title)
