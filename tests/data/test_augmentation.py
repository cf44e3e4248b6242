import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.data.augmentation import PadCropFlip, RandomAffine, batch_draws

RNG = np.random.default_rng(0)


def test_draws_are_uniform_and_keyed_by_seed_and_step():
    draws = batch_draws(0, tf.constant(3, tf.int64), 1000, 4).numpy()
    assert draws.shape == (1000, 4) and draws.min() >= 0 and draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.02
    np.testing.assert_array_equal(draws, batch_draws(0, tf.constant(3, tf.int64), 1000, 4))
    for seed, step in ((1, 3), (0, 4), (3, 0)):
        others = batch_draws(seed, tf.constant(step, tf.int64), 1000, 4).numpy()
        assert (draws != others).mean() > 0.99


@pytest.mark.parametrize("augmentation", [RandomAffine(), PadCropFlip(fill=(100.0,))])
def test_a_row_changes_the_same_in_any_batch(augmentation):
    images = tf.constant(RNG.integers(0, 256, (6, 8, 8, 1), np.uint8))
    draws = batch_draws(0, tf.constant(0, tf.int64), 6, augmentation.num_draws)
    whole = augmentation(images, draws).numpy()
    assert whole.dtype == np.uint8 and whole.shape == images.shape
    assert (whole != images.numpy()).any()
    parts = [augmentation(images[i : i + 2], draws[i : i + 2]).numpy() for i in (0, 2, 4)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_affine_with_centered_draws_is_the_identity():
    images = tf.constant(RNG.integers(0, 256, (3, 8, 9, 2), np.uint8))
    moved = RandomAffine()(images, tf.fill([3, 4], 0.5))
    np.testing.assert_array_equal(moved, images)


def test_affine_shifts_by_whole_pixels_and_fills_with_paper():
    images = RNG.integers(1, 256, (1, 8, 8, 1), np.uint8)
    # The first draw shifts right, the second down; 1.0 stands for the limit itself.
    moved = RandomAffine(shift=2.0)(tf.constant(images), tf.constant([[1.0, 0.25, 0.5, 0.5]]))
    expected = np.zeros_like(images)
    expected[:, :7, 2:] = images[:, 1:, :6]
    np.testing.assert_array_equal(moved, expected)


def test_affine_rotates_about_the_center():
    images = RNG.integers(0, 256, (1, 7, 7, 1), np.uint8)
    moved = RandomAffine(rotation=90.0)(tf.constant(images), tf.constant([[0.5, 0.5, 1.0, 0.5]]))
    # 90 degrees put the corners on the border of the image, to rounding: compare inside.
    expected = np.rot90(images, axes=(1, 2))
    np.testing.assert_array_equal(moved[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1])


def test_affine_zoom_enlarges_about_the_center():
    image = np.zeros((1, 9, 9, 1), np.uint8)
    image[0, 4, 4] = image[0, 4, 6] = 200
    moved = RandomAffine(zoom=1.0)(tf.constant(image), tf.constant([[0.5, 0.5, 0.5, 1.0]]))
    assert moved[0, 4, 4, 0] == 200 and moved[0, 4, 8, 0] == 200 and moved[0, 4, 6, 0] == 0


def test_pad_crop_flip_by_hand():
    fill = (125.3, 123.0, 113.9)
    images = RNG.integers(0, 256, (40, 10, 12, 3), np.uint8)
    draws = batch_draws(0, tf.constant(0, tf.int64), 40, 3).numpy()
    changed = PadCropFlip(fill)(tf.constant(images), tf.constant(draws)).numpy()
    for image, (top, left, flip), result in zip(images, draws, changed, strict=True):
        canvas = np.full((18, 20, 3), np.round(fill), np.uint8)
        canvas[4:-4, 4:-4] = image
        crop = canvas[int(top * 9) :, int(left * 9) :][:10, :12]
        np.testing.assert_array_equal(result, crop[:, ::-1] if flip < 0.5 else crop)


def test_pad_crop_reaches_every_offset_and_no_flip_means_none():
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1) + 1
    images = np.repeat(image, 1000, axis=0)
    draws = batch_draws(0, tf.constant(0, tf.int64), 1000, 3)
    changed = PadCropFlip((0.0,), flip=False)(tf.constant(images), draws).numpy()
    kinds = np.unique(changed.reshape(1000, -1), axis=0)
    assert len(kinds) == 81
    assert len(np.unique(PadCropFlip((0.0,))(tf.constant(images), draws), axis=0)) > 81
