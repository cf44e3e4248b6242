"""Parameters and multiply-adds of any Keras model, layer by layer.

A multiply-add is one multiplication and one addition; the paper calls these "FLOPs". Counted are
convolutions and dense layers, as the paper does: biases, normalisation, activations, pooling and
additions are not.
"""

from __future__ import annotations

import dataclasses
import math

import keras

from keras_resnet.layers import BlockStack


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """The cost of one layer for one image.

    Attributes:
        name: The layer's name; blocks of a stack are listed with the stack's name in front.
        kind: Its class.
        output_shape: Shape of its output without the batch.
        parameters: Parameters that training fits, frozen ones included.
        non_trainable: Other weights: moving statistics.
        multiply_adds: Multiply-adds of its convolution or matrix product; 0 for others.
        repeats: How many such layers there are; above 1 inside a stack. The figures are for one.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    non_trainable: int
    multiply_adds: int
    repeats: int = 1


@dataclasses.dataclass(frozen=True)
class Complexity:
    """The cost of a model for one image: its layers in order, and their sums."""

    layers: tuple[LayerCost, ...]

    def _total(self, figure: str) -> int:
        return sum(getattr(layer, figure) * layer.repeats for layer in self.layers)

    @property
    def parameters(self) -> int:
        """Parameters that training fits, frozen ones included."""
        return self._total("parameters")

    @property
    def non_trainable(self) -> int:
        """Weights that training does not fit: moving statistics."""
        return self._total("non_trainable")

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one forward pass, the paper's "FLOPs"."""
        return self._total("multiply_adds")


def complexity(model: keras.Model, input_shape: tuple[int, int, int] | None = None) -> Complexity:
    """Counts a functional model's parameters and multiply-adds, layer by layer.

    Args:
        model: A functional model with one image input.
        input_shape: Shape of one image, needed where the model leaves its sides open.

    Returns:
        The cost for one image.

    Raises:
        ValueError: If the image size is open and not given, or contradicts the model; if the model
            is not functional, or has a layer with a kernel that there is no rule for here.
    """
    if not getattr(model, "inputs", None) or len(model.inputs) != 1:
        raise ValueError(
            f"`model` must be a functional Keras model with one input. Received: model={model!r}"
        )
    shape = tuple(model.inputs[0].shape)[1:]
    if input_shape is not None:
        if isinstance(input_shape, (tuple, list)):
            input_shape = tuple(input_shape)
        fits = (
            isinstance(input_shape, tuple)
            and len(input_shape) == len(shape)
            and None not in input_shape
            and all(own in (None, x) for own, x in zip(shape, input_shape, strict=True))
        )
        if not fits:
            raise ValueError(
                f"`input_shape` must fit the model's input {shape}. "
                f"Received: input_shape={input_shape}"
            )
        if input_shape != shape:
            model = keras.models.clone_model(model, input_tensors=keras.Input(input_shape))
    elif None in shape:
        raise ValueError(
            f"`input_shape` must be given for a model with open image sides, here {shape}. "
            "Received: input_shape=None"
        )
    return Complexity(tuple(_layer_costs(model)))


def _layer_costs(model):
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        if isinstance(layer, (BlockStack, keras.Model)):
            stacked = isinstance(layer, BlockStack)
            inner = layer.block if stacked else layer
            inputs = keras.Input(tuple(layer.input.shape)[1:])
            inner = keras.models.clone_model(inner, input_tensors=inputs)
            for cost in _layer_costs(inner):
                yield dataclasses.replace(
                    cost,
                    name=f"{layer.name}/{cost.name}",
                    repeats=cost.repeats * (layer.repeats if stacked else 1),
                )
            continue
        # By what they are for, not by whether they are frozen now.
        fixed = sum(math.prod(weight.shape) for weight in layer._non_trainable_variables)
        yield LayerCost(
            name=layer.name,
            kind=type(layer).__name__,
            output_shape=tuple(layer.output.shape)[1:],
            parameters=layer.count_params() - fixed,
            non_trainable=fixed,
            multiply_adds=_multiply_adds(layer),
        )


# Every weight of a kernel is used once at every position of the output; of a transposed
# convolution, of the input.
_AT_OUTPUT = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Dense,
)
_AT_INPUT = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose)


def _multiply_adds(layer) -> int:
    if isinstance(layer, _AT_OUTPUT):
        return _positions(layer, layer.output.shape) * math.prod(layer.kernel.shape)
    if isinstance(layer, _AT_INPUT):
        return _positions(layer, layer.input.shape) * math.prod(layer.kernel.shape)
    if isinstance(layer, (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)):
        kernels = (layer.depthwise_kernel, layer.pointwise_kernel)
        per_position = sum(math.prod(kernel.shape) for kernel in kernels)
        return _positions(layer, layer.output.shape) * per_position
    if any(len(weight.shape) > 1 for weight in layer.weights):
        raise ValueError(
            "`model` must consist of convolutions, dense layers and layers without a kernel. "
            f"Received: layer {layer.name!r} of class {type(layer).__name__}"
        )
    return 0


def _positions(layer, shape) -> int:
    """Returns the pixels (or other positions) of a map, the channels left out."""
    channels_first = getattr(layer, "data_format", "channels_last") == "channels_first"
    return math.prod(shape[2:] if channels_first else shape[1:-1])
