"""Subjects of Keras and plain TensorFlow, without this package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

from benchmarks.common import LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, batch, classes_of, noise
from benchmarks.stepwise import Stepwise


def train(network: str, batch_size: int, image_size: int, bfloat16: bool = False) -> Stepwise:
    """Returns a training step of a network of `keras.applications` by `fit`."""
    if bfloat16:
        keras.config.set_dtype_policy("mixed_bfloat16")
    shape = (image_size, image_size, 3)
    model = getattr(keras.applications, network)(
        weights=None, input_shape=shape, classes=classes_of(image_size)
    )
    optimizer = keras.optimizers.SGD(LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    images, labels = noise(batch_size, image_size)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).repeat().batch(batch_size)
    return Stepwise(
        lambda own: model.fit(batches.prefetch(2), steps_per_epoch=10**6, callbacks=own, verbose=0)
    )


def build(network: str) -> Callable[[], object]:
    """Returns a step that builds a network of `keras.applications`."""

    def step() -> None:
        keras.utils.clear_session()
        getattr(keras.applications, network)(weights=None)

    return step


def infer(folder: str) -> Callable[[], object]:
    """Returns a step of the SavedModel of `ours.write`, loaded by TensorFlow alone."""
    (path,) = Path(folder, "saved_model").iterdir()
    module, images = tf.saved_model.load(str(path)), tf.constant(batch(1))
    return lambda: module.signatures["serving_images"](images=images)


def read(folder: str, batch_size: int) -> Callable[[], object]:
    """Returns a step that reads as many photographs as a folder has: whole, then cropped."""
    files = sorted(map(str, Path(folder).glob("*/*.jpg")))

    def load(path: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_jpeg(tf.io.read_file(path), 3, dct_method="INTEGER_ACCURATE")
        everything = tf.zeros([1, 0, 4])
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            *(tf.shape(image), everything),
            area_range=(0.08, 1.0),
            use_image_if_no_bounding_boxes=True,
        )
        crop = tf.image.resize(tf.slice(image, begin, size), (224, 224))
        return tf.cast(tf.image.random_flip_left_right(crop), tf.uint8)

    images = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files)).repeat()
    images = images.map(load, num_parallel_calls=tf.data.AUTOTUNE)
    batches = iter(images.batch(batch_size).prefetch(2))

    def step() -> None:
        for _ in range(len(files) // batch_size):
            next(batches)

    return step
