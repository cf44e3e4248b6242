"""Names beside the circles of a chart, where they cover no other name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

# A circle or the centre of a label, and what else it is known by, in pixels.
Circle = tuple[float, float, float]
Box = tuple[float, float, float, float]


def label_circles(fig, axes, circles: Sequence[Circle], names: Sequence[str]) -> None:
    """Writes a name beside each circle: over no other name, and as little of circles as can be.

    Args:
        fig: The matplotlib figure, otherwise finished, since the places follow from its layout.
        axes: Its axes with the circles.
        circles: Centre of each in the units of the axes, and radius in points.
        names: Their names.
    """
    fig.canvas.draw()  # the layout is known from here on
    scale = fig.dpi / 72
    pixels = [(*axes.transData.transform((x, y)), scale * radius) for x, y, radius in circles]
    window = axes.get_window_extent()
    taken: list[Box] = []
    # The crowded ones first: who has many neighbours has little choice.
    for i in sorted(range(len(names)), key=lambda i: -_neighbours(pixels, i)):
        x, y, radius = pixels[i]
        text = axes.annotate(
            names[i],
            circles[i][:2],
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=8.5,
            ha="center",
            va="center",
            zorder=4,
            bbox={"boxstyle": "square,pad=0", "facecolor": "white", "alpha": 0.7, "linewidth": 0},
        )
        size = text.get_window_extent()
        boxes = [
            (x + right, y + up, size.width, size.height)
            for right, up in _places(radius, size.width, size.height, scale)
        ]
        best = min(boxes, key=lambda box: _badness(box, i, pixels, taken, window))
        # In points, which mean the same at any resolution that the figure is saved in.
        text.set_position(((best[0] - x) / scale, (best[1] - y) / scale))
        taken.append(best)


def _neighbours(circles: Sequence[Circle], i: int) -> int:
    x, y, _ = circles[i]
    return sum(abs(x - u) < 150 and abs(y - v) < 60 for u, v, _ in circles)


def _places(radius, width, height, scale) -> Iterator[tuple[float, float]]:
    """Yields where a label's centre may be, in pixels from that of its circle."""
    for gap in (3, 9, 16, 26):
        r = radius + gap * scale
        for side in (1, -1):
            yield 0.0, side * (r + height / 2)
            yield side * (r + width / 2), 0.0
            for up in (1, -1):
                yield side * (0.75 * r + width / 2), up * (0.75 * r + height / 2)


def _badness(box: Box, own: int, circles: Sequence[Circle], taken: Sequence[Box], window) -> float:
    """Returns how unwelcome a label is in a box: centre, width and height."""
    x, y, width, height = box
    bad = 0.002 * math.hypot(x - circles[own][0], y - circles[own][1])
    for u, v, w, h in taken:
        covers = abs(x - u) < (width + w) / 2 + 4 and abs(y - v) < (height + h) / 2 + 2
        bad += 1000 * covers
    for i, (u, v, radius) in enumerate(circles):
        away = math.hypot(max(abs(x - u) - width / 2, 0), max(abs(y - v) - height / 2, 0))
        # Over the middle of a circle, no; over the rim of another one, rather not.
        bad += 200 * (away < 6) + 3 * (away < radius and i != own)
    inside = (
        window.x0 <= x - width / 2
        and x + width / 2 <= window.x1
        and window.y0 <= y - height / 2
        and y + height / 2 <= window.y1
    )
    return bad + 500 * (not inside)
