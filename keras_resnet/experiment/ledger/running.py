"""Runs of a budget that a ledger lacks: what they will cost, and how they come into it.

Needs TensorFlow.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import os
import statistics
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_resnet import models
from keras_resnet.analysis import layer_responses
from keras_resnet.analysis.cost import FEWEST_REPEATS, measure
from keras_resnet.analysis.counting import built_without_values, complexity
from keras_resnet.analysis.machine import processor_name
from keras_resnet.architectures import find_architecture
from keras_resnet.data import ImageDataset
from keras_resnet.experiment.factories import load_data
from keras_resnet.experiment.ledger.budgets import Budget
from keras_resnet.experiment.ledger.records import (
    Record,
    append,
    identity_of,
    own_settings,
    pack,
    predictions_of,
)
from keras_resnet.experiment.reports import counted
from keras_resnet.experiment.settings import Experiment
from keras_resnet.experiment.study import StoppedRun, StudyRun, attempt_study
from keras_resnet.experiment.workdir import DATA, read_object
from keras_resnet.training import TrainingStopped
from keras_resnet.utils.processes import cores
from keras_resnet.utils.terminal import format_seconds
from keras_resnet.weights.saving import load_model

logger = logging.getLogger(__name__)

# Number and size of the batches of test images whose layer responses are measured.
RESPONSE_BATCHES, RESPONSE_BATCH = 8, 125
# Images of a step that is timed to tell the cost of others.
TIMED_BATCH = 16
# Training images of data sets whose budget counts epochs; the data need not be there.
TRAINING_IMAGES = {"digits": 1257, "imagenet2012": 1_281_167}


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that a ledger may have, with its hash."""

    cell: str
    budget: Budget
    seed: int
    experiment: Experiment
    hash: str

    def is_in(self, records: Collection[Record]) -> bool:
        return any(record.hash == self.hash for record in records)


def runs_of(
    budget: Budget,
    networks: Sequence[str],
    seeds: Sequence[int],
    data_dir: str | os.PathLike | None = None,
) -> list[Run]:
    """Returns the runs of networks with seeds, network by network."""
    runs = []
    for network in networks:
        for seed in seeds:
            experiment = budget.experiment(network, seed, data_dir)
            runs.append(Run(network, budget, seed, experiment, identity_of(experiment)))
    return runs


def run_missing(runs: Sequence[Run], ledger: str | os.PathLike, workdir: str | os.PathLike) -> None:
    """Makes runs one at a time, each in a subprocess, and adds each to a ledger as it ends.

    An interrupted run resumes from its folder, which is `workdir`/network-hash-seed. All runs are
    of one budget.

    Raises:
        ValueError: If a setting or the data are wrong.
        TrainingStopped: If runs could not be finished; the others are in the ledger.
    """
    if not runs:
        return
    # The runs will want the memory of the GPUs.
    tf.config.set_visible_devices([], "GPU")
    dataset = load_data(runs[0].experiment.data)
    stopped: list[StoppedRun] = []
    for number, one in enumerate(runs, start=1):
        logger.info(f"{number}/{len(runs)}  {one.cell}, seed {one.seed}")
        label = f"{one.cell}-{one.hash}"
        study = attempt_study({label: one.experiment}, [one.seed], workdir, jobs=1)
        stopped += study.stopped
        for ended in study.finished:
            append(ledger, record_of(one, ended, dataset))
    if stopped:
        reasons = "; ".join(f"{one.label}, seed {one.seed}: {one.reason}" for one in stopped)
        raise TrainingStopped(f"Of {len(runs)} runs, {len(stopped)} stopped: {reasons}")


def record_of(run: Run, ended: StudyRun, dataset: ImageDataset) -> Record:
    """Returns the record of a run that has ended, from its folder."""
    metrics, folder = ended.metrics, ended.workdir
    hits = predictions_of(folder / "predictions.csv")
    curve = [
        (int(row["step"]), round(1 - row["accuracy"], 6), _rest(row.get("val_accuracy")))
        for row in ended.epochs
    ]
    return Record(
        hash=run.hash,
        cell=run.cell,
        budget=run.budget.name,
        seed=run.seed,
        settings=own_settings(run.experiment),
        versions=metrics["versions"],
        machine=machine_name(),
        data=read_object(folder / DATA)["digest"],
        images=len(hits),
        wrong=int((~hits).sum()),
        train_error=round(1 - metrics["train_accuracy"], 6),
        seconds=metrics["train_seconds"],
        multiply_adds=metrics["trained_multiply_adds"],
        correct=pack(hits),
        curve=curve,
        responses=_responses(folder / "model.keras", dataset),
    )


def _rest(accuracy: float | None) -> float | None:
    return None if accuracy is None else round(1 - accuracy, 6)


def _responses(path: Path, dataset: ImageDataset) -> list[float]:
    """Returns the responses of every 3x3 layer of a model to the first test images."""
    batches = dataset.eval_batches(dataset.splits[-1], RESPONSE_BATCH)
    some = itertools.islice(batches, RESPONSE_BATCHES)
    return [round(layer.std, 5) for layer in layer_responses(load_model(path), some)]


@functools.cache
def machine_name() -> str:
    """Returns the name of this machine's processor, its cores, and its GPUs."""
    names = [f"{processor_name()}, {cores()} cores"]
    for device in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(device)
        names.append(details.get("device_name", "GPU"))
    return ", ".join(names)


def seconds_left(runs: Sequence[Run], records: Sequence[Record]) -> float:
    """Returns the seconds that runs will take on this machine.

    That follows from records of the same machine by the multiply-adds of training, those of the
    same network and budget if there are any. Without any, a few steps of the smallest network are
    timed.
    """
    own = [record for record in records if record.machine == machine_name()]
    speed, total = None, 0.0
    for run in runs:
        alike = [r.seconds for r in own if (r.cell, r.budget) == (run.cell, run.budget.name)]
        if alike:
            total += statistics.fmean(alike)
            continue
        if speed is None:
            budget = [record for record in own if record.budget == run.budget.name] or own
            speed = _speed(budget) if budget else _timed(runs)
        total += _multiply_adds(run.cell, run.budget.image_shape) * _images(run) / speed
    return total


def cost_text(runs: Sequence[Run], records: Sequence[Record]) -> str:
    """Returns how many runs are left, and what they cost on this machine."""
    if not runs:
        return "nothing"
    seconds = seconds_left(runs, records)
    shown = f"{seconds / 3600:,.1f} hours" if seconds >= 600 else format_seconds(seconds)
    return f"{counted(len(runs), 'run')}, about {shown} on this machine ({machine_name()})"


def _speed(records: Sequence[Record]) -> float:
    """Returns multiply-adds a second, forward, of training."""
    return sum(r.multiply_adds for r in records) / sum(r.seconds for r in records)


def _images(run: Run) -> int:
    optimization = run.experiment.optimization
    if optimization.steps is None:
        return optimization.epochs * TRAINING_IMAGES[run.experiment.data.dataset]
    return optimization.steps * optimization.batch_size


@functools.cache
def _multiply_adds(network: str, image_shape: tuple[int, int, int]) -> int:
    model = built_without_values(_build, network, image_shape)
    return complexity(model).multiply_adds


def _build(network: str, image_shape: tuple[int, int, int]) -> Any:
    options = {"input_shape": image_shape, "classes": 10, "weights": None}
    return models.build(find_architecture(network), **options)


def _timed(runs: Sequence[Run]) -> float:
    """Returns multiply-adds a second of training the smallest network, by a few steps."""
    run = min(runs, key=lambda one: _multiply_adds(one.cell, one.budget.image_shape))
    shape = run.budget.image_shape
    batch = min(run.experiment.optimization.batch_size, TIMED_BATCH)
    cost = measure(lambda: _build(run.cell, shape), batch, repeats=FEWEST_REPEATS)
    assert cost.training is not None
    return _multiply_adds(run.cell, shape) / cost.training.seconds_per_image
