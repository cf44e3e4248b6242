"""How a run ends before its last step: errors with messages of one line, and signals."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType


class TrainingStopped(RuntimeError):
    """The run cannot continue; the message says why and names the last good checkpoint."""


class Diverged(TrainingStopped):
    """The loss, or a weight that was to be saved, is not finite.

    Args:
        step: Step at which it was noticed.
        rate: Learning rate of that step.
        reason: What is not finite.
        last_good: Half a sentence that names the last good checkpoint.
    """

    def __init__(self, step: int, rate: float, reason: str, last_good: str):
        super().__init__(
            f"Training diverged by step {step}, learning rate {rate:g}: {reason}; {last_good}"
        )


class Terminated(SystemExit):
    """SIGTERM was received; the run's state is saved. Exits with the shell's 128 + 15."""

    def __init__(self, message: str):
        super().__init__(143)
        self.message = message

    def __str__(self) -> str:
        return self.message


@contextlib.contextmanager
def signals_handled(
    handler: Callable[[int, FrameType | None], object],
    active: bool = True,
    signals: Sequence[int] = (signal.SIGTERM,),
) -> Iterator[None]:
    """Has signals call a function, as `signal.signal` takes it, within the block.

    Changes nothing if not `active`, or in a thread other than the main one, as Python demands.
    """
    if not active or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
