"""One step: micro-batches, loss scale, statistics, seeds, XLA, losses and metrics."""

from __future__ import annotations

import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.training import Checkpoints, Diverged, DynamicLossScale, Trainer, sgd
from tests.helpers import refused
from tests.training.fakes import (
    Noise,
    Rows,
    assert_same_weights,
    blobs,
    cross_entropy,
    fit,
    make_trainer,
    small_model,
)


def test_micro_batches_equal_one_batch_where_bn_is_frozen():
    model = functools.partial(small_model, frozen_norm=True, l2=1e-3)
    whole, parts = make_trainer(model=model), make_trainer(model=model, micro_batches=4)
    assert_same_weights(fit(whole, 4), fit(parts, 4), 1e-6)


def test_micro_batches_move_the_statistics_one_after_the_other():
    """Four parts of a batch move the averages as four batches at the same weights do."""
    trainer = fit(make_trainer(optimizer=sgd(0.0, weight_decay=0.0), micro_batches=4), 1)
    images, _ = next(iter(blobs().train_batches(32)))
    keras.utils.set_random_seed(0)
    by_hand = small_model()
    for part in tf.split(images, 4):
        by_hand(part, training=True)
    assert_same_weights(trainer, by_hand, 1e-6)


@pytest.mark.parametrize("parts", [5, 0])
def test_a_batch_that_cannot_be_cut(parts):
    with refused("micro_batches", parts):
        fit(make_trainer(micro_batches=parts), 4)


def test_xla_computes_the_same():
    plain, compiled = fit(make_trainer(), 4), fit(make_trainer(jit_compile=True), 4)
    assert plain.jit_compile is False and compiled.jit_compile is True
    assert make_trainer(jit_compile=False).jit_compile is False
    assert_same_weights(plain, compiled, 1e-4)


def test_xla_is_the_default_on_tpus(monkeypatch):
    monkeypatch.setattr(tf.distribute, "TPUStrategy", type(tf.distribute.get_strategy()))
    assert make_trainer().jit_compile is True


def test_checkpoints_do_not_depend_on_xla(tmp_path):
    for asked, steps in ((True, 1), (None, 2)):
        trainer = fit(make_trainer(jit_compile=asked), steps, checkpoints=Checkpoints(tmp_path))
    assert trainer.step == 2
    assert "jit" not in json.dumps(Checkpoints(tmp_path).newest({}).details)


def test_statistics_are_plain_averages():
    """With the weights fixed, each statistic is the mean over the batches."""
    trainer = make_trainer()
    norm = next(x for x in trainer.model.layers if isinstance(x, keras.layers.BatchNormalization))
    probe = keras.Model(trainer.model.input, norm.input)
    batches = blobs().train_batches(32).take(3)
    values = np.stack([probe(tf.cast(images, tf.float32)) for images, _ in batches])
    trainer.recompute_bn_statistics(blobs(), 32, steps=3)
    mean, variance = values.mean((1, 2, 3)).mean(0), values.var((1, 2, 3)).mean(0)
    np.testing.assert_allclose(norm.moving_mean.numpy(), mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance.numpy(), variance, rtol=1e-4)
    assert norm.momentum == 0.9


def test_statistics_of_a_model_without_any():
    layers = keras.layers.Flatten(), keras.layers.Dense(4)
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    with refused("`model`", "batch", repr(model.name)):
        Trainer(model, sgd(0.1), cross_entropy()).recompute_bn_statistics(blobs(), 32)


def float16_trainer(**options) -> Trainer:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return make_trainer(**options)
    finally:
        keras.config.set_dtype_policy("float32")


def test_overflow_skips_the_step_and_halves_the_scale():
    trainer = float16_trainer(loss_scale=DynamicLossScale(initial=2.0**24))
    before = trainer.model.get_weights()
    fit(trainer, 1)
    assert trainer._step.loss_scale.scale.numpy() == 2.0**23
    assert trainer.step == 1 and int(trainer.optimizer.iterations.numpy()) == 0
    assert all(map(np.array_equal, trainer.model.get_weights(), before))
    # It finds a scale that works, and learns.
    history = trainer.fit(blobs(), 32, epochs=6)
    assert history.history["accuracy"][-1] > 0.8
    assert 0 < int(trainer.optimizer.iterations.numpy()) < trainer.step


def test_loss_scale_grows():
    scale = DynamicLossScale(initial=4.0, growth_steps=2)
    seen = []
    for finite in (True, True, True, False, True, True):
        scale.update(tf.constant(finite))
        seen.append((float(scale.scale.numpy()), int(scale.good_steps.numpy())))
    assert seen == [(4.0, 1), (8.0, 0), (8.0, 1), (4.0, 0), (4.0, 1), (8.0, 0)]


def test_precisions_agree_roughly():
    single, half = fit(make_trainer(), 4), fit(float16_trainer(), 4)
    assert half._step.loss_scale is not None and single._step.loss_scale is None
    assert all(v.dtype == "float32" for v in half.model.trainable_variables)
    assert_same_weights(single, half, 0.05)


def test_dropout_draws_anew_each_step_and_is_resumed():
    model = functools.partial(small_model, dropout=0.5)
    whole, parts = fit(make_trainer(model=model), 4), fit(make_trainer(model=model), 3)
    assert_same_weights(whole, fit(parts, 4))
    (seed,) = (v for v in whole.model.variables if v.name == "seed_generator_state")
    np.testing.assert_array_equal(seed.numpy(), [1, 4])


class Focal(keras.losses.Loss):
    """A loss of a user's script: not registered, and silent about its settings."""

    def __init__(self, gamma=2.0):
        super().__init__(name="focal")
        self.gamma = gamma

    def call(self, labels, predictions):
        log = tf.nn.log_softmax(predictions)
        own = tf.gather(log, tf.cast(labels, tf.int32), batch_dims=1)
        return -((1.0 - tf.exp(own)) ** self.gamma) * own


class Constant(keras.metrics.Metric):
    """A metric that cannot be made anew from what it says of itself."""

    def __init__(self, value=1.0):
        super().__init__(name="constant")
        self.value = value

    def update_state(self, labels, predictions, sample_weight=None):
        pass

    def result(self):
        return self.value


def test_losses_and_metrics_of_ones_own_are_used_as_they_are():
    losses = []
    for loss in (cross_entropy(), Focal(0.0), Focal(5.0)):
        trainer = make_trainer(optimizer=sgd(0.0, weight_decay=0.0), loss=loss)
        losses.append(trainer.fit(blobs(), 32, steps=1).history["loss"][0])
    assert losses[1] == pytest.approx(losses[0], 1e-5)
    assert losses[2] < losses[1]
    keras.utils.set_random_seed(0)
    trainer = Trainer(small_model(), sgd(0.1), cross_entropy(), [Constant(7.0)])
    assert trainer.fit(blobs(), 32, steps=1).history["val_constant"] == [7.0]


def test_an_evaluation_leaves_the_metrics_of_the_epoch():
    trainer = fit(make_trainer(), 3)
    before = [float(metric.result()) for metric in trainer._step.metrics]
    assert trainer.evaluate(blobs(), "test", 8)["loss"] != before[0]
    assert [float(metric.result()) for metric in trainer._step.metrics] == before
    assert trainer.evaluated_images == 37


def test_wrong_losses_and_metrics_are_refused():
    with refused("`metrics`", "'accuracy'"):
        Trainer(small_model(), sgd(0.1), cross_entropy(), ["accuracy"])
    with refused("`metrics`", "'classes'", "(2,)"):
        fit(Trainer(small_model(), sgd(0.1), cross_entropy(), [Classes("classes")]), 1)
    with refused("`loss`", "loss=None"):
        Trainer(small_model(), sgd(0.1), None)
    scalar = make_trainer(loss=lambda y, p: tf.reduce_mean(cross_entropy()(y, p)))
    with refused("`loss`", "shape ()"):
        fit(scalar, 1)


@pytest.mark.parametrize(
    ("layer", "telling"),
    [
        (lambda: keras.layers.SpectralNormalization(keras.layers.Conv2D(4, 3)), "optimizer"),
        (Noise, "keras.random.SeedGenerator"),
    ],
)
def test_what_a_stateless_step_would_get_wrong_is_refused(layer, telling):
    end = keras.layers.Flatten(), keras.layers.Dense(4)
    model = keras.Sequential([keras.Input((8, 8, 1)), layer(), *end])
    with refused("`model`", telling):
        fit(Trainer(model, sgd(0.1), cross_entropy()), 1)


def test_weights_that_are_not_finite_in_the_end_are_no_result():
    def steep(labels, predictions):
        return 1e6 * keras.losses.sparse_categorical_crossentropy(labels, predictions, True)

    with pytest.raises(Diverged, match="step 1, .*model/.* finite.*no checkpoints"):
        fit(make_trainer(1e38, loss=steep), 1)


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", cross_entropy()])
def test_losses_by_name_and_object(loss):
    keras.utils.set_random_seed(0)
    layers, last = keras.layers, "softmax" if isinstance(loss, str) else None
    model = [keras.Input((8, 8, 1)), layers.Rescaling(1 / 255), layers.Flatten()]
    model = keras.Sequential([*model, layers.Dense(4, activation=last)])
    losses = Trainer(model, sgd(0.1), loss).fit(blobs(), 32, epochs=2).history["loss"]
    assert losses[1] < losses[0]


class WeightsIgnored(Rows):
    """As the metric in Keras's documentation: it takes weights and does not look at them."""

    def update_state(self, labels, predictions, sample_weight=None):
        super().update_state(labels, predictions)


class Both(Rows):
    """Gives two results."""

    def result(self):
        return {"all": self.rows, "half": self.rows / 2}


class Classes(Rows):
    """Gives a vector."""

    def result(self):
        return keras.ops.ones(2) * self.rows


def test_padding_is_not_counted_and_every_result_is_logged():
    keras.utils.set_random_seed(0)
    metrics = [Rows(), WeightsIgnored("ignored"), Rows("whole", dtype="int32"), Both()]
    trainer = Trainer(small_model(), sgd(0.1), cross_entropy(), metrics)
    history = trainer.fit(blobs(), 32, steps=2).history
    # 37 images in batches of 32; 64 are trained on.
    for name, share in {"rows": 1, "ignored": 1, "whole": 1, "all": 1, "half": 0.5}.items():
        assert history[name] == [64 * share] and history[f"val_{name}"] == [37 * share]
