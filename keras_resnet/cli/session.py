"""A verb or a recipe from its begin to its end: streams, log, signals, and errors in one line."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import select
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, NoReturn, TextIO

from keras_resnet import export
from keras_resnet.export.mismatch import ExportMismatchError
from keras_resnet.training.stopping import Terminated, TrainingStopped
from keras_resnet.utils import deferral
from keras_resnet.utils.checks import first_line, lines_of
from keras_resnet.utils.escapes import visible
from keras_resnet.utils.terminal import RESULTS

LOGGER = logging.getLogger("keras_resnet")


class _Lines(logging.Handler):
    """Prints messages as plain lines on standard error, and those of `RESULTS` on `results`."""

    results: TextIO | None = None

    def emit(self, record: logging.LogRecord) -> None:
        file = self.results if record.name == RESULTS.name else None
        lines = map(visible, self.format(record).split("\n"))
        print(*lines, sep="\n", file=file or sys.stderr, flush=True)


_LINES = _Lines()
# Values of the command line by the names of its flags.
_TYPED: dict[str, Any] = {}


def apply(values: Mapping[str, Any]) -> None:
    """Applies the arguments that every verb has, and `json`: standard output is for it alone."""
    _TYPED.update(values)
    level = logging.WARNING if values["quiet"] else logging.INFO
    LOGGER.setLevel(logging.DEBUG if values["verbose"] else level)
    if values.get("json"):  # What is told on the way is no result then.
        _LINES.results = None
        RESULTS.setLevel(logging.NOTSET)
    for handle in values["trust_module"]:
        export.trust_module(handle)


def print_json(value: object) -> None:
    """Prints a value as JSON, for programs."""
    print(json.dumps(value, indent=2, default=str))


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated("terminated")


def _raise_on_signals() -> None:
    """Makes exceptions of Ctrl-C and SIGTERM, where they are not ignored."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _terminate}
    for number, handler in handlers.items():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _as_typed(line: str) -> str:
    """Returns an error with flags as typed in place of a function's arguments.

    `name=True` in its advice becomes --name. The argument itself becomes the name of the flag whose
    value the error has received, where there is one.
    """

    def flag(found: re.Match) -> str:
        if found[1] not in _TYPED:
            return found[0]
        name, value = found[1].replace("_", "-"), found[2].strip("'")
        return {"True": f"--{name}", "False": f"--no-{name}"}.get(value, f"--{name} {value}")

    advice, *received = line.partition(" Received: ")
    line = "".join([re.sub(r"\b(\w+)=(True|False|'\w+')", flag, advice), *received])
    found = re.fullmatch(r"`(\w+)`(.* Received: )(?:\1=)?('.*')(.*)", line)
    if found is None or found[1] in _TYPED:
        return line
    values = {
        name: value if isinstance(value, tuple) else (value,) for name, value in _TYPED.items()
    }
    names = [name for name, all_ in values.items() if found[3] in map(repr, map(str, all_))]
    if len(names) != 1:
        return line
    return f"`{names[0]}`{found[2]}{names[0]}={found[3]}{found[4]}"


def _unread(number: int) -> bool:
    """Returns whether the reader of a pipe or socket is gone."""
    poll = select.poll()
    poll.register(number, 0)  # of errors alone
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


@contextlib.contextmanager
def _ended_where_unread() -> Iterator[None]:
    """Ends the process quietly once nobody reads its output, as in front of `| head`.

    Its code is that of a process that SIGPIPE ends. The signal itself would end a run, too, when a
    server closes a connection.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # Python would do it too late for an except clause.
    except BrokenPipeError:
        gone = [number for number in (1, 2) if _unread(number)]
        if not gone:
            raise
        null = os.open(os.devnull, os.O_WRONLY)
        for number in gone:
            os.dup2(null, number)  # for what is still in a buffer
        os.close(null)
        sys.exit(128 + signal.SIGPIPE)


@_ended_where_unread()
def run(main: Callable[..., None], *args: Any, **options: Any) -> None:
    """Calls `main` of a verb or a recipe, shows what the package logs, and ends errors in one line.

    Results go to standard output; log, progress, warnings and errors to standard error.

    A wrong value, a missing package and a file that cannot be read or written end the process with
    code 2, training that had to stop and an exported model that differs from its original with 1,
    SIGTERM with 143, Ctrl-C with 130, output that nobody reads with 141. Other errors are faults of
    the package and keep their traceback. Warnings are one line each. All of it, and characters that
    the terminal lacks, are escaped.
    """
    before = LOGGER.level, LOGGER.propagate, warnings.formatwarning
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    LOGGER.setLevel(logging.INFO)
    LOGGER.addHandler(_LINES)
    _LINES.results = sys.stdout
    RESULTS.setLevel(logging.INFO)  # with --quiet, too
    # A library may give the root logger a handler at any time, which would say all again.
    LOGGER.propagate = False
    warnings.formatwarning = lambda message, *_, **__: f"warning: {first_line(message)}\n"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        # Until then the process ends at once, since an exception could be lost in an import.
        deferral.when_complete(_raise_on_signals)
        main(*args, **options)
    except (TrainingStopped, ExportMismatchError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        sys.exit(1)
    except (ValueError, ImportError, OSError) as error:
        if isinstance(error, BrokenPipeError) and (_unread(1) or _unread(2)):
            raise
        for line in lines_of(error):
            print(f"error: {_as_typed(line)}", file=sys.stderr)
        sys.exit(2)
    except Terminated as end:
        print(end, file=sys.stderr)
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        LOGGER.removeHandler(_LINES)
        _LINES.results = None
        _TYPED.clear()
        RESULTS.setLevel(logging.NOTSET)
        level, LOGGER.propagate, warnings.formatwarning = before
        LOGGER.setLevel(level)
        for number, handler in handlers.items():
            signal.signal(number, handler)
