"""A small network and its exported models, made once for all tests."""

from __future__ import annotations

import concurrent.futures
import functools

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.data import load_dataset
from keras_resnet.export import export, export_hub
from tests.helpers import randomize

LABELS = [f"digit {i}" for i in range(10)]


def small_net(blocks=(1, 1, 1), input_shape=(8, 8, 1), **options):
    """Returns a network of [0, 255] whose moving statistics are not those of a new one."""
    images = keras.Input(input_shape)
    defaults = {"block": "basic", "shortcut": "A", "stem": "cifar"}
    defaults |= {"kernel_regularizer": keras.regularizers.L2(1e-3)}
    net = keras_resnet.ResNet(
        blocks,
        widths=(16, 32, 64)[: len(blocks)],
        input_tensor=keras.layers.Rescaling(1 / 127.5, offset=-1)(images),
        **(defaults | options),
    )
    randomize(net, gamma=(0.5, 1.5))
    return net


def random_images(batch=5, shape=(8, 8, 1)):
    """Returns images as modules take them."""
    return np.random.default_rng(7).random((batch, *shape), dtype=np.float32)


def moved(before, variables):
    """Returns the names of the variables that have other values than before."""
    pairs = zip(before, variables, strict=True)
    return [variable.name for old, variable in pairs if not np.array_equal(old, variable)]


def assert_same_in_threads(call, batches):
    """Compares the outputs in eight threads with those in one."""
    alone = [call(images) for images in batches]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(call, batches))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


def features_of(net):
    """Returns the network up to its classifier."""
    return keras.Model(net.input, net.get_layer("predictions").input)


def stage_ends(net):
    """Returns the network up to the last block of every stage."""
    ends = {"C2": "conv2_block1_out", "C3": "conv3_block1_out", "C4": "conv4_block1_out"}
    outputs = {name: net.get_layer(layer).output for name, layer in ends.items()}
    return keras.Model(net.input, outputs)


@pytest.fixture(scope="package")
def net():
    keras.utils.set_random_seed(0)
    return small_net()


@pytest.fixture(scope="package")
def feature_vector(net, tmp_path_factory):
    return export_hub(net, tmp_path_factory.mktemp("hub") / "features")


@pytest.fixture(scope="package")
def feature_maps(net, tmp_path_factory):
    return export_hub(net, tmp_path_factory.mktemp("hub") / "maps", "feature_maps")


@pytest.fixture(scope="package")
def classification(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("hub") / "logits"
    return export_hub(net, path, "classification", labels=LABELS, card="# Dïgits\n")


# Format, quantization and file name of everything that `export` writes.
FORMS = {
    "saved_model": ("saved_model", "float32", "digits"),
    "litert": ("litert", "float32", "digits.tflite"),
    "litert float16": ("litert", "float16", "digits16.tflite"),
    "litert dynamic": ("litert", "dynamic", "digits-dynamic.tflite"),
    "litert int8": ("litert", "int8", "digits8.tflite"),
    "litert int16x8": ("litert", "int16x8", "digits16x8.tflite"),
    "onnx": ("onnx", "float32", "digits.onnx"),
    "onnx int8": ("onnx", "int8", "digits8.onnx"),
}
# Those whose kernels are 8-bit integers.
QUANTIZED = [form for form, (_, quantize, _) in FORMS.items() if "float" not in quantize]


@pytest.fixture(scope="package")
def digits():
    return load_dataset("digits")


@pytest.fixture(scope="package")
def test_images(digits):
    """All test images in [0, 255], and their labels."""
    ((images, labels, _),) = digits.eval_batches("test", 360)
    return np.asarray(images, "float32"), np.asarray(labels)


@pytest.fixture(scope="package")
def trained(digits):
    """A ResNet-8 after 100 steps on the digits."""
    keras.utils.set_random_seed(0)
    images = keras.Input((8, 8, 1))
    variance = [std**2 for std in digits.std]
    standardized = keras.layers.Normalization(mean=digits.mean, variance=variance)(images)
    model = keras_resnet.CifarResNet(8, input_tensor=standardized)
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(digits.train_batches(64), steps_per_epoch=100, verbose=0)
    return model


@pytest.fixture(scope="package")
def exported(trained, digits, tmp_path_factory):
    """Reports that `export` returned, by form."""
    folder = tmp_path_factory.mktemp("exported")
    calibration = [images for images, _, _ in digits.eval_batches("validation", 180)]
    return {
        form: export(
            trained,
            folder / name,
            format,
            quantize=quantize,
            calibration=calibration if form in QUANTIZED else None,
            labels=LABELS,
        )
        for form, (format, quantize, name) in FORMS.items()
    }
