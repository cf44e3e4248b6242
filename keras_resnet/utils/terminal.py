"""What is shown on a terminal while something takes long."""

from __future__ import annotations

import importlib.util
import sys


def format_seconds(seconds: float) -> str:
    """Hours, minutes and seconds: `1:02:03`, `2:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def start_bar(total: int, completed: int = 0):
    """Starts a bar of one task with a `status` beside it.

    Args:
        total: What there is to do, in the caller's unit.
        completed: What of it is done already.

    Returns:
        A running `rich.progress.Progress`, or None where standard output is no terminal or rich
        is not installed: then plain lines are to be printed.
    """
    if not (sys.stdout.isatty() and importlib.util.find_spec("rich")):
        return None
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    # The line wraps where the terminal is narrow; rich would cut it off.
    status = TextColumn("{task.fields[status]}", table_column=Column(ratio=1, no_wrap=False))
    bar = Progress(BarColumn(bar_width=16), status, expand=True)
    bar.add_task("", total=total, completed=completed, status="first step")
    bar.start()
    return bar
