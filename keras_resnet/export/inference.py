"""Finished networks for inference: SavedModel, LiteRT and ONNX through one function.

Needs TensorFlow, as Keras's backend too; LiteRT and ONNX need the extra `export`. All take what the
model takes, images float32 in [0, 255] `(batch, H, W, C)`, any batch, and give what it gives.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.export.artefacts import OUTPUTS, load_artefact
from keras_resnet.export.copies import (
    computes_in_float32,
    float32_copy,
    image_network,
    of_plain_operations,
)
from keras_resnet.export.litert import QUANTIZATIONS, write_litert
from keras_resnet.export.onnx import write_onnx
from keras_resnet.export.saved_model import write_saved_model
from keras_resnet.export.writing import check_path, label_lines
from keras_resnet.surgery.folding import fold_batch_norm
from keras_resnet.surgery.graphs import functional_config, output_activation
from keras_resnet.utils import checks
from keras_resnet.utils.files import replacing

# Largest difference from the model, as a part of the largest output, however small that is. Folded
# normalisation and other kernels move the last digits of float32; float16 has three.
TOLERANCES = {"float32": 1e-4, "float16": 1e-2}
# Outputs below are sums that come to zero but for rounding.
_ZERO = 1e-6
# Of the outputs of an int8 file and those of the model, the mean over the calibration images.
LEAST_COSINE = 0.9
# More images than these make calibration longer and no better.
CALIBRATION_IMAGES = 512


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written, and how it compares with the model when it is run.

    Attributes:
        path: The file or directory.
        format: "saved_model", "litert" or "onnx".
        quantize: "float32", "float16" or "int8".
        bytes: Size of it all.
        difference: Largest difference from the model's outputs, as a part of the largest.
        agreement: Share of the compared images whose largest output is the model's.
        images: How many images were compared: random ones, or with int8 those of `calibration`.
    """

    path: Path
    format: str
    quantize: str
    bytes: int
    difference: float
    agreement: float
    images: int


@dataclasses.dataclass(frozen=True)
class _Format:
    write: Callable[..., None]
    suffix: str = ""  # of the file; "" for a directory
    quantizations: tuple[str, ...] = ("float32",)
    functions: bool = False  # whether loops and calls may stay in the graph
    any_size: bool = True  # whether images may be of any size


FORMATS = {
    "saved_model": _Format(write_saved_model, functions=True),
    "litert": _Format(write_litert, ".tflite", QUANTIZATIONS, any_size=False),
    "onnx": _Format(write_onnx, ".onnx"),
}


def export(
    model: keras.Model,
    path: str | Path,
    format: str = "saved_model",
    *,
    quantize: str = "float32",
    calibration: Iterable[np.ndarray] | None = None,
    image_size: int | None = None,
    preprocessing: str = "inside",
    labels: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Exported:
    """Writes a network for inference, runs what was written, and compares it with the model.

    Batch normalisation is folded into the convolutions, and everything computes in float32 whatever
    the network was trained in. All formats have one input, `images`, and one output:
    `probabilities` of a model that ends in softmax, `logits` of one that ends in a layer without
    activation, else `outputs`.

    - "saved_model": a directory for TensorFlow and TensorFlow Serving, with the signature
      "serving_default". It cannot be called or fine-tuned; for that there is `export_hub`.
    - "litert": a .tflite file of LiteRT's built-in operations only, for images of one size.
      `quantize="float16"` halves it; "int8" computes in 8 bits and makes it a quarter (inputs and
      outputs stay float32). "int8" needs `calibration`, from which the range of every layer's
      numbers is measured.
    - "onnx": a file of opset 17 for ONNX Runtime.

    Args:
        model: Functional model of one output, of images in [0, 255], channels last. It is not
            changed.
        path: What to write: a directory, or a file that ends in .tflite or .onnx. It appears whole
            or not at all.
        format: "saved_model", "litert" or "onnx".
        quantize: "float32"; for LiteRT also "float16" or "int8".
        calibration: For "int8", batches of images as the model takes them, such as it was trained
            on; the first 512 images are used, and a hundred will do.
        image_size: Side of the images, for a model that takes any size; LiteRT needs it.
        preprocessing: As in `export_hub`: "inside", "imagenet" or "none".
        labels: Name of every class, kept in the artefact.
        overwrite: Whether `path` may exist, as what it is to be.

    Returns:
        An `Exported`: path, size, difference from the model, agreement with it.

    Raises:
        ValueError: If an argument is wrong; the message says what would do.
        ImportError: If a package of the extra `export` is missing.
        RuntimeError: If what was written answers otherwise than the model; it is not kept then.
    """
    checks.one_of("format", format, tuple(FORMATS))
    kind = FORMATS[format]
    if quantize not in kind.quantizations:
        allowed = ", ".join(map(repr, kind.quantizations))
        raise ValueError(
            f"`quantize` must be one of {allowed} for format={format!r}. "
            f"Received: quantize={quantize!r}"
        )
    path = Path(path)
    check_path(path, overwrite, kind.suffix)
    model = image_network(model, preprocessing)
    shape = _image_shape(model, image_size, kind.any_size)
    activation = output_activation(functional_config(model))
    output = OUTPUTS.get(activation, "outputs")
    if labels is not None:
        labels = label_lines(labels, model.output_shape[-1] if output != "outputs" else None)
    images = _calibration_images(shape, calibration, quantize)

    single = float32_copy(model)
    net = fold_batch_norm(single)
    if not kind.functions:
        net = of_plain_operations(net)
    spec = tf.TensorSpec((None, *shape), tf.float32, "images")

    @tf.function(input_signature=[spec], autograph=False)
    def serve(images):
        return {output: net(images, training=False)}

    with replacing(path) as written:
        kind.write(serve, written, net=net, labels=labels, quantize=quantize, images=images)
        reference = model if computes_in_float32(model) else single
        compared = _compared(load_artefact(written), reference, shape, images, quantize)
        files = [file for file in (written, *written.rglob("*")) if file.is_file()]
        size = sum(file.stat().st_size for file in files)
    return Exported(path, format, quantize, size, *compared)


def _image_shape(model, image_size, any_size):
    """Returns the shape of the images that the artefact takes."""
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


def _calibration_images(shape, calibration, quantize):
    """Returns the calibration images as one array; None where there is nothing to calibrate."""
    if (calibration is not None) != (quantize == "int8"):
        given = "none" if calibration is None else type(calibration).__name__
        raise ValueError(
            "`calibration` must be batches of images for quantize='int8', and is for that only. "
            f"Received: calibration of type {given} with quantize={quantize!r}"
        )
    if calibration is None:
        return None
    images = itertools.chain.from_iterable(calibration)
    images = [
        np.asarray(image, "float32") for image in itertools.islice(images, CALIBRATION_IMAGES)
    ]
    other = next((image.shape for image in images if image.shape != shape), None)
    if not images or other is not None:
        raise ValueError(
            f"`calibration` must give batches of images of shape (batch, *{shape}). Received: "
            + (f"images of shape {other}" if images else "no images")
        )
    return np.stack(images)


def _compared(artefact, reference, shape, images, quantize):
    """Runs the artefact on the images, of random noise where there are none.

    Returns:
        The largest difference from the model, the agreement, and how many images were compared.
    """
    if images is None:
        # Any side will do that leaves a pixel on the last map of the deepest of the networks.
        shape = [64 if side is None else side for side in shape]
        images = np.random.default_rng(0).uniform(0, 255, (4, *shape)).astype("float32")
    # Of one image, and of several.
    parts = [images[:1], *(images[i : i + 64] for i in range(1, len(images), 64))]
    received = np.concatenate([artefact(part) for part in parts])
    # On the CPU, where float32 is float32 everywhere.
    with tf.device("CPU:0"):
        expected = np.concatenate([reference(part, training=False) for part in parts])
    received, expected = (a.reshape(len(images), -1) for a in (received, expected))
    difference = np.max(np.abs(received - expected)) / max(_ZERO, np.max(np.abs(expected)))
    agreement = np.mean(np.argmax(received, axis=1) == np.argmax(expected, axis=1))
    if quantize == "int8":
        lengths = np.linalg.norm(received, axis=1) * np.linalg.norm(expected, axis=1)
        cosine = np.mean(np.sum(received * expected, axis=1) / np.maximum(lengths, 1e-30))
        wrong = not cosine >= LEAST_COSINE
        reason = f"a mean cosine of {cosine:.3f} between its outputs and the model's"
    else:
        wrong = not difference <= TOLERANCES[quantize]  # so that NaN fails too
        reason = f"a difference of {difference:.1e} of the largest output"
    if wrong:
        raise RuntimeError(
            "What was written must answer as `model` does; it was not kept. "
            f"Received: {reason}, for model {reference.name!r}"
        )
    return float(difference), float(agreement), len(images)
