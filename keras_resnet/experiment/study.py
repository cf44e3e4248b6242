"""Studies: several experiments, each with several seeds, run side by side and read together.

Every run is one of `experiment.run` in a folder and a subprocess of its own, so a study that was
interrupted resumes, and a run that dies takes no other along. The subprocess is a fresh Python that
gets its order as a line of JSON on standard input and reports on standard output; everything that
is printed there, by TensorFlow too, goes to log.txt. Needs TensorFlow.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import tensorflow as tf

from keras_resnet.experiment.runner import data_identity, epochs_of, finished, run
from keras_resnet.experiment.settings import Data, Experiment, expect_defaults
from keras_resnet.experiment.workdir import LOCK, expect_folder, in_use
from keras_resnet.training import Terminated, TrainingStopped
from keras_resnet.training.stopping import signals_handled
from keras_resnet.utils import checks
from keras_resnet.utils.files import clear_leftovers
from keras_resnet.utils.processes import cores, death, end_with_parent, environment
from keras_resnet.utils.terminal import format_seconds

logger = logging.getLogger(__name__)

# Seconds between two looks at the runs in progress.
POLL = 0.2
# What a run prints, in its folder.
LOG = "log.txt"

# Ctrl-C goes to all processes of a terminal; the study has the runs save their state instead.
COMMAND = (
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    f"from {__name__} import run_ordered; run_ordered()",
)


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """One finished run of a study.

    Attributes:
        label: The experiment's name in the study.
        seed: Its seed.
        workdir: Its folder.
        metrics: Its final figures, as in metrics.json.
        epochs: Its rows for each epoch, as in metrics.jsonl.
    """

    label: str
    seed: int
    workdir: Path
    metrics: Mapping[str, Any]
    epochs: Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class StoppedRun:
    """One run of a study that did not come to its end, with the reason in one line."""

    label: str
    seed: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Study:
    """The runs that came to their end and those that did not, by experiment and then by seed.

    `jobs` is the number of runs at a time.
    """

    finished: Sequence[StudyRun]
    stopped: Sequence[StoppedRun] = ()
    jobs: int = 1

    def expect_all_finished(self) -> None:
        """Raises a TrainingStopped that names the runs that are not, if there are any."""
        if self.stopped:
            names = "; ".join(f"{one.label}, seed {one.seed}" for one in self.stopped)
            raise TrainingStopped(
                f"Of {len(self.finished) + len(self.stopped)} runs, {len(self.stopped)} stopped "
                f"({names}); the reasons are above, and the same command tries them again"
            )


def run_study(
    experiments: Mapping[str, Experiment],
    seeds: Sequence[int],
    workdir: str | os.PathLike,
    *,
    jobs: int | None = None,
) -> list[StudyRun]:
    """Runs every experiment with every seed, and logs a line as each one ends.

    Args:
        experiments: Experiments by label; their own `workdir` and `seed` are replaced.
        seeds: Seeds, each used by all experiments.
        workdir: Folder of the study; each run has `workdir`/label-seed, with what it prints in
            log.txt.
        jobs: Runs at a time, each in a subprocess. Default: one a core where the experiments train
            on the CPU, since small nets gain little from more; else 1. Several share the cores, and
            the number of threads that each gets changes the rounding of its sums, unless the
            experiment is `deterministic`.

    Returns:
        The runs, by experiment and then by seed.

    Raises:
        ValueError: A setting is wrong, or a folder holds another run.
        TrainingStopped: Runs could not be finished; the others were.
    """
    study = attempt_study(experiments, seeds, workdir, jobs=jobs)
    study.expect_all_finished()
    return list(study.finished)


def attempt_study(
    experiments: Mapping[str, Experiment],
    seeds: Sequence[int],
    workdir: str | os.PathLike,
    *,
    jobs: int | None = None,
) -> Study:
    """Does what `run_study` does, and returns the runs that had to stop, too."""
    for experiment in experiments.values():
        expect_defaults(
            experiment.output, ("smoke",), "is for single runs; leave it out in a study"
        )
    seeds = [checks.integer("seeds", seed, minimum=0) for seed in seeds]
    checks.different("seeds", seeds, "numbers")
    plan = {
        (label, seed): experiment.replace(seed=seed, workdir=str(Path(workdir) / f"{label}-{seed}"))
        for label, experiment in experiments.items()
        for seed in seeds
    }
    if jobs is None:
        devices = [one.devices for one in plan.values()]
        elsewhere = any(one.gpus or one.tpu or one.virtual_devices for one in devices)
        jobs = 1 if elsewhere or tf.config.list_physical_devices("GPU") else cores()
    jobs = min(checks.integer("jobs", jobs), len(plan))
    # Several share the cores.
    threads = max(1, cores() // jobs) if jobs > 1 else None
    with in_use(expect_folder("workdir", os.fspath(workdir))):
        clear_leftovers(Path(workdir))
        ends = _run_all(plan, jobs, threads)
    return Study(
        [one for key in plan if isinstance(one := ends[key], StudyRun)],
        [one for key in plan if isinstance(one := ends[key], StoppedRun)],
        jobs,
    )


def _run_all(
    plan: Mapping[tuple[str, int], Experiment], jobs: int, threads: int | None
) -> dict[tuple[str, int], StudyRun | StoppedRun]:
    """Runs the plan; a wrong setting, Ctrl-C and SIGTERM end all runs in progress."""
    logger.info(f"{len(plan)} runs, {jobs} at a time; log.txt has what each prints")
    started = time.monotonic()
    ends: dict[tuple[str, int], StudyRun | StoppedRun] = {}
    running: dict[tuple[str, int], _Child] = {}

    def end(key: tuple[str, int], result: Callable[[], Mapping[str, Any]]) -> None:
        one = plan[key]
        try:
            metrics = result()
            ends[key] = StudyRun(*key, Path(one.output.workdir), metrics, epochs_of(one))
            text = _figures(metrics)
        except TrainingStopped as error:
            text = str(error)
            ends[key] = StoppedRun(*key, text)
        seconds = (time.monotonic() - started) / len(ends) * (len(plan) - len(ends))
        left = f"about {format_seconds(seconds)} left"
        logger.info(f"{len(ends)}/{len(plan)}  {key[0]}, seed {key[1]}: {text}  {left}")

    identities: dict[str, dict[str, Any]] = {}

    def identify(data: Data) -> dict[str, Any]:
        # Once for all runs, and before those that are not finished want the memory.
        key = repr(data)
        if key not in identities:
            identities[key] = data_identity(data)
        return identities[key]

    for key, one in plan.items():
        folder = Path(one.output.workdir)
        if all((folder / f"{name}.json").exists() for name in ("config", "metrics")):
            end(key, functools.partial(finished, one, identify))
    waiting = [key for key in plan if key not in ends]
    with signals_handled(_terminate):
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    key = waiting.pop(0)
                    running[key] = _Child(plan[key], threads)
                time.sleep(POLL)
                for key in [k for k, child in running.items() if child.process.poll() is not None]:
                    end(key, running.pop(key).result)
        finally:
            for child in running.values():
                child.process.terminate()
            for child in running.values():
                child.wait()
    return ends


def _figures(metrics: Mapping[str, Any]) -> str:
    # Those of the training are missing where its rows were lost.
    errors = [
        f"{name} error {100 * (1 - metrics[f'{split}_accuracy']):.2f} %, "
        for name, split in {"training": "train", metrics["split"]: metrics["split"]}.items()
        if f"{split}_accuracy" in metrics
    ]
    return f"{''.join(errors)}{metrics['train_seconds']:.0f} s of training"


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Makes SIGTERM an exception, on whose way out the runs are ended too."""
    raise Terminated("SIGTERM; the same command resumes the study")


class _Child:
    """A run in a subprocess, which begins when this is made, with `threads` for TensorFlow."""

    def __init__(self, experiment: Experiment, threads: int | None):
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
        """Waits for the run and returns its final figures; raises as `run` does."""
        with self.process as process:
            lines = list(process.stdout or ())
        try:
            report = json.loads(lines[-1])
        except (IndexError, ValueError):  # It died before it could report, or while it did.
            report = {"stopped": death(process.returncode)}
        if "wrong" in report:
            self._withdraw()
            raise checks.ProblemsError(report["wrong"])
        if "stopped" in report:
            raise TrainingStopped(report["stopped"])
        return report["metrics"]

    def wait(self) -> None:
        """Waits until the process has ended; of one terminated before it began, nothing is left."""
        if self.process.wait() in (-signal.SIGTERM, 128 + signal.SIGTERM):
            self._withdraw()

    def _withdraw(self) -> None:
        """Removes a folder that was made for it if nothing but the log came into it."""
        if self._fresh and {path.name for path in self._workdir.glob("*")} <= {LOG, LOCK}:
            shutil.rmtree(self._workdir, ignore_errors=True)


def run_ordered() -> None:
    """Runs in the subprocess what `_Child` orders, and reports how it ended."""
    order = json.loads(sys.stdin.readline())
    end_with_parent()
    sys.argv = order["argv"]
    # What libraries print to standard output themselves goes to the log too.
    report = os.dup(1)
    os.dup2(2, 1)
    sys.stdout.reconfigure(encoding="utf-8", line_buffering=True)  # type: ignore[union-attr]
    ours = logging.getLogger("keras_resnet")
    ours.setLevel(logging.INFO)
    ours.addHandler(logging.StreamHandler())
    outcome = _outcome(order["experiment"])
    # A study that was killed asks for it no more.
    with contextlib.suppress(BrokenPipeError), os.fdopen(report, "w", encoding="utf-8") as file:
        print("", json.dumps(outcome), sep="\n", file=file)
    sys.exit("metrics" not in outcome)


def _outcome(settings: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {"metrics": run(Experiment.from_flat(**settings))}
    except (TrainingStopped, Terminated, OSError) as error:
        lines: tuple[str, ...] = (checks.first_line(error),)
        outcome: dict[str, Any] = {"stopped": lines[0]}
    except (ValueError, ImportError) as error:
        lines = checks.lines_of(error)
        outcome = {"wrong": lines}
    except Exception as error:
        # A fault of the package, so the log gets all of it.
        traceback.print_exc()
        return {"stopped": f"{type(error).__name__}: {checks.first_line(error)}; log.txt has more"}
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    return outcome
