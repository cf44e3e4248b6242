"""A data set of noise and small models with known outputs."""

import keras
import numpy as np

from keras_resnet import CifarResNet
from keras_resnet.data import ArrayDataset
from tests.helpers import randomize

SHAPE = (8, 12, 3)


def noise(test=23, classes=7, shape=SHAPE):
    """Returns a data set of noise, of odd sizes so that batches do not divide it."""
    rng = np.random.default_rng(0)
    splits = {
        split: (rng.integers(0, 256, (count, *shape), np.uint8), rng.integers(0, classes, count))
        for split, count in (("train", 9), ("test", test))
    }
    return ArrayDataset("noise", splits, [f"class {i}" for i in range(classes)])


def images_of(dataset, split="test"):
    """Returns all images as float32, and their labels."""
    ((images, labels, _),) = dataset.eval_batches(split, dataset.num_examples(split))
    return images.numpy().astype("float32"), labels.numpy()


def small_net(seed=0, shape=SHAPE, classes=7, activation="softmax", **options):
    """Returns a network of noise in [0, 255] whose outputs differ from image to image."""
    inputs = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 20, offset=-6)(inputs)
    net = CifarResNet(
        8, input_tensor=x, classes=classes, classifier_activation=activation, **options
    )
    randomize(net, seed)
    kernel, bias = net.get_layer("predictions").get_weights()
    kernel = np.random.default_rng(seed).normal(size=kernel.shape)
    net.get_layer("predictions").set_weights([kernel, bias])
    return net


def softmax(logits):
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)
