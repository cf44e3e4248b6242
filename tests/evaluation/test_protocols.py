import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.evaluation import MultiScale, SingleCrop, TenCrop, make_protocol
from tests.helpers import refused

from .helpers import noise

# Pixel (i, j) of this image of 7x10 is 10 i + j.
NUMBERS = np.arange(70, dtype=np.uint8).reshape(7, 10, 1)


def crops(protocol, image=NUMBERS, size=(4, 4)):
    return [stack.numpy() for stack in protocol.crops(tf.constant(image), size)]


def test_the_single_crop_is_the_center():
    # Room is 3 rows and 6 columns; the center begins at row 1 and column 3.
    (stack,) = crops(SingleCrop())
    assert stack.shape == (1, 4, 4, 1)
    np.testing.assert_array_equal(stack[0], NUMBERS[2:6, 3:7])  # a half is rounded to even


def test_ten_crops_at_their_places():
    (stack,) = crops(TenCrop())
    assert stack.shape == (10, 4, 4, 1)
    assert stack[:5, 0, 0, 0].tolist() == [0, 6, 30, 36, 23]
    assert stack[:5, -1, -1, 0].tolist() == [33, 39, 63, 69, 56]
    np.testing.assert_array_equal(stack[5:], stack[:5, :, ::-1])


def test_ten_crops_of_256_for_224():
    image = np.random.default_rng(0).integers(0, 256, (256, 300, 3), np.uint8)
    (stack,) = crops(TenCrop(256), image, (224, 224))
    places = [(0, 0), (0, 76), (32, 0), (32, 76), (16, 38)]
    for crop, (top, left) in zip(stack[:5], places, strict=True):
        np.testing.assert_array_equal(crop, image[top : top + 224, left : left + 224])


def test_scales_keep_the_aspect_ratio():
    stacks = crops(MultiScale((7, 14, 3)))
    assert [stack.shape for stack in stacks] == [(1, 7, 10, 1), (1, 14, 20, 1), (1, 3, 4, 1)]
    np.testing.assert_array_equal(stacks[0][0], NUMBERS)


def test_flipped_scales_are_mirror_images():
    (stack,) = crops(MultiScale((14,), flip=True))
    np.testing.assert_array_equal(stack[1], stack[0][:, ::-1])


def test_defaults_come_from_the_data_set():
    dataset = noise(shape=(32, 32, 3))
    # 32 times 256/224, 384/224, 480/224 and 640/224 is 36.6, 54.9, 68.6 and 91.4.
    assert MultiScale().resolved(dataset).scales == (32, 37, 55, 69, 91)
    assert MultiScale().resolved(noise(shape=(224, 300, 3))).scales == (224, 256, 384, 480, 640)
    assert TenCrop().resolved(dataset) == TenCrop(None)
    dataset.eval_resize = 37
    assert TenCrop().resolved(dataset) == TenCrop(37)
    assert TenCrop(40).resolved(dataset).shorter_side == 40


def test_protocols_by_name():
    assert make_protocol("single-crop") == SingleCrop()
    assert make_protocol("ten-crop", resize=9) == TenCrop(9)
    assert make_protocol("multi-scale", scales=[8, 9], flip=True) == MultiScale((8, 9), True)


@pytest.mark.parametrize(
    ("name", "attributes", "named"),
    [
        ("five-crop", {}, "protocol='five-crop'"),
        ("ten-crop", {"scales": (8,)}, "scales=(8,)"),
        ("multi-scale", {"resize": 9}, "resize=9"),
        ("ten-crop", {"resize": 0}, "resize=0"),
        ("multi-scale", {"scales": ()}, "scales=()"),
        ("multi-scale", {"scales": (8, 0)}, "scales=0"),
        ("multi-scale", {"flip": "yes"}, "flip='yes'"),
    ],
)
def test_wrong_protocols(name, attributes, named):
    with refused(f"`{named.partition('=')[0]}`", named):
        make_protocol(name, **attributes)


def test_crops_must_fit_the_image():
    with refused("`resize`", " 8,", "resize=7"):
        TenCrop(7).resolved(noise())
