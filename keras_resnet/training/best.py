"""The weights of the best epochs of a run, beside those of the last one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping

import keras
import numpy as np

from keras_resnet.utils import checks

MODES = ("auto", "min", "max")
# Prefix of the figures of the averaged weights (EMA).
AVERAGED = "ema_"


class KeepBest(keras.callbacks.Callback):
    """Keeps the weights of the best epochs in memory, and in the checkpoints of the run.

    A run that resumes has those of the epochs before. Where the monitored figure is one of the
    averaged weights (`ema_val_accuracy`), it is these that are kept. Of epochs that are equally
    good the earlier one is better.

    Args:
        monitor: Name of a figure of an epoch.
        mode: `"max"`, `"min"`, or `"auto"` for the direction of the metric of that name.
        count: Number of epochs to keep the weights of.

    Attributes:
        epochs: The epochs, counted from 1, the best one first.
        values: Their figures.
        best_weights: Their weights one after the other, as `model.get_weights()` gives them.

    Raises:
        ValueError: An unknown mode, or a count below 1.
    """

    def __init__(self, monitor: str = "val_accuracy", *, mode: str = "auto", count: int = 1):
        super().__init__()
        self.monitor = monitor
        self.mode = checks.one_of("mode", mode, MODES)
        self.count = checks.integer("count", count)
        self.epochs: list[int] = []
        self.values: list[float] = []
        self.best_weights: list[np.ndarray] = []
        # Set by `Trainer`: has the model hold the averages of its weights meanwhile.
        self.averaged: Callable[[], contextlib.AbstractContextManager] | None = None

    def on_train_begin(self, logs=None) -> None:
        if self.params.get("first_step", 0) == 0:
            self.epochs, self.values, self.best_weights = [], [], []

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        value = (logs or {}).get(self.monitor)
        if value is None or math.isnan(value):
            return
        place = sum(not self._is_better(value, other) for other in self.values)
        if place >= self.count:
            return
        averaged = self.averaged if self.monitor.startswith(AVERAGED) else None
        with averaged() if averaged is not None else contextlib.nullcontext():
            weights = self.model.get_weights()
        size = len(weights)
        self.epochs.insert(place, epoch + 1)
        self.values.insert(place, value)
        self.best_weights[place * size : place * size] = weights
        del self.epochs[self.count :], self.values[self.count :]
        del self.best_weights[self.count * size :]

    def weights(self, place: int = 0) -> list[np.ndarray]:
        """Returns the weights of the best epoch, or of that in another place, for `set_weights`."""
        if not 0 <= place < len(self.epochs):
            raise ValueError(
                f"`place` must be below {len(self.epochs)}, the number of epochs whose weights "
                f"were kept. Received: place={place}"
            )
        size = len(self.best_weights) // len(self.epochs)
        return self.best_weights[place * size : (place + 1) * size]

    def _is_better(self, value: float, other: float) -> bool:
        rises = self.mode == "max" or (self.mode == "auto" and not self.monitor.endswith("loss"))
        return value > other if rises else value < other
