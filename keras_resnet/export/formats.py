"""Formats of inference: SavedModel, LiteRT (.tflite) and ONNX, each with the labels inside.

Needs TensorFlow; ONNX needs the extra `export`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.utils import checks, private
from keras_resnet.utils.files import without_patterns, write_text

# File of the labels in a SavedModel, in a LiteRT file and beside a `.keras` file; key in ONNX.
LABELS = "labels.txt"
ONNX_LABELS = "labels"
# What the weights want done to an image, in the same places.
PREPROCESSING = "preprocessing.json"
ONNX_PREPROCESSING = "preprocessing"
# Metadata of LiteRT and ONNX with the SHA-256 of the labels, without which a LiteRT file that has
# lost its end would be one without labels.
LABELS_SHA256 = "keras_resnet.labels.sha256"
# Beside the labels in a LiteRT file: the checksum of the model in front of them.
MODEL_SHA256 = "model.sha256"
# Metadata of ONNX whose value, 64 hexadecimal digits, ends the file: the checksum of all in front
# of it. The model's description names it too, so that no single damage hides that there is one.
ONNX_SHA256 = "keras_resnet.model.sha256"
# The newest that tf2onnx writes well; ONNX Runtime runs it since 1.12.
OPSET = 17


def add_assets(module: Any, folder: Path, texts: Mapping[str, tuple[str, str | None]]) -> None:
    """Gives a module the assets (file name, text) by the name of its attribute.

    They are written to `folder`, from where TensorFlow copies them.
    """
    for name, (file_name, text) in texts.items():
        if text is not None:
            write_text(folder / file_name, text)
            setattr(module, name, tf.saved_model.Asset(str(folder / file_name)))


def write_saved_model(
    serve: Any,
    path: Path,
    *,
    net: keras.Model,
    labels: str | None = None,
    prepared: str | None = None,
    signatures: Mapping[str, Any] | None = None,
    **_: Any,
) -> None:
    """Writes a SavedModel with signatures, by default `serve` as "serving_default"."""
    module = tf.Module()
    module.tracked = [variable.value for variable in net.variables]
    texts = {"labels": (LABELS, labels), "preprocessing": (PREPROCESSING, prepared)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        add_assets(module, Path(folder), texts)
        tf.saved_model.save(module, str(path), signatures or {"serving_default": serve})


def write_litert(
    serve: Any,
    path: Path,
    *,
    net: keras.Model,
    labels: str | None,
    prepared: str | None,
    quantize: str,
    images: np.ndarray | None,
    **_: Any,
) -> None:
    """Writes a .tflite file of LiteRT's built-in operations only."""
    # By way of a SavedModel, which gives inputs and outputs their names.
    folder = path.with_name("saved_model")
    write_saved_model(serve, folder, net=net)
    with without_patterns(folder) as plain:
        data = _litert(plain, net.name, quantize, images)
    if labels is not None:
        digest = sha256(labels.encode()).encode()
        data = private.litert_with_metadata(data, LABELS_SHA256, digest)
    path.write_bytes(data)
    # TensorFlow Lite's "associated files": an archive behind what readers of the model see.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(MODEL_SHA256, sha256(data))
        for name, text in ((LABELS, labels), (PREPROCESSING, prepared)):
            if text is not None:
                archive.writestr(name, text)


def _litert(folder: Path, name: str, quantize: str, images: np.ndarray | None) -> bytes:
    """Converts a SavedModel of the network of that name."""
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder), signature_keys=["serving_default"]
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantize != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if images is not None:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image[None]] for image in images)
    failure = private.litert_failure()
    try:
        data = converter.convert()
        if custom := custom_operations(data):
            raise failure(", ".join(custom))
    except failure as error:
        raise ValueError(
            "`model` must consist of operations that LiteRT has built in. "
            f"Received: model {name!r} ({checks.first_line(error)})"
        ) from error
    return data


def custom_operations(data: bytes) -> list[str]:
    """Returns the names of a LiteRT file's operations that are not built in, such as FlexErf."""
    model = private.litert_model(data)
    codes = (model.OperatorCodes(i) for i in range(model.OperatorCodesLength()))
    return sorted(code.CustomCode().decode() for code in codes if code.CustomCode())


def write_onnx(
    serve: Any, path: Path, *, labels: str | None, prepared: str | None, **_: Any
) -> None:
    """Writes an .onnx file with tf2onnx."""
    onnx = checks.import_extra("onnx", "ONNX files", "export")
    tf2onnx = checks.import_extra("tf2onnx", "ONNX files", "export")
    traced = serve.get_concrete_function()
    # Frozen here, because tf2onnx takes constants that a function has captured for inputs.
    frozen = private.with_constants(traced)
    graph, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        input_names=[frozen.inputs[0].name],
        output_names=[frozen.outputs[0].name],
        opset=OPSET,
    )
    (output,) = traced.structured_outputs
    names = {frozen.inputs[0].name: "images", frozen.outputs[0].name: output}
    for value in (*graph.graph.input, *graph.graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(tensor, tensor) for tensor in tensors]
    texts = {} if prepared is None else {ONNX_PREPROCESSING: prepared}
    if labels is not None:
        texts |= {ONNX_LABELS: labels, LABELS_SHA256: sha256(labels.encode())}
    onnx.helper.set_model_props(graph, texts)
    graph.doc_string = f"{ONNX_SHA256} is the checksum of what is in front of it."
    onnx.checker.check_model(graph)
    # Protocol buffers written one behind the other are read as one.
    checksum = onnx.ModelProto()
    onnx.helper.set_model_props(checksum, {ONNX_SHA256: 64 * "0"})
    front = (graph.SerializeToString() + checksum.SerializeToString())[:-64]
    path.write_bytes(front + sha256(front).encode())


def sha256(content: bytes) -> str:
    """Returns the checksum of a part of an exported file."""
    return hashlib.sha256(content).hexdigest()


@dataclasses.dataclass(frozen=True)
class Format:
    """A format that `export` writes."""

    write: Callable[..., None]
    suffix: str = ""  # "" for a directory
    quantizations: tuple[str, ...] = ("float32",)
    functions: bool = False  # Whether loops and calls may stay in the graph.
    any_size: bool = True  # Whether images may be of any size.


FORMATS = {
    "saved_model": Format(write_saved_model, functions=True),
    "litert": Format(write_litert, ".tflite", ("float32", "float16", "int8"), any_size=False),
    "onnx": Format(write_onnx, ".onnx"),
}
