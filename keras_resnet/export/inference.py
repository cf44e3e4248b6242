"""Networks for inference: SavedModel, LiteRT and ONNX through one function.

Needs TensorFlow, as Keras's backend too; LiteRT and ONNX need the extra `export`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data import Transforms
from keras_resnet.export import serving, verification
from keras_resnet.export.copies import (
    computes_in_float32,
    float32_copy,
    image_network,
    of_any_batch,
    of_plain_operations,
)
from keras_resnet.export.formats import (
    CALIBRATED,
    FORMATS,
    IO_DTYPES,
    OPSET,
    OPSET_INT8,
    OPSETS,
    OPTIONS,
    Content,
    Format,
    format_of,
)
from keras_resnet.export.litert_metadata import ABOUT
from keras_resnet.export.mismatch import ExportMismatchError
from keras_resnet.export.reading import ExportedModel, load_exported, output_name
from keras_resnet.network import class_count
from keras_resnet.preprocessing import Preprocessing, Size, checked_size, sides_of
from keras_resnet.surgery.fake_quantization import is_quantized
from keras_resnet.surgery.folding import fold_batch_norm
from keras_resnet.surgery.quantizing import with_constant_ranges
from keras_resnet.utils import checks
from keras_resnet.utils.escapes import visible
from keras_resnet.utils.files import clear_leftovers, replacing
from keras_resnet.utils.remote import local_path

# Largest difference from the model, as a fraction of the largest output, however small that is.
# float16 has three digits.
TOLERANCES = {"float32": verification.TOLERANCE, "float16": 1e-2}
# Outputs below are sums that come to zero but for rounding.
_ZERO = 1e-6
# Mean cosine between the outputs of a file of integers and the model's, over the compared images.
# "int8" rounds the numbers of every layer to 256 levels of a range measured beforehand; "dynamic"
# to those of the range that they have, "int16x8" to 65,536.
LEAST_COSINES = {"int8": 0.9, "dynamic": 0.95, "int16x8": 0.95}
# Files of trained ranges compute what the model does, up to a level here and there.
_LEAST_TRAINED = 0.999
# More images than these make calibration longer and no better.
CALIBRATION_IMAGES = 512


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """File that `export` wrote, and how it compares with the model.

    Attributes:
        path: File or directory.
        format: "saved_model", "litert" or "onnx".
        quantize: "float32", "float16", "dynamic", "int8" or "int16x8".
        bytes: Size of the file, or of all files of the directory.
        difference: Largest difference from the model's outputs, as a fraction of the largest.
        agreement: Fraction of the compared images whose largest output is the model's.
        images: Number of images compared: those of `calibration`, else four random ones.
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
    format: str | None = None,
    *,
    quantize: str = "float32",
    calibration: Iterable[np.ndarray] | None = None,
    image_size: Size | str | None = None,
    preprocessing: str | Preprocessing = "inside",
    version: int = 1,
    labels: Sequence[str] | None = None,
    io_dtype: str = "float32",
    opset: int | None = None,
    about: Mapping[str, str] | None = None,
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
      `classes` and `scores` of the best five, and `error`, empty or why a file cannot be read.
      Where the preprocessing has a `threshold` and the best score is below it, each of the
      `classes` is "none of the classes", and the scores are what they are. Files are images of 1,
      3 or 4 channels, and `.npy` files for any other number of them; of a model of images of which
      one side is open "serving_default" takes images. A request to
      warm up with is in `assets.extra`. It cannot be called or fine-tuned; for that there is
      `export_hub`.
    - "litert": a .tflite file of LiteRT's built-in operations only, for images of one size, with
      the metadata that Android's Task Library, ML Kit and MediaPipe read (TFLITE_METADATA): what
      the input is, and the names of the classes.

      `quantize="float16"` halves it. The others make it a quarter, with kernels in 8 bits:
      "dynamic" rounds the numbers of a layer to 8 bits as they come; "int8" by ranges measured
      on `calibration`, in integers only; "int16x8" the same with 16 bits for all but kernels,
      closer to the model and slower. With "int8", `io_dtype` makes inputs and outputs integers,
      too: "uint8" images are the gray levels themselves, "int8" ones these less 128, and outputs
      have their scale in the file. Probabilities of "int8" come in steps of 1/256. A model from
      `surgery.quantize_aware` is of "int8" as it is.
    - "onnx": a file for ONNX Runtime, of opset 17 or another, channels first inside: images are
      transposed once, but for dilated networks (`output_stride`). `quantize="int8"` is QDQ, per
      channel: by ONNX Runtime's own quantizer, or by the trained ranges of a model from
      `surgery.quantize_aware`. It takes images of any size if the model does.

    Args:
        model: Functional model of one output, of images in [0, 255], channels last. It is not
            changed.
        path: Directory, or file that ends in .tflite or .onnx, to write atomically.
        format: "saved_model", "litert" or "onnx"; by default that of the suffix of `path`,
            "saved_model" without one. The end of "model-1.0" is no suffix.
        quantize: "float32"; for LiteRT also "float16", "dynamic", "int8" or "int16x8", for ONNX
            "int8".
        calibration: Batches of images as the model takes them, such as it was trained on; the first
            512 images are used, and a hundred will do. "int8" and "int16x8" need them, but for
            the "int8" of a model from `surgery.quantize_aware`, whose ranges are trained. What was
            written is compared on them, else on four smooth images of random color: of sixteen,
            those on which probabilities are the least certain.
        image_size: Side of the images, or their height and width, for a model that takes any size;
            LiteRT needs it.
        preprocessing: As in `export_hub`: "inside", "imagenet", "none" or a `Preprocessing`. What
            is known of it is stored in the exported model as `Preprocessing.to_json` returns it:
            in every format, and with the `threshold` below which an image shows none of the
            classes, for callers to compare the best probability with.
        version: Version of a SavedModel, the name of its folder inside of `path`.
        labels: Name of every class, stored in the exported model; by default those that the model
            remembers.
        io_dtype: Inputs and outputs of a LiteRT file with `quantize="int8"`: "float32", "uint8" or
            "int8". `load_exported` takes and gives floats whatever they are.
        opset: Version of ONNX's operations, from 10 to 21, from 13 on for "int8"; 17 by default.
        about: Any of "description", "version", "author" and "license" of the model, stored in a
            LiteRT or ONNX file.
        overwrite: Whether `path` may exist, as a file or SavedModel of the same format.

    Raises:
        ValueError: If an argument is wrong.
        ImportError: If a package of the extra `export` is missing.
        ExportMismatchError: If the outputs of the exported model differ from the model's; it is
            not kept.
    """
    base = local_path("path", path)
    format = format_of(base) if format is None else format
    trained = is_quantized(model)
    _check_options(format, quantize, io_dtype, opset, about, trained)
    kind = FORMATS[format]
    path = _checked_place(base, kind, version, overwrite)
    model, prepared = image_network(model, preprocessing)
    shape = _image_shape(model, image_size, kind.any_size)
    output = output_name(model)
    labels = _label_text(model, labels, prepared)
    if prepared is not None and None not in shape[:2]:
        prepared = prepared.at(shape[:2])
    if prepared is not None and format in OPTIONS["about"]:
        about = {"description": visible(prepared), **(about or {})}
    transforms = Transforms.for_images(shape, prepared) if kind.functions else None
    images = _calibration_images(shape, calibration, None if trained else quantize)

    single = float32_copy(model)
    net = with_constant_ranges(single) if trained else fold_batch_norm(single)
    net = net if kind.functions else of_plain_operations(net, dilated=format == "litert")
    serve = _serve(net, shape, output, kind)
    content = Content(
        serve,
        net,
        output,
        labels,
        prepared,
        quantize,
        images=None if trained else images,
        io_dtype=io_dtype,
        opset=OPSET if opset is None else opset,
        about=about or {},
        signatures=_signatures(serve, model, transforms, output, labels, prepared),
    )
    target = path if base.exists() else base
    with replacing(target) as written:
        if target != path:
            written /= path.name
        kind.write(content, written)
        reference = model if computes_in_float32(model) else single
        compared = verification.random_images(reference, shape) if images is None else images
        difference, agreement = _compare(
            load_exported(written), reference, compared, quantize, trained
        )
        if transforms is not None:
            difference = max(difference, _compare_files(written, reference, transforms, output))
        if written.is_dir():
            verification.write_checksums(written)
        files = [file for file in (written, *written.rglob("*")) if file.is_file()]
        size = sum(file.stat().st_size for file in files)
    return ExportReport(path, format, quantize, size, difference, agreement, len(compared))


def _checked_place(base: Path, kind: Format, version: int, overwrite: bool) -> Path:
    """Returns the file, or the folder of the version of a SavedModel, after checking it."""
    path = base
    if not kind.suffix:
        path = base / str(checks.integer("version", version))
        if (base / verification.SAVED_MODEL).exists():
            raise ValueError(
                "`path` must be a folder of versions, or new. Received: "
                f"path={str(base)!r}, which is a SavedModel itself"
            )
        # A new folder of versions is written as a whole.
        clear_leftovers(base.parent, base.name, verification.LONGEST_WRITING)
    verification.check_path(path, overwrite, kind.suffix)
    return path


def _label_text(
    model: keras.Model, labels: Sequence[str] | None, prepared: Preprocessing | None
) -> str | None:
    """Returns the text of the labels file: of those given, else of those that are known."""
    classes = class_count(model.output_shape[-1]) if len(model.output_shape) == 2 else None
    known = None if prepared is None else prepared.class_names
    if labels is None and known is not None and len(known) == classes:
        labels = known
    return None if labels is None else verification.labels_text(labels, classes)


def _serve(net: keras.Model, shape: tuple, output: str, kind: Format) -> Any:
    """Returns a function from images of the shape to a dict of the output."""
    spec = tf.TensorSpec((None, *shape), tf.float32, "images")

    @tf.function(input_signature=[spec], autograph=False)
    def serve(images):
        if kind.functions:
            return {output: of_any_batch(net, images)}
        return {output: net(images, training=False)}

    return serve


def _signatures(
    serve: Any,
    model: keras.Model,
    transforms: Transforms | None,
    output: str,
    labels: str | None,
    prepared: Preprocessing | None,
) -> dict[str, Any]:
    """Returns the signatures of a SavedModel: of image files, if it may, and of pixels."""
    if transforms is None:
        return {serving.FILES: serve}
    names = None if labels is None else labels.splitlines()
    classes = class_count(model.output_shape[-1])
    threshold = None if prepared is None else prepared.threshold
    files = serving.of_files(serve, transforms, output, classes, names, threshold)
    return {serving.FILES: files, serving.PIXELS: serve}


def _compare_files(
    written: Path, reference: keras.Model, transforms: Transforms, output: str
) -> float:
    """Writes the request to warm up with, and returns how the outputs for files differ."""
    files, pixels = serving.telling_files(reference, transforms)
    serving.write_warmup(written, files[0])
    module = verification.load_saved_model(written)
    with tf.device("CPU:0"):
        encoded = {serving.INPUT: tf.constant(files)}
        received = serving.whole_rows(module.signatures[serving.FILES](**encoded))[output]
        expected = np.asarray(reference(pixels, training=False))
    difference = verification.largest_difference(received, expected, _ZERO)
    if not difference <= TOLERANCES["float32"]:
        raise ExportMismatchError(
            "The exported model must give the outputs of `model` for image files; it was not kept. "
            f"Received: a difference of {difference:.1e} of the largest output"
        )
    return difference


def _check_options(
    format: str,
    quantize: str,
    io_dtype: str,
    opset: int | None,
    about: Mapping[str, str] | None,
    trained: bool,
) -> None:
    """Raises a ValueError for options that the format lacks, or that are no such options."""
    checks.one_of("format", format, tuple(FORMATS))
    quantizations = FORMATS[format].quantizations
    if quantize not in quantizations:
        raise ValueError(
            f"`quantize` must be one of {', '.join(map(repr, quantizations))} for "
            f"format={format!r}. Received: quantize={quantize!r}"
        )
    checks.one_of("io_dtype", io_dtype, IO_DTYPES)
    given = {"io_dtype": io_dtype, "opset": opset, "about": about or None}
    for name, value in given.items():
        if value in (None, "float32") or format in OPTIONS[name]:
            continue
        raise ValueError(
            f"`{name}` must be left out except for format={', '.join(map(repr, OPTIONS[name]))}. "
            f"Received: {name}={value!r} with format={format!r}"
        )
    if io_dtype != "float32" and quantize != "int8":
        raise ValueError(
            "`io_dtype` must be 'float32' unless quantize='int8'. "
            f"Received: io_dtype={io_dtype!r} with quantize={quantize!r}"
        )
    if opset is not None:
        least = OPSET_INT8 if quantize == "int8" else OPSETS.start
        if checks.integer("opset", opset) not in range(least, OPSETS.stop):
            raise ValueError(
                f"`opset` must be from {least} to {OPSETS.stop - 1} for quantize={quantize!r}. "
                f"Received: opset={opset}"
            )
    for name, text in (about or {}).items():
        if name not in ABOUT or not isinstance(text, str) or not text.isprintable():
            raise ValueError(
                f"`about` must be a line of text for each of {', '.join(map(repr, ABOUT))} that is "
                f"known. Received: about={dict(about or {})}"
            )
    if trained and quantize != "int8" and "int8" in quantizations:
        raise ValueError(
            "`quantize` must be 'int8' for a model whose ranges were trained by `quantize_aware`, "
            f"which is one of 8-bit integers. Received: quantize={quantize!r}"
        )


def _image_shape(model: keras.Model, image_size: Size | str | None, any_size: bool) -> tuple:
    """Returns the shape of the images that the exported model takes."""
    shape = tuple(model.inputs[0].shape[1:])
    if image_size is not None:
        size = sides_of(checked_size("image_size", image_size))
        if any(own not in (None, side) for own, side in zip(shape[:2], size, strict=True)):
            raise ValueError(
                f"`image_size` must be the model's own, {shape[:2]}, or be left out. "
                f"Received: image_size={image_size}"
            )
        return *size, shape[2]
    if None in shape and not any_size:
        raise ValueError(
            "`image_size` must be given for a model that takes images of any size, since a LiteRT "
            f"file takes one size only. Received: image_size=None with images {shape}"
        )
    return shape


def _calibration_images(
    shape: tuple, calibration: Iterable[np.ndarray] | None, quantize: str | None
) -> np.ndarray | None:
    """Returns the calibration images as one array; None where there are none."""
    if calibration is None and quantize not in CALIBRATED:
        return None
    if calibration is None or isinstance(calibration, (str, Path)):
        raise ValueError(
            f"`calibration` must be batches of images for quantize={quantize!r}. "
            f"Received: calibration={calibration!r}"
        )
    every = itertools.chain.from_iterable(calibration)
    images = [np.asarray(image, "float32") for image in itertools.islice(every, CALIBRATION_IMAGES)]
    # Sides of any length are those of the first image.
    if images and len(images[0].shape) == len(shape):
        sides = zip(shape, images[0].shape, strict=True)
        shape = tuple(own if side is None else side for side, own in sides)
    other = next((image.shape for image in images if image.shape != shape), None)
    if not images or other is not None:
        raise ValueError(
            f"`calibration` must give batches of images of shape (batch, *{shape}). Received: "
            + (f"images of shape {other}" if images else "no images")
        )
    return np.stack(images)


def _compare(
    exported: ExportedModel,
    reference: keras.Model,
    images: np.ndarray,
    quantize: str,
    trained: bool,
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
    if quantize in LEAST_COSINES:
        lengths = np.linalg.norm(received, axis=1) * np.linalg.norm(expected, axis=1)
        cosine = np.mean(np.sum(received * expected, axis=1) / np.maximum(lengths, 1e-30))
        right = cosine >= (_LEAST_TRAINED if trained else LEAST_COSINES[quantize])
        reason = f"a mean cosine of {cosine:.3f} between its outputs and the model's"
    else:
        right = difference <= TOLERANCES[quantize]
        reason = f"a difference of {difference:.1e} of the largest output"
    if not right:  # NaN too
        raise ExportMismatchError(
            "The exported model must give the outputs of `model`; it was not kept. "
            f"Received: {reason}, for model {reference.name!r}"
        )
    agreement = np.mean(np.argmax(received, axis=1) == np.argmax(expected, axis=1))
    return difference, float(agreement)
