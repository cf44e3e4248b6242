"""Trains under one strategy and writes what came out; `test_train_strategies.py` compares.

Usage: train_strategies.py OUTPUT.npz REPLICAS CHECKPOINTS. With TF_CONFIG set, REPLICAS is 0.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

import keras_resnet
from keras_resnet.training import (
    Checkpoints,
    CrossEntropy,
    Distillation,
    DynamicLossScale,
    ErrorWarmup,
    KeepBest,
    Trainer,
    make_optimizer,
    make_schedule,
    make_strategy,
    session,
    set_precision,
    sgd,
)
from tests.training import fakes
from tests.training.fakes import accuracy, blobs, cross_entropy, fit, small_model

STEPS = 20
OVERFLOW_AT = 2


def train(strategy, *, synchronized: bool, lives=(STEPS,), checkpoints=None, **options) -> Trainer:
    """Trains with all that could differ between replicas: clipping, penalties, averages.

    Each of the `lives` begins with a new model, and resumes from the last checkpoint.
    """
    for last_step in lives:
        trainer = make_trainer(strategy, synchronized, **options)
        fit(trainer, last_step, log_every=7, checkpoints=checkpoints)
    return trainer


def make_trainer(strategy, synchronized: bool, **options) -> Trainer:
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = small_model(synchronized=synchronized, l2=1e-3)
        model = keras.Model(model.input, fakes.Counter()(model.output))
        schedule = make_schedule("cosine", 0.05, total_steps=STEPS, warmup_steps=2)
        schedule = ErrorWarmup(schedule, 0.02, threshold=0.7, window=4)
        optimizer = sgd(schedule, clip_norm=1.0, ema=0.9)
        metrics = [accuracy(), fakes.F1(), fakes.Rows(dtype="int32")]
    return Trainer(model, optimizer, cross_entropy(), metrics, strategy=strategy, **options)


def train_on_targets(strategy, directory: str) -> Trainer:
    """Trains with class weights, balanced sampling and a teacher, and resumes in the middle."""
    for last_step in (3, 6):
        models = []
        with strategy.scope():
            for seed in (1, 0):
                keras.utils.set_random_seed(seed)
                model = small_model(synchronized=True)
                models.append(keras.Model(model.input, keras.layers.Softmax()(model.output)))
            optimizer = sgd(0.05)
        teacher, model = models
        distillation = Distillation(lambda images, net=teacher: net(images, training=False))
        trainer = Trainer(
            model,
            optimizer,
            CrossEntropy(),
            strategy=strategy,
            class_weights=np.array([1, 0, 5, 2], "float32"),
            distillation=distillation,
        )
        fit(trainer, last_step, sampling="balanced", checkpoints=Checkpoints(directory))
    return trainer


def train_by_name(strategy) -> dict[str, np.ndarray]:
    """Trains with an optimizer by name, and evaluates the averages of an epoch."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = small_model(synchronized=True)
        options = {"weight_decay": 0.1, "decay_norm_and_bias": False, "clip_norm": 1.0, "ema": 0.7}
        rates = {model.layers[2].name: 0.5}
        optimizer = make_optimizer("muon", 0.01, rates=rates, **options)
        metrics = [accuracy()]
    trainer = Trainer(model, optimizer, cross_entropy(), metrics, strategy=strategy)
    best = KeepBest("ema_val_loss")
    fit(trainer, 4, validation_split="validation", callbacks=[best])
    figures = trainer.model.history.history
    return {
        "averages": np.array([figures["val_loss"][0], figures["ema_val_loss"][0]]),
        **{f"best/{index}": weight for index, weight in enumerate(best.weights())},
        **weights("muon", trainer),
    }


def train_with_overflow(strategy) -> dict[str, np.ndarray]:
    """Plants an infinity in the images of the last replica at one step."""
    last = strategy.num_replicas_in_sync - 1

    def plant(images, labels, position):
        bad = tf.reduce_all(position == [OVERFLOW_AT, last])
        return tf.where(bad, np.float32("inf"), tf.cast(images, tf.float32)), labels

    set_precision("mixed_float16")
    keras.utils.set_random_seed(0)
    with strategy.scope():
        options = {"transform": plant, "loss_scale": DynamicLossScale(initial=1024.0)}
        arguments = small_model(), sgd(0.05), cross_entropy()
        trainer = Trainer(*arguments, strategy=strategy, **options)
    states = []
    for steps in (OVERFLOW_AT, OVERFLOW_AT + 1, OVERFLOW_AT + 2):
        fit(trainer, steps)
        # As this process's replicas hold them, one row a replica.
        variables = (v.value for v in (*trainer.model.weights, *trainer.optimizer.variables))
        states.append([np.stack(strategy.experimental_local_results(v)) for v in variables])
    before, after, later = states
    results = {
        "unchanged": all(map(np.array_equal, before, after)),
        "goes_on": not np.array_equal(after[0], later[0]),
        "equal": all((copies == copies[0]).all() for copies in later),
        "finite": all(np.isfinite(copies).all() for copies in later),
        "scale": trainer._step.loss_scale.scale.numpy(),
        "updates": trainer.optimizer.iterations.numpy(),
    }
    return {f"overflow_{name}": np.asarray(value) for name, value in results.items()}


def noisy() -> keras.Model:
    """Draws from Keras's global generator."""
    model = small_model()
    return keras.Model(model.input, fakes.Noise()(model.output))


def looping() -> keras.Model:
    """Takes statistics over all replicas in the middle of a loop."""
    options = {"stack_blocks": True, "synchronized_bn": True}
    return keras_resnet.CifarResNet(20, input_shape=(8, 8, 1), classes=4, **options)


def refusal(strategy, build: Callable[[], keras.Model]) -> str:
    """Returns the error that a model raises, or "nothing"."""
    with strategy.scope():
        model, optimizer = build(), keras.optimizers.SGD()
    try:
        fit(Trainer(model, optimizer, cross_entropy(), strategy=strategy), 1)
    except ValueError as error:
        return str(error)
    return "nothing"


def weights(name: str, trainer: Trainer) -> dict[str, np.ndarray]:
    model = trainer.model
    groups = {name: model.trainable_variables, f"{name}_moving": model.non_trainable_variables}
    return {f"{k}/{i}": v.numpy() for k, own in groups.items() for i, v in enumerate(own)}


def main(output: str, replicas: int, directory: str) -> None:
    strategy = make_strategy(virtual_devices=replicas if replicas > 1 else None)
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
    trainer.recompute_bn_statistics(blobs(), 32)
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
    results |= weights("targets", train_on_targets(strategy, f"{directory}-targets"))
    results |= train_by_name(strategy)
    results |= train_with_overflow(strategy)
    np.savez(output, **results)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
