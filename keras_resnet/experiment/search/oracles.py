"""Keras-tuner's three oracles within a budget, with files that are whole at any moment.

Needs keras-tuner (`pip install keras-deep-residual[tuner]`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from keras_resnet.utils import checks
from keras_resnet.utils.files import write_json

try:
    import keras_tuner
    from keras_tuner import errors, oracles
except ImportError as error:
    raise ImportError(
        "Searching needs keras-tuner: pip install 'keras-deep-residual[tuner]'."
    ) from error

__all__ = ["OBJECTIVE", "Oracle", "errors", "keras_tuner", "make_oracle"]

TUNERS = ("random", "hyperband", "bayesian")
OBJECTIVE = "val_accuracy"
# Candidates in a row over the budget after which there is no hope of another.
MOST_REJECTED = 100
# Proposals of the Gaussian process over the budget after which a random one is taken.
MOST_PROPOSALS = 3


def make_oracle(
    tuner: str,
    *,
    epochs: int,
    seed: int = 0,
    affords: Callable[[Mapping[str, object]], bool] = lambda values: True,
    budget: str = "",
    trials: int | None = None,
    factor: int = 3,
) -> Oracle:
    """Returns what chooses the candidates.

    Args:
        tuner: "random", "hyperband" or "bayesian".
        epochs: Epochs of each trial, with Hyperband those of the trials that get the most.
        seed: The same one gives the same candidates.
        affords: Whether a choice, values by name, is within the budget.
        budget: The budget in words, for an error.
        trials: Candidates to train; None with Hyperband, whose brackets decide it.
        factor: Hyperband trains one of so many candidates on, for so many times the epochs.

    Raises:
        ValueError: If an argument is wrong.
    """
    checks.one_of("tuner", tuner, TUNERS)
    # keras-tuner takes 0 for no seed.
    seed = checks.integer("seed", seed, minimum=0) + 1
    options = {"seed": seed, "affords": affords, "budget": budget}
    if tuner == "hyperband":
        if trials is not None:
            raise ValueError(
                "`trials` must be None with tuner='hyperband', whose brackets follow from the "
                f"epochs. Received: trials={trials}"
            )
        checks.integer("factor", factor, minimum=2)
        return _Hyperband(epochs=epochs, max_epochs=epochs, factor=factor, **options)
    options |= {"epochs": epochs, "max_trials": checks.integer("trials", trials)}
    if tuner == "bayesian":
        return _BayesianOptimization(num_initial_points=5, **options)
    return _RandomSearch(**options)


class Oracle(keras_tuner.Oracle):
    """What the three oracles have in common: the budget, and files that survive a kill.

    Args:
        affords: Whether a choice is within the budget.
        budget: The budget in words.
        epochs: The most epochs of a trial.
        **options: As in keras-tuner.

    Attributes:
        rejected: Choices that were over the budget.
    """

    def __init__(
        self,
        *,
        affords: Callable[[Mapping[str, object]], bool],
        budget: str,
        epochs: int,
        **options,
    ):
        super().__init__(objective=keras_tuner.Objective(OBJECTIVE, "max"), **options)
        self.affords, self.budget, self.epochs = affords, budget, epochs
        self.rejected: list[dict[str, object]] = []
        self.verbose = 0

    def planned_epochs(self) -> int:
        """Returns the epochs of all trials together."""
        return self.max_trials * self.epochs

    def reject(self, values: Mapping[str, object]) -> None:
        """Notes a choice that is over the budget."""
        if values not in self.rejected:
            self.rejected.append(dict(values))

    def _random_values(self):
        for _ in range(MOST_REJECTED):
            values = super()._random_values()
            if values is None or self.affords(values):
                return values
            self.reject(values)
        raise ValueError(
            "`max_parameters` and `max_multiply_adds` must leave some candidates. Received: "
            f"{self.budget}, which {MOST_REJECTED} candidates in a row are over"
        )

    def get_state(self):
        return {**super().get_state(), "rejected": self.rejected}

    def set_state(self, state):
        super().set_state(state)
        self.rejected = state["rejected"]

    # keras-tuner writes over the old file; killed in between, it leaves neither.
    def save(self):
        write_json(self._get_oracle_fname(), self.get_state())

    def _save_trial(self, trial):
        write_json(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", trial.get_state())

    def reload(self):
        """Reads the state of an interrupted search, and undoes what was half done.

        Raises:
            ValueError: If a file is damaged.
        """
        try:
            super().reload()
            # A trial that was written when the oracle's own state was not yet: it is made again.
            for trial_id in self.trials.keys() - set(self.start_order):
                shutil.rmtree(self._get_trial_dir(trial_id))
            # In order, as if never interrupted.
            self.trials = {trial_id: self.trials[trial_id] for trial_id in self.start_order}
        except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {checks.first_line(error)}"
            raise ValueError(
                "`workdir` must hold a whole search or none: choose a new folder, or move this one "
                f"away. Received: {self._project_dir!r}, whose files are damaged ({reason})"
            ) from error
        # keras-tuner notes the end of a trial before it forgets that it is in progress.
        self._retry_queue = [one for one in self._retry_queue if one not in self.end_order]


class _RandomSearch(Oracle, oracles.RandomSearchOracle):
    pass


class _Hyperband(Oracle, oracles.HyperbandOracle):
    def planned_epochs(self):
        total = 0
        for bracket in range(self._get_num_brackets()):
            before = 0
            for number in range(self._get_num_rounds(bracket)):
                reached = self._get_epochs(bracket, number)
                total += self._get_size(bracket, number) * (reached - before)
                before = reached
        return total


class _BayesianOptimization(Oracle, oracles.BayesianOptimizationOracle):
    def populate_space(self, trial_id):
        # keras-tuner forgets this one's state when it is interrupted.
        self._random_state = np.random.RandomState(self.seed + len(self.trials))
        for _ in range(MOST_PROPOSALS):
            response = super().populate_space(trial_id)
            if response["values"] is None or self.affords(response["values"]):
                return response
            self.reject(response["values"])
        return self._random_populate_space()

    def _vectorize_trials(self):
        """Adds those over the budget as the worst there is, or they would be proposed for ever."""
        x, y = super()._vectorize_trials()
        over = [
            [one.value_to_prob(values[one.name]) for one in self._nonfixed_space()]
            for values in self.rejected
        ]
        return (np.vstack([x, over]), np.append(y, [0.0] * len(over))) if over else (x, y)
