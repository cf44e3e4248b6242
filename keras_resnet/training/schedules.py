"""Learning-rate schedules: the paper's steps and warm-up, and the field's linear warm-up.

Every schedule is a `keras.optimizers.schedules.LearningRateSchedule`. Cosine and polynomial decay
are Keras's own; `make_schedule` puts them together by name.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import keras
from keras import ops
from keras.optimizers import schedules
from keras.optimizers.schedules import LearningRateSchedule

from keras_resnet.utils import checks

NAMES = ("constant", "steps", "cosine", "polynomial")


def make_schedule(
    name: str,
    learning_rate: float,
    *,
    total_steps: int,
    boundaries: Sequence[int] = (),
    factor: float = 0.1,
    power: float = 2.0,
    warmup_steps: int = 0,
    warmup_start: float = 0.0,
) -> LearningRateSchedule:
    """Makes a schedule by name.

    Args:
        name: `"constant"`, `"steps"`, `"cosine"` or `"polynomial"`.
        learning_rate: Highest learning rate.
        total_steps: Steps of the whole run, where cosine and polynomial reach 0.
        boundaries: For `"steps"`, such as the paper's 32000 and 48000 of 64000.
        factor: For `"steps"`: multiplies the learning rate at each of the `boundaries`.
        power: For `"polynomial"`.
        warmup_steps: Length of a linear warm-up in front; 0 for none.
        warmup_start: Share of the learning rate that warm-up starts from, in [0, 1].

    Raises:
        ValueError: An unknown name, or boundaries that are missing or not increasing.
    """
    checks.one_of("schedule", name, NAMES)
    if name == "steps" and (not boundaries or list(boundaries) != sorted(set(boundaries))):
        raise ValueError(
            f"`boundaries` must be increasing steps. Received: boundaries={tuple(boundaries)}"
        )
    if name == "cosine":
        schedule = schedules.CosineDecay(learning_rate, total_steps)
    elif name == "polynomial":
        schedule = schedules.PolynomialDecay(learning_rate, total_steps, 0.0, power)
    else:
        if name == "constant":
            boundaries, factor = [total_steps], 1.0
        schedule = schedules.PiecewiseConstantDecay(
            # Keras keeps the old rate on the boundary itself; the paper divides at it.
            [boundary - 1 for boundary in boundaries],
            [learning_rate * factor**index for index in range(len(boundaries) + 1)],
        )
    return LinearWarmup(schedule, warmup_steps, warmup_start) if warmup_steps else schedule


class _Warmup(LearningRateSchedule):
    """A schedule in front of another one, with which it is serialized."""

    def __init__(self, schedule: LearningRateSchedule):
        self.schedule = schedule

    def get_config(self) -> dict:
        return {"schedule": keras.saving.serialize_keras_object(self.schedule)}

    @classmethod
    def from_config(cls, config: dict):
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(**{**config, "schedule": schedule})


@keras.saving.register_keras_serializable("keras_resnet")
class LinearWarmup(_Warmup):
    """Scales a schedule up linearly over its first steps, arXiv 1706.02677.

    Args:
        schedule: Schedule that follows; it counts its steps from the start of the run.
        steps: Length of the warm-up; step `steps - 1` already has the full learning rate.
        start: Share of the learning rate that the warm-up rises from, in [0, 1].
    """

    def __init__(self, schedule: LearningRateSchedule, steps: int, start: float = 0.0):
        super().__init__(schedule)
        self.steps = checks.integer("steps", steps)
        self.start = checks.fraction("start", start, one_allowed=True)

    def __call__(self, step):
        progress = (ops.cast(step, "float32") + 1.0) / self.steps
        share = self.start + (1.0 - self.start) * ops.minimum(progress, 1.0)
        return self.schedule(step) * share

    def get_config(self) -> dict:
        return {**super().get_config(), "steps": self.steps, "start": self.start}


# The end of a warm-up that is not over: more steps than any run has.
_NEVER = 2**62


@keras.saving.register_keras_serializable("keras_resnet")
class ErrorWarmup(_Warmup):
    """A low constant learning rate until the training error is below a threshold, then a schedule.

    Section 4.2 of the paper trains ResNet-110 at 0.01 until the training error is below 80 %
    (about 400 iterations), then at 0.1. The error is a running average over the last `window`
    batches or so, that starts at 1; once it was below the threshold the warm-up is over for good.
    Both are variables that the trainer's step updates by `observe`, and a checkpoint holds.

    Args:
        schedule: Schedule that follows; it counts its steps from the start of the run.
        rate: Learning rate of the warm-up.
        threshold: Training error, in (0, 1), below which the warm-up ends.
        window: Number of batches that the running average spans.
        end: Steps that the warm-up took, where it is over already.
    """

    def __init__(
        self,
        schedule: LearningRateSchedule,
        rate: float = 0.01,
        threshold: float = 0.8,
        window: int = 50,
        end: int | None = None,
    ):
        super().__init__(schedule)
        self.rate = checks.positive("rate", rate)
        self.threshold = checks.fraction("threshold", threshold)
        self.window = checks.integer("window", window)
        # Every replica computes the same value, so that of the first one is the value.
        state = functools.partial(keras.Variable, trainable=False, aggregation="only_first_replica")
        self.error = state(1.0, dtype="float32", name="warmup_error")
        self.end = state(_NEVER if end is None else end, dtype="int64", name="warmup_end")

    @property
    def variables(self) -> list[keras.Variable]:
        """The state a checkpoint has to hold."""
        return [self.error, self.end]

    def observe(self, error, steps) -> None:
        """Updates the average with the error of a global batch, in [0, 1], after so many steps.

        The batch's own step is among them; the learning rate changes from the next step on.
        """
        average = self.error + (error - self.error) / self.window
        self.error.assign(average)
        ends = ops.logical_and(self.end == _NEVER, average < self.threshold)
        self.end.assign(ops.where(ends, ops.cast(steps, "int64"), self.end))

    def __call__(self, step):
        return ops.where(ops.cast(step, "int64") < self.end, self.rate, self.schedule(step))

    def get_config(self) -> dict:
        end = int(self.end.numpy())
        return {
            **super().get_config(),
            "rate": self.rate,
            "threshold": self.threshold,
            "window": self.window,
            "end": None if end == _NEVER else end,
        }
