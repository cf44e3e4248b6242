"""SIGTERM as a question that the training loop can ask."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def sigterm_noted(active: bool = True) -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGTERM has come since the block began.

    Outside of the main thread, where Python allows no handlers, it always says no.

    Args:
        active: Whether to take the signal at all; where not, it does what it always did.
    """
    received = threading.Event()
    with sigterm_handled(lambda number, frame: received.set(), active):
        yield received.is_set


@contextlib.contextmanager
def sigterm_handled(
    handler: Callable[[int, FrameType | None], None], active: bool = True
) -> Iterator[None]:
    """Has SIGTERM call a function within the block.

    Outside of the main thread, where Python allows no handlers, it changes nothing.

    Args:
        handler: As `signal.signal` takes it.
        active: Whether to take the signal at all; where not, it does what it always did.
    """
    if not active or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
