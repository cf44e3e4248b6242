"""Whether XLA compiles the step, where nobody says. TensorFlow only."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median

import keras
import tensorflow as tf

from keras_resnet.training.statistics import synchronized
from keras_resnet.training.step import Step
from keras_resnet.training.strategy import any_worker, is_chief
from keras_resnet.utils import checks, private

# Steps to go; fewer do not earn back the seconds of the trial.
WORTH_A_TRIAL = 1000

_TURNS = 5

# Of the time without XLA: above it, the difference may be noise.
_WORTHWHILE = 0.95

# Some models are compiled anew at every step, as those with a SavedModel that trains.
_HOPELESS = 3.0


def default_jit_compile(strategy: tf.distribute.Strategy, model: keras.Model) -> bool | None:
    """Says whether XLA compiles the step of a model under a strategy.

    On for TPUs, which run nothing else. Off on the CPU, where `benchmarks/train_step.py --xla`
    measures it slower for all but the smallest nets; where results have to be the same every time;
    and where replicas meet in the middle of the pass. On GPUs it depends on network and device.

    Returns:
        Yes or no, or None to leave it to a trial.
    """
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return True
    if (
        replicas_meet(strategy, model)
        or private.is_op_determinism_enabled()
        or not _lies_on_gpus(model)
    ):
        return False
    return None


def replicas_meet(strategy: tf.distribute.Strategy, model: keras.Model) -> bool:
    """Whether replicas ask each other in the middle of the pass, which XLA's graph cannot."""
    return strategy.num_replicas_in_sync > 1 and synchronized(model)


def try_xla(step: Step, read_batch: Callable[[], tuple]) -> bool:
    """Takes a batch through the pass without XLA and with it, in turns; says on stderr which won.

    Every worker has to take part. What replicas do together, as summing gradients, is not part of
    the pass. What a SavedModel inside the model changes by itself does change.

    Args:
        step: The step. It updates nothing.
        read_batch: Gives a distributed batch of (images, labels).

    Returns:
        Whether XLA is worth it on all workers; not where it fails.
    """
    chief = is_chief(step.strategy)
    _say("trying the step without it and with it", chief)
    batch = read_batch()
    plain, compiled = step.pass_alone(jit_compile=False), step.pass_alone(jit_compile=True)
    plain(batch)  # What goes wrong here would go wrong in training.
    try:
        compiled(batch)
        ratio = _ratio(plain, compiled, batch)
        found = f"the pass takes {ratio:.2f} of the time without it"
    except tf.errors.OpError as error:
        ratio, found = float("inf"), f"it fails: {checks.first_line(error)}"
    use = not any_worker(step.strategy, ratio > _WORTHWHILE)
    _say(f"{'on' if use else 'off'}; {found}", chief)
    return use


def _ratio(plain: Callable, compiled: Callable, batch: tuple) -> float:
    ratios = []
    while len(ratios) < _TURNS and not (ratios and ratios[0] > _HOPELESS):
        times = [time.perf_counter()]
        for run in (plain, compiled):
            run(batch)
            times.append(time.perf_counter())
        ratios.append((times[2] - times[1]) / (times[1] - times[0]))
    return median(ratios)


def _say(text: str, chief: bool) -> None:
    if chief:
        print(f"XLA: {text}", file=sys.stderr, flush=True)


def _lies_on_gpus(model: keras.Model) -> bool:
    return any("GPU" in variable.value.device for variable in model.trainable_variables)
