"""A range test of learning rates (section 3.3 of arXiv 1506.01186). TensorFlow only."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data.dataset import ImageDataset
from keras_resnet.training.session import kept
from keras_resnet.training.stopping import Diverged
from keras_resnet.training.trainer import Trainer
from keras_resnet.utils import checks

# Steps at the start whose loss says little: their average has hardly begun.
_SKIPPED = 5

MakeOptimizer = Callable[
    [keras.optimizers.schedules.LearningRateSchedule], keras.optimizers.Optimizer
]


class RangeTest(NamedTuple):
    """Losses of a model while its learning rate rises, a value per step.

    Attributes:
        rates: The learning rates.
        losses: Loss of the step's batch, before the update of the weights.
        smoothed: Moving average of the losses, corrected for its start.
        suggestion: The learning rate at which the average falls fastest over the logarithm of the
            learning rate; None if it never falls.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float | None

    def rows(self) -> list[dict[str, float]]:
        """Returns a row per step: `step`, `learning_rate`, `loss` and `smoothed_loss`."""
        steps = enumerate(zip(self.rates, self.losses, self.smoothed, strict=True), start=1)
        return [
            {"step": step, "learning_rate": rate, "loss": loss, "smoothed_loss": smoothed}
            for step, (rate, loss, smoothed) in steps
        ]


def find_learning_rate(
    model: keras.Model,
    make_optimizer: MakeOptimizer,
    loss: keras.losses.Loss | str | Callable,
    dataset: ImageDataset,
    batch_size: int,
    *,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
    smoothing: float = 0.8,
    divergence: float = 4.0,
    seed: int = 0,
    sampling: str | None = None,
    strategy: tf.distribute.Strategy | None = None,
    **options: Any,
) -> RangeTest:
    """Trains a model for some steps with a learning rate that rises by the same factor at each.

    Afterwards the model has the weights, statistics and random state that it had before. It was
    compiled for the test, so make its `Trainer` afterwards.

    Args:
        model: Built Keras model.
        make_optimizer: Maps a learning rate schedule to an optimizer, such as `sgd` or
            `functools.partial(make_optimizer, "adamw")`.
        loss: As in `Trainer`.
        dataset: The data.
        batch_size: As in `Trainer.fit`.
        lowest: Learning rate of the first step.
        highest: Learning rate of the last step.
        steps: Number of steps.
        smoothing: Momentum of the average of the losses, in [0, 1); it lags behind them by about
            `1 / (1 - smoothing)` steps.
        divergence: Multiple of the lowest average at which the test ends.
        seed: As in `Trainer.fit`.
        sampling: As in `Trainer.fit`.
        strategy: As in `Trainer`.
        **options: Further options of `Trainer`.

    Raises:
        ValueError: A number out of range, or what `Trainer` and its `fit` refuse.
    """
    checks.positive("lowest", lowest)
    if not checks.positive("highest", highest) > lowest:
        raise ValueError(f"`highest` must be above {lowest:g}. Received: highest={highest}")
    checks.integer("steps", steps, minimum=2 * _SKIPPED)
    checks.fraction("smoothing", smoothing)
    if not checks.positive("divergence", divergence) > 1.0:
        raise ValueError(f"`divergence` must be above 1. Received: divergence={divergence}")
    factor = (highest / lowest) ** (1 / (steps - 1))
    strategy = strategy or tf.distribute.get_strategy()
    sweep = _Sweep(smoothing, divergence)
    with kept(strategy, {"model": model.variables}):
        with strategy.scope():
            optimizer = make_optimizer(
                keras.optimizers.schedules.ExponentialDecay(lowest, 1, factor)
            )
        trainer = Trainer(model, optimizer, loss, strategy=strategy, **options)
        # Divergence is the end of the test. An epoch a step, so that the loss is that of a batch.
        with contextlib.suppress(Diverged):
            trainer.fit(
                dataset,
                batch_size,
                steps=steps,
                steps_per_epoch=1,
                validation_split=None,
                callbacks=[sweep],
                log_every=steps,
                seed=seed,
                sampling=sampling,
            )
    model.stop_training = False
    rates = [lowest * factor**step for step in range(len(sweep.losses))]
    return RangeTest(rates, sweep.losses, sweep.smoothed, steepest(rates, sweep.smoothed))


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Returns the learning rate at which losses fall fastest over its logarithm, or None."""
    slopes = np.gradient(losses, np.log(rates)) if len(losses) > _SKIPPED + 1 else np.zeros(0)
    # The last step may have diverged already.
    slopes = slopes[_SKIPPED:-1]
    if not slopes.size or slopes.min() >= 0.0:
        return None
    return float(rates[_SKIPPED + int(slopes.argmin())])


class _Sweep(keras.callbacks.Callback):
    """Notes the loss of each step, and ends the test where it is far above its lowest."""

    def __init__(self, smoothing: float, divergence: float):
        super().__init__()
        self.losses: list[float] = []
        self.smoothed: list[float] = []
        self._average, self._smoothing, self._divergence = 0.0, smoothing, divergence

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        loss = (logs or {})["loss"]
        self._average = self._smoothing * self._average + (1 - self._smoothing) * loss
        self.losses.append(loss)
        self.smoothed.append(self._average / (1 - self._smoothing ** len(self.losses)))
        if self.smoothed[-1] > self._divergence * min(self.smoothed):
            self.model.stop_training = True
