"""Shared drawing: a figure saved as PNG and SVG, colors, axes, and the CSV beside it."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.utils import checks
from keras_resnet.utils.escapes import visible
from keras_resnet.utils.files import replacing
from keras_resnet.utils.tables import write_table

# Okabe and Ito's colors, told apart under every common color blindness.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY = "#CC79A7", "#56B4E9"
# In the order in which curves take them.
COLORS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
ERROR_TICKS = (0, 1, 2, 5, 10, 20, 50, 100)


def require_matplotlib() -> None:
    """Raises an ImportError that says what to install, where a drawing library is missing.

    To be called before work whose result will be drawn.
    """
    for package in ("matplotlib.figure", "textalloc"):
        checks.import_extra(package, "Plots", "train")


@contextlib.contextmanager
def figure(path: str | Path, size: tuple[float, float] = (7.0, 4.2)) -> Iterator[Any]:
    """Yields a matplotlib figure and saves it as PNG and SVG.

    The SVG goes beside the PNG at `path`; `size` is width and height in inches. Dollars in its text
    are dollars, not formulas.
    """
    require_matplotlib()
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    # Not pyplot, which keeps every figure alive and asks for a display.
    fig = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(fig)
    with matplotlib.rc_context({"text.parse_math": False}):
        yield fig
        for target, dpi in ((path, 144), (path.with_suffix(".svg"), None)):
            with replacing(target) as temporary:
                fig.savefig(temporary, format=target.suffix[1:], dpi=dpi or "figure")


@contextlib.contextmanager
def titled_figure(path, rows, title: str, size=(7.0, 4.2)) -> Iterator[Any]:
    """Yields a figure under a title, and writes the rows behind it as CSV beside it."""
    write_table(Path(path).with_suffix(".csv"), rows)
    with figure(path, size) as fig:
        # Eleven letters an inch; matplotlib's own wrapping reserves no room for a second line.
        fig.suptitle(textwrap.fill(visible(title), round(11 * size[0])), fontsize="medium")
        yield fig


def error_axis(axes) -> None:
    """Makes the y axis of matplotlib axes one of errors in percent, from 0 to 100."""
    # Errors fall over two orders of magnitude; linear below 1 %, so that 0 % can be drawn.
    axes.set_yscale("symlog", linthresh=1, linscale=0.5)
    axes.set_yticks(ERROR_TICKS, ERROR_TICKS)
    axes.minorticks_off()
    # Room for whole markers at both ends.
    axes.set_ylim(-0.15, 125)
    axes.grid(alpha=0.3)


def from_zero(axis) -> None:
    """Begins a linear matplotlib axis a little below zero, where points are then drawn whole.

    The axis has its data already, none of which is below zero.
    """
    axis.axes.autoscale_view()
    high = max(axis.get_view_interval()[1], 1.05 * axis.get_data_interval()[1])
    getattr(axis.axes, f"set_{axis.axis_name}lim")(-0.04 * high, high)


def log_axis(axis, subs: Sequence[int] = (1, 2, 5), most: int = 8) -> None:
    """Labels a logarithmic matplotlib axis with plain numbers, two to `most` of them.

    The axis has its data already; `subs` are the multiples of powers of ten to label where there
    is room for them.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())
    low, high = axis.get_view_interval()
    # A wide range has powers of ten alone; a narrow one has steps as on a linear axis.
    logarithmic = [LogLocator(subs=own, numticks=most) for own in (subs, (1,))]
    for locator in (*logarithmic, MaxNLocator(min(most, 4), steps=(1, 2, 5, 10))):
        axis.set_major_locator(locator)
        if 2 <= sum(low <= tick <= high for tick in axis.get_majorticklocs()) <= most:
            break
