"""SIGTERM as a question that the training loop can ask."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def sigterm_noted(active: bool = True) -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGTERM has come since the block began.

    Outside of the main thread, where Python allows no handlers, it always says no.

    Args:
        active: Whether to take the signal at all; where not, it does what it always did.
    """
    if not active or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    received = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.set())
    try:
        yield received.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
