"""Networks as ONNX files, written by tf2onnx, and their labels inside. Needs TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from keras_resnet.utils import private

# The newest that tf2onnx writes well; ONNX Runtime runs it since 1.12.
OPSET = 17
LABELS = "labels"


def write_onnx(serve: Callable, path: Path, *, labels: str | None, **given) -> None:
    """Writes an .onnx file of a traced function.

    Args:
        serve: `tf.function` with one input signature, which returns a dict of one output.
        path: The file.
        labels: Text of the labels file, or None.
        **given: What other formats need.

    Raises:
        ImportError: If tf2onnx or onnx is not installed.
    """
    try:
        import onnx
        import tf2onnx
    except ImportError as error:
        raise ImportError(
            "ONNX files are written by tf2onnx: install keras-deep-residual[export]."
        ) from error
    traced = serve.get_concrete_function()
    (name,) = traced.structured_outputs
    # Frozen here, because tf2onnx takes constants that a function has captured for inputs.
    frozen = private.with_constants(traced)
    graph, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        input_names=[tensor.name for tensor in frozen.inputs],
        output_names=[tensor.name for tensor in frozen.outputs],
        opset=OPSET,
    )
    _rename(graph.graph, {frozen.inputs[0].name: "images", frozen.outputs[0].name: name})
    if labels is not None:
        onnx.helper.set_model_props(graph, {LABELS: labels})
    onnx.checker.check_model(graph)
    onnx.save(graph, path)


def _rename(graph, names):
    """Renames tensors of an ONNX graph in place."""
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(tensor, tensor) for tensor in tensors]
