"""Candidates for keras-tuner, and its own tuners over them.

Needs TensorFlow and keras-tuner (`pip install keras-deep-residual[tuner]`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_resnet.analysis.counting import built_without_values, complexity
from keras_resnet.data import ImageDataset
from keras_resnet.experiment.factories import build_model, fit_options, make_trainer
from keras_resnet.experiment.runner import settle_statistics
from keras_resnet.experiment.search.space import RANGES, SearchSpace, candidate
from keras_resnet.experiment.settings import Experiment
from keras_resnet.experiment.workdir import read_object
from keras_resnet.training import Checkpoints, Diverged, TrainingStopped
from keras_resnet.training.strategy import is_only_worker
from keras_resnet.utils import checks
from keras_resnet.utils.files import write_json

try:
    import keras_tuner
    from keras_tuner import errors
except ImportError as error:
    raise ImportError(
        "Searching needs keras-tuner: pip install 'keras-deep-residual[tuner]'."
    ) from error

logger = logging.getLogger(__name__)

OBJECTIVE = "val_accuracy"
OUT_OF_MEMORY = (MemoryError, tf.errors.ResourceExhaustedError)
# Kills of the process without a checkpoint in between, after which a candidate has failed. One may
# have come from anywhere: that of a scheduler or user looks like the one where memory runs out.
KILLS = 2
TUNERS = {
    "random": keras_tuner.RandomSearch,
    "hyperband": keras_tuner.Hyperband,
    "bayesian": keras_tuner.BayesianOptimization,
}


class SearchStopped(errors.FatalError, TrainingStopped):
    """The search cannot continue; keras-tuner does not catch errors of this kind."""


class ResNetHyperModel(keras_tuner.HyperModel):
    """CIFAR networks of a search space, and their training.

    A candidate that is over the budget, diverges or runs out of memory gets a validation accuracy
    of 0. keras-tuner's `FailedTrialError` would do harm: Hyperband promotes nothing from a round
    with too many failed trials, and the Gaussian process, which skips them, proposes the same
    candidates again. Memory that runs out is an error, or a kill by the system: a candidate whose
    process was killed twice without a checkpoint in between has failed.

    Training is checkpointed in a folder for each choice of values, so that an interrupted trial
    resumes, and so that Hyperband's later rounds continue with the optimizer's state too.

    Args:
        base: Settings that all candidates share; those that the space decides are replaced. Files
            go to `search/` in its `workdir`.
        dataset: Data with a validation split.
        space, max_parameters, max_multiply_adds: As in `search`.
        strategy: Strategy to build and train under; default: the current one.

    Raises:
        ValueError: If a setting makes no sense here, or there are no validation images.
    """

    def __init__(
        self,
        base: Experiment,
        dataset: ImageDataset,
        space: SearchSpace | None = None,
        *,
        strategy: tf.distribute.Strategy | None = None,
        max_parameters: int | None = None,
        max_multiply_adds: int | None = None,
    ):
        super().__init__(name="resnet")
        for name, wanted, why in (
            ("init", None, "candidates begin from random values"),
            ("steps", None, "candidates are trained for epochs"),
            ("optimizer", "sgd", "candidates differ in its momentum"),
            ("smoke", False, "it is for single runs"),
            ("validation_split", "validation", "the test images must not choose"),
        ):
            value = base.flat()[name]
            if value != wanted:
                raise ValueError(
                    f"`{name}` must be {wanted!r} in a search: {why}. Received: {name}={value!r}"
                )
        if "validation" not in dataset.splits:
            raise ValueError(
                "`dataset` must have a validation split to judge candidates by. "
                f"Received: {dataset.name}, which has {', '.join(dataset.splits)}"
            )
        self.base, self.dataset = base, dataset
        self.space = space or SearchSpace()
        self.folder = Path(base.output.workdir) / "search"
        self.strategy = strategy or tf.distribute.get_strategy()
        if not is_only_worker(self.strategy):
            raise ValueError(
                "`strategy` of a search must be one of a single machine. "
                f"Received: {type(self.strategy).__name__} of several"
            )
        limits = {"parameters": max_parameters, "multiply_adds": max_multiply_adds}
        limits = {name: limit for name, limit in limits.items() if limit is not None}
        self._too_large: keras.Model | None = None
        self._limits = {name: checks.integer(f"max_{name}", limits[name]) for name in limits}

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Builds a candidate's network, with the same seed for each.

        Where memory does not suffice it has no values, and `fit` counts it as failed.
        """
        for name, values in self.space.choices().items():
            if name not in RANGES:
                hp.Choice(name, list(values))
            elif values[0] == values[1]:
                hp.Fixed(name, values[0])
            else:
                hp.Float(name, *values, sampling="log")
        keras.utils.set_random_seed(self.base.optimization.seed)
        try:
            with self.strategy.scope():
                return self.network(hp.values)
        except OUT_OF_MEMORY as error:
            self._too_large = built_without_values(self.network, hp.values)
            logger.info(f"{self._too_large.name} failed: {checks.first_line(error)}")
            return self._too_large

    def network(self, values: Mapping[str, Any]) -> keras.Model:
        """Builds the network of a choice of values."""
        return build_model(candidate(self.base, values), self.dataset)

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        *,
        epochs: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        **_: object,
    ) -> dict[str, float]:
        """Trains and evaluates a candidate, or resumes its training.

        Args:
            hp: The choice of values.
            model: The network that `build` returned for it.
            epochs: Epochs that the network has seen in the end, earlier rounds of Hyperband
                included; default: those of `base`. The learning rate schedule ends with them.
            callbacks: Those of keras-tuner, which save the weights; called after training.

        Returns:
            `val_accuracy`, `parameters` and `multiply_adds`; of a candidate that was trained,
            `val_loss` and `seconds` of training too.
        """
        epochs = epochs or self.base.optimization.epochs
        cost = complexity(model)
        figures = {OBJECTIVE: 0.0, "parameters": cost.parameters}
        figures["multiply_adds"] = cost.multiply_adds
        if model is self._too_large:
            return figures
        try:
            if self.over_budget(figures):
                logger.info(f"{model.name} is over the budget")
            else:
                figures |= self.train(hp.values, model, epochs)
        except (Diverged, *OUT_OF_MEMORY) as error:
            logger.info(f"{model.name} failed: {checks.first_line(error)}")
        except (TrainingStopped, OSError) as error:
            raise SearchStopped(str(error)) from error
        except ValueError as error:
            raise errors.FatalValueError(str(error)) from error
        for callback in callbacks:
            callback.set_model(model)
            callback.on_epoch_end(epochs - 1, figures)
        return figures

    def train(self, values: Mapping[str, Any], model: keras.Model, epochs: int) -> dict[str, float]:
        """Trains a candidate for `epochs` in all and returns its figures."""
        experiment, dataset = candidate(self.base, values), self.dataset
        chosen = json.dumps({name: values[name] for name in self.space.choices()})
        folder = self.folder / "candidates" / hashlib.sha256(chosen.encode()).hexdigest()[:16]
        batch_size = experiment.optimization.batch_size
        steps = epochs * dataset.steps_per_epoch(batch_size)
        with _kills_counted(folder):
            trainer = make_trainer(experiment, self.strategy, model, dataset, steps)
            trainer.fit(steps=steps, **fit_options(experiment, dataset, folder, chief=False))
            settle_statistics(experiment, trainer, dataset)
            measured = trainer.evaluate(dataset, "validation", batch_size)
        return {
            OBJECTIVE: measured["accuracy"],
            "val_loss": measured["loss"],
            "seconds": trainer.seconds,
        }

    def over_budget(self, figures: Mapping[str, float]) -> bool:
        """Returns whether `parameters` or `multiply_adds` are more than a candidate may have."""
        return any(figures[name] > limit for name, limit in self._limits.items())


@contextlib.contextmanager
def _kills_counted(folder: Path) -> Iterator[None]:
    """Raises a MemoryError where training in a folder was killed too often without coming further.

    A kill leaves a file in it, which says at which checkpoint it struck; all other ends remove it.
    """
    path = folder / "killed.json"
    newest = [checkpoint.name for checkpoint in Checkpoints(folder / "checkpoints").paths()[-1:]]
    held = read_object(path) if path.exists() else {}
    kills: Any = held.get("kills") if held.get("checkpoint") == newest else 0
    kills = kills if checks.is_whole(kills) else 0  # in a damaged file
    if kills >= KILLS:
        raise MemoryError(
            f"killed {kills} times without a checkpoint in between, as systems do where memory runs"
            f" out; {path} says so"
        )
    if kills:
        logger.info(f"Its process was killed before; after {KILLS} kills it has failed ({path})")
    write_json(path, {"kills": kills + 1, "checkpoint": newest})
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def make_tuner(
    hypermodel: ResNetHyperModel, tuner: str, *, trials: int | None = None, factor: int = 3
) -> keras_tuner.Tuner:
    """Returns keras-tuner's tuner of a search, with the trials that its folder holds already.

    `tuner`, `trials` and `factor` are as in `search`; "hyperband" takes no `trials`.
    """
    kind = TUNERS[checks.one_of("tuner", tuner, TUNERS)]
    if tuner == "hyperband":
        if trials is not None:
            raise ValueError(
                "`trials` must be None with tuner='hyperband', whose brackets follow from the "
                f"epochs. Received: trials={trials}"
            )
        options = {"factor": checks.integer("factor", factor, minimum=2)}
        options["max_epochs"] = hypermodel.base.optimization.epochs
    else:
        options = {"max_trials": checks.integer("trials", trials)}
    if tuner == "bayesian":
        options["num_initial_points"] = 5
    folder = hypermodel.folder
    resumed = (folder / "oracle.json").exists()
    try:
        if resumed:
            # A trial is written before the oracle, which does not know it after a kill in between.
            known = read_object(folder / "oracle.json")["start_order"]
            for trial in folder.glob("trial_*"):
                if trial.name.removeprefix("trial_") not in known:
                    shutil.rmtree(trial)
        return kind(
            hypermodel,
            objective=keras_tuner.Objective(OBJECTIVE, "max"),
            seed=hypermodel.base.optimization.seed + 1,  # keras-tuner takes 0 for no seed
            max_consecutive_failed_trials=1,  # what still fails is an error in the program
            directory=str(folder.parent),
            project_name=folder.name,
            **options,
        )
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        if not resumed:
            raise
        reason = f"{type(error).__name__}: {checks.first_line(error)}"
        raise ValueError(
            "`workdir` must hold a whole search or none: choose a new folder, or move this one "
            f"away. Received: {str(folder)!r}, whose files are damaged ({reason})"
        ) from error
