"""Parameters, multiply-adds, activations and memory of any Keras model, layer by layer.

A multiply-add is one multiplication and one addition; the paper calls these "FLOPs". As in the
paper, convolutions and dense layers are counted, and biases, normalization, activations, pooling
and additions are not.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import layers

from keras_resnet.analysis.calls import Call, graph, trace
from keras_resnet.analysis.memory import inference_bytes, size_in_bytes, training_bytes
from keras_resnet.models.builders import build
from keras_resnet.models.zoo import entries
from keras_resnet.utils import private
from keras_resnet.utils.tables import text_table


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """The cost of one call of a layer for one image.

    Attributes:
        name: The layer's name; inside a nested model or a stack, prefixed by that one's name.
        kind: Its class.
        output_shape: Shape of its (first) output without the batch.
        parameters: Parameters that training fits, frozen ones included; 0 where an earlier call
            has counted them, as of a layer used twice.
        non_trainable: Other weights: moving statistics.
        multiply_adds: Multiply-adds of its convolution or matrix product; 0 for others.
        activations: Elements of its outputs.
        weight_bytes: Memory of its weights, in the dtype in which they are stored.
        repeats: Number of such layers; above 1 inside a stack. The figures are for one.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    non_trainable: int
    multiply_adds: int
    activations: int
    weight_bytes: int
    repeats: int = 1


def _sum(figure: str, doc: str) -> property:
    """Returns a property: the sum of a figure over all layers."""
    return property(lambda self: sum(getattr(x, figure) * x.repeats for x in self.layers), doc=doc)


@dataclasses.dataclass(frozen=True)
class Complexity:
    """The cost of a model for one image: its layers in order, their sums, and its memory.

    Attributes:
        layers: One entry for every call of a layer.
        inference_activation_bytes: The largest sum of activations alive at once in a forward
            pass, as `analysis.memory.inference_bytes` counts it.
        training_activation_bytes: The activations that a forward pass keeps for the gradient, as
            `analysis.memory.training_bytes` counts them.
    """

    layers: tuple[LayerCost, ...]
    inference_activation_bytes: int
    training_activation_bytes: int

    parameters = _sum("parameters", "Parameters that training fits, frozen ones included.")
    non_trainable = _sum("non_trainable", "Weights that training does not fit: moving statistics.")
    multiply_adds = _sum("multiply_adds", 'Multiply-adds of a forward pass, the "FLOPs" of papers.')
    activations = _sum("activations", "Elements of the outputs of all layers together.")
    weight_bytes = _sum("weight_bytes", "Memory of all weights, moving statistics included.")

    def rows(self) -> list[dict[str, object]]:
        """Returns a row for every layer and one of the totals, as for a CSV file."""
        figures = ("parameters", "non_trainable", "multiply_adds", "activations", "weight_bytes")
        total = {"layer": "total", "kind": "", "output_shape": "", "repeats": ""}
        return [
            *(
                {
                    "layer": layer.name,
                    "kind": layer.kind,
                    "output_shape": "x".join(map(str, layer.output_shape)),
                    "repeats": layer.repeats,
                    **{figure: getattr(layer, figure) for figure in figures},
                }
                for layer in self.layers
            ),
            total | {figure: getattr(self, figure) for figure in figures},
        ]

    def table(self) -> str:
        """Returns the rows as text, and the memory of the activations below."""
        return (
            f"{text_table(self.rows())}\n"
            f"activation memory for one image: {self.inference_activation_bytes:,} bytes at the "
            f"peak of a forward pass, {self.training_activation_bytes:,} bytes kept for the "
            "gradient"
        )


def complexity(model: keras.Model, input_shape: tuple[int, ...] | None = None) -> Complexity:
    """Counts what a functional model costs for one image, layer by layer.

    Layers used several times are listed at every call, with their weights at the first; nested
    models and stacks of blocks are listed by the layers inside them.

    Args:
        model: A functional model with one image input.
        input_shape: Shape of one image, needed where the model leaves its sides open.

    Raises:
        ValueError: If the image size is open and not given, or contradicts the model; if the model
            is not functional, or has a layer with a kernel that there is no rule for here.
    """
    traced = trace(model, input_shape)
    # As `model.layers` lists them; branches are called in another order.
    order = {operation.name: i for i, operation in enumerate(graph(model).operations)}
    calls = [call for call in traced.calls if call.repetition == 0]
    calls.sort(key=lambda call: order[call.name.split("/")[0]])
    counted: set[int] = set()
    return Complexity(
        layers=tuple(_layer_cost(call, counted) for call in calls),
        inference_activation_bytes=inference_bytes(traced),
        training_activation_bytes=training_bytes(traced),
    )


def built_without_values(
    build: Callable[..., keras.Model], /, *args: Any, **options: Any
) -> keras.Model:
    """Builds a model whose weights have shapes and no values: counting needs no more."""
    with keras.StatelessScope():
        return build(*args, **options)


def _layer_cost(call: Call, counted: set[int]) -> LayerCost:
    """Returns the cost of a call, without the weights in `counted`; its own are added there."""
    layer = call.layer
    weights = [w for w in getattr(layer, "weights", ()) if id(w) not in counted]
    counted.update(map(id, weights))
    # By what they are for, not by whether they are frozen now.
    fixed = set(map(id, private.fixed_variables(layer))) if weights else set()
    sizes = {id(weight): math.prod(weight.shape) for weight in weights}
    non_trainable = sum(size for weight, size in sizes.items() if weight in fixed)
    return LayerCost(
        name=call.name,
        kind=type(layer).__name__,
        output_shape=tuple(call.outputs[0].shape)[1:],
        parameters=sum(sizes.values()) - non_trainable,
        non_trainable=non_trainable,
        multiply_adds=_multiply_adds(call),
        activations=sum(math.prod(x.shape) for x in call.outputs),
        weight_bytes=sum(size_in_bytes(weight.shape, weight.dtype) for weight in weights),
        repeats=call.repeats,
    )


# Every weight of a kernel is used once at every position of the output; in a transposed
# convolution, of the input.
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_WITH_KERNEL = (
    *(layers.Conv1D, layers.Conv2D, layers.Conv3D, *_TRANSPOSED, layers.Dense),
    *(layers.DepthwiseConv1D, layers.DepthwiseConv2D),
    *(layers.SeparableConv1D, layers.SeparableConv2D),
)
# Weights of several axes that scale, shift or are looked up, one by one.
_WITHOUT_KERNEL = (layers.Embedding, layers.LayerNormalization, layers.Normalization, layers.PReLU)
# Products of two activations, which have no weights to be known by.
_PRODUCTS = frozenset(
    {"AdditiveAttention", "Attention", "Conv", "ConvTranspose", "DepthwiseConv", "Dot"}
    | {"DotProductAttention", "Einsum", "Inner", "Matmul", "Outer", "SeparableConv", "Tensordot"}
)


def _multiply_adds(call: Call) -> int:
    layer, inputs, outputs = call.layer, call.inputs[0].shape, call.outputs[0].shape
    if isinstance(layer, _WITH_KERNEL):
        shape = inputs if isinstance(layer, _TRANSPOSED) else outputs
        channels_first = getattr(layer, "data_format", "channels_last") == "channels_first"
        positions = math.prod(shape[2:] if channels_first else shape[1:-1])
        names = ("kernel", "depthwise_kernel", "pointwise_kernel")
        kernels = [getattr(layer, name) for name in names if hasattr(layer, name)]
        return positions * sum(math.prod(kernel.shape) for kernel in kernels)
    if isinstance(layer, layers.EinsumDense):
        # One for every combination of the indices: those of the output, and those summed over.
        _, kernel, result = layer.equation.replace("->", ",").split(",")
        sides = zip(kernel, layer.kernel.shape, strict=True)
        return math.prod(outputs) * math.prod(side for index, side in sides if index not in result)
    has_kernel = not isinstance(layer, _WITHOUT_KERNEL) and any(
        len(weight.shape) > 1 for weight in getattr(layer, "weights", ())
    )
    if has_kernel or type(layer).__name__ in _PRODUCTS:
        raise ValueError(
            "`model` must consist of convolutions, dense layers and layers without a kernel. "
            f"Received: layer {layer.name!r} of class {type(layer).__name__}"
        )
    return 0


def count_models() -> Iterator[dict[str, object]]:
    """Yields `name`, `parameters` and `multiply_adds` of every listed network, as it is built."""
    for entry in entries():
        cost = complexity(built_without_values(build, entry, stack_blocks=True))
        figures = {"parameters": cost.parameters, "multiply_adds": cost.multiply_adds}
        yield {"name": entry.name, **figures}
