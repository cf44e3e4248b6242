"""Distillation: the loss by hand, a teacher that stays as it is, and a run that resumes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.training import Checkpoints, CrossEntropy, Distillation, Trainer, sgd
from tests.helpers import refused
from tests.training.fakes import assert_same_weights, blobs, fit, small_model

TEACHER = np.array([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]])
STUDENT = np.array([[0.0, 1.0, -2.0], [3.0, 0.0, 0.0]])
LOSSES = np.array([0.7, 0.2])


def softmax(logits):
    raised = np.exp(logits)
    return raised / raised.sum(-1, keepdims=True)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def losses(sigmoid_ends, temperature=4.0, alpha=0.75):
    end = sigmoid if sigmoid_ends else softmax
    distillation = Distillation(
        lambda images: tf.constant(end(TEACHER), tf.float32),
        temperature=temperature,
        alpha=alpha,
        sigmoid=sigmoid_ends,
    )
    given = tf.constant(end(STUDENT), tf.float32)
    return distillation.losses(distillation.targets(None), given, LOSSES.astype("float32")).numpy()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_softmax_by_hand(temperature):
    p, q = softmax(TEACHER / temperature), softmax(STUDENT / temperature)
    expected = 0.25 * LOSSES + 0.75 * temperature**2 * (p * np.log(p / q)).sum(-1)
    np.testing.assert_allclose(losses(False, temperature), expected, rtol=1e-5)


def test_sigmoid_by_hand():
    p, q = sigmoid(TEACHER / 4), sigmoid(STUDENT / 4)
    divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    expected = 0.25 * LOSSES + 0.75 * 16 * divergence.mean(-1)
    np.testing.assert_allclose(losses(True), expected, rtol=1e-5)


def test_the_gradient_is_that_of_the_paper():
    """With T large, section 2.1: it tends to the difference of centered logits, over classes."""
    logits = tf.Variable(STUDENT, dtype=tf.float32)
    targets = tf.constant(softmax(TEACHER), tf.float32)
    distillation = Distillation(lambda images: targets, temperature=2000.0, alpha=1.0)
    with tf.GradientTape() as tape:
        given = tf.nn.softmax(logits)
        total = tf.reduce_sum(distillation.losses(targets, given, tf.zeros(2)))
    centered = [x - x.mean(-1, keepdims=True) for x in (STUDENT, TEACHER)]
    np.testing.assert_allclose(
        tape.gradient(total, logits), (centered[0] - centered[1]) / 3, atol=0.05
    )


def classifier(seed):
    keras.utils.set_random_seed(seed)
    model = small_model(dropout=0.3)
    return keras.Model(model.input, keras.layers.Softmax(dtype="float32")(model.output))


def distilled(teacher, **options):
    def probabilities(images):
        return teacher(images, training=False)

    model = classifier(0)
    distillation = Distillation(probabilities, temperature=2.0, alpha=0.5)
    return Trainer(model, sgd(0.05), CrossEntropy(), distillation=distillation, **options)


def test_teacher_sees_the_augmented_batch_and_stays_as_it_is(tmp_path):
    """Its images are those of the student, to the bit; resuming and micro-batches keep that."""
    teacher = classifier(1)
    before = teacher.get_weights()

    def darker(images, labels, position):
        return tf.cast(images, tf.float32) / 2, labels

    whole = fit(distilled(teacher, transform=darker), 4)
    checkpoints = Checkpoints(tmp_path)
    fit(distilled(teacher, transform=darker), 2, checkpoints=checkpoints)
    again = fit(distilled(teacher, transform=darker), 4, checkpoints=checkpoints)
    assert_same_weights(whole, again)
    assert all(map(np.array_equal, teacher.get_weights(), before))

    # One step's loss, of images as the teacher is given them.
    student = distilled(teacher, transform=darker)
    student.model.layers[-3].rate = 0.0
    images, labels = next(iter(blobs().train_batches(32)))
    images = images.numpy().astype("float32") / 2
    p, q = (np.log(net(images, training=t)) for net, t in ((teacher, False), (student.model, True)))
    p, q = softmax(p / 2), softmax(q / 2)
    hard = -np.log(student.model(images, training=True).numpy()[np.arange(32), labels])
    expected = (0.5 * hard + 0.5 * 4 * (p * np.log(p / q)).sum(-1)).mean()
    history = student.fit(blobs(), 32, steps=1, validation_split=None)
    assert history.history["loss"][0] == pytest.approx(expected, rel=1e-4)


def test_wrong_arguments():
    with refused("`distillation_temperature`", "0"):
        Distillation(lambda images: images, temperature=0)
    with refused("`distillation_alpha`", "1.5"):
        Distillation(lambda images: images, alpha=1.5)
    distillation = Distillation(lambda images: images)
    with refused("`teacher`", "a teacher with 3"):
        distillation.losses(tf.ones((2, 3)), tf.ones((2, 4)), tf.ones(2))
