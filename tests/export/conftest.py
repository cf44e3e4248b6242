"""A small network with statistics of its own, and its modules, made once for all tests."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.export import export_hub


def small_net(blocks=(1, 1, 1), input_shape=(8, 8, 1), **options):
    """Returns a network of [0, 255] whose moving statistics are not those of a new one."""
    images = keras.Input(input_shape)
    net = keras_resnet.ResNet(
        blocks,
        block="basic",
        widths=(16, 32, 64)[: len(blocks)],
        stem="cifar",
        shortcut="A",
        input_tensor=keras.layers.Rescaling(1 / 127.5, offset=-1)(images),
        **{"kernel_regularizer": keras.regularizers.L2(1e-3), **options},
    )
    rng = np.random.default_rng(1)
    for weight in net.non_trainable_weights:
        if weight.name == "moving_mean":
            weight.assign(rng.normal(0.0, 0.1, weight.shape))
        elif weight.name == "moving_variance":
            weight.assign(rng.uniform(0.5, 2.0, weight.shape))
    return net


def random_images(batch=5, shape=(8, 8, 1)):
    """Returns images as modules take them."""
    return np.random.default_rng(7).random((batch, *shape), dtype=np.float32)


def features_of(net):
    """Returns the network up to its classifier."""
    return keras.Model(net.input, net.get_layer("predictions").input)


@pytest.fixture(scope="package")
def net():
    keras.utils.set_random_seed(0)
    return small_net()


@pytest.fixture(scope="package")
def feature_vector(net, tmp_path_factory):
    return export_hub(net, tmp_path_factory.mktemp("hub") / "features")


@pytest.fixture(scope="package")
def classification(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("hub") / "logits"
    labels = [f"digit {i}" for i in range(10)]
    return export_hub(net, path, "classification", labels=labels, card="# Dïgits\n")
