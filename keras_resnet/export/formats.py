"""Formats of inference: SavedModel, LiteRT (.tflite) and ONNX, each with the labels inside.

Needs TensorFlow; ONNX needs the extra `export`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.export import litert_metadata, onnx_graphs
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.utils import checks, private
from keras_resnet.utils.files import without_patterns, write_text
from keras_resnet.utils.terminal import notices_left_out
from keras_resnet.weights.beside import LABELS, PREPROCESSING

# Keys in ONNX of what SavedModels and LiteRT files have as files.
ONNX_LABELS, ONNX_PREPROCESSING = "labels", "preprocessing"
# Metadata of LiteRT and ONNX with the SHA-256 of the labels, without which a LiteRT file that has
# lost its end would be one without labels.
LABELS_SHA256 = "keras_resnet.labels.sha256"
# Metadata of LiteRT with the names of all files in the archive behind the model, one a line, by
# which a file that has lost its end is not one without a checksum and preprocessing.
ARCHIVED = "keras_resnet.archived"
# One of these: the checksum of the model in front of them.
MODEL_SHA256 = "model.sha256"
# Metadata of ONNX whose value, 64 hexadecimal digits, ends the file: the checksum of all in front
# of it. The model's description names it too, so that no single damage hides that there is one.
ONNX_SHA256 = "keras_resnet.model.sha256"
# Below 10 pixels cannot be skipped, as option A does; above 21 ONNX Runtime 1.20 runs none.
OPSETS = range(10, 22)
# ONNX Runtime runs it since 1.12. It is also the last that tf2onnx writes with global pools, which
# need no transposition; later ones are made from it.
OPSET = 17
# Type of tensors in a LiteRT file.
_FLOAT32 = 0
# The first that quantizes kernels per channel.
OPSET_INT8 = 13


@dataclasses.dataclass(frozen=True)
class Content:
    """Content of an exported model, in whatever format.

    Attributes:
        serve: Function from images to a dict of the one output, of plain operations unless the
            format has `functions`.
        net: Network whose variables `serve` reads.
        output: Name of the output.
        labels: Text of the labels file, or None.
        prepared: What is done to an image, where known.
        quantize: Type of the weights, one of the format's `quantizations`.
        images: Calibration images; None for a network of trained ranges, and where none are needed.
        io_dtype: Type of inputs and outputs.
        opset: Version of ONNX's operations.
        about: Texts about the model, by name.
        signatures: Functions of a SavedModel by name.
    """

    serve: Any
    net: keras.Model
    output: str
    labels: str | None
    prepared: Preprocessing | None
    quantize: str
    images: np.ndarray | None
    io_dtype: str
    opset: int
    about: Mapping[str, str]
    signatures: Mapping[str, Any]

    @property
    def description(self) -> str | None:
        """Description of what is done to an image, as `Preprocessing.to_json` has it."""
        return None if self.prepared is None else self.prepared.to_json()


def add_assets(module: Any, folder: Path, texts: Mapping[str, tuple[str, str | None]]) -> None:
    """Gives a module the assets (file name, text) by the name of its attribute.

    They are written to `folder`, from where TensorFlow copies them.
    """
    for name, (file_name, text) in texts.items():
        if text is not None:
            write_text(folder / file_name, text)
            setattr(module, name, tf.saved_model.Asset(str(folder / file_name)))


def write_saved_model(content: Content, path: Path) -> None:
    """Writes a SavedModel with its signatures, labels and preprocessing."""
    module = tf.Module()
    module.tracked = [variable.value for variable in content.net.variables]
    texts = {
        "labels": (LABELS, content.labels),
        "preprocessing": (PREPROCESSING, content.description),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        add_assets(module, Path(folder), texts)
        tf.saved_model.save(module, str(path), content.signatures)


def write_litert(content: Content, path: Path) -> None:
    """Writes a .tflite file of LiteRT's built-in operations only, with its metadata."""
    # By way of a SavedModel, which gives inputs and outputs their names.
    folder = path.with_name("saved_model")
    write_saved_model(dataclasses.replace(content, labels=None, prepared=None), folder)
    with without_patterns(folder) as plain:
        data = _litert(content, plain)
    # One output is that of the second of two classes: readers take labels for one per output, and
    # would leave the first class out below a threshold.
    scores = content.net.outputs[0].shape[-1] > 1
    described = litert_metadata.classifier_metadata(
        content.net.name,
        tuple(content.serve.input_signature[0].shape[1:]),
        content.output,
        io_dtype=content.io_dtype,
        labels_file=LABELS if scores and content.labels is not None else None,
        about=content.about,
        threshold=content.prepared.threshold if scores and content.prepared else None,
    )
    known = {LABELS: content.labels, PREPROCESSING: content.description}
    texts = {name: text for name, text in known.items() if text is not None}
    archived = "\n".join((MODEL_SHA256, *texts)).encode()
    entries = {litert_metadata.ENTRY: described, ARCHIVED: archived}
    if content.labels is not None:
        entries[LABELS_SHA256] = sha256(content.labels.encode()).encode()
    data = private.litert_with_metadata(data, entries)
    path.write_bytes(data)
    # TensorFlow Lite's "associated files": an archive behind what readers of the model see.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(MODEL_SHA256, sha256(data))
        for name, text in texts.items():
            archive.writestr(name, text)


def _litert(content: Content, folder: Path) -> bytes:
    """Converts the content, written as a SavedModel."""
    quantize, images, io_dtype = content.quantize, content.images, content.io_dtype
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder), signature_keys=["serving_default"]
    )
    kinds = tf.lite.OpsSet
    operations = {
        "int8": kinds.TFLITE_BUILTINS_INT8,
        "int16x8": kinds.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
    }
    # Ranges that were trained are in the graph, and all else follows from them.
    trained = images is None and quantize in operations
    kind = kinds.TFLITE_BUILTINS if trained else operations.get(quantize, kinds.TFLITE_BUILTINS)
    converter.target_spec.supported_ops = [kind]
    if quantize != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize in operations and io_dtype != "float32":
        dtype = tf.as_dtype(io_dtype)
        converter.inference_input_type = converter.inference_output_type = dtype
    if images is not None and quantize in operations:
        ends = images[:0]
        if io_dtype != "float32":
            # With all of the range in them the scale is 1: integers are the gray levels themselves.
            ends = images[:1].copy()
            ends.flat[[0, -1]] = 0, 255
        converter.representative_dataset = lambda: (
            [image[None]] for image in itertools.chain(ends, images)
        )
    failure = private.litert_failure()
    try:
        with notices_left_out():
            data = converter.convert()
        if wrong := custom_operations(data) or (trained and float_operations(data)):
            raise failure(", ".join(wrong))
    except failure as error:
        raise ValueError(
            "`model` must consist of operations that LiteRT has built in. "
            f"Received: model {content.net.name!r} ({checks.first_line(error)})"
        ) from error
    return data


def custom_operations(data: bytes) -> list[str]:
    """Returns the names of a LiteRT file's operations that are not built in, such as FlexErf."""
    model = private.litert_model(data)
    codes = (model.OperatorCodes(i) for i in range(model.OperatorCodesLength()))
    return sorted(code.CustomCode().decode() for code in codes if code.CustomCode())


def float_operations(data: bytes) -> list[str]:
    """Returns the operations of a LiteRT file that compute floats from floats, by their outputs."""
    model = private.litert_model(data)
    found = []
    for graph in (model.Subgraphs(i) for i in range(model.SubgraphsLength())):
        floats = {i for i in range(graph.TensorsLength()) if graph.Tensors(i).Type() == _FLOAT32}
        for node in (graph.Operators(i) for i in range(graph.OperatorsLength())):
            written, read = (floats & set(t) for t in (node.OutputsAsNumpy(), node.InputsAsNumpy()))
            if written and read:
                found += [graph.Tensors(i).Name().decode() for i in written]
    return found


def as_integers(values: np.ndarray, tensor: Mapping[str, Any]) -> np.ndarray:
    """Returns floats as a LiteRT file's tensor takes them, which are the same where it has floats.

    Args:
        values: Floats.
        tensor: Details of the tensor as the interpreter gives them.
    """
    dtype = np.dtype(tensor["dtype"])
    if dtype.kind == "f":
        return values
    scale, zero = tensor["quantization"]
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values / (scale or 1.0)) + zero, limits.min, limits.max).astype(dtype)


def as_floats(values: np.ndarray, tensor: Mapping[str, Any]) -> np.ndarray:
    """Returns what a LiteRT file gives as floats: the reverse of `as_integers`."""
    # A scale of 0 stands for integers that are none of floats.
    if values.dtype.kind == "f":
        return values
    scale, zero = tensor["quantization"]
    return (values.astype("float32") - zero) * np.float32(scale or 1.0)


def write_onnx(content: Content, path: Path) -> None:
    """Writes an .onnx file with tf2onnx."""
    onnx = checks.import_extra("onnx", "ONNX files", "export")
    tf2onnx = checks.import_extra("tf2onnx", "ONNX files", "export")
    # Frozen here, because tf2onnx takes constants that a function has captured for inputs.
    frozen = private.with_constants(content.serve.get_concrete_function())
    model, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        input_names=[frozen.inputs[0].name],
        output_names=[frozen.outputs[0].name],
        opset=min(content.opset, OPSET),
    )
    names = {frozen.inputs[0].name: "images", frozen.outputs[0].name: content.output}
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(tensor, tensor) for tensor in tensors]
    onnx_graphs.name_sizes(model.graph)
    onnx_graphs.fuse_padded_pools(model.graph)
    if content.images is not None and content.quantize == "int8":
        model = onnx_graphs.quantized(model, content.images, path.parent)
    elif content.quantize == "int8":
        onnx_graphs.quantize_kernels(model.graph)
    model = onnx_graphs.of_opset(model, content.opset)
    about = dict(content.about)
    # The description names the checksum too, so that no single damage hides that there is one.
    model.doc_string = (
        f"{about.get('description', '')}\n{ONNX_SHA256} is the checksum of what is in front of it."
    ).strip()
    if content.description is not None:
        about[ONNX_PREPROCESSING] = content.description
    if content.labels is not None:
        digest = sha256(content.labels.encode())
        about |= {ONNX_LABELS: content.labels, LABELS_SHA256: digest}
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model)
    # Protocol buffers written one behind the other are read as one.
    checksum = onnx.ModelProto()
    onnx.helper.set_model_props(checksum, {ONNX_SHA256: 64 * "0"})
    front = (model.SerializeToString() + checksum.SerializeToString())[:-64]
    path.write_bytes(front + sha256(front).encode())


def sha256(content: bytes) -> str:
    """Returns the checksum of a part of an exported file."""
    return hashlib.sha256(content).hexdigest()


@dataclasses.dataclass(frozen=True)
class Format:
    """A format that `export` writes."""

    write: Callable[[Content, Path], None]
    suffix: str = ""  # "" for a directory
    quantizations: tuple[str, ...] = ("float32",)
    functions: bool = False  # Whether loops and calls may stay in the graph.
    any_size: bool = True  # Whether images may be of any size.


FORMATS = {
    "saved_model": Format(write_saved_model, functions=True),
    "litert": Format(
        write_litert,
        ".tflite",
        ("float32", "float16", "dynamic", "int8", "int16x8"),
        any_size=False,
    ),
    "onnx": Format(write_onnx, ".onnx", ("float32", "int8")),
}
# Arguments of `export` that only some formats take, and the formats.
OPTIONS = {"io_dtype": ("litert",), "opset": ("onnx",), "about": ("litert", "onnx")}
# Quantizations that need images to measure the range of every layer's numbers on.
CALIBRATED = ("int8", "int16x8")
IO_DTYPES = ("float32", "uint8", "int8")


def format_of(path: Path) -> str:
    """Returns the format that a path is for by its suffix, "saved_model" without one.

    The end of a name such as "model-1.0", which begins with a digit, is no suffix.

    Raises:
        ValueError: If it ends in another suffix.
    """
    if re.match(r"\.\D", path.suffix) is None:
        return "saved_model"
    named = {kind.suffix: name for name, kind in FORMATS.items() if kind.suffix}
    if path.suffix not in named:
        raise ValueError(
            f"`path` must end in {' or '.join(map(repr, named))}, or in no suffix for a "
            "SavedModel, which may have any name with format='saved_model'. "
            f"Received: path={str(path)!r}"
        )
    return named[path.suffix]
