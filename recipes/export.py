r"""Writes a trained model for inference: SavedModel, LiteRT (.tflite) or ONNX.

    python recipes/export.py runs/digits/model.keras digits.tflite \
        --quantize int8 --calibration digits

The format follows from the name of OUT, or is --format. Batch normalization is folded into the
convolutions; what was written is run and compared with the model, and kept only if it agrees. int8
needs --calibration: a folder of images such as the model was trained on, or "digits". All formats
take images in [0, 255] and carry the labels that lie beside the model (or --labels).

ResNet-20 on the digits (98.33 % of the 360 test images): float32 1.09 MB and float16 0.56 MB with
the same predictions, int8 0.31 MB with 98.33 %.
"""

import argparse
from pathlib import Path

import environment  # noqa: F401

from keras_resnet import cli
from keras_resnet.evaluation.predictor import calibration_batches
from keras_resnet.export import export, labels_beside
from keras_resnet.export.formats import FORMATS
from keras_resnet.export.reading import read_labels
from keras_resnet.weights.saving import load_model

SUFFIXES = {kind.suffix: name for name, kind in FORMATS.items()}


def main() -> None:
    given = parser().parse_args()
    model = load_model(given.model)
    labels = read_labels(given.labels) if given.labels else labels_beside(given.model)
    calibration = None
    if given.calibration is not None:
        calibration = calibration_batches(given.calibration, model, given.image_size)
    written = export(
        model,
        given.out,
        given.format or SUFFIXES.get(given.out.suffix, "saved_model"),
        quantize=given.quantize,
        calibration=calibration,
        image_size=given.image_size,
        preprocessing=given.preprocessing,
        labels=labels,
        overwrite=given.overwrite,
    )
    print(
        f"{written.path}: {written.format}, {written.quantize}, {written.bytes:,} bytes\n"
        f"compared on {written.images} images: largest difference {written.difference:.2g} of the "
        f"largest output, {100 * written.agreement:.2f} % with the same best class"
    )


def parser() -> argparse.ArgumentParser:
    words = cli.LineParser(__doc__)
    words.add_argument("model", metavar="MODEL", type=Path, help="A trained model, a .keras file")
    words.add_argument("out", metavar="OUT", type=Path, help="What to write")
    words.add_argument("--format", help="saved_model, litert or onnx")
    words.add_argument("--quantize", default="float32", help="float32; for LiteRT float16 or int8")
    words.add_argument("--calibration", help='Folder of images, or "digits", for int8')
    words.add_argument("--image-size", type=int, help="Side, for LiteRT of a model of any size")
    words.add_argument("--preprocessing", default="inside", help="inside, imagenet or none")
    words.add_argument("--labels", type=Path, help="File with the name of a class on every line")
    words.add_argument("--overwrite", action="store_true", help="Replace OUT")
    return words


if __name__ == "__main__":
    cli.run(main)
