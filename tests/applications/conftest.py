"""Files of weights that `keras.applications` wrote, of networks with random weights."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from keras.src.applications import resnet  # the code behind all of theirs, not public

from keras_resnet import applications
from tests.helpers import randomize

# The module of each network.
MODULES = {"ResNet50": "resnet", "ResNet50V2": "resnet_v2", "DenseNet121": "densenet"}
SHAPE = (64, 49, 3)


def drawn(name, **options):
    """Returns a network of theirs with random statistics, offsets and biases."""
    theirs = randomize(getattr(keras.applications, name)(weights=None, **options))
    if name in ("ResNet50", "ResNet101", "ResNet152"):
        # Of the size that fits images in [-128, 128], as those of Caffe are.
        theirs.get_layer("conv1_conv").kernel.assign(theirs.get_layer("conv1_conv").kernel / 60.0)
    if "top" not in str(options):
        # Far from giving all classes the same score.
        theirs.get_layer("predictions").kernel.assign(theirs.get_layer("predictions").kernel * 10)
    return theirs


def layers(model):
    """Returns name and class of every layer.

    Keras numbers those to which no name is given through all models of a process.
    """
    unnumbered = re.compile(r"(input_layer|zero_padding2d|max_pooling2d)(_\d+)?")
    names = (unnumbered.sub(r"\1", layer.name) for layer in model.layers)
    kinds = (type(layer).__name__ for layer in model.layers)
    return list(zip(names, kinds, strict=True))


def pixels(*shape, seed=0):
    """Returns images in [0, 255] as `img_to_array` does."""
    return np.random.default_rng(seed).integers(0, 256, shape).astype("float32")


def small_v2(weights=None, **options):
    """Returns a network of two stages as the code behind `resnet_v2` of Keras makes it."""

    def blocks(x):
        x = resnet.stack_residual_blocks_v2(x, 4, 3, name="conv2")
        return resnet.stack_residual_blocks_v2(x, 8, 2, stride1=1, name="conv3")

    return resnet.ResNet(blocks, preact=True, use_bias=True, weights=weights, **options)


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A function from the name of a network to theirs, ours with its weights, and their file."""
    made = {}

    def save(name):
        if name not in made:
            path = tmp_path_factory.mktemp("applications") / f"{name}.weights.h5"
            theirs = drawn(name, input_shape=SHAPE, classes=7)
            theirs.save_weights(path)
            ours = getattr(applications, name)(weights=path, input_shape=SHAPE, classes=7)
            made[name] = theirs, ours, path
        return made[name]

    return save
