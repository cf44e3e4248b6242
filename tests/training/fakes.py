"""A data set in memory and a small model, for the trainer's tests and their scripts."""

from __future__ import annotations

import contextlib
import json
import socket

import keras
import numpy as np

from keras_resnet.data.augmentation import RandomAffine
from keras_resnet.data.dataset import ArrayDataset
from keras_resnet.training import Trainer, sgd


def blobs(train: int = 128, test: int = 37, augment: bool = True) -> ArrayDataset:
    """Noisy gray images of 8x8 with one bright quarter, which is the label."""
    rng = np.random.default_rng(0)
    held_out = _blobs(rng, test)
    splits = {"train": _blobs(rng, train), "validation": held_out, "test": held_out}
    return ArrayDataset("blobs", splits, "0123", RandomAffine() if augment else None)


def _blobs(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(0, 4, count).astype("int32")
    images = rng.normal(90, 30, (count, 8, 8, 1))
    for image, label in zip(images, labels, strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        image[row : row + 4, column : column + 4] += 80
    return images.clip(0, 255).astype("uint8"), labels


def small_model(*, synchronized=False, dropout=0.0, l2=0.0, frozen_norm=False) -> keras.Model:
    """Two convolutions with batch normalization, for images of 8x8x1, to four logits."""
    layers = keras.layers
    images = outputs = keras.Input((8, 8, 1))
    outputs = layers.Rescaling(1 / 64, -2.0)(outputs)
    options = {"padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}
    norm_options = {"momentum": 0.9, "synchronized": synchronized, "trainable": not frozen_norm}
    for strides in (1, 2):
        penalty = keras.regularizers.L2(l2) if l2 else None
        outputs = layers.Conv2D(8, 3, strides, kernel_regularizer=penalty, **options)(outputs)
        outputs = layers.BatchNormalization(**norm_options)(outputs)
        outputs = layers.ReLU()(outputs)
    outputs = layers.Flatten()(outputs)
    if dropout:
        outputs = layers.Dropout(dropout, seed=1)(outputs)
    return keras.Model(images, layers.Dense(4, dtype="float32")(outputs))


class Noise(keras.layers.Layer):
    """Draws from Keras's global generator, which no checkpoint holds."""

    def call(self, inputs):
        return inputs + keras.random.normal(keras.ops.shape(inputs))


class Counter(keras.layers.Layer):
    """Counts the batches of training in a whole number."""

    def build(self, input_shape):
        self.count = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="count"
        )

    def call(self, inputs, training=False):
        if training:
            self.count.assign_add(1)
        return inputs


class OwnCount(Counter):
    """Counts past Keras's scopes, as a SavedModel does."""

    def call(self, inputs, training=False):
        if training:
            self.count._value.assign_add(1)
        return inputs


class Rows(keras.metrics.Metric):
    """Counts rows in a variable that is its result, and takes no weights."""

    def __init__(self, name="rows", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.rows = self.add_variable((), "zeros", dtype=dtype, name="rows")

    def update_state(self, labels, predictions):
        self.rows.assign_add(keras.ops.cast(keras.ops.shape(predictions)[0], self.rows.dtype))

    def result(self):
        return self.rows


class F1(keras.metrics.F1Score):
    """F1 of each class; as its base, it has no variables until it is updated."""

    def update_state(self, labels, predictions, sample_weight=None):
        classes = predictions.shape[-1]
        one_hot = keras.ops.one_hot(keras.ops.cast(labels, "int32"), classes)
        return super().update_state(one_hot, predictions, sample_weight)

    def result(self):
        return {f"f1_{label}": value for label, value in enumerate(super().result())}


def cross_entropy() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def accuracy() -> keras.metrics.Metric:
    return keras.metrics.SparseCategoricalAccuracy("accuracy")


def make_trainer(learning_rate=0.05, *, model=None, optimizer=None, loss=None, **options):
    """A trainer of a small model whose initial values are always the same."""
    keras.utils.set_random_seed(0)
    return Trainer(
        model() if model else small_model(),
        optimizer or sgd(learning_rate),
        loss or cross_entropy(),
        [accuracy()],
        **options,
    )


def tf_config(hosts, index: int = 0, kind: str = "worker", job: str = "worker") -> str:
    return json.dumps({"cluster": {job: hosts}, "task": {"type": kind, "index": index}})


def free_addresses(count: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        names = [stack.enter_context(server).getsockname() for server in servers]
    return [f"{host}:{port}" for host, port in names]


def fit(trainer: Trainer, steps: int | None = None, **options) -> Trainer:
    """Trains on blobs in batches of 32, of which an epoch has four, and does not validate."""
    trainer.fit(blobs(), 32, steps=steps, **{"validation_split": None, **options})
    return trainer


def assert_same_weights(a, b, tolerance: float = 0.0) -> None:
    """Compares the weights of two trainers or models."""
    ours, theirs = ((x.model if isinstance(x, Trainer) else x).get_weights() for x in (a, b))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
