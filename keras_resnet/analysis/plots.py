"""Pictures of measured figures. Each writes the numbers behind it as CSV beside it.

Needs matplotlib (`pip install keras-deep-residual[train]`). Draws without a display.
"""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from keras_resnet.files import replacing

# Okabe and Ito's colours, told apart under every common colour blindness.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"


def require_matplotlib() -> None:
    """Raises an ImportError that says what to install, where matplotlib is missing.

    To be called before work whose result will be drawn.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib: pip install 'keras-deep-residual[train]'."
        ) from error


@contextlib.contextmanager
def figure(path: str | Path, size: tuple[float, float] = (7.0, 4.2)) -> Iterator:
    """Yields a matplotlib figure and saves it as PNG and SVG.

    Args:
        path: Where the PNG goes; the SVG goes beside it.
        size: Width and height in inches.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    # Not pyplot, which keeps every figure alive and asks for a display.
    fig = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(fig)
    yield fig
    for target, options in ((path, {"dpi": 144}), (path.with_suffix(".svg"), {})):
        with replacing(target) as temporary:
            fig.savefig(temporary, format=target.suffix[1:], **options)


def write_table(path: str | Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes rows as CSV, a column for every key that any of them has."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def learning_curve(
    epochs: Sequence[Mapping[str, float]],
    path: str | Path,
    *,
    title: str,
    final: tuple[str, float] | None = None,
) -> None:
    """Draws training and validation error and the learning rate against epochs.

    Args:
        epochs: One row per epoch with `epoch` (from 1), `accuracy`, `val_accuracy` where there
            was validation, and `learning_rate`; accuracies in [0, 1].
        path: Where the PNG goes; SVG and CSV go beside it.
        title: What was trained, on what.
        final: Name of a split and the error measured on it after training, in [0, 1].
    """
    write_table(Path(path).with_suffix(".csv"), epochs)
    with figure(path) as fig:
        error, rate = fig.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        x = [row["epoch"] for row in epochs]
        curves = (("accuracy", "training", BLUE, "-"), ("val_accuracy", "validation", ORANGE, "--"))
        for key, label, color, style in curves:
            if all(key in row for row in epochs):
                y = [100 * (1 - row[key]) for row in epochs]
                error.plot(x, y, style, color=color, label=label, linewidth=1.6)
        if final is not None:
            y = 100 * final[1]
            label = f"{final[0]}, after training: {y:.2f} %"
            error.plot([x[-1]], [y], "D", color=VERMILION, label=label, clip_on=False)
        # Errors fall over two orders of magnitude; linear below 1 %, so that 0 % can be drawn.
        error.set_yscale("symlog", linthresh=1, linscale=0.5)
        ticks = [0, 1, 2, 5, 10, 20, 50, 100]
        error.set_yticks(ticks, [str(tick) for tick in ticks])
        error.minorticks_off()
        error.set_ylim(0, 100)
        error.set_ylabel("error (%)")
        error.grid(alpha=0.3)
        error.legend(frameon=False)
        error.set_title(title)
        rate.plot(x, [row["learning_rate"] for row in epochs], color=GREEN, drawstyle="steps-post")
        rate.set_yscale("log")
        rate.set_ylabel("learning rate")
        rate.set_xlabel("epoch")
        rate.grid(alpha=0.3)
