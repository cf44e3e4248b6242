"""Responses of the layers of several networks, as in Fig. 7 of arXiv 1512.03385."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_resnet.analysis.plots.drawing import COLORS, figure, title_over, write_table
from keras_resnet.analysis.responses import LayerResponse


def responses(
    networks: Mapping[str, Sequence[LayerResponse]], path: str | Path, *, title: str
) -> None:
    """Draws standard deviations of layer responses, in the layers' order and in falling order.

    Nets whose label begins with "plain" are dashed.

    Args:
        networks: What `layer_responses` returned, by label.
        path: Where the PNG goes; SVG and CSV go beside it.
        title: What was measured, on what.
    """
    rows = [
        {"network": label, **dataclasses.asdict(layer)}
        for label, layers in networks.items()
        for layer in layers
    ]
    write_table(Path(path).with_suffix(".csv"), rows)
    with figure(path, size=(7.0, 6.4)) as fig:
        panels = fig.subplots(2, 1, sharey=True)
        for panel, place in zip(panels, ("order", "rank"), strict=True):
            for i, (label, layers) in enumerate(networks.items()):
                layers = sorted(layers, key=lambda layer: getattr(layer, place))
                panel.plot(
                    [getattr(layer, place) for layer in layers],
                    [layer.std for layer in layers],
                    "--" if label.lower().startswith("plain") else "-",
                    color=COLORS[i % len(COLORS)],
                    linewidth=1.6,
                    label=label,
                )
            panel.set_ylim(bottom=0)
            panel.set_ylabel("std of responses (after BN)")
            panel.grid(alpha=0.3)
        panels[0].set_xlabel("layer, from input to output")
        panels[1].set_xlabel("layer, by falling standard deviation")
        # Outside: lines of deep nets fill a panel.
        handles, labels = panels[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        title_over(fig, title)
