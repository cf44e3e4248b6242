"""A process that builds one subject, then runs a step of it at each request.

Requests come line by line on standard input; every answer is a line of JSON. Started by `driver`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Answer = dict[str, Any]


def serve(
    load: Callable[[], Callable[[], Callable[[], object]]],
    requests: Iterable[str],
    answer: Callable[[Answer], object],
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Answers requests until they end, or one fails.

    Args:
        load: Imports the libraries, and returns the function that builds the subject and returns
            its step.
        requests: "build", then any number of "step N", which runs N steps.
        answer: Takes the seconds of a request, per step, and the peak memory so far; or `missing`,
            a package that is not installed; or `error`.
        clock: Seconds.
    """
    try:
        build = load()
        answer({"seconds": 0.0})
        step = None
        for request in requests:
            word, _, count = request.partition(" ")
            steps = int(count or 1)
            begin = clock()
            if word == "build":
                step = build()
            else:
                for _ in range(steps):
                    step()
            answer({"seconds": (clock() - begin) / steps, "memory": peak_memory()})
    except ImportError as error:
        own = (error.name or "").partition(".")[0] in ("keras_resnet", "benchmarks")
        answer({"error" if own else "missing": one_line(error)})
    except Exception as error:  # whatever a library raises, the other workers continue
        answer({"error": one_line(error)})


def one_line(error: Exception) -> str:
    """Returns the class of an error, and the first line of what it says."""
    said = str(error).strip().splitlines()
    return ": ".join([type(error).__name__, *said[:1]])


def peak_memory() -> int:
    """Returns the bytes of memory that this process has had at most."""
    with contextlib.suppress(OSError):
        # The system's other figure counts the parent's memory up to the start of this process, too.
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        return 1024 * int(found[1]) if found else 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def load(subject: str, options: dict[str, Any]) -> Callable[[], Callable[[], object]]:
    """Imports the module of "module:function", and returns what builds the subject."""
    module, _, function = subject.partition(":")
    found = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    return lambda: found(**options)


def main() -> None:
    """Serves the subject that the command line names, with options in JSON."""
    subject, options = sys.argv[1:]
    # What libraries print goes where errors go.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: Answer) -> None:
        print(json.dumps(value), file=answers, flush=True)

    serve(lambda: load(subject, json.loads(options)), map(str.strip, sys.stdin), answer)
    os._exit(0)  # Threads that wait for the next step do not end by themselves.


if __name__ == "__main__":
    main()
