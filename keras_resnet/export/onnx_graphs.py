"""ONNX graphs improved after their conversion: named sizes, pads of pools, 8-bit integers.

Needs the extra `export`.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.utils import checks

# Sizes of images and outputs that may be any.
_SIZES = ("batch", "height", "width")
# Operations in 8 bits. Not the standardization in front, whose images would lose their levels
# twice, and not what ends in sigmoid or softmax.
_QUANTIZED = (
    "Add AveragePool Clip Concat Conv Flatten Gemm GlobalAveragePool MatMul MaxPool Pad Relu "
    "Reshape Slice Squeeze Transpose"
).split()
# Axis of the output channels in kernels.
_AXES = {"Conv": 0, "MatMul": 1, "Gemm": 1}
_PAIR = ("QuantizeLinear", "DequantizeLinear")
# Operations whose outputs are some of their inputs.
_PASSING = (
    "Flatten MaxPool Pad Reshape Slice Squeeze Transpose Unsqueeze GlobalMaxPool ReduceMax"
).split()
# Images that are calibrated on at once; all outputs of all layers are kept meanwhile.
_BATCH = 8


def name_sizes(graph: Any) -> None:
    """Names the sizes of a model's images and outputs that may be any."""
    for value in (*graph.input, *graph.output):
        for size, name in zip(value.type.tensor_type.shape.dim, _SIZES, strict=False):
            if not size.HasField("dim_value"):
                size.dim_param = name


def fuse_padded_pools(graph: Any) -> None:
    """Lets max pools pad by themselves where zeros in front of them do as much.

    A pool pads with what is below every number. Behind a ReLU zeros never win either, since each
    window has a pixel. Without this the padded map is written once more.
    """
    onnx = checks.import_extra("onnx", "ONNX files", "export")
    makers = {name: node for node in graph.node for name in node.output}
    readers = [name for node in graph.node for name in node.input]
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for pool in [node for node in graph.node if node.op_type == "MaxPool"]:
        pad = makers.get(pool.input[0])
        if pad is None or pad.op_type != "Pad" or readers.count(pad.output[0]) > 1:
            continue
        options = {entry.name: onnx.helper.get_attribute_value(entry) for entry in pad.attribute}
        before = makers.get(pad.input[0])
        # Inputs since opset 11, attributes before.
        given = [constants.get(name) for name in pad.input[1:] if name]
        pads = given[0] if given else options.get("pads")
        fill = given[1] if len(given) > 1 else options.get("value", 0.0)
        if options.get("mode", b"constant") != b"constant" or pads is None or fill is None:
            continue
        if before is None or before.op_type != "Relu" or np.any(fill) or len(pads) != 8:
            continue
        own = {entry.name: onnx.helper.get_attribute_value(entry) for entry in pool.attribute}
        kernel = own["kernel_shape"]
        sides = np.asarray([*pads[2:4], *pads[6:]]) + own.get("pads", [0] * 4)
        alone = own.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
        if any(pads[i] for i in (0, 1, 4, 5)) or not alone or any(sides >= [*kernel, *kernel]):
            continue
        kept = [entry for entry in pool.attribute if entry.name not in ("pads", "auto_pad")]
        del pool.attribute[:]
        pool.attribute.extend([*kept, onnx.helper.make_attribute("pads", sides.tolist())])
        pool.input[0] = pad.input[0]
        graph.node.remove(pad)
        read = {name for node in graph.node for name in node.input}
        for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
            graph.initializer.remove(tensor)


def quantized(model: Any, images: np.ndarray, folder: Path) -> Any:
    """Returns a model in 8 bits by ONNX Runtime's own quantizer, calibrated on images.

    Pairs of QuantizeLinear and DequantizeLinear say which operations compute in 8 bits (QDQ).
    Kernels are quantized per channel, to 7 bits: with 8 sums of two products overflow 16 bits on
    x86 processors without VNNI, where outputs would be others than on this one.

    Args:
        model: Model of float32.
        images: Images `(n, H, W, C)` in [0, 255].
        folder: Existing folder for files in between.
    """
    onnx = checks.import_extra("onnx", "ONNX files", "export")
    checks.import_extra("onnxruntime", "ONNX files", "export")
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    given, prepared, written = (folder / f"{name}.onnx" for name in ("float", "prepared", "int8"))
    onnx.save(model, given)
    quant_pre_process(given, prepared, skip_symbolic_shape=True)
    quantization.quantize_static(
        prepared,
        written,
        _Batches(images),
        op_types_to_quantize=_QUANTIZED,
        per_channel=True,
        reduce_range=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    return onnx.load(written)


def quantize_kernels(graph: Any) -> None:
    """Gives a graph with trained ranges kernels in 8 bits for each channel, and biases in 32.

    Those of the numbers in between are pairs of QuantizeLinear and DequantizeLinear already; what
    passes numbers on gets the pair of its input behind it. Kernels have no sign and the middle 128,
    since x86 processors without VNNI add products of signed ones in 16 bits, which overflow.

    Args:
        graph: Graph of float32 whose kernels have 255 levels, changed in place.
    """
    onnx = checks.import_extra("onnx", "ONNX files", "export")
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = list(graph.node)
    del graph.node[:]
    # Scale and zero point of every tensor that has them.
    known: dict[str, tuple[str, str]] = {}

    def add(name: str, values: np.ndarray) -> str:
        if name not in constants:
            constants[name] = onnx.numpy_helper.from_array(values, name)
            graph.initializer.append(constants[name])
        return name

    def dequantized(name: str, values: np.ndarray, scale: np.ndarray, zero: int, axis: int) -> str:
        """Returns the name of a constant of integers as floats."""
        integers = (add(f"{name}_{part}", array) for part, array in (
            ("integers", values), ("scale", scale.astype("float32")),
            ("zero", np.full(scale.shape, zero, values.dtype)),
        ))  # fmt: skip
        output = f"{name}_dequantized"
        graph.node.append(
            onnx.helper.make_node("DequantizeLinear", list(integers), [output], axis=axis)
        )
        return output

    for node in nodes:
        (*_, output) = node.output
        if node.op_type == "DequantizeLinear":
            known[output] = tuple(node.input[1:3])
        if node.op_type in _AXES and node.input[0] in known and node.input[1] in constants:
            axis = _AXES[node.op_type]
            kernel = onnx.numpy_helper.to_array(constants[node.input[1]]).astype("float64")
            others = tuple(i for i in range(kernel.ndim) if i != axis)
            scale = np.abs(kernel).max(others, keepdims=True) / 127
            scale[scale == 0] = scale.max() or 1
            integers = (np.rint(kernel / scale) + 128).astype("uint8")
            node.input[1] = dequantized(
                f"{output}_kernel", integers, scale.ravel(), zero=128, axis=axis
            )
            if len(node.input) > 2:
                bias = onnx.numpy_helper.to_array(constants[node.input[2]])
                own = onnx.numpy_helper.to_array(constants[known[node.input[0]][0]])
                steps = scale.ravel() * own
                integers = np.clip(np.rint(bias / steps), -(2**31), 2**31 - 1).astype("int32")
                node.input[2] = dequantized(f"{output}_bias", integers, steps, zero=0, axis=0)
        passing = node.op_type in _PASSING and node.input[0] in known
        names = (f"{output}_floats", f"{output}_integers", output)
        if passing:
            known[output] = known[node.input[0]]
            node.output[0] = names[0]
        graph.node.append(node)
        if passing:
            for kind, ends in zip(_PAIR, itertools.pairwise(names), strict=True):
                made = onnx.helper.make_node(kind, [ends[0], *known[output]], [ends[1]])
                graph.node.append(made)
    read = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)


def of_opset(model: Any, opset: int) -> Any:
    """Returns a model with the operations of a version, and no other domains than it uses."""
    onnx = checks.import_extra("onnx", "ONNX files", "export")
    if all(entry.version != opset for entry in model.opset_import if not entry.domain):
        model = onnx.version_converter.convert_version(model, opset)
    used = {"", *(node.domain for node in model.graph.node)}
    entries = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(entries)
    oldest = onnx.helper.find_min_ir_version_for(entries, ignore_unknown=True)
    model.ir_version = max(model.ir_version, oldest)
    return model


class _Batches:
    """Images as ONNX Runtime's calibration reads them."""

    def __init__(self, images: np.ndarray):
        self._batches = iter(images[i : i + _BATCH] for i in range(0, len(images), _BATCH))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}
