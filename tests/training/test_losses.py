"""Cross entropy with smoothing, by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet.training import CrossEntropy
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
