"""What falls due at which step of a run."""

from __future__ import annotations

from typing import NamedTuple


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
