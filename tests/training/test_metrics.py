"""Metrics of every kind that Keras's `fit` takes."""

from __future__ import annotations

import keras

from keras_resnet.training import Trainer, sgd
from tests.helpers import refused
from tests.training.fakes import Rows, blobs, cross_entropy, small_model


class WeightsIgnored(Rows):
    """As the metric in Keras's documentation: it takes weights and does not look at them."""

    def update_state(self, labels, predictions, sample_weight=None):
        super().update_state(labels, predictions)


class Both(Rows):
    """Gives two figures."""

    def result(self):
        return {"all": self.rows, "half": self.rows / 2}


class Classes(Rows):
    """Gives a vector."""

    def result(self):
        return keras.ops.ones(2) * self.rows


def test_padding_is_not_counted_and_every_figure_is_logged():
    keras.utils.set_random_seed(0)
    metrics = [Rows(), WeightsIgnored("ignored"), Rows("whole", dtype="int32"), Both()]
    trainer = Trainer(small_model(), sgd(0.1), cross_entropy(), metrics)
    history = trainer.fit(blobs(), 32, steps=2).history
    # 37 images in batches of 32; 64 are trained on.
    for name, share in {"rows": 1, "ignored": 1, "whole": 1, "all": 1, "half": 0.5}.items():
        assert history[name] == [64 * share] and history[f"val_{name}"] == [37 * share]


def test_a_vector_is_refused():
    trainer = Trainer(small_model(), sgd(0.1), cross_entropy(), [Classes("classes")])
    with refused("`metrics`", "'classes'", "(2,)"):
        trainer.evaluate(blobs(), "test", 8)
