"""How far a measurement has come, on the terminal."""

from __future__ import annotations

import time

from keras_resnet.utils.terminal import format_seconds, start_bar


class Progress:
    """Shows images done, their rate and the time left: a bar on a terminal, else a line at times.

    A context manager; what it yields is the `progress` of `evaluate`.

    Args:
        every: Seconds from one line to the next.
    """

    def __init__(self, every: float = 10.0):
        self._every = every

    def __enter__(self) -> Progress:
        self._bar = self._begin = None
        return self

    def __call__(self, done: int, total: int) -> None:
        now = time.perf_counter()
        if self._begin is None:
            self._begin = self._shown = now
            self._bar = start_bar(total)
        status = f"{done}/{total} images"
        if done:
            rate = done / (now - self._begin)
            status += f"  {rate:.3g} images/s  {format_seconds((total - done) / rate)} left"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, status=status)
        elif now - self._shown >= self._every:
            self._shown = now
            print(status, flush=True)

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
