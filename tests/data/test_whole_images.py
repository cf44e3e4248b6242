"""Whole images, the input of the evaluation protocols."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet.data import ArrayDataset, BadImageWarning, load_dataset
from keras_resnet.data.decoding import decode_whole, resize_shorter_side
from tests.helpers import refused

from .helpers import assert_equal, damage, encode, take


@pytest.fixture
def dataset():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (7, 4, 6, 3), np.uint8), rng.integers(0, 5, 7)
    splits = {"train": (images[:3], labels[:3]), "test": (images, labels)}
    return ArrayDataset("noise", splits, "abcde")


def test_arrays_are_read_once_in_their_order(dataset):
    ((images, labels, _),) = take(dataset.eval_batches("test", 7), 9)
    elements = take(dataset.whole_images("test"), 99)
    assert len(elements) == 7
    for image, label, (whole, its_label, weight) in zip(images, labels, elements, strict=True):
        np.testing.assert_array_equal(whole, image)
        assert (its_label, weight) == (label, 1.0)
    assert dataset.whole_images("test").element_spec == (
        tf.TensorSpec((4, 6, 3), tf.uint8),
        tf.TensorSpec((), tf.int32),
        tf.TensorSpec((), tf.float32),
    )


# 4x6 with a shorter side of 5 is 5 x 7.5, which torchvision rounds down, of 6 it is 6x9.
@pytest.mark.parametrize(
    ("shorter_side", "shape"), [(4, (4, 6, 3)), (5, (5, 7, 3)), (6, (6, 9, 3))]
)
def test_arrays_are_resized_with_their_aspect_ratio(dataset, shorter_side, shape):
    pipeline = dataset.whole_images("test", shorter_side)
    assert pipeline.element_spec[0].shape == shape
    assert take(pipeline, 1)[0][0].shape == shape


def test_the_own_size_leaves_an_image_as_it_is(dataset):
    assert_equal(*(take(dataset.whole_images("test", side), 9) for side in (None, 4)))


def test_shrinking_averages_over_pixels_as_pillow_does(photographs):
    resized = resize_shorter_side(tf.constant(photographs[0]), 50).numpy()
    expected = Image.fromarray(photographs[0]).resize((74, 50), Image.Resampling.BILINEAR)
    assert resized.dtype == np.uint8 and resized.shape == (50, 74, 3)
    assert np.abs(resized.astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize(("form", "tolerance"), [("JPEG", 3.0), ("PNG", 0.5), ("BMP", 0.5)])
def test_files_are_decoded_whole_and_resized(photographs, form, tolerance):
    encoded = encode(photographs[0], form)
    assert decode_whole(tf.constant(encoded), 3).shape == (427, 640, 3)
    small = decode_whole(tf.constant(encoded), 3, 100).numpy()
    expected = resize_shorter_side(tf.constant(photographs[0]), 100).numpy()
    assert small.shape == (100, 149, 3)  # 640 * 100 / 427 is 149.9
    # A JPEG is shrunk by whole factors while it is decoded.
    assert np.abs(small.astype(int) - expected).mean() < tolerance


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_grayscale_is_asked_for_by_its_channel(photographs, form):
    encoded = tf.constant(encode(photographs[0], form))
    assert decode_whole(encoded, 1, 100).shape == (100, 149, 1)


def test_a_folder_is_read_once_in_its_order(folder):
    dataset = load_dataset("folder", folder, image_size=24)
    assert dataset.eval_resize == 27
    elements = take(dataset.whole_images("validation", 30), 99)
    assert [image.shape for image, *_ in elements] == [(30, 40, 3)] * 6
    assert [int(label) for _, label, _ in elements] == [0, 0, 0, 1, 1, 1]
    assert take(dataset.whole_images("validation"), 1)[0][0].shape == (60, 80, 3)


def test_the_center_is_the_evaluation_view(folder):
    """They are equal to rounding if the center begins at a whole pixel."""
    dataset = load_dataset("folder", folder, image_size=24, eval_resize=30)
    ((views, *_),) = take(dataset.eval_batches("validation", 6), 1)
    elements = take(dataset.whole_images("validation", 30), 9)
    for view, (whole, *_) in zip(views, elements, strict=True):
        assert whole.shape == (30, 40, 3)
        assert np.abs(view.astype(int) - whole[3:27, 8:32]).max() <= 1


def test_bad_images_are_named_counted_and_weigh_nothing(folder, photographs):
    damage(folder / "val" / "china", photographs[0])
    dataset = load_dataset("folder", folder, image_size=24)
    with pytest.warns(BadImageWarning) as caught:
        elements = take(dataset.whole_images("validation", 30), 99)
    assert len(elements) == 11 and len(caught) == len(dataset.bad_images.found) == 5
    bad = [image for image, _, weight in elements if weight == 0]
    assert [image.shape for image in bad] == [(30, 30, 3)] * 5 and not np.any(bad)
    assert [weight for *_, weight in elements].count(1.0) == 6


def test_too_many_bad_images_stop_reading(folder, photographs):
    damage(folder / "val" / "china", photographs[0])
    dataset = load_dataset("folder", folder, image_size=24, max_bad_files=0)
    with pytest.raises(tf.errors.OpError):
        take(dataset.whole_images("validation"), 99)
    assert "`max_bad_files`" in str(dataset.reading_error())


@pytest.mark.parametrize(
    ("arguments", "argument", "received"),
    [(("dev",), "split", "split='dev'"), (("test", 0), "shorter_side", "shorter_side=0")],
)
def test_wrong_arguments(dataset, arguments, argument, received):
    with refused(f"`{argument}`", received):
        dataset.whole_images(*arguments)


def test_of_a_long_strip_the_middle_is_resized():
    strip = np.zeros((4, 100, 3), np.uint8)
    strip[:, 18:82] = 255  # 16 times its width
    for image in (strip, np.swapaxes(strip, 0, 1)):
        static = resize_shorter_side(tf.constant(image), 8).numpy()
        file = decode_whole(tf.constant(encode(image, "PNG")), 3, 8).numpy()
        np.testing.assert_array_equal(static, file)
        assert sorted(file.shape[:2]) == [8, 128] and file.min() == 255
