"""A short run that can be killed and started again; `test_train_resume.py` does so.

Usage: train_resume.py WORKDIR REPLICAS OUTPUT.npz [HOLD]. Prints a line for each step, and
almost stops from step HOLD on; writes the final weights and the optimizer's state to OUTPUT.
"""

from __future__ import annotations

import sys
import time

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.training import (
    Checkpoints,
    CrossEntropy,
    ErrorWarmup,
    MetricsLogger,
    Mixing,
    Trainer,
    make_schedule,
    make_strategy,
    sgd,
)
from tests.training.fakes import accuracy, blobs, small_model

STEPS = 30
STEPS_PER_EPOCH = 7


class Announce(keras.callbacks.Callback):
    """Prints each step and gives the test time to kill within it."""

    def __init__(self, hold: int):
        super().__init__()
        self._hold = hold

    def on_log(self, step, logs):
        print(f"step {step}", flush=True)
        time.sleep(0.02 if step < self._hold else 30)


def main(workdir: str, replicas: int, output: str, hold: int = STEPS + 1) -> None:
    strategy = make_strategy(virtual_devices=replicas if replicas > 1 else None)
    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    with strategy.scope():
        model = small_model(dropout=0.3)
        schedule = make_schedule("cosine", 0.05, total_steps=STEPS)
        warmup_schedule = ErrorWarmup(schedule, 0.01, threshold=0.7, window=5)
        optimizer = sgd(warmup_schedule, ema=0.9)
        metrics = [accuracy()]
    options = {"strategy": strategy, "transform": Mixing(4, mixup=0.2, augment="erasing")}
    Trainer(model, optimizer, CrossEntropy(from_logits=True), metrics, **options).fit(
        blobs(),
        16,
        steps=STEPS,
        steps_per_epoch=STEPS_PER_EPOCH,
        log_every=1,
        checkpoints=Checkpoints(workdir, every=2),
        callbacks=[
            MetricsLogger(workdir),
            # The wrong way round, so that the best weights are those of an early epoch.
            keras.callbacks.EarlyStopping(
                "val_accuracy", mode="min", patience=9, restore_best_weights=True
            ),
            keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
            Announce(hold),
        ],
    )
    weights = {f"model/{i}": weight for i, weight in enumerate(model.get_weights())}
    # The weights are now the best ones; the last ones show in the momentum and in the averages.
    slots = {f"optimizer/{i}": v.numpy() for i, v in enumerate(optimizer.variables)}
    warmup = np.array([float(v.numpy()) for v in warmup_schedule.variables])
    np.savez(output, warmup_over=warmup, **weights, **slots)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:]))
