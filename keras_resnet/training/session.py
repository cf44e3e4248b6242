"""One call of `Trainer.fit`: what is due at which step, and the state that checkpoints hold.

TensorFlow only.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data.dataset import ImageDataset
from keras_resnet.training.best import KeepBest
from keras_resnet.training.checkpoints import Checkpoints
from keras_resnet.training.optimizers import last_learning_rate
from keras_resnet.training.step import Step
from keras_resnet.training.stopping import Diverged
from keras_resnet.training.strategy import any_worker, is_chief, workers_agree
from keras_resnet.utils import checks, private

# Counters of callbacks, such as the patience that is used up. By name: other numbers
# among their attributes are settings, which Keras may change once training begins. Callbacks of
# other kinds may name theirs in `saved_counters`, of values that JSON can hold.
_COUNTERS = {
    KeepBest: ("epochs", "values"),
    keras.callbacks.EarlyStopping: ("wait", "best", "best_epoch", "stopped_epoch"),
    keras.callbacks.ModelCheckpoint: (
        *("best", "_batches_seen_since_last_saving", "_last_batch_seen"),
    ),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    # From an epoch's end to the next one's beginning, the averages lie in the model.
    keras.callbacks.SwapEMAWeights: ("_ema_weights_in_model",),
}

# The weights that `KeepBest` and `EarlyStopping` keep: their attribute, and arrays
# `best_weights/callback/number`.
_BEST = "best_weights"

Variables = Mapping[str, Sequence[keras.Variable | tf.Variable]]


class Plan(NamedTuple):
    """Arguments of `Trainer.fit`, in steps."""

    steps_per_epoch: int
    last_step: int
    log_every: int
    save_every: int
    read_every: tuple[int, ...]  # of callbacks that act between two loggings

    def is_due(self, step: int, every: int) -> bool:
        """Returns whether something is due that happens every so many steps, and at the end."""
        return step % every == 0 or step == self.last_step

    def next_stop(self, step: int) -> int:
        """Returns the next step at which something is due."""
        every = (self.steps_per_epoch, self.log_every, self.save_every, *self.read_every)
        return min(self.last_step, *(step - step % n + n for n in every))


def make_plan(
    dataset: ImageDataset,
    batch_size: int,
    *,
    epochs: int | None,
    steps: int | None,
    steps_per_epoch: int | None,
    log_every: int,
    callbacks: Sequence[keras.callbacks.Callback],
    checkpoints: Checkpoints | None,
) -> Plan:
    """Returns the plan for arguments of `Trainer.fit`; a ValueError if they do not fit."""
    if (epochs is None) == (steps is None):
        raise ValueError(
            f"Give one of `epochs` and `steps`. Received: epochs={epochs}, steps={steps}"
        )
    if steps_per_epoch is None:
        steps_per_epoch = dataset.steps_per_epoch(batch_size)
    checks.integer("steps_per_epoch", steps_per_epoch)
    if epochs is not None:
        steps = checks.integer("epochs", epochs) * steps_per_epoch
    # Some callbacks save by the batch, not by the epoch.
    frequencies = (getattr(callback, "save_freq", None) for callback in callbacks)
    return Plan(
        steps_per_epoch=steps_per_epoch,
        last_step=checks.integer("steps", steps),
        log_every=checks.integer("log_every", log_every),
        save_every=getattr(checkpoints, "every", None) or steps_per_epoch,
        read_every=tuple(n for n in frequencies if type(n) is int),
    )


class Clock:
    """Measures the speed of training between two readings.

    `input_seconds` holds the time spent waiting for input so far, or is None where it is unknown.
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
        """Returns the speed since the last reading, or nothing where no step was made."""
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


class Session:
    """The state of a run: restored from its newest checkpoint, saved, and checked.

    A resumed run must share the `settings`. `seconds` is the time spent on the way to the present
    step, as of the last `tick`; `stop_training` says whether a callback had ended the run, and
    `micro_batches` is the number of parts that it cut a replica's batch into.
    """

    def __init__(self, step: Step, settings: dict, checkpoints: Checkpoints | None, seconds: float):
        self.checkpoints = checkpoints
        self.seconds = seconds
        self.stop_training = False
        self.stepped = False  # in this call
        self.micro_batches = step.micro_batches
        self._step = step
        self._settings = settings
        self._last_tick = time.perf_counter()
        self._callbacks: list[dict] = []
        self._best_weights: dict[str, np.ndarray] = {}

    def restore(self) -> None:
        """Resumes from the newest checkpoint, where it is further than the step."""
        checkpoints, strategy = self.checkpoints, self._step.strategy
        if checkpoints is None:
            return
        checkpoint = checkpoints.newest(self._settings)
        if checkpoint is not None and checkpoint.arrays["step/0000"] > self._count():
            arrays = dict(checkpoint.arrays)
            best = [name for name in arrays if name.startswith(f"{_BEST}/")]
            self._best_weights = {name: arrays.pop(name) for name in best}
            with strategy.scope():
                restore(self.variables(), arrays)
            self.seconds = checkpoint.details["seconds"]
            self.stop_training = checkpoint.details["stop_training"]
            self.micro_batches = checkpoint.details.get("micro_batches", self.micro_batches)
            self._callbacks = checkpoint.details["callbacks"]
        if not workers_agree(strategy, self._count()):
            raise ValueError(
                "`checkpoints` must lie in a directory that all workers share. Received: "
                f"{str(checkpoints.directory)!r}, which gives this worker step {self._count()}"
            )

    def restore_callbacks(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Restores counters and weights of callbacks, after their `on_train_begin`."""
        for position, (callback, saved) in enumerate(zip(callbacks, self._callbacks, strict=False)):
            if type(callback).__name__ == saved["class"]:
                vars(callback).update(saved["counters"])
                prefix = f"{_BEST}/{position}/"
                best = [name for name in self._best_weights if name.startswith(prefix)]
                best.sort(key=lambda name: int(name.removeprefix(prefix)))
                if best:
                    setattr(callback, _BEST, [self._best_weights[name] for name in best])

    def save(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Writes a checkpoint of the present step, where there is a place for it."""
        if self.checkpoints is None:
            return
        arrays, counters = self.expect_finite(self.variables()), []
        for position, callback in enumerate(callbacks):
            others = getattr(callback, "saved_counters", ())
            names = next((n for kind, n in _COUNTERS.items() if isinstance(callback, kind)), others)
            own = {name: getattr(callback, name) for name in names}
            counters.append({"class": type(callback).__name__, "counters": own})
            for index, array in enumerate(getattr(callback, _BEST, None) or ()):
                arrays[f"{_BEST}/{position}/{index:04d}"] = array
        strategy = self._step.strategy
        if is_chief(strategy):
            details = {
                "seconds": self.tick(),
                "stop_training": bool(self._step.model.stop_training),
                "micro_batches": self._step.micro_batches,
                "callbacks": counters,
            }
            self.checkpoints.save(self._count(), arrays, self._settings, details)
        # Asked for the waiting alone: no worker continues before the file is there.
        any_worker(strategy, False)

    def variables(self) -> Variables:
        """Returns everything that a step reads and changes."""
        step = self._step
        held = {"schedule": private.schedule_of(step.optimizer), "loss_scale": step.loss_scale}
        return {
            "step": [step.count],
            "model": step.model.variables,
            "optimizer": step.optimizer.variables,
            "metrics": step.metric_variables,
            "averages": step.averages,
            **{name: getattr(holder, "variables", []) for name, holder in held.items()},
        }

    def expect_finite(self, variables: Variables) -> dict[str, np.ndarray]:
        """Returns the variables as arrays, or raises `Diverged` if one is not finite."""
        arrays = collect(variables)
        for name, array in arrays.items():
            # By name, since NumPy does not count bfloat16 among its own.
            if "float" in array.dtype.name and not np.isfinite(array).all():
                raise self.diverged(f"{name} is not finite")
        return arrays

    def diverged(self, reason: str) -> Diverged:
        """Returns the error that says what went wrong, where, and what to resume from."""
        rate = last_learning_rate(self._step.optimizer)
        return Diverged(self._count(), rate, reason, self.last_good())

    def last_good(self) -> str:
        """Returns half a sentence that names the newest checkpoint."""
        return self.checkpoints.last_good() if self.checkpoints else "no checkpoints are kept"

    def tick(self) -> float:
        """Returns the time spent on the way to the present step, earlier sessions' too."""
        now = time.perf_counter()
        self.seconds += now - self._last_tick
        self._last_tick = now
        return self.seconds

    def _count(self) -> int:
        return int(self._step.count.numpy())


@contextlib.contextmanager
def kept(strategy: tf.distribute.Strategy, variables: Variables) -> Iterator[None]:
    """Restores the values of variables when the block ends."""
    before = collect(variables)
    try:
        yield
    finally:
        with strategy.scope():
            restore(variables, before)


def collect(variables: Variables) -> dict[str, np.ndarray]:
    """Reads groups of variables into arrays named `group/number`."""
    return {name: variable.numpy() for name, variable in _by_name(variables).items()}


def restore(variables: Variables, arrays: Mapping[str, np.ndarray]) -> None:
    """Assigns what `collect` read; where the arrays are those of other variables, nothing."""
    targets = _by_name(variables)
    for name in targets.keys() | arrays.keys():
        own = tuple(targets[name].shape) if name in targets else "nothing"
        saved = arrays[name].shape if name in arrays else "nothing"
        if own != saved:
            raise ValueError(
                "`checkpoints` must be those of the same model, optimizer and metrics; use a new "
                f"directory. Received: {name} of shape {own}, where the checkpoint has {saved}"
            )
    strategy = tf.distribute.get_strategy()
    several = strategy.num_replicas_in_sync > 1
    for name, variable in targets.items():
        array = arrays[name]
        counts = several and array.dtype.kind in "iu"
        if counts and str(variable.aggregation).lower().endswith("sum"):
            # All to the first replica: TensorFlow cuts a sum into equal whole parts, and loses.
            for index, copy in enumerate(strategy.experimental_local_results(variable.value)):
                copy.assign(array if index == 0 and is_chief(strategy) else np.zeros_like(array))
        else:
            variable.assign(array)


def _by_name(variables: Variables) -> dict[str, keras.Variable | tf.Variable]:
    return {
        f"{group}/{index:04d}": variable
        for group, members in variables.items()
        for index, variable in enumerate(members)
    }
