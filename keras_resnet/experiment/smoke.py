"""A run in a minute that tries all that the long one will do. TensorFlow."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path

import tensorflow as tf

from keras_resnet.data import ImageDataset
from keras_resnet.experiment.settings import Experiment
from keras_resnet.experiment.workdir import CONFIG, LOCK, in_use, read_object

# Folder in that of the run, and the steps of an epoch and batches of an evaluation.
SMOKE = "smoke"
STEPS = 2


def shortened(experiment: Experiment) -> Experiment:
    """Returns an experiment of one epoch of `few_batches`, in a folder of its own.

    Raises:
        ValueError: If several machines would share that folder.
    """
    expect_one_machine(
        experiment,
        "`smoke` must be left out with several machines; try the run on one of them first. "
        "Received: smoke=True",
    )
    optimization = experiment.optimization
    return experiment.replace(
        epochs=1,
        steps=None if optimization.steps is None else min(STEPS, optimization.steps),
        head_epochs=min(1, optimization.head_epochs),
        fine_tune_epochs=min(1, experiment.output.fine_tune_epochs),
        workdir=str(Path(experiment.output.workdir) / SMOKE),
    )


def expect_one_machine(experiment: Experiment, line: str) -> None:
    """Raises a ValueError of a line, if an experiment is for several machines."""
    if experiment.devices.strategy == "multi_worker" or "TF_CONFIG" in os.environ:
        raise ValueError(line)


def few_batches(dataset: ImageDataset) -> ImageDataset:
    """Returns a data set whose epochs have two steps and whose evaluations two batches."""

    def steps_per_epoch(batch_size: int) -> int:
        return min(STEPS, dataset.steps_per_epoch(batch_size))

    def eval_batches(
        split: str, batch_size: int, *, shard: tuple[int, int] = (0, 1)
    ) -> tf.data.Dataset:
        return dataset.eval_batches(split, batch_size, shard=shard).take(STEPS)

    few = copy.copy(dataset)
    vars(few).update(steps_per_epoch=steps_per_epoch, eval_batches=eval_batches)
    return few


def clear(folder: Path) -> None:
    """Deletes what an earlier smoke run left in its folder.

    Raises:
        ValueError: If the folder holds anything else, or another process uses it.
    """
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir()} - {LOCK} if folder.is_dir() else {folder.name}
    config = folder / CONFIG
    if names and not (config.is_file() and read_object(config).get("smoke") is True):
        raise ValueError(
            f"`workdir` must have no {SMOKE!r} of its own, where `smoke` writes; move it away. "
            f"Received: workdir={str(folder.parent)!r}"
        )
    with in_use(folder):
        for path in folder.iterdir():
            if path.name == LOCK:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
