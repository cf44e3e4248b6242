"""Converts weights between Keras, PyTorch, safetensors and the Hugging Face hub.

    keras-resnet convert ResNet50 resnet50.pth model.keras
    keras-resnet convert timm/resnet50.a1_in1k resnet50.keras
    keras-resnet convert model.keras model.pth

MODEL is a .keras file, hf://owner/name, the name of published weights, or the name of a network
(keras-resnet models lists them), which takes the first weights published for it unless WEIGHTS, a
file, follows. OUT is a .keras file, a .weights.h5 file of Keras, or a .pth, .pt or .safetensors
file with the names of PyTorch. Files may be at addresses such as gs://bucket/model.pth.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from keras_resnet import models, weights
from keras_resnet.architectures import is_named
from keras_resnet.cli import Arguments, parse, print_json
from keras_resnet.utils import remote
from keras_resnet.utils.files import replacing


@dataclasses.dataclass(frozen=True)
class Convert(Arguments):
    """Arguments of `keras-resnet convert`.

    Attributes:
        model: A .keras file, hf://owner/name, or the name of weights or of a network.
        files: WEIGHTS of a network that is given by name, and OUT.
        classes: Number of classes of the network that WEIGHTS is for; by default its own.
        version: v1, v1.5 or v2, for the network that WEIGHTS is for; by default its own.
        overwrite: Whether OUT is replaced where it exists.
        json: Print path, bytes and parameters of OUT as JSON.
    """

    model: Positional[str]
    files: Positional[tuple[str, ...]]
    classes: int | None = None
    version: str | None = None
    overwrite: bool = False
    json: bool = False


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Reads weights, and writes them in another format."""
    given = parse(Convert, argv, __doc__, prog)
    *sources, out = given.files
    name = Path(out).name
    if len(sources) > 1 or not name.endswith(
        (".keras", ".weights.h5", ".pth", ".pt", ".safetensors")
    ):
        raise ValueError(
            "`files` must be WEIGHTS, if any, and OUT, which ends in .keras, .weights.h5, .pth, "
            f".pt or .safetensors. Received: {' '.join(given.files)}"
        )
    if not remote.is_remote(out) and Path(out).exists() and not given.overwrite:
        raise ValueError(f"`files` must end in a new file; --overwrite replaces. Received: {out}")
    with remote.written("files", out, overwrite=given.overwrite) as path:
        model = _read(given, sources)
        _save(model, path)
        size = path.stat().st_size
    written = {"path": out, "bytes": size, "parameters": model.count_params()}
    if given.json:
        print_json(written)
        return
    print(f"{out}: {written['parameters']:,} parameters, {written['bytes']:,} bytes")


def _read(given: Convert, sources: Sequence[str]) -> Any:
    options = {"classes": given.classes, "version": given.version}
    options = {key: value for key, value in options.items() if value is not None}
    if sources:
        if not is_named(given.model):
            raise ValueError(
                "`files` must be OUT alone unless MODEL is the name of a network. "
                f"Received: {' '.join(given.files)} for {given.model}"
            )
        return models.build(given.model, weights=sources[0], **options)
    for key, value in options.items():
        raise ValueError(
            f"`--{key}` must be left out unless WEIGHTS of a network are given. "
            f"Received: --{key} {value} for {given.model}"
        )
    return models.load_model(given.model)


def _save(model: Any, path: Path) -> None:
    if path.suffix == ".keras":
        weights.save_model(model, path)
    elif path.suffix == ".h5":
        with replacing(path) as temporary:
            model.save_weights(temporary)
    else:
        weights.save_torch_weights(model, path)
