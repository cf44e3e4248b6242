"""A loop of training that waits after each batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import keras

Fit = Callable[[Sequence[keras.callbacks.Callback]], object]


class Stepwise(keras.callbacks.Callback):
    """Runs a function in a thread, with itself as its callback; a call lets it train one batch."""

    def __init__(self, fit: Fit):
        super().__init__()
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._error: BaseException | None = None
        threading.Thread(target=self._run, args=(fit,), daemon=True).start()

    def _run(self, fit: Fit) -> None:
        self._go.acquire()
        try:
            fit([self])
        except BaseException as error:  # raised where the step was asked for
            self._error = error
        self._done.release()

    def on_train_batch_end(self, batch, logs=None) -> None:
        self._done.release()
        self._go.acquire()

    def __call__(self) -> None:
        self._go.release()
        self._done.acquire()
        if self._error is not None:
            raise self._error
