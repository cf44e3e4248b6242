"""One call of `Trainer.fit` and its checkpoints: what it goes on from, and what it saves.

TensorFlow only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import keras

from keras_resnet.training import state
from keras_resnet.training.checkpoints import Checkpoints
from keras_resnet.training.errors import Diverged
from keras_resnet.training.optimizers import last_learning_rate
from keras_resnet.training.plan import Plan
from keras_resnet.training.step import Step
from keras_resnet.training.strategy import any_worker, is_chief, workers_agree
from keras_resnet.utils import private


class Session:
    """What a call of `Trainer.fit` goes on from, takes of time, saves, and says when it ends badly.

    Args:
        step: The step; its model, optimizer and metrics are what is saved.
        plan: What the position in the data depends on.
        checkpoints: Where to save and to look for the beginning of the run, or None.
        seconds: Time spent on the way to the present step.

    Attributes:
        plan: The plan.
        seconds: That time, as of the last `tick`.
        stop_training: Whether a callback had ended the run.
    """

    def __init__(self, step: Step, plan: Plan, checkpoints: Checkpoints | None, seconds: float):
        self.plan = plan
        self.stop_training = False
        self._step = step
        self._checkpoints = checkpoints
        self.seconds = seconds
        self._last_tick = time.perf_counter()
        self._callbacks: list = []
        self._best_weights: state.BestWeights = {}

    def restore(self) -> None:
        """Goes on from the newest checkpoint, where it is further than the step.

        Raises:
            ValueError: It belongs to another run, or not every worker sees it.
        """
        checkpoints, strategy = self._checkpoints, self._step.strategy
        if checkpoints is None:
            return
        checkpoint = checkpoints.newest(self.plan.settings())
        if checkpoint is not None and checkpoint.arrays["step/0000"] > self._count():
            arrays, self._best_weights = state.split_best_weights(checkpoint.arrays)
            with strategy.scope():
                state.restore(self.variables(), arrays)
            details = checkpoint.details
            self.seconds = details["seconds"]
            self.stop_training = details["stop_training"]
            self._callbacks = details["callbacks"]
        if not workers_agree(strategy, self._count()):
            raise ValueError(
                "`checkpoints` must lie in a directory that all workers share. Received: "
                f"{str(checkpoints.directory)!r}, which gives this worker step {self._count()}"
            )

    def restore_callbacks(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Gives callbacks, once they have begun, the counts and weights they had."""
        state.restore_callbacks(callbacks, self._callbacks, self._best_weights)

    def save(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Writes a checkpoint of the present step.

        Raises:
            Diverged: A variable is not finite.
            TrainingStopped: The checkpoint could not be written.
        """
        arrays = self.expect_finite(self.variables())
        arrays |= state.collect_best_weights(callbacks)
        strategy = self._step.strategy
        if is_chief(strategy):
            details = {
                "seconds": self.tick(),
                "stop_training": bool(self._step.model.stop_training),
                "callbacks": state.collect_callbacks(callbacks),
            }
            self._checkpoints.save(self._count(), arrays, self.plan.settings(), details)
        # Asked for the waiting alone: no worker goes on before the file is there.
        any_worker(strategy, False)

    @property
    def keeps_checkpoints(self) -> bool:
        """Whether there is a place for them."""
        return self._checkpoints is not None

    def variables(self) -> state.Variables:
        """Everything that a step reads and changes."""
        step = self._step
        held = {"schedule": private.schedule_of(step.optimizer), "loss_scale": step.loss_scale}
        return {
            "step": [step.count],
            "model": step.model.variables,
            "optimizer": step.optimizer.variables,
            "metrics": step.metric_variables,
            **{name: getattr(holder, "variables", []) for name, holder in held.items()},
        }

    def expect_finite(self, variables: state.Variables) -> dict:
        """Returns the variables as arrays, or raises `Diverged` if one is not finite."""
        arrays = state.collect(variables)
        bad = state.non_finite(arrays)
        if bad is not None:
            raise self.diverged(f"{bad} is not finite")
        return arrays

    def diverged(self, reason: str) -> Diverged:
        """The error that says what went wrong, where, and what there is to go on from."""
        rate = last_learning_rate(self._step.optimizer)
        return Diverged(self._count(), rate, reason, self.last_good())

    def last_good(self) -> str:
        """Half a sentence that names the newest checkpoint."""
        if self._checkpoints is None:
            return "no checkpoints are kept"
        return self._checkpoints.last_good()

    def tick(self) -> float:
        """Returns the time spent on the way to the present step, earlier sessions' too."""
        now = time.perf_counter()
        self.seconds += now - self._last_tick
        self._last_tick = now
        return self.seconds

    def _count(self) -> int:
        return int(self._step.count.numpy())
