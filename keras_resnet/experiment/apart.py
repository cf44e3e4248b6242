"""One run of a study in a subprocess, which may die without taking others along.

The subprocess is a fresh Python that gets its order as a line of JSON on standard input and reports
on standard output; everything that is printed there, by TensorFlow too, goes to log.txt. Needs
TensorFlow.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_resnet.experiment.runner import run
from keras_resnet.experiment.settings import Experiment
from keras_resnet.training import Terminated, TrainingStopped
from keras_resnet.utils.checks import first_line
from keras_resnet.utils.processes import death, end_with_parent, environment

# What a run prints, in its folder.
LOG = "log.txt"

# Ctrl-C goes to all processes of a terminal; the study has the runs save their state instead.
COMMAND = (
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    f"from {__name__} import run_ordered; run_ordered()",
)


class RunApart:
    """A run in a subprocess, which begins when this is made.

    Args:
        experiment: Its settings. What it prints is added to log.txt in its `workdir`.
        threads: Threads that TensorFlow may use, or None for as many as it likes.

    Attributes:
        process: The subprocess.
    """

    def __init__(self, experiment: Experiment, threads: int | None = None):
        self._workdir = Path(experiment.output.workdir)
        self._fresh = not self._workdir.exists()
        self._workdir.mkdir(parents=True, exist_ok=True)
        names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
        # What the user has set counts.
        ours = {} if threads is None else {k: str(threads) for k in names if k not in os.environ}
        with open(self._workdir / LOG, "ab") as log:
            self.process = subprocess.Popen(
                COMMAND,
                env=environment(**ours),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        order = {"argv": sys.argv, "experiment": experiment.flat()}
        # Where it has died already, the result will say so.
        with contextlib.suppress(BrokenPipeError):
            # Standard input stays open: its end tells the run that nobody waits for it any more.
            print(json.dumps(order), file=self.process.stdin, flush=True)

    def result(self) -> Mapping[str, Any]:
        """Waits for the run and returns its final figures.

        Raises:
            ValueError: A setting is wrong.
            TrainingStopped: The run ended early; the message says why.
        """
        with self.process as process:
            lines = list(process.stdout or ())
        try:
            report = json.loads(lines[-1])
        except (IndexError, ValueError):  # It died before it could report, or while it did.
            report = {"stopped": death(process.returncode)}
        if "wrong" in report:
            self._withdraw()
            raise ValueError(report["wrong"])
        if "stopped" in report:
            raise TrainingStopped(report["stopped"])
        return report["metrics"]

    def wait(self) -> None:
        """Waits until the process has ended; of one terminated before it began, nothing is left."""
        if self.process.wait() in (-signal.SIGTERM, 128 + signal.SIGTERM):
            self._withdraw()

    def _withdraw(self) -> None:
        """Removes a folder that was made for it if nothing but the log came into it."""
        if self._fresh and [path.name for path in self._workdir.glob("*")] == [LOG]:
            shutil.rmtree(self._workdir, ignore_errors=True)


def run_ordered() -> None:
    """Runs in the subprocess what `RunApart` orders, and reports how it ended."""
    order = json.loads(sys.stdin.readline())
    end_with_parent()
    sys.argv = order["argv"]
    # What libraries print to standard output themselves goes to the log too.
    report = os.dup(1)
    os.dup2(2, 1)
    sys.stdout.reconfigure(encoding="utf-8", line_buffering=True)  # type: ignore[union-attr]
    logger = logging.getLogger("keras_resnet")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.StreamHandler())
    outcome = _outcome(order["experiment"])
    # A study that was killed asks for it no more.
    with contextlib.suppress(BrokenPipeError), os.fdopen(report, "w", encoding="utf-8") as file:
        print("", json.dumps(outcome), sep="\n", file=file)
    sys.exit("metrics" not in outcome)


def _outcome(settings: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {"metrics": run(Experiment.from_flat(**settings))}
    except (TrainingStopped, Terminated, OSError) as error:
        outcome = {"stopped": first_line(error)}
    except (ValueError, ImportError) as error:
        outcome = {"wrong": first_line(error)}
    except Exception as error:
        # A fault of the package, so the log gets all of it.
        traceback.print_exc()
        return {"stopped": f"{type(error).__name__}: {first_line(error)}; log.txt has more"}
    print(f"error: {next(iter(outcome.values()))}", file=sys.stderr)
    return outcome
