"""Describes a network: options, cost, and what its weights want done to an image.

    keras-resnet summary ResNet50
    keras-resnet summary model.keras --layers

MODEL is the name of a network (keras-resnet models lists them), which is built with random weights,
a .keras file, hf://owner/name, or the name of published weights. Multiply-adds and activations
are counted for one image.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from tyro.conf import Positional

from keras_resnet import analysis, models, surgery
from keras_resnet.architectures import find_architecture, is_named
from keras_resnet.cli import Arguments, parse, print_json
from keras_resnet.utils.checks import checked_size, sides_of
from keras_resnet.utils.escapes import visible
from keras_resnet.utils.tables import text_table


@dataclasses.dataclass(frozen=True)
class Summary(Arguments):
    """Arguments of `keras-resnet summary`.

    Attributes:
        model: Name of a network or of published weights, a .keras file, or hf://owner/name.
        image_size: Side of the image in pixels, or HEIGHTxWIDTH; by default the network's own.
        layers: Whether every layer is listed.
        json: Print the summary as JSON.
    """

    model: Positional[str]
    image_size: str | None = None
    layers: bool = False
    json: bool = False


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Prints what there is to know of a network without an image."""
    given = parse(Summary, argv, __doc__, prog)
    sides = None
    if given.image_size is not None:
        sides = sides_of(checked_size("image_size", given.image_size))
    if is_named(given.model) or not {".", "/"}.intersection(given.model):
        # Here, since a wrong name needs no TensorFlow.
        architecture = find_architecture(given.model)
        options = {} if sides is None else {"input_shape": (*sides, 3)}
        counted = analysis.complexity(model := models.build(architecture, **options))
    else:
        model = models.load_model(given.model)
        shape = None if sides is None else (*sides, model.input_shape[-1])
        counted = analysis.complexity(model, shape)
    about = _about(model)
    figures = {
        "parameters": counted.parameters,
        "multiply_adds": counted.multiply_adds,
        "activations": counted.activations,
    }
    if given.json:
        rows = {"by_layer": counted.rows()} if given.layers else {}
        print_json({**about, **figures, **rows})
        return
    for name, value in about.items():
        print(f"{name + ':':16}{visible(value)}")
    for name, value in figures.items():
        print(f"{name.replace('_', '-') + ':':16}{value:,}")
    if given.layers:
        print(text_table(counted.rows()))


def _about(model: Any) -> dict[str, Any]:
    about: dict[str, Any] = {
        "name": model.name,
        "input": "x".join(map(str, model.input_shape[1:])),
        "output": "x".join(map(str, model.output_shape[1:])),
        "layers": len(model.layers),
    }
    if config := surgery.remembered(model):
        about["network"] = config.architecture.name
        if config.preprocessing is not None:
            about["images"] = str(config.preprocessing)
    return about
