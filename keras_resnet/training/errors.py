"""Why a run ended before its last step. Each message is one line."""

from __future__ import annotations


class TrainingStopped(RuntimeError):
    """The run cannot go on; the message says why and names the last good checkpoint."""


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
