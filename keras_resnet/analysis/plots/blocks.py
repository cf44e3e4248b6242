"""Diagrams of residual blocks, drawn from the layers of built networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_resnet.analysis.plots import drawing
from keras_resnet.layers import ZeroPadShortcut
from keras_resnet.naming import find_place
from keras_resnet.utils import private

# Distance of the shortcut from the branch, and half of a box, in the axes' units.
_APART, _HALF_WIDTH, _HALF_HEIGHT = 1.3, 0.56, 0.31
# Where arrows end at the right of a sum.
_SUM = 0.14
_COLORS = {
    keras.layers.Conv2D: drawing.SKY,
    ZeroPadShortcut: drawing.ORANGE,
    keras.layers.BatchNormalization: "#DDDDDD",
    keras.layers.Activation: "#F6E7A8",
}


def block_diagrams(
    blocks: Mapping[str, tuple[keras.Model, int, int]], path: str | Path, *, title: str
) -> None:
    """Draws residual blocks beside each other, with the branch left and the shortcut right.

    Args:
        blocks: By the text above it, a block: its network, and the indices of stage and block.
        path: Path of the PNG; an SVG goes beside it.
        title: Title of the figure.

    Raises:
        ValueError: If a network has no such block.
    """
    graphs = {text: _Graph(*block) for text, block in blocks.items()}
    rows = max(max(graph.rows.values()) for graph in graphs.values())
    with drawing.figure(path, (2.3 * len(graphs), 0.36 * rows + 1.2)) as fig:
        fig.suptitle(title, fontsize="medium")
        many = fig.subplots(1, len(graphs), squeeze=False)[0]
        for axes, (text, graph) in zip(many, graphs.items(), strict=True):
            axes.set_title(text, fontsize="small")
            axes.set(xlim=(-0.65, _APART + 0.65), ylim=(rows + 0.9, -0.4))
            axes.axis("off")
            graph.draw(axes)


class _Graph:
    """Layers of a block with the row and the column of each; padding goes with convolutions."""

    def __init__(self, model: keras.Model, stage: int, block: int):
        def inside(layer: keras.Layer) -> bool:
            place = find_place(layer.name)
            return place is not None and (place.stage, place.block) == (stage, block)

        own = list(filter(inside, model.layers))
        if not own:
            raise ValueError(
                "`blocks` must be blocks that their networks have. "
                f"Received: block {block} of stage {stage} of {model.name!r}"
            )
        self.sources: dict[keras.Layer, list[keras.Layer]] = {}
        self.rows: dict[keras.Layer, float] = {}
        for layer in own:  # in the order of computation
            sources = [private.layer_of(x) for x in keras.tree.flatten(layer.input)]
            sources = [_behind_padding(source) for source in sources]
            if not isinstance(layer, keras.layers.ZeroPadding2D):
                self.sources[layer] = sources
                self.rows[layer] = 1 + max(self.rows.get(source, 0) for source in sources)
        self._center_shortcut()

    def _center_shortcut(self) -> None:
        """Moves the layers of the shortcut halfway between where it begins and where it ends."""
        shortcut = [layer for layer in self.sources if _column(layer)]
        if shortcut:
            begin = self.rows.get(self.sources[shortcut[0]][0], 0)
            end = next(
                self.rows[layer] for layer in self.sources if shortcut[-1] in self.sources[layer]
            )
            for i, layer in enumerate(shortcut):
                self.rows[layer] = (begin + end - len(shortcut) + 1) / 2 + i

    def draw(self, axes: Any) -> None:
        axes.text(0, 0, "x", ha="center", va="center", style="italic")
        for layer, sources in self.sources.items():
            _draw_box(axes, layer, self.rows[layer])
            for source in sources:
                _draw_arrow(axes, self._points(source, layer))
        last = max(self.rows.values()) + _HALF_HEIGHT
        _draw_arrow(axes, [(0, last), (0, last + 0.55)])

    def _points(self, source: keras.Layer, target: keras.Layer) -> list[tuple[float, float]]:
        """Returns the corners of an arrow: down a column, or out of one, down, and into a sum."""
        above, below = self.rows.get(source, 0), self.rows[target]
        start, end = _column(source), _column(target)
        if start == end and (start or below - above <= 1):
            return [(start, above + _HALF_HEIGHT), (start, below - _HALF_HEIGHT)]
        if start:
            first = [(_APART, above + _HALF_HEIGHT)]
        else:
            first = [(_HALF_WIDTH if source in self.rows else 0.12, above), (_APART, above)]
        last = [(_APART, below - _HALF_HEIGHT)] if end else [(_APART, below), (_SUM, below)]
        return first + last


def _draw_box(axes: Any, layer: keras.Layer, row: float) -> None:
    if isinstance(layer, keras.layers.Add):
        style = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "black"}
        axes.text(0, row, "+", ha="center", va="center", fontsize="small", bbox=style)
        return
    from matplotlib.patches import FancyBboxPatch

    colors = (color for kind, color in _COLORS.items() if isinstance(layer, kind))
    corner = (_column(layer) - _HALF_WIDTH, row - _HALF_HEIGHT)
    box = FancyBboxPatch(
        *(corner, 2 * _HALF_WIDTH, 2 * _HALF_HEIGHT),
        boxstyle="round,pad=0,rounding_size=0.08",
        facecolor=next(colors, "white"),
        edgecolor="black",
        linewidth=0.6,
    )
    axes.add_patch(box)
    axes.text(_column(layer), row, _text(layer), ha="center", va="center", fontsize="x-small")


def _text(layer: keras.Layer) -> str:
    if isinstance(layer, keras.layers.Conv2D):
        size = "×".join(map(str, layer.kernel_size))
        text, strides = f"{size}, {layer.filters}", layer.strides[0]
    elif isinstance(layer, ZeroPadShortcut):
        text, strides = f"zeros to {layer.filters}", layer.strides
    elif isinstance(layer, keras.layers.AveragePooling2D):
        text, strides = f"mean {'×'.join(map(str, layer.pool_size))}", layer.strides[0]
    elif isinstance(layer, keras.layers.BatchNormalization):
        return "batch norm"
    elif isinstance(layer, keras.layers.Activation):
        return "ReLU" if layer.activation is keras.activations.relu else layer.activation.__name__
    else:
        return type(layer).__name__
    return text if strides == 1 else f"{text}, /{strides}"


def _draw_arrow(axes: Any, points: list[tuple[float, float]]) -> None:
    x, y = zip(*points[:-1], strict=True)
    axes.plot(x, y, color="black", linewidth=0.8)
    style = {"arrowstyle": "-|>", "color": "black", "linewidth": 0.8, "mutation_scale": 6}
    arrow = {**style, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=points[-1], xytext=points[-2], arrowprops=arrow)


def _column(layer: keras.Layer) -> float:
    """Returns where a layer stands: `_APART` on the shortcut, the block's part 0, else 0."""
    place = find_place(layer.name)
    return _APART if place is not None and place.part.startswith("0_") else 0.0


def _behind_padding(layer: keras.Layer) -> keras.Layer:
    while isinstance(layer, keras.layers.ZeroPadding2D):
        layer = private.layer_of(layer.input)
    return layer
