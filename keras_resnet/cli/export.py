"""Writes a trained model for inference: SavedModel, LiteRT (.tflite) or ONNX.

    keras-resnet export model.keras model.tflite --quantize int8 --calibration pictures/

The format follows from the name of OUT, or is --format. Batch normalization is folded into the
convolutions; what was written is run and compared with the model, and kept only if it agrees. int8
and int16x8 need --calibration: a folder of images such as the model was trained on, or "digits";
with it every format is compared on these images, else on four random ones. All formats take images
in [0, 255] and carry the model's labels and preprocessing, or else the labels.txt (or --labels) and
the preprocessing.json that lie beside it.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from keras_resnet import export
from keras_resnet.cli.flags import REPEATABLE, Arguments, parse, print_json
from keras_resnet.evaluation.predictor import calibration_batches
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.reading import labels_of, preprocessing_for
from keras_resnet.models.hub import load_model
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.weights.beside import labels_beside, read_labels
from keras_resnet.weights.hugging_face import local_file

SUFFIXES = {kind.suffix: name for name, kind in FORMATS.items()}


@dataclasses.dataclass(frozen=True)
class Export(Arguments):
    """Arguments of `keras-resnet export`.

    Attributes:
        model: A trained model, a .keras file or hf://owner/name.
        out: What to write.
        format: Format; by default that of the suffix of OUT.
        quantize: Type of the weights; float16, dynamic, int8 and int16x8 for LiteRT, int8 for ONNX.
        calibration: Folder of images, or "digits", for int8 and int16x8.
        io_dtype: Type of inputs and outputs; uint8 or int8 for LiteRT int8.
        opset: Version of ONNX's operations, 10 to 21; 17 by default.
        about: A description, version, author or license, NAME=TEXT, for LiteRT and ONNX;
            repeatable.
        image_size: Side in pixels, or HEIGHTxWIDTH, for LiteRT of a model of any size.
        preprocessing: Where images are prepared.
        labels: File with the name of a class on every line.
        overwrite: Whether OUT is replaced.
        json: Print what was written, as JSON.
    """

    model: Positional[str]
    out: Positional[Path]
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

    model = load_model(given.model)
    labels = read_labels(given.labels) if given.labels else labels_of(model, given.model)
    if labels is None and labels_beside(local_file(given.model)):
        print("labels.txt is left out: the model ends in no classifier", file=sys.stderr)
    preprocessing: str | Preprocessing = given.preprocessing
    if preprocessing == "inside":
        preprocessing = preprocessing_for(model, given.model)
    calibration = None
    if given.calibration is not None:
        calibration = calibration_batches(given.calibration, model, given.image_size, preprocessing)
    written = export.export(
        model,
        given.out,
        given.format or SUFFIXES.get(given.out.suffix, "saved_model"),
        quantize=given.quantize,
        calibration=calibration,
        image_size=given.image_size,
        preprocessing=preprocessing,
        labels=labels,
        io_dtype=given.io_dtype,
        opset=given.opset,
        about=dict(_pair(text) for text in given.about),
        overwrite=given.overwrite,
    )
    if given.json:
        print_json({**vars(written), "path": str(written.path)})
        return
    print(
        f"{written.path}: {written.format}, {written.quantize}, {written.bytes:,} bytes\n"
        f"compared on {written.images} images: largest difference {written.difference:.2g} of the "
        f"largest output, {100 * written.agreement:.2f} % with the same best class"
    )


def _pair(text: str) -> tuple[str, str]:
    """Returns name and value of `--about`."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"`--about` must be NAME=TEXT. Received: --about {text}")
    return name, value
