"""What processes that work for this one have in common."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path


def environment(**settings: str) -> dict[str, str]:
    """Returns this process's environment, in which Python finds this package, with `settings`."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **settings}


def death(code: int) -> str:
    """Says how a process ended that gave no reason.

    Args:
        code: Its return code; below 0 for a signal, as `subprocess` has it.
    """
    if code == -9:
        return "killed by signal 9, as systems do where memory runs out"
    return f"killed by signal {-code}" if code < 0 else f"ended with code {code}"


def end_with_parent() -> None:
    """Has SIGTERM end this process when the one that holds the other end of its input does.

    Standard input must be a pipe from which nothing more is to be read.
    """

    def wait():
        # Not through `sys.stdin`, whose lock an ending interpreter would wait for.
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
