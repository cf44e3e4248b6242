"""Classifies image files by a trained model.

    keras-resnet predict model.keras pictures/ photo.jpg --top 3

MODEL is a .keras file, the directory of a Hub module or SavedModel, a .tflite or .onnx file of
`keras-resnet export`, or hf://owner/name on the Hugging Face hub. Labels are those that it carries
along, or lie beside it. Each image is followed by its best classes and their probabilities; --json
prints the same for programs. Where the model was calibrated (evaluate --calibrate) and the best
probability is below its threshold, "none of the classes" stands beside the image. Images are shown
to the model as its weights want it: upright, resized, cropped at the center.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tyro.conf import Positional

from keras_resnet.cli.flags import Arguments, own_values, parse, print_json
from keras_resnet.evaluation import predictor
from keras_resnet.utils.escapes import visible


@dataclasses.dataclass(frozen=True)
class Predict(Arguments):
    """Arguments of `keras-resnet predict`.

    Attributes:
        model: A trained model.
        images: Image files or folders of them.
        top: Classes to name.
        labels: File with the name of a class on every line.
        image_size: Side in pixels, or HEIGHTxWIDTH, for a model that takes any.
        resize: Shorter side of which the center is shown.
        batch_size: Images at a time.
        json: Print JSON.
    """

    model: Positional[str]
    images: Positional[tuple[str, ...]]
    top: int = 5
    labels: Path | None = None
    image_size: str | None = None
    resize: int | None = None
    batch_size: int = 32
    json: bool = False


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Prints the best classes of images."""
    given = own_values(parse(Predict, argv, __doc__, prog))
    as_json = given.pop("json")

    predictions = predictor.predict(**given)
    if as_json:
        rows = [{**dataclasses.asdict(one), "path": _text(one.path)} for one in predictions]
        print_json(rows)
        return
    for one in predictions:
        print(visible(one.path), "  none of the classes" * one.none, sep="")
        for label, share in zip(one.labels, one.probabilities, strict=True):
            print(f"  {100 * share:6.2f} %  {visible(label)}")


def _text(path: Path) -> str:
    """Returns a path with escapes for bytes that are not UTF-8, which JSON cannot have."""
    return str(path).encode("utf-8", "backslashreplace").decode()
