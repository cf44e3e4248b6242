"""One run of a study in a process of its own, which may die without taking others along.

The process is a fresh Python that gets its order as a line of JSON on standard input and reports
on standard output; everything that is printed there, by TensorFlow too, goes to log.txt. Needs
TensorFlow.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

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
    """Starts a run.

    Args:
        experiment: Its settings. What it prints is added to log.txt in its `workdir`.
        threads: Threads that TensorFlow may use, or None for as many as it likes.
    """

    def __init__(self, experiment: Experiment, threads: int | None = None):
        self._workdir = Path(experiment.output.workdir)
        self._fresh = not self._workdir.exists()
        self._workdir.mkdir(parents=True, exist_ok=True)
        names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
        ours = {} if threads is None else dict.fromkeys(names, str(threads))
        with open(self._workdir / LOG, "ab") as log:
            self._process = subprocess.Popen(
                COMMAND,
                # What the user has set counts.
                env=environment(**{k: v for k, v in ours.items() if k not in os.environ}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        order = {"argv": sys.argv, "experiment": experiment.flat()}
        # Where it has died already, the result will say so.
        with contextlib.suppress(BrokenPipeError):
            # Stays open: its end tells the run that nobody waits for it any more.
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()

    def ended(self) -> bool:
        """Whether the process has come to its end, in whatever way."""
        return self._process.poll() is not None

    def result(self) -> Mapping[str, object]:
        """Waits for the run and returns its final figures.

        Raises:
            ValueError: A setting is wrong.
            TrainingStopped: The run ended early; the message says why.
        """
        with self._process as process:
            lines = process.stdout.read().splitlines()
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

    def terminate(self) -> None:
        """Has the run save its state and end."""
        self._process.terminate()

    def wait(self) -> None:
        """Waits until the process has ended; of one terminated before it began, nothing is left."""
        if self._process.wait() in (-signal.SIGTERM, 128 + signal.SIGTERM):
            self._withdraw()

    def _withdraw(self) -> None:
        """Removes a folder that was made for it if nothing but the log came into it."""
        if self._fresh and [path.name for path in self._workdir.glob("*")] == [LOG]:
            shutil.rmtree(self._workdir, ignore_errors=True)


def run_ordered() -> None:
    """Does in the process that `RunApart` starts what it was ordered to."""
    order = json.loads(sys.stdin.readline())
    end_with_parent()
    sys.argv = order["argv"]
    # What libraries print to standard output themselves goes to the log too.
    report = os.dup(1)
    os.dup2(2, 1)
    sys.stdout.reconfigure(encoding="utf-8", line_buffering=True)
    outcome = _outcome(order["experiment"])
    # A study that was killed asks for it no more.
    with contextlib.suppress(BrokenPipeError), os.fdopen(report, "w", encoding="utf-8") as file:
        print("", json.dumps(outcome), sep="\n", file=file)
    sys.exit("metrics" not in outcome)


def _outcome(settings: Mapping[str, object]) -> dict[str, object]:
    try:
        return {"metrics": run(Experiment.from_flat(**settings))}
    except (TrainingStopped, Terminated, OSError) as error:
        outcome = {"stopped": first_line(error)}
    except (ValueError, ImportError) as error:
        outcome = {"wrong": first_line(error)}
    except Exception as error:
        # Ours, so the log gets all of it.
        traceback.print_exc()
        return {"stopped": f"{type(error).__name__}: {first_line(error)}; log.txt has more"}
    print(f"error: {next(iter(outcome.values()))}", file=sys.stderr)
    return outcome
