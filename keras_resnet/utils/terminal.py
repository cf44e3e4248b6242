"""Progress on a terminal."""

from __future__ import annotations

import importlib.util
import sys


def format_seconds(seconds: float) -> str:
    """Returns hours, minutes and seconds such as `1:02:03` or `2:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def start_bar(total: int, completed: int = 0):
    """Starts a progress bar of one task of size `total` with a `status` field.

    Returns None if standard output is no terminal or rich is not installed: print plain lines
    then.
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
