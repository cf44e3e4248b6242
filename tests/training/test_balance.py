"""Class weights and sampling, against counts, sums by hand and scikit-learn."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from keras_resnet.data.dataset import ArrayDataset
from keras_resnet.data.order import train_order
from keras_resnet.training import Checkpoints, CrossEntropy, Trainer, sgd
from keras_resnet.training.balance import class_weights, sampling_shares
from tests.helpers import refused
from tests.training.fakes import (
    assert_same_weights,
    blobs,
    fit,
    make_trainer,
    small_model,
)

LABELS = np.repeat([0, 1, 2], [60, 30, 10])
NAMES = ("a", "b", "c")


def test_balanced_weights_are_those_of_scikit_learn():
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    np.testing.assert_allclose(class_weights("balanced", LABELS, NAMES), expected, rtol=1e-6)


def test_weights_of_labels_at_once_are_images_without_over_images_with():
    labels = np.array([[1, 0], [1, 0], [0, 0], [1, 1]], "float32")
    np.testing.assert_allclose(class_weights("balanced", labels, "ab"), [1 / 3, 3])


def test_weights_by_name_and_wrong_ones():
    np.testing.assert_array_equal(class_weights({"c": 5}, LABELS, NAMES), [1, 1, 5])
    for wrong, received in (([1, 2], "2 numbers"), ({"d": 1}, "d"), ([1, 2, -1], "-1")):
        with refused("`class_weights`", received):
            class_weights(wrong, LABELS, NAMES)


@pytest.mark.parametrize("sampling", ["balanced", "sqrt"])
def test_classes_come_in_their_shares(sampling):
    """Counts of 20 epochs are what the shares say, and no row is forgotten."""
    shares = sampling_shares(sampling, LABELS, 3)
    size = np.bincount(LABELS) ** (0.0 if sampling == "balanced" else 0.5)
    seen = []
    for step, rows in train_order(100, 100, seed=3, probabilities=shares).take(20):
        counts = np.bincount(LABELS[rows.numpy()], minlength=3)
        assert (np.abs(counts - 100 * size / size.sum()) <= 7).all(), int(step)
        seen.append(rows.numpy())
    total = np.bincount(LABELS[np.concatenate(seen)], minlength=3)
    np.testing.assert_allclose(total / 2000, size / size.sum(), atol=0.01)
    assert np.unique(np.concatenate(seen)).size == 100
    # Rows of one class come equally often, to within one an epoch.
    times = np.bincount(seen[0], minlength=100)
    for label in range(3):
        assert np.ptp(times[label == LABELS]) <= 1


def test_order_depends_on_seed_and_step_alone_and_resumes():
    shares = sampling_shares("balanced", LABELS, 3)
    order = functools.partial(train_order, 100, 16, probabilities=shares)
    whole = [rows.numpy() for _, rows in order(seed=1).take(15)]
    late = [rows.numpy() for _, rows in order(seed=1, start_step=8).take(7)]
    np.testing.assert_array_equal(whole[8:], late)
    assert not np.array_equal(whole[0], next(iter(order(seed=2)))[1])
    assert not np.array_equal(whole[0], whole[6])  # of the next epoch


def test_equal_shares_give_each_row_once():
    for _, rows in train_order(50, 50, probabilities=np.full(50, 0.3)).take(3):
        np.testing.assert_array_equal(np.sort(rows), np.arange(50))
    with refused("`probabilities`", "shape (49,)"):
        train_order(50, 50, probabilities=np.ones(49))


def test_sampled_run_resumes_and_is_no_other(tmp_path):
    whole = fit(make_trainer(), 6, sampling="balanced")
    checkpoints = Checkpoints(tmp_path)
    fit(make_trainer(), 3, checkpoints=checkpoints, sampling="balanced")
    again = fit(make_trainer(), 6, checkpoints=checkpoints, sampling="balanced")
    assert_same_weights(whole, again)
    with refused("`checkpoints`", "sampling"):
        fit(make_trainer(), 7, checkpoints=checkpoints, sampling="sqrt")


def weighted(**options) -> Trainer:
    weights = np.array([1.0, 0.0, 5.0, 2.0], "float32")
    return make_trainer(class_weights=weights, **options)


def test_loss_is_divided_by_the_sum_of_the_weights():
    """As in PyTorch: sum of w[y] * loss over sum of w[y]; the gradient's step follows from it."""
    model = functools.partial(small_model, frozen_norm=True)
    trainer = weighted(model=model, optimizer=sgd(0.1, momentum=0.0, weight_decay=0.0))
    images, labels = next(iter(blobs().train_batches(32)))
    logits = trainer.model(images, training=True).numpy().astype("float64")
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    weights, rows = np.array([1, 0, 5, 2])[labels], np.arange(32)
    expected = -(weights * log_p[rows, labels]).sum() / weights.sum()
    bias = trainer.model.layers[-1].bias
    before = bias.numpy()
    gradient = ((np.exp(log_p) - np.eye(4)[labels]) * weights[:, None]).sum(0) / weights.sum()
    history = trainer.fit(blobs(), 32, steps=1, steps_per_epoch=1, validation_split=None)
    assert history.history["loss"][0] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(bias.numpy(), before - 0.1 * gradient, rtol=1e-4, atol=1e-6)


def test_weighted_micro_batches_equal_one_batch():
    model = functools.partial(small_model, frozen_norm=True, l2=1e-3)
    whole, parts = weighted(model=model), weighted(model=model, micro_batches=4)
    assert_same_weights(fit(whole, 2), fit(parts, 2), 1e-6)


def test_equal_weights_change_nothing_and_evaluation_is_not_weighted():
    plain, equal = make_trainer(), make_trainer(class_weights=np.full(4, 3.0, "float32"))
    assert_same_weights(fit(plain, 1), fit(equal, 1), 1e-6)
    one, other = make_trainer(), weighted()
    assert one.evaluate(blobs(), "test", 8) == other.evaluate(blobs(), "test", 8)


def test_soft_labels_have_the_weight_of_their_classes():
    """A batch of two-class mixtures: an example's weight is the mean of those of its classes."""
    targets = np.array([[0.5, 0.5, 0, 0], [0, 0, 0.25, 0.75]], "float32")

    def soften(images, labels, position):
        return keras.ops.cast(images, "float32"), keras.ops.convert_to_tensor(targets)

    images = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 1)).astype("uint8")
    data = ArrayDataset("two", {"train": (images, np.array([0, 2]))}, "abcd")
    model = functools.partial(small_model, frozen_norm=True)
    trainer = weighted(model=model, loss=CrossEntropy(from_logits=True), transform=soften)
    batch, _ = next(iter(data.train_batches(2)))
    losses = cross_entropy_by_hand(targets, trainer.model(batch, training=True).numpy())
    weights = targets @ np.array([1, 0, 5, 2])
    history = trainer.fit(data, 2, steps=1)
    expected = (weights * losses).sum() / weights.sum()
    assert history.history["loss"][0] == pytest.approx(expected, rel=1e-5)


def cross_entropy_by_hand(targets, logits):
    return -(targets * (logits - np.log(np.exp(logits).sum(-1, keepdims=True)))).sum(-1)
