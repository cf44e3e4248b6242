"""Signatures and the warm-up request of a SavedModel, for TensorFlow Serving.

Needs TensorFlow.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data import Transforms
from keras_resnet.data.npy import LEVEL_16, encode_npy
from keras_resnet.export.endpoints import class_probabilities
from keras_resnet.export.mismatch import ExportMismatchError
from keras_resnet.export.verification import smooth_images, telling_images
from keras_resnet.preprocessing import NONE_OF_THE_CLASSES, covered_by, sides_of

# Names of the signatures: of image files, which is what clients ask for who name none, and of
# pixels.
FILES, PIXELS = "serving_default", "serving_images"
# TensorFlow Serving's HTTP interface decodes base64 for inputs whose names end so.
INPUT = "image_bytes"
# Output with a text for each file: empty, or why it cannot be read.
ERROR = "error"
# Classes that an answer names.
TOP = 5


def of_files(
    serve: Any,
    transforms: Transforms,
    output: str,
    classes: int,
    labels: Sequence[str] | None,
    threshold: float | None = None,
) -> Any:
    """Returns a function of image files.

    Args:
        serve: A function of images, float32 in [0, 255], `(batch, H, W, C)`.
        transforms: What is done to an image.
        output: Name of the output of `serve`: "probabilities", "logits", or another.
        classes: Length of the output.
        labels: Names of the classes; None for their numbers.
        threshold: Probability of the best class below which an image shows none of the classes.

    Returns:
        A function from `image_bytes`, any number of files, to a row for each: the `output` of
        `serve`; for a classifier `classes` and `scores`, its best classes and their probabilities,
        best first; and `error`, which is empty, or says that the file cannot be read. The rest of
        such a row is empty and zero. Of an image that shows none of the classes, every one of
        `classes` is `NONE_OF_THE_CLASSES`, and all else is as it would be without a threshold.
    """
    names = tf.constant(labels or [str(number) for number in range(classes)])

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, INPUT)], autograph=False)
    def serve_files(image_bytes):
        images, readable = decode_files(image_bytes, transforms)
        answers = {output: serve(tf.cast(images, tf.float32))[output]}
        if output in ("probabilities", "logits"):
            scores = class_probabilities(answers[output], output)
            answers["scores"], best = tf.math.top_k(scores, min(TOP, classes))
            answers["classes"] = tf.gather(names, best)
            if threshold is not None:
                none = answers["scores"][:, :1] < tf.constant(threshold, tf.float32)
                answers["classes"] = tf.where(none, NONE_OF_THE_CLASSES, answers["classes"])
        return with_errors(answers, readable)

    return serve_files


def with_errors(outputs: Mapping[str, tf.Tensor], readable: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns outputs for files with `error`, which is empty, or says that a file cannot be read.

    The rest of such a row is empty and zero.
    """
    rows = {name: _or_zeros(readable, rows) for name, rows in outputs.items()}
    return rows | {ERROR: tf.where(readable, "", "the image cannot be read")}


def _or_zeros(readable: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Returns rows of any shape with zeros, or empty texts, for files that cannot be read."""
    good = tf.reshape(readable, [-1] + [1] * (rows.shape.rank - 1))
    return tf.where(good, rows, tf.zeros_like(rows))


def decode_files(image_bytes: tf.Tensor, transforms: Transforms) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the images in files, and which of them could be read; others are black."""
    count, evaluation = tf.size(image_bytes, tf.int64), _evaluation(transforms)

    def load(row: tf.Tensor, encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return row, evaluation(encoded)

    files = tf.data.Dataset.from_tensor_slices((tf.range(count), image_bytes))
    decoded = files.map(load, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    # One row more, so that there is something where no file can be read.
    last = tf.data.Dataset.from_tensors((count, tf.zeros(transforms.shape, transforms.dtype)))
    rows, images = decoded.concatenate(last).batch(count + 1).get_single_element()
    rows, images = rows[:-1, tf.newaxis], images[:-1]
    shape = tf.concat([[count], tf.constant(transforms.shape, tf.int64)], axis=0)
    readable = tf.scatter_nd(rows, tf.ones_like(rows[:, 0]), [count]) > 0
    images = tf.ensure_shape(tf.scatter_nd(rows, images, shape), (None, *transforms.shape))
    return images, readable


@functools.lru_cache(maxsize=1)
def _evaluation(transforms: Transforms) -> Any:
    """Returns `transforms.evaluation`, traced once for the signature and for its verification."""
    spec = tf.TensorSpec((), tf.string)
    return tf.function(transforms.evaluation, input_signature=[spec], autograph=False)


def telling_files(reference: keras.Model, transforms: Transforms) -> tuple[list[bytes], np.ndarray]:
    """Returns two files on which a model tells much, a broken one between them, and the images."""
    evaluation = _evaluation(transforms)
    every = [example_file(transforms, seed) for seed in range(8)]
    pixels = np.stack([evaluation(tf.constant(file)) for file in every]).astype("float32")
    first, second = telling_images(reference, pixels, 2)
    return [every[first], b"", every[second]], pixels[[first, second]]


def whole_rows(rows: Mapping[str, tf.Tensor]) -> dict[str, np.ndarray]:
    """Returns the outputs for `telling_files` but those of the broken one.

    Raises:
        ExportMismatchError: If that row is not zero with an `error`, or another one has one.
    """
    outputs = {name: value.numpy() for name, value in rows.items()}
    errors = [bool(text) for text in outputs.pop(ERROR)]
    if errors != [False, True, False] or any(value[1].any() for value in outputs.values()):
        raise ExportMismatchError(
            "The exported model must give the outputs of `model` for image files, and an `error` "
            "and zeros for broken ones; it was not kept. "
            f"Received: errors {errors} for a broken file between two whole ones"
        )
    return {name: value[::2] for name, value in outputs.items()}


def example_file(transforms: Transforms, seed: int = 0) -> bytes:
    """Returns a file of a smooth random image that is cropped to one of the model.

    It is a PNG, with 16 bits where these are kept, or an array where images are in `.npy` files.
    """
    sides = sides_of(covered_by(transforms.sides, transforms.eval_resize))
    (image,) = smooth_images(1, (*sides, transforms.channels), seed)
    if not transforms.of_files:
        return encode_npy(image)
    if transforms.bits == 16:
        return tf.io.encode_png(np.rint(LEVEL_16 * image).astype("uint16")).numpy()
    return tf.io.encode_png(np.rint(image).astype("uint8")).numpy()


def write_warmup(folder: Path, image: bytes) -> None:
    """Writes the request that TensorFlow Serving sends itself before it serves a model.

    It is a `PredictionLog` of tensorflow_serving/apis/prediction_log.proto, whose messages are
    encoded here, as the package that has them requires gRPC.
    """
    request = _field(1, _field(3, FILES.encode()))  # PredictRequest.model_spec.signature_name
    tensor = tf.make_tensor_proto([image]).SerializeToString()
    request += _field(2, _field(1, INPUT.encode()) + _field(2, tensor))  # .inputs
    log = _field(6, _field(1, request))  # PredictionLog.predict_log.request
    (folder / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / "assets.extra/tf_serving_warmup_requests")) as writer:
        writer.write(log)


def _field(number: int, content: bytes) -> bytes:
    """Returns a field of a protocol buffer that has bytes or a message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    low, high = number & 127, number >> 7
    return bytes([low | 128]) + _varint(high) if high else bytes([low])
