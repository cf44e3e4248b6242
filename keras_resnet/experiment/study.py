"""Studies: several experiments, each with several seeds, run side by side and read together.

Every run is one of `experiment.run` in a folder and a process of its own, so a study that was
interrupted goes on where it was, and a run that dies takes no other along. Needs TensorFlow.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import tensorflow as tf

from keras_resnet.experiment.apart import RunApart
from keras_resnet.experiment.runner import epochs_of, run
from keras_resnet.experiment.settings import Experiment
from keras_resnet.training import Terminated, TrainingStopped
from keras_resnet.training.stopping import sigterm_handled
from keras_resnet.utils import checks
from keras_resnet.utils.terminal import format_seconds

# Seconds between two looks at the runs in progress.
POLL = 0.2


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
    metrics: Mapping[str, object]
    epochs: Sequence[Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class StoppedRun:
    """One run of a study that could not be brought to its end, such as one that diverged.

    Attributes:
        label: The experiment's name in the study.
        seed: Its seed.
        reason: Why, in one line.
    """

    label: str
    seed: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Study:
    """What became of the runs, each by experiment and then by seed.

    Attributes:
        finished: Runs that came to their end.
        stopped: Runs that did not.
    """

    finished: Sequence[StudyRun]
    stopped: Sequence[StoppedRun] = ()

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
    """Runs every experiment with every seed, and prints a line as each one ends.

    Args:
        experiments: Experiments by label; their own `workdir` and `seed` are replaced.
        seeds: Seeds, each used by all experiments.
        workdir: Folder of the study; each run has `workdir`/label-seed, with what it prints in
            log.txt.
        jobs: Runs at a time, each in a process of its own. Default: one a core where the
            experiments train on the CPU, since small nets gain little from more; else 1.

    Returns:
        The runs, by experiment and then by seed.

    Raises:
        ValueError: A setting is wrong, or a folder holds another run.
        TrainingStopped: Runs could not go on; the others were brought to their end.
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
    """Does what `run_study` does, and returns what became of the runs where some had to stop."""
    seeds = [checks.integer("seeds", seed, minimum=0) for seed in seeds]
    checks.different("seeds", seeds, "numbers")
    plan = {
        (label, seed): experiment.replace(seed=seed, workdir=str(Path(workdir) / f"{label}-{seed}"))
        for label, experiment in experiments.items()
        for seed in seeds
    }
    jobs = _default_jobs(plan.values()) if jobs is None else checks.integer("jobs", jobs)
    ends = _run_all(plan, min(jobs, len(plan)))
    return Study(
        [
            StudyRun(*key, Path(one.output.workdir), ends[key], epochs_of(one))
            for key, one in plan.items()
            if not isinstance(ends[key], StoppedRun)
        ],
        [ends[key] for key in plan if isinstance(ends[key], StoppedRun)],
    )


def _run_all(
    plan: Mapping[tuple[str, int], Experiment], jobs: int
) -> dict[tuple[str, int], Mapping[str, object] | StoppedRun]:
    """Runs the plan, and returns the metrics of each run, or that it stopped."""
    print(f"{len(plan)} runs, {jobs} at a time; log.txt has what each prints", flush=True)
    # Several share the cores.
    threads = max(1, _cores() // jobs) if jobs > 1 else None
    started, ends = time.monotonic(), {}
    running: dict[tuple[str, int], RunApart] = {}

    def end(key, outcome, text):
        ends[key] = outcome
        left = (time.monotonic() - started) / len(ends) * (len(plan) - len(ends))
        print(
            f"{len(ends)}/{len(plan)}  {key[0]}, seed {key[1]}: {text}  "
            f"about {format_seconds(left)} left",
            flush=True,
        )

    for key, one in plan.items():
        folder = Path(one.output.workdir)
        if all((folder / f"{name}.json").exists() for name in ("config", "metrics")):
            # It reads them, and refuses those of another run.
            metrics = run(one)
            end(key, metrics, _figures(metrics))
    waiting = [key for key in plan if key not in ends]
    with sigterm_handled(_terminate):
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    key = waiting.pop(0)
                    running[key] = RunApart(plan[key], threads)
                time.sleep(POLL)
                for key in [key for key, one in running.items() if one.ended()]:
                    try:
                        metrics = running.pop(key).result()
                        end(key, metrics, _figures(metrics))
                    except TrainingStopped as error:
                        end(key, StoppedRun(*key, str(error)), str(error))
        finally:
            # After a wrong setting, Ctrl-C or SIGTERM; else none is left.
            for one in running.values():
                one.terminate()
            for one in running.values():
                one.wait()
    return ends


def _figures(metrics: Mapping[str, object]) -> str:
    split = metrics["split"]
    return (
        f"training error {100 * (1 - metrics['train_accuracy']):.2f} %, "
        f"{split} error {100 * (1 - metrics[f'{split}_accuracy']):.2f} %, "
        f"{metrics['train_seconds']:.0f} s of training"
    )


def _default_jobs(experiments: Collection[Experiment]) -> int:
    devices = [one.devices for one in experiments]
    cpu_only = not any(one.gpus or one.tpu or one.virtual_devices for one in devices)
    return _cores() if cpu_only and not tf.config.list_physical_devices("GPU") else 1


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _terminate(number, frame) -> NoReturn:
    """Makes SIGTERM an exception, on whose way out the runs are ended too."""
    raise Terminated("SIGTERM; the same command goes on with the study")
