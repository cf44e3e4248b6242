"""Networks for inference: SavedModel, LiteRT and ONNX through one function.

Needs TensorFlow, as Keras's backend too; LiteRT and ONNX need the extra `export`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data import Transforms
from keras_resnet.export import serving, verification
from keras_resnet.export.copies import (
    computes_in_float32,
    described,
    float32_copy,
    image_network,
    of_plain_operations,
)
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.reading import ExportedModel, load_exported, output_name
from keras_resnet.network import class_names_of
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.surgery.folding import fold_batch_norm
from keras_resnet.utils import checks
from keras_resnet.utils.files import replacing

# Largest difference from the model, as a fraction of the largest output, however small that is.
# Folded normalization and other kernels move the last digits of float32; float16 has three.
TOLERANCES = {"float32": 1e-4, "float16": 1e-2}
# Outputs below are sums that come to zero but for rounding.
_ZERO = 1e-6
# Mean cosine between the outputs of an int8 file and the model's, over the calibration images.
LEAST_COSINE = 0.9
# More images than these make calibration longer and no better.
CALIBRATION_IMAGES = 512


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """File that `export` wrote, and how it compares with the model.

    Attributes:
        path: File or directory.
        format: "saved_model", "litert" or "onnx".
        quantize: "float32", "float16" or "int8".
        bytes: Size of the file, or of all files of the directory.
        difference: Largest difference from the model's outputs, as a fraction of the largest.
        agreement: Fraction of the compared images whose largest output is the model's.
        images: Number of images compared: random ones, or with int8 those of `calibration`.
    """

    path: Path
    format: str
    quantize: str
    bytes: int
    difference: float
    agreement: float
    images: int


def export(
    model: keras.Model,
    path: str | Path,
    format: str = "saved_model",
    *,
    quantize: str = "float32",
    calibration: Iterable[np.ndarray] | None = None,
    image_size: int | None = None,
    preprocessing: str | Preprocessing = "inside",
    version: int = 1,
    labels: Sequence[str] | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Writes a network for inference, runs what was written, and compares it with the model.

    Batch normalization is folded into the convolutions, and everything computes in float32 whatever
    the network was trained in. All formats map `images`, float32 in [0, 255], `(batch, H, W, C)`,
    any batch, to one output: `probabilities` of a model that ends in softmax, `logits` of one that
    ends in a layer without activation, else `outputs`.

    - "saved_model": a directory for TensorFlow Serving, with a folder for the version. Its
      signature "serving_images" does the above. "serving_default" takes `image_bytes`, any number
      of image files, prepares them as the weights want it, and gives a row for each: also the
      `classes` and `scores` of the best five, and `error`, empty or why a file cannot be read. It
      is for models of square images in grayscale or RGB; for others "serving_default" takes images.
      A request to warm up with is in `assets.extra`. It cannot be called or fine-tuned; for that
      there is `export_hub`.
    - "litert": a .tflite file of LiteRT's built-in operations only, for images of one size.
      `quantize="float16"` halves it; "int8" computes in 8 bits and makes it a quarter (inputs and
      outputs stay float32). "int8" needs `calibration`, from which the range of every layer's
      numbers is measured.
    - "onnx": a file of opset 17 for ONNX Runtime.

    Args:
        model: Functional model of one output, of images in [0, 255], channels last. It is not
            changed.
        path: Directory, or file that ends in .tflite or .onnx, to write atomically.
        format: "saved_model", "litert" or "onnx".
        quantize: "float32"; for LiteRT also "float16" or "int8".
        calibration: For "int8", batches of images as the model takes them, such as it was trained
            on; the first 512 images are used, and a hundred will do.
        image_size: Side of the images, for a model that takes any size; LiteRT needs it.
        preprocessing: As in `export_hub`: "inside", "imagenet", "none" or a `Preprocessing`. What
            is known of it is stored in the exported model as `Preprocessing.to_json` returns it.
        version: Version of a SavedModel, the name of its folder inside of `path`.
        labels: Name of every class, stored in the exported model; by default those that the model
            remembers.
        overwrite: Whether `path` may exist, as a file or SavedModel of the same format.

    Raises:
        ValueError: If an argument is wrong.
        ImportError: If a package of the extra `export` is missing.
        ExportMismatchError: If the outputs of the exported model differ from the model's; it is
            not kept.
    """
    checks.one_of("format", format, tuple(FORMATS))
    kind = FORMATS[format]
    if quantize not in kind.quantizations:
        allowed = ", ".join(map(repr, kind.quantizations))
        raise ValueError(
            f"`quantize` must be one of {allowed} for format={format!r}. "
            f"Received: quantize={quantize!r}"
        )
    path = base = Path(path)
    if not kind.suffix:
        path = base / str(checks.integer("version", version))
        if (base / verification.SAVED_MODEL).exists():
            raise ValueError(
                "`path` must be a folder of versions, or new. Received: "
                f"path={str(base)!r}, which is a SavedModel itself"
            )
    verification.check_path(path, overwrite, kind.suffix)
    labels = class_names_of(model) if labels is None else labels
    prepared = described(model, preprocessing)
    model = image_network(model, preprocessing)
    shape = _image_shape(model, image_size, kind.any_size)
    output = output_name(model)
    if labels is not None:
        labels = verification.label_lines(
            labels, model.output_shape[-1] if output != "outputs" else None
        )
    if prepared is not None and shape[0] is not None:
        prepared = prepared.at(shape[0])
    images = _calibration_images(shape, calibration, quantize)

    single = float32_copy(model)
    net = fold_batch_norm(single)
    if not kind.functions:
        net = of_plain_operations(net)
    spec = tf.TensorSpec((None, *shape), tf.float32, "images")

    @tf.function(input_signature=[spec], autograph=False)
    def serve(images):
        if kind.functions:
            return {output: serving.of_any_batch(net, images)}
        return {output: net(images, training=False)}

    signatures = {}
    if kind.functions:
        signatures = _signatures(serve, model, shape, prepared, output, labels)
    with replacing(path if base.exists() else base) as written:
        if path != base and not base.exists():
            written /= path.name
        kind.write(
            serve,
            written,
            signatures=signatures,
            net=net,
            labels=labels,
            prepared=None if prepared is None else prepared.to_json(),
            quantize=quantize,
            images=images,
        )
        compared = verification.random_images(shape) if images is None else images
        reference = model if computes_in_float32(model) else single
        difference, agreement = _compare(load_exported(written), reference, compared, quantize)
        if serving.FILES in signatures and serving.PIXELS in signatures:
            difference = max(difference, _compare_files(written, reference, prepared, output))
        if written.is_dir():
            verification.write_checksums(written)
        files = [file for file in (written, *written.rglob("*")) if file.is_file()]
        size = sum(file.stat().st_size for file in files)
    return ExportReport(path, format, quantize, size, difference, agreement, len(compared))


def _signatures(
    serve: Any,
    model: keras.Model,
    shape: tuple,
    prepared: Preprocessing | None,
    output: str,
    labels: str | None,
) -> dict[str, Any]:
    """Returns the signatures of a SavedModel: of image files, if it may, and of pixels."""
    transforms = Transforms.for_images(shape, prepared)
    if transforms is None:
        return {serving.FILES: serve}
    names = None if labels is None else labels.splitlines()
    classes = model.output_shape[-1]
    files = serving.of_files(serve, transforms, output, classes, names)
    return {serving.FILES: files, serving.PIXELS: serve}


def _compare_files(
    written: Path, reference: keras.Model, prepared: Preprocessing | None, output: str
) -> float:
    """Writes the request to warm up with, and returns how its answer differs from the model's."""
    transforms = Transforms.for_images(tuple(reference.inputs[0].shape[1:]), prepared)
    assert transforms is not None  # as the signature was made
    image = serving.example_file(transforms)
    serving.write_warmup(written, image)
    module = verification.load_saved_model(written)
    with tf.device("CPU:0"):
        received = module.signatures[serving.FILES](**{serving.INPUT: tf.constant([image])})
        pixels = tf.cast(transforms.evaluation(image), tf.float32)[tf.newaxis]
        expected = np.asarray(reference(pixels, training=False))
    difference = verification.largest_difference(received[output].numpy(), expected, _ZERO)
    if not difference <= TOLERANCES["float32"]:
        raise verification.ExportMismatchError(
            "The exported model must give the outputs of `model` for image files; it was not kept. "
            f"Received: a difference of {difference:.1e} of the largest output"
        )
    return difference


def _image_shape(model: keras.Model, image_size: int | None, any_size: bool) -> tuple:
    """Returns the shape of the images that the exported model takes."""
    shape = tuple(model.inputs[0].shape[1:])
    if image_size is not None:
        size = checks.integer("image_size", image_size)
        if any(side not in (None, size) for side in shape[:2]):
            raise ValueError(
                f"`image_size` must be the model's own, {shape[:2]}, or be left out. "
                f"Received: image_size={image_size}"
            )
        return size, size, shape[2]
    if None in shape and not any_size:
        raise ValueError(
            "`image_size` must be given for a model that takes images of any size, since a LiteRT "
            f"file takes one size only. Received: image_size=None with images {shape}"
        )
    return shape


def _calibration_images(
    shape: tuple, calibration: Iterable[np.ndarray] | None, quantize: str
) -> np.ndarray | None:
    """Returns the calibration images as one array; None where there is nothing to calibrate."""
    if (calibration is not None) != (quantize == "int8"):
        given = "none" if calibration is None else type(calibration).__name__
        raise ValueError(
            "`calibration` must be batches of images for quantize='int8', and is for that only. "
            f"Received: calibration of type {given} with quantize={quantize!r}"
        )
    if calibration is None:
        return None
    every = itertools.chain.from_iterable(calibration)
    images = [np.asarray(image, "float32") for image in itertools.islice(every, CALIBRATION_IMAGES)]
    other = next((image.shape for image in images if image.shape != shape), None)
    if not images or other is not None:
        raise ValueError(
            f"`calibration` must give batches of images of shape (batch, *{shape}). Received: "
            + (f"images of shape {other}" if images else "no images")
        )
    return np.stack(images)


def _compare(
    exported: ExportedModel, reference: keras.Model, images: np.ndarray, quantize: str
) -> tuple[float, float]:
    """Returns the largest difference of the outputs, and how often the largest output agrees."""
    # Batches of one image, and of several.
    parts = [images[:1], *(images[i : i + 64] for i in range(1, len(images), 64))]
    received = np.concatenate([exported(part) for part in parts])
    # On the CPU, where float32 is float32 everywhere.
    with tf.device("CPU:0"):
        expected = np.concatenate([reference(part, training=False) for part in parts])
    received, expected = (a.reshape(len(images), -1) for a in (received, expected))
    difference = verification.largest_difference(received, expected, _ZERO)
    if quantize == "int8":
        lengths = np.linalg.norm(received, axis=1) * np.linalg.norm(expected, axis=1)
        cosine = np.mean(np.sum(received * expected, axis=1) / np.maximum(lengths, 1e-30))
        right = cosine >= LEAST_COSINE
        reason = f"a mean cosine of {cosine:.3f} between its outputs and the model's"
    else:
        right = difference <= TOLERANCES[quantize]
        reason = f"a difference of {difference:.1e} of the largest output"
    if not right:  # NaN too
        raise verification.ExportMismatchError(
            "The exported model must give the outputs of `model`; it was not kept. "
            f"Received: {reason}, for model {reference.name!r}"
        )
    agreement = np.mean(np.argmax(received, axis=1) == np.argmax(expected, axis=1))
    return difference, float(agreement)
