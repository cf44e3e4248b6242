"""Images a second, and the share of the time that went into waiting for them."""

from __future__ import annotations

import time

import tensorflow as tf


class Clock:
    """Measures the speed of training between two readings.

    Args:
        batch_size: Global batch.
        input_seconds: Variable in which the step adds up the time spent waiting for input.
    """

    def __init__(self, batch_size: int, input_seconds: tf.Variable):
        self._batch_size = batch_size
        self._input_seconds = input_seconds

    def start(self, step: int) -> None:
        """Forgets what was before `step`, such as tracing or an evaluation."""
        self._step = step
        self._time = time.perf_counter()
        self._waited = float(self._input_seconds.numpy())

    def read(self, step: int) -> dict[str, float]:
        """Speed since the last reading, or nothing where there was no step since then."""
        steps = step - self._step
        seconds = time.perf_counter() - self._time
        waited = float(self._input_seconds.numpy()) - self._waited
        self.start(step)
        if steps == 0:
            return {}
        return {
            "images_per_second": steps * self._batch_size / seconds,
            "input_wait": min(waited / seconds, 1.0),
        }
