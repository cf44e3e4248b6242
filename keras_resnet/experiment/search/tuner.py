"""Search with keras-tuner: a HyperModel of residual networks, three oracles, and a tuner.

A candidate is an `Experiment` and is trained by `Trainer` as any other; it is judged by the
validation images after its last epoch, never by the test images. Needs TensorFlow and keras-tuner
(`pip install keras-deep-residual[tuner]`).

The HyperModel works with keras-tuner's own tuners. `ResNetTuner` adds what they lack: files that
are whole at any moment, candidates that go on in the middle of their training after a kill, a
budget that costs no trials, and Hyperband's later rounds going on with the optimizer's state too.
"""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import tensorflow as tf

from keras_resnet.analysis.counting import complexity
from keras_resnet.architectures import Architecture
from keras_resnet.data import ImageDataset
from keras_resnet.experiment.factories import (
    architecture_of,
    build_model,
    make_callbacks,
    make_trainer,
)
from keras_resnet.experiment.runner import settle_statistics
from keras_resnet.experiment.search.oracles import (
    OBJECTIVE,
    Oracle,
    errors,
    keras_tuner,
    make_oracle,
)
from keras_resnet.experiment.search.space import SearchSpace, candidate
from keras_resnet.experiment.settings import Experiment
from keras_resnet.models import resnet as models
from keras_resnet.training import Checkpoints, Diverged, TrainingStopped
from keras_resnet.training.strategy import is_only_worker
from keras_resnet.utils import checks
from keras_resnet.utils.files import replacing, write_json


class Cost(NamedTuple):
    """What a candidate's network costs: parameters, and multiply-adds of one image."""

    parameters: int
    multiply_adds: int


class SearchStopped(errors.FatalError, TrainingStopped):
    """The search cannot go on: keras-tuner lets errors of this kind through."""


class ResNetHyperModel(keras_tuner.HyperModel):
    """CIFAR networks of a space, and their training.

    Args:
        base: Settings that all candidates share; those that the space decides are replaced.
        dataset: Data with a validation split.
        space: What to choose from.
        strategy: Strategy to build and train under; default: the current one.
        max_parameters: The most parameters that a candidate may have, or None.
        max_multiply_adds: The most multiply-adds of one image, or None.

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
        check_base(base)
        if "validation" not in dataset.splits:
            raise ValueError(
                "`dataset` must have a validation split to judge candidates by. "
                f"Received: {dataset.name}, which has {', '.join(dataset.splits)}"
            )
        self.base, self.dataset = base, dataset
        self.space = space or SearchSpace()
        self.strategy = strategy or tf.distribute.get_strategy()
        if not is_only_worker(self.strategy):
            raise ValueError(
                "`strategy` of a search must be one of a single machine. "
                f"Received: {type(self.strategy).__name__} of several"
            )
        self.max_parameters = max_parameters
        self.max_multiply_adds = max_multiply_adds
        for name in ("max_parameters", "max_multiply_adds"):
            if getattr(self, name) is not None:
                checks.integer(name, getattr(self, name))
        self._costs: dict[Architecture, Cost] = {}

    def declare_hyperparameters(self, hp: keras_tuner.HyperParameters) -> None:
        """Adds the space to `hp`."""
        for name, values in self.space.choices().items():
            hp.Choice(name, list(values))
        for name, (low, high) in self.space.ranges().items():
            if low == high:
                hp.Fixed(name, low)
            else:
                hp.Float(name, low, high, sampling="log")

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Builds a candidate's network, with the same seed for each."""
        self.declare_hyperparameters(hp)
        keras.utils.set_random_seed(self.base.optimization.seed)
        with self.strategy.scope():
            return build_model(self.experiment(hp.values), self.dataset)

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        *,
        epochs: int | None = None,
        initial_epoch: int = 0,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        checkpoints: Checkpoints | None = None,
        verbose: int = 0,
    ) -> dict[str, float]:
        """Trains a candidate and evaluates it.

        Args:
            hp: The choice.
            model: What `build` made of it.
            epochs: Epochs that the network has seen in the end; those of `base` by default. The
                schedule of the learning rate ends with them.
            initial_epoch: Epochs that it has seen already, where `checkpoints` do not tell.
            callbacks: Keras callbacks.
            checkpoints: Where to save the run and to look for its beginning.
            verbose: What keras-tuner's own tuners hand over; nothing is printed.

        Returns:
            `val_accuracy`, `val_loss` and `seconds` of training.

        Raises:
            FailedTrialError: If the candidate is over the budget, or diverges.
        """
        if not self.affords(hp.values):
            raise errors.FailedTrialError(f"over budget: {self.cost(hp.values)}")
        experiment = self.experiment(hp.values)
        optimization = experiment.optimization
        epochs = optimization.epochs if epochs is None else epochs
        if checkpoints is None:
            epochs -= initial_epoch
        steps = epochs * self.dataset.steps_per_epoch(optimization.batch_size)
        trainer = make_trainer(experiment, self.strategy, model, self.dataset, steps)
        try:
            trainer.fit(
                self.dataset,
                optimization.batch_size,
                steps=steps,
                seed=optimization.seed,
                callbacks=[*make_callbacks(experiment, self.dataset), *callbacks],
                checkpoints=checkpoints,
                log_every=experiment.output.log_every,
            )
        except Diverged as error:
            raise errors.FailedTrialError(str(error)) from error
        settle_statistics(experiment, trainer, self.dataset)
        measured = trainer.evaluate(self.dataset, "validation", optimization.batch_size)
        return {
            OBJECTIVE: measured["accuracy"],
            "val_loss": measured["loss"],
            "seconds": trainer.seconds,
        }

    def oracle(self, tuner: str, **options) -> Oracle:
        """Returns what chooses among the candidates.

        Args:
            tuner: "random", "hyperband" or "bayesian".
            **options: `trials` and `factor`, as in `oracles.make_oracle`.
        """
        budget = f"max_parameters={self.max_parameters}, max_multiply_adds={self.max_multiply_adds}"
        return make_oracle(
            tuner,
            epochs=self.base.optimization.epochs,
            seed=self.base.optimization.seed,
            affords=self.affords,
            budget=budget,
            **options,
        )

    def experiment(self, values: Mapping[str, object]) -> Experiment:
        """Returns the experiment that a choice stands for."""
        return candidate(self.base, values)

    def cost(self, values: Mapping[str, object]) -> Cost:
        """Returns what the network of a choice costs."""
        architecture = architecture_of(self.experiment(values).network)
        if architecture not in self._costs:
            shape, classes = self.dataset.image_shape, len(self.dataset.class_names)
            found = complexity(models.build(architecture, input_shape=shape, classes=classes))
            self._costs[architecture] = Cost(found.parameters, found.multiply_adds)
        return self._costs[architecture]

    def affords(self, values: Mapping[str, object]) -> bool:
        """Whether the network of a choice is within the budget."""
        if self.max_parameters is None and self.max_multiply_adds is None:
            return True
        limits = (self.max_parameters, self.max_multiply_adds)
        return all(
            limit is None or cost <= limit
            for cost, limit in zip(self.cost(values), limits, strict=True)
        )


def check_base(base: Experiment) -> None:
    """Raises a ValueError if candidates cannot share these settings."""
    for name, wanted, why in (
        ("init", None, "candidates begin from random values"),
        ("steps", None, "candidates are trained for epochs"),
        ("validation_split", "validation", "the test images must not choose"),
    ):
        value = base.flat()[name]
        if value != wanted:
            raise ValueError(
                f"`{name}` must be {wanted!r} in a search: {why}. Received: {name}={value!r}"
            )


class ResNetTuner(keras_tuner.Tuner):
    """Runs trials, each in a folder of its own, and goes on where it was interrupted.

    Args:
        oracle: What chooses, as from `hypermodel.oracle`.
        hypermodel: The networks.
        directory: Folder of the search; made if missing.
        on_end: Called with each trial that has ended.

    Raises:
        ValueError: If the folder holds a damaged search.
    """

    def __init__(
        self,
        oracle: Oracle,
        hypermodel: ResNetHyperModel,
        directory: str | os.PathLike,
        *,
        on_end: Callable[[keras_tuner.engine.trial.Trial], None] = lambda trial: None,
    ):
        directory = Path(directory)
        super().__init__(
            oracle,
            hypermodel,
            distribution_strategy=hypermodel.strategy,
            directory=str(directory.parent),
            project_name=directory.name,
        )
        self._on_end = on_end

    def on_search_begin(self) -> None:
        """Saves, so that a search that is killed in its first trial is known too."""
        self.save()

    def run_trial(self, trial: keras_tuner.engine.trial.Trial) -> dict[str, float]:
        """Trains a candidate; one that fails counts as one that classifies nothing.

        An oracle learns from that, and Hyperband's rounds stay whole.
        """
        try:
            return self._trained(trial)
        except errors.FailedTrialError as error:
            trial.message = str(error)
            return {OBJECTIVE: 0.0}
        except TrainingStopped as error:
            raise SearchStopped(str(error)) from error
        except ValueError as error:
            raise errors.FatalValueError(str(error)) from error
        except Exception as error:
            # Not the candidate's fault, for which keras-tuner would take it.
            raise errors.FatalRuntimeError(f"{type(error).__name__}: {error}") from error

    def _trained(self, trial) -> dict[str, float]:
        keras.utils.clear_session()
        gc.collect()
        values = trial.hyperparameters.values
        checkpoints = Path(self.get_trial_dir(trial.trial_id)) / "checkpoints"
        earlier = values.get("tuner/trial_id")
        if earlier is not None and not checkpoints.exists():
            with replacing(checkpoints) as temporary:
                shutil.copytree(Path(self.get_trial_dir(earlier)) / "checkpoints", temporary)
        model = self.hypermodel.build(trial.hyperparameters)
        figures = self.hypermodel.fit(
            trial.hyperparameters,
            model,
            epochs=values.get("tuner/epochs"),
            checkpoints=Checkpoints(
                checkpoints,
                every=self.hypermodel.base.output.checkpoint_every,
                config=self.hypermodel.experiment(values).of_the_result(),
            ),
        )
        with replacing(self._get_checkpoint_fname(trial.trial_id)) as temporary:
            model.save_weights(temporary)
        return figures

    def on_trial_end(self, trial: keras_tuner.engine.trial.Trial) -> None:
        """Saves, and tells the caller."""
        super().on_trial_end(trial)
        self._on_end(self.oracle.get_trial(trial.trial_id))

    def save(self) -> None:
        """Writes the state, which is the oracle's, and the file by which keras-tuner knows it."""
        self.oracle.save()
        write_json(self._get_tuner_fname(), self.get_state())

    def reload(self) -> None:
        """Reads the state."""
        self.oracle.reload()
