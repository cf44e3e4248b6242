"""A search whose networks are one dense layer: all of it but the time."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import keras_tuner

from keras_resnet.experiment import Experiment
from keras_resnet.experiment.search.space import SearchSpace
from keras_resnet.experiment.search.tuner import ResNetHyperModel, make_tuner
from keras_resnet.utils import private
from keras_resnet.utils.files import write_json
from tests.training.fakes import blobs

BASE = Experiment.from_flat(batch_size=32, epochs=2, schedule="constant", warmup="none")
SPACE = SearchSpace(repeats=(1, 2), blocks=("basic",), learning_rates=(0.001, 0.1))


class DenseHyperModel(ResNetHyperModel):
    """Builds a linear classifier in place of each network."""

    def hidden(self, values):
        """Returns layers in front of the classifier."""
        return [keras.layers.Rescaling(1 / 64, -2.0), keras.layers.Flatten()]

    def network(self, values):
        x = images = keras.Input((8, 8, 1))
        classifier = keras.layers.Dense(len(self.dataset.class_names), "softmax")
        for layer in (*self.hidden(values), classifier):
            x = layer(x)
        return keras.Model(images, x)


class Untrained(DenseHyperModel):
    """The nearer to a learning rate of 0.1, the better."""

    def train(self, values, model, epochs):
        return {"val_accuracy": values["learning_rate"], "val_loss": 1.0, "seconds": 2.0}


class Wide(Untrained):
    """The wide ones cost more."""

    def hidden(self, values):
        return [keras.layers.Flatten(), keras.layers.Dense(round(100 * values["widening"]))]


def dense(folder: Path, kind=DenseHyperModel, *, strategy=None, epochs=2, **limits):
    """Returns candidates whose files go to a folder."""
    base = BASE.replace(workdir=str(folder), epochs=epochs)
    return kind(base, blobs(), SPACE, strategy=strategy, **limits)


def searched(hypermodel: ResNetHyperModel, tuner: str, trials: int = 3) -> keras_tuner.Tuner:
    """Runs a search, or the rest of it, and returns its tuner."""
    trials = None if tuner == "hyperband" else trials
    found = make_tuner(hypermodel, tuner, trials=trials, factor=2)
    with private.tuner_saves_json(write_json):
        found.search()
    return found


def results(tuner: keras_tuner.Tuner) -> list:
    """Returns what each trial was and came to, in their order, as JSON has it."""
    rows = []
    for trial_id in dict.fromkeys(tuner.oracle.end_order):
        one = tuner.oracle.get_trial(trial_id)
        figures = [one.metrics.get_last_value(name) for name in ("val_accuracy", "val_loss")]
        rows.append([trial_id, one.status, one.hyperparameters.values, *figures])
    return json.loads(json.dumps(rows))
