"""Studies: several experiments, each with several seeds, run side by side and read together.

Every run is one of `experiment.run` in a folder of its own, so a study that was interrupted goes
on where it was. Needs TensorFlow.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import keras
import tensorflow as tf

from keras_resnet import checks
from keras_resnet.experiment.run import epochs_of, run
from keras_resnet.experiment.settings import Experiment
from keras_resnet.terminal import format_seconds
from keras_resnet.training import Terminated, TrainingStopped
from keras_resnet.training.signals import sigterm_handled


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
    seeds = [checks.integer("seeds", seed, minimum=0) for seed in seeds]
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"`seeds` must be different numbers, at least one. Received: {seeds}")
    plan = {
        (label, seed): dataclasses.replace(
            experiment, seed=seed, workdir=str(Path(workdir) / f"{label}-{seed}")
        )
        for label, experiment in experiments.items()
        for seed in seeds
    }
    jobs = _default_jobs(plan.values()) if jobs is None else checks.integer("jobs", jobs)
    metrics = _run_all(plan, min(jobs, len(plan)))
    stopped = [f"{label}, seed {seed}" for (label, seed), one in metrics.items() if one is None]
    if stopped:
        raise TrainingStopped(
            f"Of {len(plan)} runs, {len(stopped)} stopped ({'; '.join(stopped)}); the reasons are "
            "above, and the same command tries them again"
        )
    return [
        StudyRun(label, seed, Path(one.workdir), metrics[label, seed], epochs_of(one))
        for (label, seed), one in plan.items()
    ]


def _run_all(plan: Mapping[tuple[str, int], Experiment], jobs: int) -> dict:
    """Runs the plan, and returns metrics by key; None for a run that could not go on."""
    print(f"{len(plan)} runs, {jobs} at a time; log.txt has what each prints", flush=True)
    started, done = time.monotonic(), {}
    waiting, running = dict(plan), {}
    with _pool(jobs) as pool:
        while waiting or running:
            # One run for each process and no more, since what a pool has taken it cannot give back.
            while waiting and len(running) < jobs:
                key = next(iter(waiting))
                running[pool.submit(_run_quietly, waiting.pop(key))] = key
            ended, _ = concurrent.futures.wait(running, return_when="FIRST_COMPLETED")
            for future in ended:
                key = label, seed = running.pop(future)
                try:
                    done[key] = future.result()
                    outcome = _outcome(done[key])
                except TrainingStopped as error:
                    done[key], outcome = None, str(error)
                elapsed = time.monotonic() - started
                left = format_seconds(elapsed / len(done) * (len(plan) - len(done)))
                print(
                    f"{len(done)}/{len(plan)}  {label}, seed {seed}: {outcome}  about {left} left",
                    flush=True,
                )
    return {key: done[key] for key in plan}


def _outcome(metrics: Mapping[str, object]) -> str:
    split = metrics["split"]
    return (
        f"training error {100 * (1 - metrics['train_accuracy']):.2f} %, "
        f"{split} error {100 * (1 - metrics[f'{split}_accuracy']):.2f} %, "
        f"{metrics['train_seconds']:.0f} s of training"
    )


def _default_jobs(experiments: Collection[Experiment]) -> int:
    cpu_only = not any(one.gpus or one.tpu or one.virtual_devices for one in experiments)
    return _cores() if cpu_only and not tf.config.list_physical_devices("GPU") else 1


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@contextlib.contextmanager
def _pool(jobs: int) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
    """Processes that share the cores; TensorFlow reads how many it has when it is imported."""
    threads = str(max(1, _cores() // jobs))
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    ours = [name for name in names if name not in os.environ] if jobs > 1 else []
    os.environ.update(dict.fromkeys(ours, threads))
    try:
        # Not forked: TensorFlow does not survive that.
        context = multiprocessing.get_context("spawn")
        executor = concurrent.futures.ProcessPoolExecutor(jobs, context)
        with executor as pool, sigterm_handled(_terminate):
            try:
                yield pool
            except BaseException:
                # After a wrong setting, Ctrl-C or SIGTERM the runs in progress are told to save
                # their state and end.
                for process in multiprocessing.active_children():
                    process.terminate()
                raise
    finally:
        for name in ours:
            del os.environ[name]


def _terminate(number, frame) -> NoReturn:
    """Makes SIGTERM an exception, on whose way out the runs are ended too."""
    raise Terminated("SIGTERM; the same command goes on with the study")


def _run_quietly(experiment: Experiment) -> dict[str, object]:
    """Runs an experiment in this process, its output in a file of its folder."""
    workdir = Path(experiment.workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    keras.utils.clear_session()
    with (
        open(workdir / "log.txt", "a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        try:
            return run(experiment)
        except (TrainingStopped, Terminated) as error:
            # As a class that another process can rebuild from its message.
            raise TrainingStopped(str(error)) from None
