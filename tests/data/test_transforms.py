import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet.data.transforms import Transforms, inception_extent, scaled_extent
from keras_resnet.evaluation.predictor import read_image
from tests.helpers import refused

from .helpers import encode

RNG = np.random.default_rng(0)


def draws(transforms, *, position=(0.5, 0.5), flip=0.9, color=(0.5, 0.5, 0.5), crop=0.5):
    rest = np.broadcast_to(crop, transforms.num_draws - 6)
    return tf.constant([*position, flip, *color, *rest], tf.float32)


def test_sizes_follow_the_paper_in_proportion():
    assert Transforms().resize_range == (256, 480) and Transforms().eval_resize == 256
    small = Transforms(image_size=56, channels=1)
    assert small.resize_range == (64, 120) and small.eval_resize == 64
    assert small.shape == (56, 56, 1)


def test_scaled_extent_by_hand():
    # 375x500 with the shorter side resized to 300: 224 pixels show 224 * 375 / 300 = 280.
    np.testing.assert_allclose(scaled_extent(375, 500, 0.7, 224, (300, 300)), [280, 280], rtol=1e-6)
    low, high = (scaled_extent(375, 500, draw, 224, (256, 480))[0] for draw in (0.0, 0.9999))
    np.testing.assert_allclose([low, high], [224 * 375 / 256, 224 * 375 / 480], rtol=1e-6)


def test_shorter_sides_are_whole_and_equally_likely():
    shorter = [
        round(float(224 * 256 / scaled_extent(256, 300, draw, 224, (256, 259))[0]))
        for draw in np.linspace(0, 1, 400, endpoint=False, dtype=np.float32)
    ]
    assert np.unique(shorter, return_counts=True)[1].tolist() == [100] * 4
    assert min(shorter) == 256 and max(shorter) == 259


def test_inception_extents_are_within_area_ratio_and_image():
    height, width = 300, 400
    for _ in range(50):
        h, w = inception_extent(height, width, RNG.random((2, 10), np.float32)).numpy()
        assert 0 < h <= height and 0 < w <= width
        assert 0.0799 < h * w / (height * width) < 1.0001
        assert 0.7499 < w / h < 1.3334


def test_inception_extent_takes_the_first_try_that_fits():
    # The whole area of 100x200 fits at no allowed ratio, 8 % of it at ratio 1 does: 40x40.
    tries = np.array([[0.9999, 0.0, 0.5], [0.5, 0.5, 0.5]], np.float32)
    np.testing.assert_allclose(inception_extent(100, 200, tries), [40, 40], rtol=1e-3)


@pytest.mark.parametrize(
    ("shape", "expected"), [((100, 1000), (100, 400 / 3)), ((1000, 100), (400 / 3, 100))]
)
def test_inception_extent_falls_back_on_the_nearest_ratio(shape, expected):
    tries = np.full((2, 10), 0.9999, np.float32)
    np.testing.assert_allclose(inception_extent(*shape, tries), expected, rtol=1e-6)


def test_evaluation_is_the_center_of_the_resized_image(photographs):
    image = photographs[0]
    transforms = Transforms(image_size=112)  # shorter side to 128
    ours = transforms.evaluation(encode(image, "PNG")).numpy().astype(float)
    resized = Image.fromarray(image).resize((192, 128), Image.Resampling.BILINEAR)
    center = np.asarray(resized.crop((40, 8, 152, 120)), float)
    assert ours.shape == (112, 112, 3)
    # Windows are whole pixels of the source, so the two are a fraction of a pixel apart.
    assert np.abs(ours - center).mean() < 4


@pytest.mark.parametrize("crop", ["scale", "inception"])
def test_training_is_a_pure_function_of_the_draws(photographs, crop):
    data = encode(photographs[1])
    transforms = Transforms(image_size=48, crop=crop)
    one, two = (tf.constant(RNG.random(transforms.num_draws), tf.float32) for _ in range(2))
    first, again, other = (transforms.training(data, d).numpy() for d in (one, one, two))
    assert first.dtype == np.uint8 and first.shape == (48, 48, 3)
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5


def test_position_and_flip(photographs):
    data = encode(photographs[0], "PNG")
    transforms = Transforms(image_size=100, resize_range=(200, 200), lighting=0)
    left, right = (
        transforms.training(data, draws(transforms, position=(0.5, x))) for x in (0.0, 0.999)
    )
    # 427 pixels to 200: the window is 213.5 pixels wide.
    side = 214
    for ours, start in ((left, 0), (right, 640 - side)):
        part = Image.fromarray(photographs[0][107 : 107 + side, start : start + side])
        expected = np.asarray(part.resize((100, 100), Image.Resampling.BILINEAR), float)
        assert np.abs(ours.numpy() - expected).mean() < 2
    flip = draws(transforms, position=(0.5, 0.0), flip=0.4)
    np.testing.assert_array_equal(transforms.training(data, flip)[:, ::-1], left)
    unflipped = Transforms(image_size=100, resize_range=(200, 200), lighting=0, flip=False)
    np.testing.assert_array_equal(unflipped.training(data, flip), left)


def test_lighting_by_hand():
    data = encode(np.full((40, 40, 3), 128, np.uint8), "PNG")
    transforms = Transforms(image_size=16)
    one_sigma = 0.5 + 0.5 * math.erf(1 / math.sqrt(2))
    lit = transforms.training(data, draws(transforms, color=(one_sigma, 0.5, 0.5))).numpy()
    # 128 + 0.1 * 255 * 0.2175 * (-0.5675, -0.5808, -0.5836) = 124.9, 124.8, 124.8
    np.testing.assert_array_equal(lit, np.broadcast_to([125, 125, 125], lit.shape))
    strong = Transforms(image_size=16, lighting=2.0)
    lit = strong.training(data, draws(strong, color=(0.5, one_sigma, 0.5))).numpy()
    # 128 + 2 * 255 * 0.0188 * (0.7192, -0.0045, -0.6948) = 134.9, 127.96, 121.3
    np.testing.assert_array_equal(lit, np.broadcast_to([135, 128, 121], lit.shape))


def test_lighting_is_clipped_and_finite_at_the_ends_of_the_draws():
    data = encode(np.full((40, 40, 3), 250, np.uint8), "PNG")
    transforms = Transforms(image_size=16, lighting=1.0)
    dark = transforms.training(data, draws(transforms, color=(0.99, 0.5, 0.5))).numpy()
    light = transforms.training(data, draws(transforms, color=(0.0, 0.5, 0.5))).numpy()
    assert (dark < 180).all() and (light == 255).all()


def test_grayscale(photographs):
    transforms = Transforms(image_size=24, channels=1)
    assert transforms.training(encode(photographs[0]), draws(transforms)).shape == (24, 24, 1)
    assert transforms.evaluation(encode(photographs[0], "PNG")).shape == (24, 24, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("image_size", 0), ("channels", 0), ("crop", "random"), ("eval_resize", 200)),
        *(("resize_range", (200, 480)), ("resize_range", (480, 256))),
        *(("lighting", -0.1), ("lighting", math.nan)),
    ],
)
def test_wrong_values(name, value):
    with refused(f"`{name}`", f"{name}={value!r}"):
        Transforms(**{name: value})


def test_pad_moves_the_square_by_up_to_an_eighth_over_reflections():
    image = RNG.integers(0, 256, (16, 16, 3), np.uint8)
    transforms = Transforms(image_size=16, crop="pad")
    assert transforms.lighting == 0 and transforms.eval_resize == 16
    data = encode(image, "PNG")
    np.testing.assert_array_equal(transforms.evaluation(data), image)
    padded = np.pad(image, [(2, 2), (2, 2), (0, 0)], mode="reflect")
    for position, (top, left) in {
        (0.0, 0.0): (0, 0),
        (0.5, 0.5): (2, 2),
        (0.999, 0.21): (4, 1),
    }.items():
        moved = transforms.training(data, draws(transforms, position=position))
        np.testing.assert_array_equal(moved, padded[top : top + 16, left : left + 16])


def test_pad_brings_images_of_any_size_to_their_own_first(photographs):
    data = encode(photographs[0], "PNG")
    transforms = Transforms(image_size=40, crop="pad")
    middle = transforms.training(data, draws(transforms, position=(0.5, 0.5)))
    np.testing.assert_array_equal(middle, transforms.evaluation(data))


@pytest.mark.parametrize("crop", ["scale", "inception", "pad"])
def test_left_and_right_are_told_apart_without_flips(crop):
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :16] = 255
    data = encode(image, "PNG")
    for flip, mirrored in ((True, True), (False, False)):
        transforms = Transforms(image_size=64, crop=crop, flip=flip)
        seen = [
            transforms.training(data, tf.constant(RNG.random(transforms.num_draws), tf.float32))
            for _ in range(16)
        ]
        right = [np.asarray(view)[:, -4:].mean() > np.asarray(view)[:, :4].mean() for view in seen]
        assert any(right) == mirrored


@pytest.mark.parametrize("channels", [1, 3])
def test_of_16_bits_all_keep_the_upper_8(channels):
    deep = RNG.integers(0, 2**16, (16, 16, channels), np.uint16)
    data = tf.io.encode_png(deep).numpy()
    transforms = Transforms(image_size=16, channels=channels, crop="pad", flip=False)
    seen = (
        transforms.training(data, draws(transforms)),
        transforms.evaluation(data),
        read_image(data, transforms),
    )
    for pixels in seen:
        np.testing.assert_array_equal(pixels, deep >> 8)
