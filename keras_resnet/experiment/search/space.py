"""The space that a search chooses from, and the experiment that each choice stands for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_resnet.architectures import BLOCKS
from keras_resnet.experiment.settings import Experiment
from keras_resnet.utils import checks

# Choices between a lowest and a highest value.
RANGES = ("learning_rate", "weight_decay")


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """The CIFAR networks and settings of the optimizer that a search chooses from.

    Attributes:
        repeats: Blocks in each of the three stages.
        widenings: Factors of the widths 16, 32 and 64.
        blocks: "basic", "bottleneck".
        shortcuts: "A", "B", "C", or "none" for plain nets.
        squeeze_excitations: Reductions of squeeze-and-excitation; 0 for none.
        dropouts: Rates of dropout in the branches, in [0, 1).
        stochastic_depths: Drop rates of stochastic depth of the last block, in [0, 1).
        momentums: Momentums of SGD, in [0, 1).
        learning_rates: Lowest and highest learning rate; drawn uniformly on a logarithmic scale.
        weight_decays: Lowest and highest factor; drawn uniformly on a logarithmic scale.
    """

    repeats: tuple[int, ...] = (1, 2, 3)
    widenings: tuple[float, ...] = (0.5, 1.0, 2.0)
    blocks: tuple[str, ...] = ("basic", "bottleneck")
    shortcuts: tuple[str, ...] = ("A", "B", "C")
    squeeze_excitations: tuple[int, ...] = (0, 8)
    dropouts: tuple[float, ...] = (0.0, 0.1, 0.2)
    stochastic_depths: tuple[float, ...] = (0.0, 0.1, 0.2)
    momentums: tuple[float, ...] = (0.8, 0.9, 0.95)
    learning_rates: tuple[float, ...] = (0.02, 0.5)
    weight_decays: tuple[float, ...] = (1e-5, 1e-3)

    def __post_init__(self):
        self._check("repeats", checks.integer)
        self._check("widenings", checks.positive)
        self._check("blocks", checks.one_of, tuple(BLOCKS))
        self._check("shortcuts", checks.one_of, ("A", "B", "C", "none"))
        self._check("squeeze_excitations", checks.integer, 0)
        for name in ("dropouts", "stochastic_depths", "momentums"):
            self._check(name, checks.fraction)
        for name in ("learning_rates", "weight_decays"):
            self._check(name, checks.positive)
            values = getattr(self, name)
            if len(values) != 2 or values[0] > values[1]:
                raise ValueError(
                    f"`{name}` must be the lowest and the highest one. Received: {name}={values}"
                )
        if "none" in self.shortcuts and any(self.stochastic_depths):
            raise ValueError(
                "`stochastic_depths` must be 0 alone where plain nets take part, which have no way "
                f"around a branch. Received: stochastic_depths={self.stochastic_depths} with "
                f"shortcuts={self.shortcuts}"
            )

    def _check(self, name: str, check: Callable, *options: object) -> None:
        """Makes the field a tuple of values that have all passed `check`, one at least."""
        values = getattr(self, name)
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ValueError(f"`{name}` must be a list of values. Received: {name}={values!r}")
        values = tuple(check(name, value, *options) for value in values)
        values = values if _singular(name) in RANGES else tuple(dict.fromkeys(values))
        object.__setattr__(self, name, values)

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """Returns the values of every choice, by the name that it has in a search."""
        return {_singular(name): values for name, values in vars(self).items()}


def _singular(name: str) -> str:
    return name if name == "repeats" else name.removesuffix("s")


# The choices that are settings of an experiment by the same name.
_SETTINGS = tuple(name for name in SearchSpace().choices() if name != "repeats")
# Settings of an experiment that a search decides, and none that it begins from can have.
SEARCHED = ("model", "depth", *_SETTINGS)


def candidate(base: Experiment, values: Mapping[str, Any], **others: object) -> Experiment:
    """Returns the experiment that a choice of values stands for; further values are ignored."""
    depth = 3 * BLOCKS[values["block"]].weighted_layers * values["repeats"] + 2
    chosen = {name: values[name] for name in _SETTINGS}
    return base.replace(depth=depth, **chosen, **others)
