"""Mixed images and labels: pure functions of step and replica, and right by hand."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.training import CrossEntropy, Mixing
from keras_resnet.training.augment import AUGMENTS, Augment
from tests.helpers import refused
from tests.training.fakes import assert_same_weights, fit, make_trainer

rng = np.random.default_rng(0)
IMAGES = rng.uniform(0, 255, (8, 24, 24, 3)).astype("float32")
LABELS = np.arange(8, dtype="int32") % 4


def mixed(mixing, step=0, replica=0):
    images, labels = mixing(
        tf.constant(IMAGES), tf.constant(LABELS), tf.constant([step, replica], tf.int64)
    )
    return images.numpy(), labels.numpy()


def test_mixup_mixes_images_and_labels_alike():
    images, labels = mixed(Mixing(4, mixup=1.0, seed=3))
    np.testing.assert_allclose(labels.sum(-1), 1.0, rtol=1e-6)
    hard = np.eye(4)[LABELS]
    for image, label, own, hot in zip(images, labels, IMAGES, hard, strict=True):
        # image = w * own + (1 - w) * other for one of the others, and so is the label.
        fits = []
        for other, other_hot in zip(IMAGES, hard, strict=True):
            difference = own - other
            # Mixed with itself, the image shows no weight.
            weight = ((image - other) * difference).sum() / max((difference**2).sum(), 1e-9)
            mixed_image = weight * own + (1 - weight) * other
            mixed_label = weight * hot + (1 - weight) * other_hot
            fits.append(np.abs(mixed_image - image).max() / 255 + np.abs(mixed_label - label).max())
        assert min(fits) < 1e-4


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("option", ["mixup", "cutmix", "rand_augment"])
def test_images_stay_in_float32_whatever_the_network_computes_in(policy, option):
    expected = mixed(Mixing(4, **{option: 0.5}, seed=2))
    keras.config.set_dtype_policy(policy)
    found = mixed(Mixing(4, **{option: 0.5}, seed=2))
    assert found[0].dtype == np.float32
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_cutmix_pastes_and_weighs_by_area():
    images, labels = mixed(Mixing(4, cutmix=1.0, seed=1))
    assert not np.allclose(images, IMAGES)
    for image, label, own, own_label in zip(images, labels, IMAGES, LABELS, strict=True):
        kept = (image == own).all(-1).mean()
        np.testing.assert_allclose(label.sum(), 1.0, rtol=1e-6)
        # Keras weighs by the area of the box before it is rounded to pixels.
        assert label[own_label] >= kept - 0.1


@pytest.mark.parametrize("options", [{"mixup": 0.4, "cutmix": 1.0}, {"rand_augment": 0.5}])
def test_draws_follow_from_step_and_replica(options):
    mixing, again = Mixing(4, **options), Mixing(4, **options)
    mixed(mixing, 0)
    for place in ((5, 0), (5, 1), (6, 0)):
        for ours, theirs in zip(mixed(mixing, *place), mixed(again, *place), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(mixed(mixing, 5)[0], mixed(mixing, 6)[0])
    assert not np.array_equal(mixed(mixing, 5, 0)[0], mixed(mixing, 5, 1)[0])
    assert not np.array_equal(mixed(mixing)[0], mixed(Mixing(4, seed=1, **options))[0])


def test_both_are_used_with_equal_probability():
    mixing = Mixing(4, mixup=0.4, cutmix=1.0)
    # CutMix leaves every pixel one of the originals.
    pasted = [np.isin(mixed(mixing, step)[0], IMAGES).all() for step in range(20)]
    assert 4 < sum(pasted) < 16


def test_rand_augment_keeps_labels_and_range():
    images, labels = mixed(Mixing(4, rand_augment=0.3))
    np.testing.assert_array_equal(labels, LABELS)
    assert images.dtype == "float32" and images.min() >= 0 and images.max() <= 255


@pytest.mark.parametrize("name", AUGMENTS)
def test_augmentations_by_name_follow_from_step_and_keep_labels_and_range(name):
    images, labels = tf.constant(IMAGES[:6]), tf.constant(LABELS[:6])

    def views(places, seed=0, wrap=lambda mixing: mixing):
        mixing = wrap(Mixing(4, augment=name, seed=seed))
        results = [mixing(images, labels, tf.constant(place, tf.int64)) for place in places]
        assert all((found == labels).numpy().all() for _, found in results)
        return [found.numpy() for found, _ in results]

    whole = views([(step, 0) for step in range(6)])
    # Begins later, and in a graph.
    resumed = views([(4, 0), (5, 0), (5, 1)], wrap=tf.function)
    # A graph may round hues otherwise.
    np.testing.assert_allclose(whole[4:], resumed[:2], rtol=0, atol=1e-3)
    np.testing.assert_array_equal(views([(4, 0)])[0], whole[4])
    assert not np.array_equal(whole[4], whole[5]) and not np.array_equal(resumed[1], resumed[2])
    for found in whole:
        assert found.dtype == "float32" and found.shape == images.shape
        assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 255
    (other,) = views([(0, 0)], seed=1)
    assert not np.array_equal(other, whole[0]) and not np.array_equal(whole[0], IMAGES[:6])


def test_erasing_leaves_the_rest_of_half_of_the_images():
    batch, augment = np.full((400, 16, 16, 1), 100.0, "float32"), Augment("erasing")
    erased = augment(tf.constant(batch), lambda number: tf.constant([3, number])).numpy() != 100
    shares = erased.mean((1, 2, 3))
    assert 0.4 < (shares > 0).mean() < 0.6
    # Sides are the roots of shares from 0.02 to 0.33, in whole pixels.
    assert shares.max() < 0.36 and 0.1 < shares[shares > 0].mean() < 0.2


def test_trivial_takes_each_of_its_layers_as_often():
    # Solarization, which leaves black as it is, and saturation, contrast and geometry of one color
    # change nothing, so what does is brightness, and identity is among the rest.
    batch, augment = np.zeros((600, 8, 8, 3), "float32"), Augment("trivial")
    found = augment(tf.constant(batch), lambda number: tf.constant([5, number])).numpy()
    changed = (found != 0).any((1, 2, 3)).mean()
    assert 0.5 / 14 * 0.5 < changed < 0.5 / 14 * 1.7


@pytest.mark.parametrize("channels", [1, 4, 5])
def test_colors_of_other_images_are_refused(channels):
    batch = tf.constant(rng.uniform(0, 255, (4, 16, 16, channels)).astype("float32"))
    for name in ("rand", "trivial", "jitter"):
        with refused("`augment`", f"augment={name!r}"):
            Mixing(4, augment=name)(batch, tf.range(4), tf.constant([0, 0], tf.int64))
    for name in ("augmix", "erasing"):
        images, _ = Mixing(4, augment=name)(batch, tf.range(4), tf.constant([0, 0], tf.int64))
        assert images.shape == batch.shape and np.isfinite(images).all()


def test_several_labels_at_once_are_kept_or_mixed():
    labels = np.eye(4, dtype="float32")[LABELS] + np.eye(4, dtype="float32")[(LABELS + 1) % 4]
    place = tf.constant([0, 0], tf.int64)
    _, kept = Mixing(4, augment="erasing")(tf.constant(IMAGES), tf.constant(labels), place)
    np.testing.assert_array_equal(kept, labels)
    _, mixed_labels = Mixing(4, mixup=1.0, augment="erasing")(
        tf.constant(IMAGES), tf.constant(labels), place
    )
    np.testing.assert_allclose(np.sum(mixed_labels, -1), 2.0, rtol=1e-5)


def test_training_with_mixing_is_repeatable_and_resumes():
    def make():
        return make_trainer(
            loss=CrossEntropy(from_logits=True, label_smoothing=0.1),
            transform=Mixing(4, mixup=0.2, cutmix=1.0),
        )

    whole, parts = fit(make(), 6), fit(make(), 2)
    assert_same_weights(whole, fit(parts, 6))
    # Metrics read the labels as they were before mixing, one number an image.
    assert 0.0 < whole.model.history.history["accuracy"][-1] <= 1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("classes", 1), ("mixup", -1.0), ("rand_augment", 2.0)),
        *(("augment", "paper"), ("augment", "Trivial")),
        *(("cutmix", -0.1), ("cutmix", 2), ("cutmix", math.nan)),
    ],
)
def test_bad_arguments(name, value):
    with refused(f"`{name}`", f"{name}={value!r}"):
        Mixing(**{"classes": 4, name: value})
    assert keras.config.floatx() == "float32"
