"""Classifies image files with a trained model.

    keras-resnet predict model.keras pictures/ photo.jpg --top 3

MODEL is a .keras file, the directory of a Hub module or SavedModel, a .tflite or .onnx file of
`keras-resnet export`, or hf://owner/name on the Hugging Face hub. Names of the classes are those in
the model, or in labels.txt beside it. Prints for each image its best classes and their
probabilities. Where the model was calibrated (evaluate --calibrate) and the best probability is
below its threshold, "none of the classes" is printed beside the image. Images are prepared as the
weights want it: upright, resized, cropped at the center.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tyro.conf import Positional

from keras_resnet import evaluation, export
from keras_resnet.cli.arguments import Arguments, own_values, parse
from keras_resnet.cli.session import print_json
from keras_resnet.utils.escapes import visible


@dataclasses.dataclass(frozen=True)
class Predict(Arguments):
    """Arguments of `keras-resnet predict`.

    Attributes:
        model: A trained model.
        images: Image files or folders of them.
        top: Number of best classes to print.
        labels: File with the name of a class on every line; by default those of the model.
        image_size: Side of the images in pixels, or HEIGHTxWIDTH, for a model that takes any size;
            by default what its weights want.
        resize: Shorter side, in pixels, that an image is resized to before its center is cropped;
            by default what the weights want.
        batch_size: Images per batch.
        json: Print the classes and probabilities of every image as JSON.
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
    given = parse(Predict, argv, __doc__, prog)

    predictions = evaluation.predictor.predict(**own_values(given))
    if given.json:
        rows = [{**dataclasses.asdict(one), "path": _text(one.path)} for one in predictions]
        print_json(rows)
        return
    for one in predictions:
        print(visible(one.path), f"  {export.serving.NONE_OF_THE_CLASSES}" * one.none, sep="")
        for label, share in zip(one.labels, one.probabilities, strict=True):
            print(f"  {100 * share:6.2f} %  {visible(label)}")


def _text(path: Path) -> str:
    """Returns a path with escapes for bytes that are not UTF-8, which JSON cannot have."""
    return str(path).encode("utf-8", "backslashreplace").decode()
