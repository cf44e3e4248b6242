"""Progress, on standard error: a bar on a terminal, plain lines elsewhere.

It is left out where the level of the logger `keras_resnet` is above INFO, as `--quiet` sets it.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

# What a run, a study or a search has found, for the user, where the other loggers say what it does.
RESULTS = logging.getLogger("keras_resnet.results")

# Lines of TensorFlow's, LiteRT's and absl's own log that are no errors, with what follows one of
# them; and the error that there is no GPU, which is none.
_NOTICES = (
    r"WARNING: All log messages before absl::InitializeLog|[IW]\d{4} |To enable the following in|"
    r"INFO: |fully_quantize: |"
    r"\d{4}-\d\d-\d\d .*: [IW] |E\d{4} .*failed call to cuInit.*(CUDA_ERROR_NO_DEVICE"
)
# Copies what it reads without them, also where the process that writes has crashed.
_FILTER = "import re, sys\nfor x in sys.stdin.buffer:\n    "
_FILTER += "re.match(sys.argv[1].encode(), x) or sys.stdout.buffer.write(x)"


def notices(devices: Sequence[str]) -> str:
    """Returns a regular expression of the lines that say nothing, by the files of NVIDIA devices.

    Without a device the driver's library is none either (303); beside one, that is a fault.
    """
    return _NOTICES + (")" if devices else r"|\(303\))")


def errors_alone() -> bool:
    """Returns whether TensorFlow's log is to have errors alone, as the command has it."""
    return os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") not in ("0", "1")


def format_seconds(seconds: float) -> str:
    """Returns hours, minutes and seconds such as `1:02:03` or `2:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


@contextlib.contextmanager
def notices_left_out() -> Iterator[None]:
    """Leaves out what is no error of the lines that C++ code writes to standard error within.

    TensorFlow does while it is imported, before it has read the level that its log is to have, and
    LiteRT does whatever the level. Nothing is left out where that level has more than errors.
    """
    before = None
    if errors_alone():
        with contextlib.suppress(OSError):  # It is closed.
            before = os.dup(2)
    if before is None:
        yield
        return
    pattern = notices(glob.glob("/dev/nvidia*"))
    command = [sys.executable, "-I", "-S", "-u", "-c", _FILTER, pattern]
    copy = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=2, start_new_session=True)
    assert copy.stdin is not None
    os.dup2(copy.stdin.fileno(), 2)
    try:
        yield
    finally:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)
        copy.stdin.close()
        # A process that was started meanwhile may hold the pipe open, for as long as it runs.
        with contextlib.suppress(subprocess.TimeoutExpired):
            copy.wait(1)


def show(line: str) -> None:
    """Prints a line of progress."""
    if _is_shown():
        print(line, file=sys.stderr, flush=True)


def start_bar(total: int, completed: int = 0):
    """Starts a progress bar of one task of size `total` with a `status` field.

    Returns None if standard error is no terminal, rich is not installed or progress is left out:
    `show` lines then.
    """
    if not (_is_shown() and sys.stderr.isatty() and importlib.util.find_spec("rich")):
        return None
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    # The line wraps where the terminal is narrow; rich would cut it off.
    status = TextColumn("{task.fields[status]}", table_column=Column(ratio=1, no_wrap=False))
    bar = Progress(
        BarColumn(bar_width=16),
        status,
        console=Console(stderr=True),
        expand=True,
        # What is printed into a file or a pipe meanwhile stays there.
        redirect_stdout=sys.stdout.isatty(),
    )
    bar.add_task("", total=total, completed=completed, status="first step")
    bar.start()
    return bar


def _is_shown() -> bool:
    return logging.getLogger("keras_resnet").level <= logging.INFO
