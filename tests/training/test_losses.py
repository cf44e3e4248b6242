"""Cross entropy with smoothing, by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet.training import BinaryCrossEntropy, CrossEntropy
from tests.helpers import refused

LOGITS = np.array([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]], "float32")
LABELS = np.array([2, 0])


def by_hand(targets):
    log_probabilities = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
    return float(-(targets * log_probabilities).sum(-1).mean())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_hard_and_soft_labels(smoothing):
    hard, soft = np.eye(3)[LABELS], np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    loss = CrossEntropy(from_logits=True, label_smoothing=smoothing)
    for labels, targets in ((LABELS, hard), (hard, hard), (soft, soft)):
        expected = by_hand(targets * (1 - smoothing) + smoothing / 3)
        assert float(loss(labels, LOGITS)) == pytest.approx(expected, rel=1e-6)


def test_probabilities_and_serialization():
    loss = CrossEntropy(label_smoothing=0.1)
    loss = keras.losses.deserialize(keras.losses.serialize(loss))
    probabilities = keras.ops.softmax(LOGITS)
    expected = by_hand(np.eye(3)[LABELS] * 0.9 + 0.1 / 3)
    assert float(loss(LABELS, probabilities)) == pytest.approx(expected, rel=1e-5)


def test_bad_smoothing():
    with refused("`label_smoothing`", "label_smoothing=1"):
        CrossEntropy(label_smoothing=1.0)


def binary_by_hand(targets, logits=LOGITS):
    probabilities = 1 / (1 + np.exp(-logits.astype("float64")))
    losses = targets * np.log(probabilities) + (1 - targets) * np.log(1 - probabilities)
    return float(-losses.mean())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("from_logits", [True, False])
def test_binary_cross_entropy_of_each_class_against_the_rest(smoothing, from_logits):
    """Hard labels, and those after mixup, as timm's BinaryCrossEntropy smooths them."""
    loss = BinaryCrossEntropy(from_logits, smoothing)
    loss = keras.losses.deserialize(keras.losses.serialize(loss))
    given = LOGITS if from_logits else keras.ops.sigmoid(LOGITS)
    hard, soft = np.eye(3)[LABELS], np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    for labels, targets in ((LABELS, hard), (hard, hard), (soft, soft)):
        expected = binary_by_hand(targets * (1 - smoothing) + smoothing / 3)
        assert float(loss(labels, given)) == pytest.approx(expected, rel=1e-5)


def test_one_output_for_two_classes():
    loss, logits = BinaryCrossEntropy(True, 0.1), LOGITS[:, :1]
    soft = np.array([[0.3, 0.7], [1.0, 0.0]])
    for labels, targets in ((np.array([1, 0]), [[1], [0]]), (soft, soft[:, 1:])):
        expected = binary_by_hand(np.array(targets) * 0.9 + 0.05, logits)
        assert float(loss(labels, logits)) == pytest.approx(expected, rel=1e-5)


def test_several_labels_with_weights_of_the_positives():
    """As PyTorch's `pos_weight`: the loss of images that have the label is multiplied."""
    labels, weights = np.array([[1, 0, 1], [0, 0, 1]]), np.array([2.0, 1.0, 0.5])
    loss = BinaryCrossEntropy(True, multi_label=True, positive_weights=weights)
    loss = keras.losses.deserialize(keras.losses.serialize(loss))
    p = 1 / (1 + np.exp(-LOGITS.astype("float64")))
    expected = -(weights * labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean()
    assert float(loss(labels, LOGITS)) == pytest.approx(expected, rel=1e-5)
    with refused("`positive_weights`", "[1.0]"):
        BinaryCrossEntropy(positive_weights=[1.0])
