"""Weights for RGB in networks for images of other channels."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.preprocessing import CAFFE, Preprocessing
from keras_resnet.weights import load_weights, save_model, save_torch_weights
from keras_resnet.weights.channels import adapt_kernel, adapt_preprocessing
from keras_resnet.weights.pytorch import to_torch
from tests.helpers import distance, images, randomize, refused
from tests.weights.test_torch_files import write_torch


def small(channels=3, deep=False, dense=False, **options):
    options = {"input_shape": (32, 32, channels), "classes": 5, **options}
    if dense:
        return keras_resnet.DenseNet((1, 2), growth_rate=4, **options)
    return keras_resnet.ResNet((1, 1), widths=(4, 8), version="v1.5", deep_stem=deep, **options)


def first(model):
    return next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))


R, G, B = range(3)


@pytest.mark.parametrize(
    ("channels", "repeated"), [(2, [R, G]), (4, [R, G, B, R]), (5, [R, G, B, R, G])]
)
def test_kernels_by_hand(channels, repeated):
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 2)).astype("float32")
    expected = np.stack([kernel[:, :, i] * 3 / channels for i in repeated], axis=2)
    np.testing.assert_allclose(adapt_kernel(kernel, channels), expected, rtol=1e-6)
    assert adapt_kernel(kernel, channels).dtype == "float32"


def write(kind, model, folder):
    path = folder / f"model{kind}"
    if kind == ".keras":
        save_model(model, path)
    elif kind == ".weights.h5":
        model.save_weights(path)
    elif kind == ".safetensors":
        save_torch_weights(model, path)
    else:
        write_torch(path, to_torch(model))
    return path


@pytest.mark.parametrize("options", [{}, {"deep": True}, {"dense": True}], ids=str)
@pytest.mark.parametrize("kind", [".keras", ".weights.h5", ".safetensors", ".pth"])
def test_gray_images_have_the_outputs_that_they_have_in_rgb(tmp_path, kind, options):
    """Where all channels are the same: one for three, and each three times or twice."""
    model = small(**options)
    randomize(model)
    path, gray = write(kind, model, tmp_path), images(2, 32, 32, 1)
    expected = np.asarray(model(gray.repeat(3, axis=-1)))
    for channels in (1, 6, 9):
        other = small(channels, **options)
        load_weights(other, path)
        assert distance(other(gray.repeat(channels, axis=-1)), expected) < 1e-6
    four = small(4, weights=path, **options)
    np.testing.assert_array_equal(
        first(four).kernel, adapt_kernel(np.asarray(first(model).kernel), 4)
    )


def test_preprocessing_by_hand():
    prepared = Preprocessing((3.0, 6.0, 9.0), (1.0, 2.0, 6.0), resize=235)
    assert adapt_preprocessing(prepared, 3) is prepared
    assert adapt_preprocessing(None, 4) is None
    for channels, mean, std in (
        (1, (6.0,), (3.0,)),
        (2, (3.0, 6.0), (1.0, 2.0)),
        (4, (3.0, 6.0, 9.0, 3.0), (1.0, 2.0, 6.0, 1.0)),
    ):
        expected = dataclasses.replace(prepared, mean=mean, std=std)
        assert adapt_preprocessing(prepared, channels) == expected
    two = adapt_preprocessing(prepared, 2)
    assert adapt_preprocessing(two, 4) is two


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_preprocessing_goes_with_the_channels(tmp_path, channels):
    model = small(include_preprocessing=CAFFE)
    randomize(model)
    path = tmp_path / "model.safetensors"
    save_torch_weights(model, path)
    pixels = images(2, 32, 32, channels, low=0, high=255)
    inside = small(channels, weights=path, include_preprocessing=True)
    outside = small(channels, weights=path)
    prepared = adapt_preprocessing(CAFFE.at(32), channels)
    assert inside.preprocessing == outside.preprocessing == prepared
    assert distance(inside(pixels), outside(prepared.standardize(pixels))) < 1e-5
    # Numbers of one's own, for channels that RGB says nothing of.
    own = Preprocessing((100.0,) * channels, (50.0,) * channels, image_size=32)
    chosen = small(channels, weights=path, include_preprocessing=own)
    assert chosen.preprocessing == own.at(32)
    assert distance(chosen(pixels), outside(own.standardize(pixels))) < 1e-5


def test_gray_pixels(tmp_path):
    """With one mean and deviation for all channels, a gray image is one and the same in both."""
    model = small(include_preprocessing=Preprocessing((127.5,) * 3, (60.0,) * 3))
    randomize(model)
    path, gray = tmp_path / "model.keras", images(2, 32, 32, 1, low=0, high=255)
    save_model(model, path)
    one = small(1, weights=path, include_preprocessing=True)
    assert distance(one(gray), model(gray.repeat(3, axis=-1))) < 1e-5


def test_other_weights_than_those_for_rgb(tmp_path):
    path = tmp_path / "model.safetensors"
    save_torch_weights(small(4), path)
    for channels in (1, 3, 8):
        with refused("`weights`", "conv1_conv", f"(7, 7, {channels}, 4)"):
            small(channels, weights=path)


def test_weights_of_keras_applications(tmp_path):
    """Their kernel is for BGR: its sum, times the deviations, and their mean's average."""
    theirs = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), include_top=False)
    randomize(theirs)
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    model = keras_resnet.ResNet50(
        weights=tmp_path / "theirs.weights.h5", input_shape=(32, 32, 1), include_top=False
    )
    kernel = np.asarray(theirs.get_layer("conv1_conv").kernel)[:, :, ::-1]
    expected = (kernel * np.reshape(CAFFE.std, (3, 1))).sum(axis=2, keepdims=True)
    np.testing.assert_allclose(first(model).kernel, expected, rtol=1e-5, atol=1e-5)
    assert model.preprocessing.mean == pytest.approx([(123.68 + 116.779 + 103.939) / 3])


def in_reverse(model):
    """The same network of B, G, R: its first kernel reversed, as its images are."""
    prepared = dataclasses.replace(model.preprocessing, bgr=True)
    other = small(include_preprocessing=prepared)
    other.set_weights(model.get_weights())
    other.remember(dataclasses.replace(other.network, preprocessing=prepared))
    kernel = first(other).kernel
    kernel.assign(np.asarray(kernel)[:, :, ::-1])
    return other


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_networks_of_reversed_channels_compute_what_those_of_rgb_do(tmp_path, channels):
    """Built with the weights, with numbers of their own, and loaded into later."""
    model = randomize(small(include_preprocessing=CAFFE))
    reverse, pixels = in_reverse(model), images(2, 32, 32, channels, low=0, high=255)
    assert distance(reverse(images(2, 32, 32, 3)), model(images(2, 32, 32, 3))) < 1e-5
    save_model(model, tmp_path / "rgb.keras")
    save_model(reverse, tmp_path / "bgr.keras")
    paths = tmp_path / "rgb.keras", tmp_path / "bgr.keras"
    rgb, bgr = (small(channels, weights=path, include_preprocessing=True) for path in paths)
    assert (rgb.preprocessing.bgr, bgr.preprocessing.bgr) == (False, True)
    assert distance(bgr(pixels), rgb(pixels)) < 1e-5
    own = Preprocessing((100.0,) * channels, (50.0,) * channels)
    rgb, bgr = (
        small(channels, include_preprocessing=dataclasses.replace(own, bgr=bgr))
        for bgr in (False, True)
    )
    for other, path in zip((rgb, bgr), paths, strict=True):
        load_weights(other, path)
    assert distance(bgr(pixels), rgb(pixels)) < 1e-5
    outside = small(channels, weights=paths[1])
    assert distance(outside(own.standardize(pixels)[..., ::-1]), rgb(pixels)) < 1e-5
    if channels > 1:
        with refused("`weights`", "then B, G, R"):
            load_weights(rgb, paths[1])


@pytest.mark.parametrize("channels", [1, 6])
def test_gray_pixels_in_reversed_channels(tmp_path, channels):
    model = randomize(small(include_preprocessing=Preprocessing((127.5,) * 3, (60.0,) * 3)))
    gray = images(2, 32, 32, 1, low=0, high=255)
    save_model(in_reverse(model), tmp_path / "bgr.keras")
    other = small(channels, weights=tmp_path / "bgr.keras", include_preprocessing=True)
    expected = model(gray.repeat(3, axis=-1))
    assert distance(other(gray.repeat(channels, axis=-1)), expected) < 1e-4


@pytest.mark.parametrize("bgr", [False, True])
def test_the_first_three_channels_mean_what_they_do_in_rgb(tmp_path, bgr):
    """An image whose further channel is its mean, and one without blue, get n/3 of the sums."""
    model = randomize(small(include_preprocessing=CAFFE))
    model = in_reverse(model) if bgr else model
    save_model(model, tmp_path / "model.keras")
    pixels = images(2, 32, 32, 3, low=0, high=255)
    pixels[..., B] = CAFFE.mean[B]
    alpha = np.full((2, 32, 32, 1), CAFFE.mean[R], "float32")
    given = {2: pixels[..., :2], 4: np.concatenate([pixels, alpha], axis=-1)}
    expected = keras.Model(model.input, first(model).output)(pixels)
    for channels, other in given.items():
        net = small(channels, weights=tmp_path / "model.keras", include_preprocessing=True)
        found = keras.Model(net.input, first(net).output)(other)
        assert distance(found * (channels / 3), expected) < 1e-5


@pytest.mark.parametrize("channels", [2, 4, 6])
def test_weights_of_keras_applications_in_both_conventions(tmp_path, channels):
    """As they are, for B, G, R and with biases, and converted."""

    def net(channels, **options):
        options = {"input_shape": (32, 32, channels), "classes": 5, **options}
        return keras_resnet.ResNet((1, 1), widths=(4, 8), version="v1", **options)

    path, pixels = tmp_path / "theirs.weights.h5", images(2, 32, 32, channels, low=0, high=255)
    randomize(net(3, conv_bias=True, bn_epsilon=1.001e-5)).save_weights(path)
    converted = net(channels, weights=path, include_preprocessing=True)
    as_they_are = net(channels, weights=path, conv_bias=True, bn_epsilon=1.001e-5)
    prepared = as_they_are.preprocessing
    assert prepared.bgr and not converted.preprocessing.bgr
    assert distance(as_they_are(prepared.standardize(pixels)), converted(pixels)) < 1e-4
