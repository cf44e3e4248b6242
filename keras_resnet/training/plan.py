"""What falls due at which step of a run."""

from __future__ import annotations

from typing import NamedTuple

from keras_resnet.data.dataset import ImageDataset
from keras_resnet.utils import checks


class Plan(NamedTuple):
    """What `Trainer.fit` was asked for, in steps.

    Attributes:
        batch_size: Global batch.
        seed: Seed of the training data's order and augmentation.
        steps_per_epoch: Steps after which an epoch ends.
        last_step: Step after which the run ends.
        log_every: Steps from one reading of the metrics to the next.
        save_every: Steps from one checkpoint to the next.
        validation_split: Split to evaluate on after each epoch, or None.
        read_every: Steps from one reading of the metrics to the next, for each callback that acts
            between the others.
    """

    batch_size: int
    seed: int
    steps_per_epoch: int
    last_step: int
    log_every: int
    save_every: int
    validation_split: str | None
    read_every: tuple[int, ...] = ()

    def is_due(self, step: int, every: int) -> bool:
        """Whether something that happens every so many steps, and at the end, happens now."""
        return step % every == 0 or step == self.last_step

    def next_stop(self, step: int) -> int:
        """The next step at which something is due."""
        every = (self.steps_per_epoch, self.log_every, self.save_every, *self.read_every)
        return min(self.last_step, *(step - step % n + n for n in every))

    def settings(self) -> dict[str, int]:
        """What the position in the data depends on, and a run that goes on must share."""
        return {
            "batch_size": self.batch_size,
            "seed": self.seed,
            "steps_per_epoch": self.steps_per_epoch,
        }


def make_plan(
    dataset: ImageDataset,
    batch_size: int,
    *,
    epochs: int | None,
    steps: int | None,
    steps_per_epoch: int | None,
    log_every: int,
    save_every: int | None,
    validation_split: str | None,
    seed: int,
    read_every: tuple[int, ...] = (),
) -> Plan:
    """Turns the arguments of `Trainer.fit` into steps.

    Raises:
        ValueError: Neither or both of `epochs` and `steps`, or a number that does not fit.
    """
    if (epochs is None) == (steps is None):
        raise ValueError(
            f"Give one of `epochs` and `steps`. Received: epochs={epochs}, steps={steps}"
        )
    if steps_per_epoch is None:
        steps_per_epoch = dataset.steps_per_epoch(batch_size)
    checks.integer("steps_per_epoch", steps_per_epoch)
    if epochs is not None:
        steps = checks.integer("epochs", epochs) * steps_per_epoch
    return Plan(
        batch_size=batch_size,
        seed=seed,
        steps_per_epoch=steps_per_epoch,
        last_step=checks.integer("steps", steps),
        log_every=checks.integer("log_every", log_every),
        save_every=save_every or steps_per_epoch,
        validation_split=validation_split if validation_split in dataset.splits else None,
        read_every=read_every,
    )
