"""Compares a training step of `Trainer` with one of Keras's `fit`: same model, data and optimizer.

    python benchmarks/train_step.py --model ResNet20 --batch-size 128 --steps 20 --rounds 5

All run on the CPU in one process and alternate step by step, so that variations in the machine's
speed, which last for seconds, affect all of them; each round builds new models. Compare the ratios,
on a busy machine those of processor time. (Batches are prefetched in anyone's turn; reading one
takes a thousandth of a step.) `--xla` adds a `Trainer` compiled by XLA. Takes about 2 minutes on
two idle cores.
"""

from __future__ import annotations

import argparse
import functools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

import keras_resnet
from keras_resnet.data.dataset import ArrayDataset
from keras_resnet.training import Trainer, sgd

LOSS = "sparse_categorical_crossentropy"
PEER = "Keras fit"


def main() -> None:
    options = parse()
    rng = np.random.default_rng(0)
    count = 4 * options.batch_size
    images = rng.integers(0, 256, (count, options.size, options.size, 3), "uint8")
    labels = rng.integers(0, 10, count).astype("int32")
    dataset = ArrayDataset("noise", {"train": (images, labels)}, [str(i) for i in range(10)])

    runners = {PEER: run_fit, "Trainer": run_trainer}
    if options.xla:
        runners["Trainer, XLA"] = functools.partial(run_trainer, jit_compile=True)
    times = {name: [] for name in runners}
    for round_number in range(options.rounds):
        # The first runner of a round may run on a cooler processor.
        names = np.roll(list(runners), round_number).tolist()
        keras.utils.clear_session()
        models = {name: build(options) for name in names}
        turns = Turns(names)
        with ThreadPoolExecutor() as threads:
            runs = {
                name: threads.submit(
                    run_in_turn, runners[name], models[name], dataset, options, Timer(turns, name)
                )
                for name in names
            }
            try:
                for name, run in runs.items():
                    times[name].append(run.result())
            except BaseException:
                turns.end()
                raise
    report({name: np.array(rounds) for name, rounds in times.items()}, options)


def build(options: argparse.Namespace) -> keras.Model:
    keras.utils.set_random_seed(0)
    builder = getattr(keras_resnet, options.model)
    shape = (options.size, options.size, 3)
    return builder(input_shape=shape, classes=10, weights=None)


class Turns:
    """Lets several threads run one at a time, in turn, until each leaves."""

    def __init__(self, names: Iterable[str]):
        self._names = deque(names)
        self._changed = threading.Condition()
        self._ended = False

    def take(self, name: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._names[0] == name)
            if self._ended:
                raise RuntimeError("the benchmark was stopped")

    def pass_on(self) -> None:
        with self._changed:
            self._names.rotate(-1)
            self._changed.notify_all()

    def leave(self, name: str) -> None:
        with self._changed:
            self._names.remove(name)
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class Timer(keras.callbacks.Callback):
    """Measures each step in wall time and in processor time of all threads."""

    def __init__(self, turns: Turns, name: str):
        super().__init__()
        self.turns, self.name = turns, name
        self.seconds = []

    def begin(self) -> None:
        self.turns.take(self.name)
        self._began = self._now()

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.seconds.append(self._now() - self._began)
        self.turns.pass_on()
        self.begin()

    def _now(self) -> np.ndarray:
        return np.array([time.perf_counter(), time.process_time()])


def run_in_turn(
    run: Callable,
    model: keras.Model,
    dataset: ArrayDataset,
    options: argparse.Namespace,
    timer: Timer,
) -> list[np.ndarray]:
    """Returns the seconds of each step of a run; the first includes the preparation before it."""
    timer.begin()
    try:
        run(model, dataset, options, timer)
    finally:
        timer.turns.leave(timer.name)
    return timer.seconds


def run_fit(
    model: keras.Model, dataset: ArrayDataset, options: argparse.Namespace, timer: Timer
) -> None:
    metric = keras.metrics.SparseCategoricalAccuracy("accuracy")
    model.compile(sgd(0.1), LOSS, metrics=[metric], jit_compile=False)
    batches = dataset.train_batches(options.batch_size)
    model.fit(batches, steps_per_epoch=options.steps + 1, callbacks=[timer], verbose=0)


def run_trainer(
    model: keras.Model,
    dataset: ArrayDataset,
    options: argparse.Namespace,
    timer: Timer,
    *,
    jit_compile: bool = False,
) -> None:
    metric = keras.metrics.SparseCategoricalAccuracy("accuracy")
    trainer = Trainer(model, sgd(0.1), LOSS, [metric], jit_compile=jit_compile)
    trainer.fit(
        dataset,
        options.batch_size,
        epochs=1,
        steps_per_epoch=options.steps + 1,
        callbacks=[timer],
    )


def report(times: dict[str, np.ndarray], options: argparse.Namespace) -> None:
    """Prints median times, and medians and quartiles of the ratios to the same turn of Keras.

    Args:
        times: Seconds by name, of shape (rounds, steps, 2): wall time and processor time.
        options: Parsed flags.
    """
    print(
        f"{options.model}, {options.size}x{options.size}, batch {options.batch_size}, "
        f"{options.rounds} rounds of {options.steps} steps, "
        f"keras {keras.__version__}, tensorflow {tf.__version__}"
    )
    print(f"medians in seconds; ratios to the same turn of {PEER}: median (quartiles)")
    for what, steps in (("first step", slice(0, 1)), ("later steps", slice(1, None))):
        for clock, unit in enumerate(("", ", processor time")):
            theirs = times[PEER][:, steps, clock]
            print(f"{what}{unit}\n  {PEER:<12}  {np.median(theirs):.3f}")
            for name in list(times)[1:]:
                ours = times[name][:, steps, clock]
                low, middle, high = np.quantile(ours / theirs, (0.25, 0.5, 0.75))
                print(
                    f"  {name:<12}  {np.median(ours):.3f}  {middle:.3f} ({low:.2f} to {high:.2f})"
                )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ResNet20", help="a builder of keras_resnet")
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20, help="steps per round after the first")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--xla", action="store_true", help="add a trainer compiled by XLA")
    return parser.parse_args()


if __name__ == "__main__":
    main()
