"""Classifies image files by a trained model.

    python recipes/predict.py runs/digits/model.keras pictures/ photo.jpg --top 3

MODEL is a .keras file, the directory of a Hub module or SavedModel, or a .tflite or .onnx file of
recipes/export.py. Labels are those that it carries along, or lie beside it. Each image is followed
by its best classes and their probabilities; --json prints the same for programs. Images are shown
to the model as in evaluation: the center, after the shorter side has been resized; images of the
model's own size as they are.
"""

import argparse
import json
from pathlib import Path

import environment  # noqa: F401

from keras_resnet import cli
from keras_resnet.evaluation.predictor import predict


def main() -> None:
    given = parser().parse_args()
    predictions = predict(
        given.model,
        given.images,
        given.top,
        labels=given.labels,
        image_size=given.image_size,
        resize=given.resize,
        batch_size=given.batch_size,
    )
    if given.json:
        rows = [
            {
                "path": str(prediction.path),
                "labels": prediction.labels,
                "probabilities": prediction.probabilities,
            }
            for prediction in predictions
        ]
        print(json.dumps(rows, indent=2))
        return
    for prediction in predictions:
        print(prediction.path)
        for label, share in zip(prediction.labels, prediction.probabilities, strict=True):
            print(f"  {100 * share:6.2f} %  {label}")


def parser() -> argparse.ArgumentParser:
    words = cli.LineParser(__doc__)
    words.add_argument("model", metavar="MODEL", help="A trained model")
    words.add_argument("images", metavar="IMAGE", nargs="+", help="Image files or folders of them")
    words.add_argument("--top", type=int, default=5, help="Classes to name")
    words.add_argument("--labels", type=Path, help="File with the name of a class on every line")
    words.add_argument("--image-size", type=int, help="Side, for a model that takes any; 224")
    words.add_argument("--resize", type=int, help="Shorter side of which the center is shown")
    words.add_argument("--batch-size", type=int, default=32, help="Images at a time")
    words.add_argument("--json", action="store_true", help="Print JSON")
    return words


if __name__ == "__main__":
    cli.run(main)
