"""A data set in memory and small models, for the trainer's tests and their scripts."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf


class Blobs:
    """Noisy images of four kinds, to the contract of `keras_resnet.data.ImageDataset`."""

    name = "blobs"
    class_names = ("0", "1", "2", "3")
    image_shape = (8, 8, 1)

    def __init__(self, train: int = 128, test: int = 37, seed: int = 0):
        rng = np.random.default_rng(seed)
        self._splits = {"train": _blobs(rng, train), "test": _blobs(rng, test)}
        self._splits["validation"] = self._splits["test"]

    def num_examples(self, split: str) -> int:
        return len(self._splits[split][1])

    def arrays(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        return self._splits[split]

    def train_batches(
        self,
        batch_size: int,
        *,
        seed: int = 0,
        start_step: int = 0,
        shard: tuple[int, int] = (0, 1),
        augment: bool = True,
    ) -> tf.data.Dataset:
        images, labels = self._splits["train"]
        index, count = shard
        rows = batch_size // count
        examples = len(labels)
        steps_per_epoch = examples // batch_size

        def batch(step):
            epoch, position = step // steps_per_epoch, step % steps_per_epoch
            row = position * batch_size + index * rows + tf.range(rows, dtype=tf.int64)
            order = tf.random.experimental.index_shuffle(
                row, tf.stack([tf.constant(seed, tf.int64), epoch]), examples - 1
            )
            picked = tf.gather(images, order)
            if augment:
                noise_seed = tf.stack([tf.constant(seed, tf.int64), step])
                noise = tf.random.stateless_normal((batch_size, *self.image_shape), noise_seed)
                picked += noise[index * rows : (index + 1) * rows]
            return picked, tf.gather(labels, order)

        return tf.data.Dataset.counter(start_step).map(batch)

    def eval_batches(
        self, split: str, batch_size: int, *, shard: tuple[int, int] = (0, 1)
    ) -> tf.data.Dataset:
        images, labels = self._splits[split]
        padding = -len(labels) % batch_size
        weights = np.concatenate([np.ones(len(labels)), np.zeros(padding)]).astype("float32")
        images = np.concatenate([images, np.zeros((padding, *self.image_shape), "float32")])
        labels = np.concatenate([labels, np.zeros(padding, "int32")])
        index, count = shard
        rows = batch_size // count

        def own_rows(*batch):
            return tuple(part[index * rows : (index + 1) * rows] for part in batch)

        whole = tf.data.Dataset.from_tensor_slices((images, labels, weights))
        return whole.batch(batch_size, drop_remainder=True).map(own_rows)


def _blobs(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(0, 4, count).astype("int32")
    images = rng.normal(128, 40, (count, 8, 8, 1)).astype("float32")
    for image, label in zip(images, labels, strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        image[row : row + 4, column : column + 4] += 80
    return images, labels


def small_model(
    *,
    width: int = 8,
    synchronized: bool = False,
    dropout: float = 0.0,
    l2: float = 0.0,
    batch_norm: bool = True,
) -> keras.Model:
    """Two convolutions with batch normalisation, for images of 8x8x1, to four logits."""
    layers = keras.layers
    regularizer = keras.regularizers.L2(l2) if l2 else None
    images = outputs = keras.Input((8, 8, 1))
    outputs = layers.Rescaling(1 / 64, -2.0)(outputs)
    for strides in (1, 2):
        outputs = layers.Conv2D(
            width,
            3,
            strides,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            kernel_regularizer=regularizer,
        )(outputs)
        if batch_norm:
            outputs = layers.BatchNormalization(momentum=0.9, synchronized=synchronized)(outputs)
        outputs = layers.ReLU()(outputs)
    outputs = layers.Flatten()(outputs)
    if dropout:
        outputs = layers.Dropout(dropout, seed=1)(outputs)
    return keras.Model(images, layers.Dense(4, dtype="float32")(outputs))


def cross_entropy() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def accuracy() -> keras.metrics.Metric:
    return keras.metrics.SparseCategoricalAccuracy("accuracy")
