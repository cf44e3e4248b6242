"""Writes a trained model for inference: SavedModel, LiteRT (.tflite) or ONNX.

    keras-resnet export model.keras model.tflite --quantize int8 --calibration pictures/

The format follows from the name of OUT, or is --format. Batch normalization is folded into the
convolutions; the exported model is run and compared with the original, and kept only if it agrees.
int8 and int16x8 need --calibration: a folder of images such as the model was trained on, or
"digits"; with it every format is compared on these images, else on four random ones. All formats
take images in [0, 255], and contain the names of the classes and the preprocessing: those in the
model, or in labels.txt (or --labels) and preprocessing.json beside it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from keras_resnet import evaluation, export, models, weights
from keras_resnet.cli import Arguments, parse, print_json
from keras_resnet.cli.flags import REPEATABLE
from keras_resnet.utils import remote


@dataclasses.dataclass(frozen=True)
class Export(Arguments):
    """Arguments of `keras-resnet export`.

    Attributes:
        model: Trained model: a .keras file, or hf://owner/name.
        out: File or folder to write. OUT and MODEL may be at addresses such as
            gs://bucket/model.onnx.
        format: Format; by default that of the suffix of OUT.
        quantize: Type of the weights; float16, dynamic, int8 and int16x8 for LiteRT, int8 for ONNX.
        calibration: Folder of images, or "digits", for int8 and int16x8; by default none.
        io_dtype: Type of inputs and outputs; uint8 or int8 for LiteRT int8.
        opset: Version of ONNX's operations, 10 to 21; by default 17.
        about: Text about the model, for LiteRT and ONNX: NAME=TEXT, where NAME is description,
            version, author or license; repeatable.
        image_size: Side of the images in pixels, or HEIGHTxWIDTH, for a model that takes any size,
            which LiteRT needs; by default any size for the others.
        preprocessing: Standardization of the images: the model's own, ImageNet's put in front, or
            none.
        labels: File with the name of a class on every line; by default those of the model.
        overwrite: Whether OUT is replaced where it exists.
        json: Print what was written, and how well it agrees, as JSON.
    """

    model: Positional[str]
    out: Positional[str]
    format: Literal["saved_model", "litert", "onnx"] | None = None
    quantize: Literal["float32", "float16", "dynamic", "int8", "int16x8"] = "float32"
    calibration: str | None = None
    io_dtype: Literal["float32", "uint8", "int8"] = "float32"
    opset: int | None = None
    about: Annotated[tuple[str, ...], REPEATABLE] = ()
    image_size: str | None = None
    preprocessing: Literal["inside", "imagenet", "none"] = "inside"
    labels: Path | None = None
    overwrite: bool = False
    json: bool = False


def main(
    argv: Sequence[str] | None = None, description: str | None = __doc__, prog: str | None = None
) -> None:
    """Exports a model, and prints how well the result agrees with it."""
    given = parse(Export, argv, description, prog)

    model, file = models.hub.load_with_file(given.model)
    labels = (
        weights.beside.read_labels(given.labels)
        if given.labels
        else export.reading.labels_of(model, file)
    )
    if labels is None and file is not None and export.labels_beside(file):
        print("labels.txt is left out: the model ends in no classifier", file=sys.stderr)
    calibration = None
    if given.calibration is not None:
        calibration = evaluation.predictor.calibration_batches(
            given.calibration, model, given.image_size, given.preprocessing
        )
    with remote.written("out", given.out, overwrite=given.overwrite) as out:
        written = export.export(
            model,
            out,
            given.format,
            quantize=given.quantize,
            calibration=calibration,
            image_size=given.image_size,
            preprocessing=given.preprocessing,
            labels=labels,
            io_dtype=given.io_dtype,
            opset=given.opset,
            about=dict(_pair(text) for text in given.about),
            overwrite=given.overwrite,
        )
    path = given.out if remote.is_remote(given.out) else str(written.path)
    if given.json:
        print_json({**vars(written), "path": path})
        return
    print(
        f"{path}: {written.format}, {written.quantize}, {written.bytes:,} bytes\n"
        f"compared on {written.images} images: largest difference {written.difference:.2g} of the "
        f"largest output, {100 * written.agreement:.2f} % with the same best class"
    )


def _pair(text: str) -> tuple[str, str]:
    """Returns name and value of `--about`."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"`--about` must be NAME=TEXT. Received: --about {text}")
    return name, value
