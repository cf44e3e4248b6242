"""Writes a trained model for inference: SavedModel, LiteRT (.tflite) or ONNX.

    keras-resnet export model.keras model.tflite --quantize int8 --calibration pictures/

The format follows from the name of OUT, or is --format. Batch normalization is folded into the
convolutions; what was written is run and compared with the model, and kept only if it agrees. int8
and int16x8 need --calibration: a folder of images such as the model was trained on, or "digits";
with it every format is compared on these images, else on four random ones. All formats take images
in [0, 255] and carry the model's labels and preprocessing, or else the labels.txt (or --labels) and
the preprocessing.json that lie beside it.
"""

from collections.abc import Sequence
from pathlib import Path

from keras_resnet import export
from keras_resnet.cli.flags import LineParser
from keras_resnet.evaluation.predictor import calibration_batches
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.reading import labels_of, preprocessing_for
from keras_resnet.models.hub import load_model
from keras_resnet.weights.beside import labels_beside, read_labels
from keras_resnet.weights.hugging_face import local_file

SUFFIXES = {kind.suffix: name for name, kind in FORMATS.items()}


def main(
    argv: Sequence[str] | None = None, description: str | None = __doc__, prog: str | None = None
) -> None:
    """Exports a model, and prints how well the result agrees with it."""
    parser = LineParser(description, prog)
    parser.add_trust()
    add = parser.add_argument
    add("model", metavar="MODEL", help="A trained model, a .keras file or hf://owner/name")
    add("out", metavar="OUT", type=Path, help="What to write")
    add("--format", help="saved_model, litert or onnx")
    add(
        "--quantize",
        default="float32",
        help="float32; for LiteRT float16, dynamic, int8, int16x8; ONNX int8",
    )
    add("--calibration", help='Folder of images, or "digits", for int8 and int16x8')
    add("--io-dtype", default="float32", help="uint8 or int8 inputs and outputs, for LiteRT int8")
    add("--opset", type=int, help="Version of ONNX's operations, 10 to 21; 17 by default")
    add(
        "--about",
        metavar="NAME=TEXT",
        action="append",
        default=[],
        help="A description, version, author or license, for LiteRT and ONNX; repeatable",
    )
    add("--image-size", type=int, help="Side, for LiteRT of a model of any size")
    add("--preprocessing", default="inside", help="inside, imagenet or none")
    add("--labels", type=Path, help="File with the name of a class on every line")
    add("--overwrite", action="store_true", help="Replace OUT")
    given = parser.parse_args(argv)

    model = load_model(given.model)
    labels = read_labels(given.labels) if given.labels else labels_of(model, given.model)
    if labels is None and labels_beside(local_file(given.model)):
        print("labels.txt is left out: the model ends in no classifier")
    preprocessing = given.preprocessing
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
