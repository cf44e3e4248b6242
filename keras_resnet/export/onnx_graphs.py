"""ONNX graphs improved after their conversion: named sizes, pads of pools, 8-bit integers.

Needs the extra `export`.
"""

from __future__ import annotations

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
