"""Images a second, and the share of the time that went into waiting for them."""

from __future__ import annotations

import time

import tensorflow as tf


class Clock:
    """Measures the speed of training between two readings.

    Args:
        batch_size: Global batch.
        input_seconds: Variable in which the step adds up the time spent waiting for input, or None
            where it does not.
    """

    def __init__(self, batch_size: int, input_seconds: tf.Variable | None):
        self._batch_size = batch_size
        self._input_seconds = input_seconds

    def start(self, step: int) -> None:
        """Forgets what was before `step`, such as tracing or an evaluation."""
        self._step = step
        self._time = time.perf_counter()
        self._waited = self._waiting()

    def read(self, step: int) -> dict[str, float]:
        """Speed since the last reading, or nothing where there was no step since then."""
        steps = step - self._step
        seconds = time.perf_counter() - self._time
        waited = self._waiting() - self._waited
        self.start(step)
        if steps == 0:
            return {}
        speed = {"images_per_second": steps * self._batch_size / seconds}
        if self._input_seconds is not None:
            speed["input_wait"] = min(waited / seconds, 1.0)
        return speed

    def _waiting(self) -> float:
        return 0.0 if self._input_seconds is None else float(self._input_seconds.numpy())
