"""A search whose networks are one dense layer: all of it but the time."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import keras

from keras_resnet.experiment import Experiment
from keras_resnet.experiment.search.space import SearchSpace
from keras_resnet.experiment.search.tuner import ResNetHyperModel, ResNetTuner
from tests.training.fakes import blobs

BASE = Experiment.from_flat(batch_size=32, epochs=2, schedule="constant", warmup="none")
SPACE = SearchSpace(repeats=(1, 2), blocks=("basic",), learning_rates=(0.001, 0.1))


class DenseHyperModel(ResNetHyperModel):
    """Builds a linear classifier in place of each network, and may end the process."""

    # The folder of the trial, and its epoch from 0, at whose end SIGKILL comes.
    kill_at: tuple[str, int] | None = None

    def build(self, hp):
        self.declare_hyperparameters(hp)
        keras.utils.set_random_seed(self.base.optimization.seed)
        with self.strategy.scope():
            images = keras.Input((8, 8, 1))
            x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 64, -2.0)(images))
            classes = len(self.dataset.class_names)
            return keras.Model(images, keras.layers.Dense(classes, "softmax")(x))

    def fit(self, hp, model, *, callbacks=(), checkpoints=None, **options):
        trial = None if checkpoints is None else checkpoints.directory.parent.name
        watching = [*callbacks, Watcher(trial, self.kill_at)]
        return super().fit(hp, model, callbacks=watching, checkpoints=checkpoints, **options)


class Watcher(keras.callbacks.Callback):
    """Prints every epoch."""

    def __init__(self, trial: str | None, kill_at: tuple[str, int] | None):
        super().__init__()
        self.trial, self.kill_at = trial, kill_at

    def on_epoch_end(self, epoch, logs=None):
        print(f"{self.trial} epoch {epoch}", flush=True)
        if (self.trial, epoch) == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def make_search(folder: Path, tuner: str, *, trials=None, strategy=None, kill_at=None, **options):
    """Returns the tuner of a search over dense layers."""
    base = BASE.replace(**options)
    hypermodel = DenseHyperModel(base, blobs(), SPACE, strategy=strategy)
    hypermodel.kill_at = kill_at
    oracle = hypermodel.oracle(tuner, trials=trials, factor=2)
    return ResNetTuner(oracle, hypermodel, folder)


def results(tuner: ResNetTuner) -> list[tuple]:
    """Returns what each trial was and came to, in their order."""
    trials = [tuner.oracle.get_trial(trial_id) for trial_id in tuner.oracle.end_order]
    return [
        (
            one.trial_id,
            one.status,
            one.hyperparameters.values,
            one.metrics.get_last_value("val_accuracy"),
            one.metrics.get_last_value("val_loss"),
        )
        for one in trials
    ]
