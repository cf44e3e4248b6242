"""A training step of `Trainer` beside one of Keras's `fit`: the same model, data and optimizer.

    python benchmarks/train_step.py --model ResNet20 --batch-size 128 --steps 10 --rounds 5

Both take turns in one process, each round with a model built anew, so that the machine's moods
meet both; what counts are the ratios of one run, and on a machine that is busy otherwise those of
processor time. Takes about 3 minutes on two idle cores. `--jit-compile` turns XLA on for both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

import keras_resnet
from keras_resnet.data.dataset import ArrayDataset
from keras_resnet.training import Trainer, sgd

LOSS = "sparse_categorical_crossentropy"


def main() -> None:
    options = parse()
    rng = np.random.default_rng(0)
    count = 4 * options.batch_size
    images = rng.integers(0, 256, (count, options.size, options.size, 3), "uint8")
    labels = rng.integers(0, 10, count).astype("int32")
    dataset = ArrayDataset("noise", {"train": (images, labels)}, [str(i) for i in range(10)])

    results = {name: [] for name in RUNNERS}
    for round_number in range(options.rounds):
        # Whoever comes first in a round may find the processor cooler.
        names = list(RUNNERS) if round_number % 2 else list(reversed(RUNNERS))
        for name in names:
            keras.utils.clear_session()
            keras.utils.set_random_seed(0)
            results[name].append(RUNNERS[name](build(options), dataset, options).results())
    report(results, options)


def build(options: argparse.Namespace) -> keras.Model:
    builder = getattr(keras_resnet, options.model)
    shape = (options.size, options.size, 3)
    return builder(input_shape=shape, classes=10, weights=None)


class Timer(keras.callbacks.Callback):
    """When each step ended, by the clock and in processor time of all threads."""

    def __init__(self):
        super().__init__()
        self.ends = [self._now()]

    def on_train_batch_end(self, batch, logs=None):
        self.ends.append(self._now())

    def _now(self) -> np.ndarray:
        return np.array([time.perf_counter(), time.process_time()])

    def results(self) -> dict[str, float]:
        first = self.ends[1] - self.ends[0]
        later = (self.ends[-1] - self.ends[1]) / (len(self.ends) - 2)
        return {
            "first step": first[0],
            "first step, processor": first[1],
            "step": later[0],
            "step, processor": later[1],
        }


def run_fit(model: keras.Model, dataset: ArrayDataset, options: argparse.Namespace) -> Timer:
    timer = Timer()
    metric = keras.metrics.SparseCategoricalAccuracy("accuracy")
    model.compile(sgd(0.1), LOSS, metrics=[metric], jit_compile=options.jit_compile)
    batches = dataset.train_batches(options.batch_size)
    model.fit(batches, steps_per_epoch=options.steps + 1, callbacks=[timer], verbose=0)
    return timer


def run_trainer(model: keras.Model, dataset: ArrayDataset, options: argparse.Namespace) -> Timer:
    timer = Timer()
    metric = keras.metrics.SparseCategoricalAccuracy("accuracy")
    trainer = Trainer(model, sgd(0.1), LOSS, [metric], jit_compile=options.jit_compile)
    trainer.fit(
        dataset,
        options.batch_size,
        epochs=1,
        steps_per_epoch=options.steps + 1,
        callbacks=[timer],
    )
    return timer


RUNNERS = {"Keras fit": run_fit, "Trainer": run_trainer}


def report(results: dict[str, list[dict[str, float]]], options: argparse.Namespace) -> None:
    print(
        f"{options.model}, {options.size}x{options.size}, batch {options.batch_size}, "
        f"{options.rounds} rounds of {options.steps} steps, XLA {options.jit_compile}, "
        f"keras {keras.__version__}, tensorflow {tf.__version__}"
    )
    print("medians over the rounds in seconds; the ratio is the median of each round's own")
    print(f"{'':>22}  {'Keras fit':>9}  {'Trainer':>9}  Trainer / Keras fit (lowest to highest)")
    for what in results["Trainer"][0]:
        ours, theirs = ([one[what] for one in results[name]] for name in ("Trainer", "Keras fit"))
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        print(
            f"{what:>22}  {statistics.median(theirs):9.3f}  {statistics.median(ours):9.3f}  "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ResNet20", help="a builder of keras_resnet")
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jit-compile", action="store_true", help="XLA for both")
    return parser.parse_args()


if __name__ == "__main__":
    main()
