"""Command line of this process; environment and end of subprocesses."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from pathlib import Path


def command_line() -> str:
    """Returns the command that started this process, as one types it."""
    program, *words = sys.argv
    path = Path(program)
    if path.name == "keras-resnet":
        return shlex.join([path.name, *words])
    as_module = path.parts[-2:] == ("keras_resnet", "__main__.py")
    return shlex.join(["python", *(["-m", "keras_resnet"] if as_module else [program]), *words])


def environment(**settings: str) -> dict[str, str]:
    """Returns this process's environment with `settings`, in which Python finds this package."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **settings}


def cores() -> int:
    """Returns the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def death(code: int) -> str:
    """Describes a return code of `subprocess`, which is negative for a signal."""
    if code == -9:
        return "killed by signal 9, as systems do where memory runs out"
    return f"killed by signal {-code}" if code < 0 else f"ended with code {code}"


def end_with_parent() -> None:
    """Ends this process by SIGTERM when its parent ends.

    Standard input must be a pipe from the parent, from which nothing more is read.
    """

    def wait():
        # Not by `sys.stdin`, whose lock an interpreter waits for when it exits.
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
