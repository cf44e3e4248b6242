"""Classifies image files by a trained model.

    keras-resnet predict model.keras pictures/ photo.jpg --top 3

MODEL is a .keras file, the directory of a Hub module or SavedModel, a .tflite or .onnx file of
`keras-resnet export`, or hf://owner/name on the Hugging Face hub. Labels are those that it carries
along, or lie beside it. Each image is followed by its best classes and their probabilities; --json
prints the same for programs. Images are shown to the model as its weights want it: upright,
resized, cropped at the center.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from keras_resnet.cli.flags import LineParser
from keras_resnet.evaluation import predictor
from keras_resnet.utils.escapes import visible


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Prints the best classes of images."""
    parser = LineParser(__doc__, prog)
    add = parser.add_argument
    add("model", metavar="MODEL", help="A trained model")
    add("images", metavar="IMAGE", nargs="+", help="Image files or folders of them")
    parser.add_classifier()
    add("--batch-size", type=int, default=32, help="Images at a time")
    add("--json", action="store_true", help="Print JSON")
    given = vars(parser.parse_args(argv))
    as_json = given.pop("json")

    predictions = predictor.predict(**given)
    if as_json:
        rows = [{**dataclasses.asdict(one), "path": _text(one.path)} for one in predictions]
        print(json.dumps(rows, indent=2))
        return
    for one in predictions:
        print(visible(one.path))
        for label, share in zip(one.labels, one.probabilities, strict=True):
            print(f"  {100 * share:6.2f} %  {visible(label)}")


def _text(path: Path) -> str:
    """Returns a path with escapes for bytes that are not UTF-8, which JSON cannot have."""
    return str(path).encode("utf-8", "backslashreplace").decode()
