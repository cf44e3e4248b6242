"""Whether XLA compiles the step, where nobody says. TensorFlow only."""

from __future__ import annotations

import statistics
import sys
import time

import keras
import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled

from keras_resnet.training.statistics import synchronized
from keras_resnet.training.step import Step

# Steps; a shorter run does not earn back the minute or two of compiling a deep net twice.
WORTH_A_TRIAL = 1000

_TURNS = 5


def default_jit_compile(strategy: tf.distribute.Strategy, model: keras.Model) -> bool | None:
    """Says whether XLA compiles the step of a model under a strategy.

    On for TPUs, which run nothing else. Off on the CPU, where it compiles for longer than it saves
    (`benchmarks/train_step.py --xla`); where results have to be the same every time; and where
    replicas ask each other in the middle of the pass, which XLA's graph cannot. On GPUs it depends
    on the network and the device.

    Returns:
        Yes or no, or None to leave it to a trial.
    """
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return True
    asks_others = strategy.num_replicas_in_sync > 1 and synchronized(model)
    if asks_others or is_op_determinism_enabled() or not _lies_on_gpus(model):
        return False
    return None


def xla_is_quicker(step: Step, batch: tuple) -> bool:
    """Takes a batch through the pass without XLA and with it, in turns; reports on stderr.

    Args:
        step: The step. Its optimizer is not called; what a SavedModel inside the model changes by
            itself does change.
        batch: Distributed batch of (images, labels).

    Returns:
        Whether XLA is quicker; no where it cannot compile the pass, or not in the memory there is.
    """
    print("XLA: trying the step without it and with it", file=sys.stderr, flush=True)
    passes = {compiled: step.trial(compiled) for compiled in (False, True)}
    seconds = {compiled: [] for compiled in passes}
    try:
        # The first turn traces and compiles.
        for turn in range(1 + _TURNS):
            for compiled, run in passes.items():
                started = time.perf_counter()
                run(batch)
                if turn:
                    seconds[compiled].append(time.perf_counter() - started)
    except (
        tf.errors.InternalError,
        tf.errors.InvalidArgumentError,
        tf.errors.ResourceExhaustedError,
        tf.errors.UnimplementedError,
    ) as error:
        print(f"XLA: off, since it fails ({type(error).__name__})", file=sys.stderr, flush=True)
        return False
    ratio = statistics.median(seconds[True]) / statistics.median(seconds[False])
    answer = "on" if ratio < 1.0 else "off"
    print(
        f"XLA: {answer}, the pass takes {ratio:.2f} of the time without it",
        file=sys.stderr,
        flush=True,
    )
    return ratio < 1.0


def _lies_on_gpus(model: keras.Model) -> bool:
    return any("GPU" in variable.value.device for variable in model.trainable_variables)
