"""Trains under one strategy and writes what came out; `test_train_strategies.py` compares.

Usage: train_strategies.py OUTPUT.npz REPLICAS CHECKPOINTS. With TF_CONFIG set, REPLICAS is ignored.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

import keras_resnet
from keras_resnet.training import (
    Checkpoints,
    DynamicLossScale,
    ErrorWarmup,
    Trainer,
    make_schedule,
    make_strategy,
    session,
    set_precision,
    sgd,
)
from tests.training.fakes import (
    F1,
    Counter,
    Noise,
    Rows,
    accuracy,
    blobs,
    cross_entropy,
    small_model,
)

STEPS = 20
BATCH = 32
OVERFLOW_AT = 2


def train(strategy, *, synchronized: bool, lives=(STEPS,), checkpoints=None, **options) -> Trainer:
    """Trains with all that could differ between replicas: clipping, penalties, averages.

    Each of the `lives` begins with a new model, and resumes from the last checkpoint.
    """
    for last_step in lives:
        trainer = make_trainer(strategy, synchronized, **options)
        trainer.fit(
            blobs(),
            BATCH,
            steps=last_step,
            log_every=7,
            validation_split=None,
            checkpoints=checkpoints,
        )
    return trainer


def make_trainer(strategy, synchronized: bool, **options) -> Trainer:
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = small_model(synchronized=synchronized, l2=1e-3)
        model = keras.Model(model.input, Counter()(model.output))
        schedule = make_schedule("cosine", 0.05, total_steps=STEPS, warmup_steps=2)
        schedule = ErrorWarmup(schedule, 0.02, threshold=0.7, window=4)
        optimizer = sgd(schedule, clip_norm=1.0, ema=0.9)
        metrics = [accuracy(), F1(), Rows(dtype="int32")]
    return Trainer(model, optimizer, cross_entropy(), metrics, strategy=strategy, **options)


def train_with_overflow(strategy) -> dict[str, np.ndarray]:
    """Plants an infinity in the images of the last replica at one step."""
    last = strategy.num_replicas_in_sync - 1

    def plant(images, labels, position):
        bad = tf.reduce_all(position == [OVERFLOW_AT, last])
        return tf.where(bad, np.float32("inf"), tf.cast(images, tf.float32)), labels

    set_precision("mixed_float16")
    keras.utils.set_random_seed(0)
    with strategy.scope():
        trainer = Trainer(
            small_model(),
            sgd(0.05),
            cross_entropy(),
            strategy=strategy,
            transform=plant,
            loss_scale=DynamicLossScale(initial=1024.0),
        )
    states = []
    for steps in (OVERFLOW_AT, OVERFLOW_AT + 1, OVERFLOW_AT + 2):
        trainer.fit(blobs(), BATCH, steps=steps, validation_split=None)
        states.append(
            local_copies([*trainer.model.weights, *trainer.optimizer.variables], strategy)
        )
    before, after, later = states
    return {
        "overflow_unchanged": np.array(
            all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        ),
        "overflow_goes_on": np.array(
            not any(np.array_equal(a, b) for a, b in zip(after[:1], later[:1], strict=True))
        ),
        "overflow_equal": np.array(all((copies == copies[0]).all() for copies in later)),
        "overflow_finite": np.array(all(np.isfinite(copies).all() for copies in later)),
        "overflow_scale": trainer._step.loss_scale.scale.numpy(),
        "overflow_updates": np.asarray(trainer.optimizer.iterations.numpy()),
    }


def noisy() -> keras.Model:
    """Draws from Keras's global generator."""
    model = small_model()
    return keras.Model(model.input, Noise()(model.output))


def looping() -> keras.Model:
    """Takes statistics over all replicas in the middle of a loop."""
    options = {"stack_blocks": True, "synchronized_bn": True}
    return keras_resnet.CifarResNet(20, input_shape=(8, 8, 1), classes=4, **options)


def refusal(strategy, build: Callable[[], keras.Model]) -> str:
    """Returns the error that a model raises, or "nothing"."""
    with strategy.scope():
        model, optimizer = build(), keras.optimizers.SGD()
    try:
        trainer = Trainer(model, optimizer, cross_entropy(), strategy=strategy)
        trainer.fit(blobs(), BATCH, steps=1)
    except ValueError as error:
        return str(error)
    return "nothing"


def local_copies(variables: list[keras.Variable], strategy) -> list[np.ndarray]:
    """Each variable as this process's replicas hold it, one row a replica."""
    return [
        np.stack([copy.numpy() for copy in strategy.experimental_local_results(variable.value)])
        for variable in variables
    ]


def weights(name: str, trainer: Trainer) -> dict[str, np.ndarray]:
    trainable = {f"{name}/{i}": v.numpy() for i, v in enumerate(trainer.model.trainable_variables)}
    moving = {
        f"{name}_moving/{i}": v.numpy() for i, v in enumerate(trainer.model.non_trainable_variables)
    }
    return trainable | moving


def main(output: str, replicas: int, directory: str) -> None:
    if os.environ.get("TF_CONFIG"):
        strategy = make_strategy()
    else:
        strategy = make_strategy(virtual_devices=replicas) if replicas > 1 else make_strategy()
    results = {"replicas": np.array(strategy.num_replicas_in_sync)}

    trainer = train(strategy, synchronized=True)
    results |= weights("synchronized", trainer)
    evaluated = trainer.evaluate(blobs(), "test", 8)
    results["evaluated"] = np.array([evaluated[name] for name in ("loss", "accuracy", "rows")])
    results["f1"] = np.array([evaluated[f"f1_{label}"] for label in range(4)])
    results["rows"] = np.array(trainer.model.history.history["rows"])
    # A count that cannot be cut into equal parts, out of a checkpoint.
    held = {"rows": trainer._step.metrics[-1].variables}
    with strategy.scope():
        session.restore(held, {"rows/0000": np.int32(37)})
    results["restored"] = session.collect(held)["rows/0000"]
    trainer.recompute_bn_statistics(blobs(), BATCH)
    results |= weights("recomputed", trainer)

    # Four replicas, or fewer that take their batch in parts: the same images are normalized
    # together. Two replicas and two processes have two lives, and resume.
    trainer = train(
        strategy,
        synchronized=False,
        micro_batches=4 // strategy.num_replicas_in_sync,
        lives=(9, STEPS) if strategy.num_replicas_in_sync == 2 else (STEPS,),
        checkpoints=Checkpoints(directory, every=6),
    )
    results |= weights("quarters", trainer)
    results["refusal"] = np.array(refusal(strategy, noisy))
    if strategy.num_replicas_in_sync > 1:
        results["loop_refusal"] = np.array(refusal(strategy, looping))
    results |= train_with_overflow(strategy)
    np.savez(output, **results)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
