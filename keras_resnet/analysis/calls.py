"""The calls of a functional model's layers for one image, in order, with the shapes of that image.

Nothing is computed, allocated or cloned: shapes run through the graph as they would on a call.
"""

from __future__ import annotations

import dataclasses

import keras
from keras import KerasTensor

from keras_resnet.layers import BlockStack
from keras_resnet.utils import private


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of one layer, or of an operation where the model was written with `keras.ops`.

    Attributes:
        name: Name of the layer, prefixed by those of the models and stacks around it.
        inputs: Its input tensors, for a batch of one.
        repeats: Number of such calls that the stacks around it make; 1 outside of stacks.
        repetition: Index of this call among them, from 0.
        recomputed: Name of the repetition that is recomputed for the gradient, or None.
    """

    layer: keras.Operation
    name: str
    inputs: tuple[KerasTensor, ...]
    outputs: tuple[KerasTensor, ...]
    repeats: int
    repetition: int
    recomputed: str | None


@dataclasses.dataclass(frozen=True)
class Trace:
    """The calls that one image makes, and the tensors that it enters and leaves as."""

    inputs: tuple[KerasTensor, ...]
    calls: tuple[Call, ...]
    outputs: tuple[KerasTensor, ...]


def trace(model: keras.Model, input_shape: tuple[int, ...] | None = None) -> Trace:
    """Follows one image through a functional model, into nested models and stacks of blocks.

    The calls are in the order in which Keras makes them. `input_shape` is that of one image, needed
    where the model leaves its sides open.

    Raises:
        ValueError: If the image size is open and not given, or contradicts the model; if the
            model, or one inside it, is not functional, or the shapes do not follow from it.
    """
    (own,) = graph(model, single=True).inputs
    inputs = KerasTensor((1, *_closed_shape(tuple(own.shape)[1:], input_shape)), dtype=own.dtype)
    calls: list[Call] = []
    outputs = _follow(model, inputs, calls, Call(model, "", (), (), 1, 0, None))
    return Trace((inputs,), tuple(calls), tuple(keras.tree.flatten(outputs)))


def graph(model: keras.Model, *, single: bool = False) -> keras.Function:
    """Returns the graph of a functional model, if `single` only one with a single input."""
    function = private.function_of(model)
    if function is None or (single and len(function.inputs) != 1):
        raise ValueError(
            f"`model` must be a functional Keras model with one input. Received: model={model!r}"
        )
    return function


def _closed_shape(shape, input_shape):
    if input_shape is None:
        if None in shape:
            raise ValueError(
                f"`input_shape` must be given for a model with open image sides, here {shape}. "
                "Received: input_shape=None"
            )
        return shape
    fits = (
        isinstance(input_shape, (tuple, list))
        and len(input_shape) == len(shape)
        and None not in input_shape
        and all(own in (None, x) for own, x in zip(shape, input_shape, strict=True))
    )
    if not fits:
        raise ValueError(
            f"`input_shape` must fit the model's input {shape}. Received: input_shape={input_shape}"
        )
    return tuple(input_shape)


def _follow(model, inputs, calls, around):
    """Appends the calls inside `model`; the fields of `around` say where the model itself is."""

    def call(layer, *args, **kwargs):
        tensors = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, KerasTensor)]
        here = dataclasses.replace(around, layer=layer, name=f"{around.name}{layer.name}")
        within = dataclasses.replace(here, name=f"{here.name}/")
        if isinstance(layer, BlockStack):
            return _follow_stack(layer, tensors, calls, within)
        if isinstance(layer, keras.Model):
            return _follow(layer, tensors, calls, within)
        outputs = layer.compute_output_spec(*args, **kwargs)
        flat = tuple(keras.tree.flatten(outputs))
        for x in flat:
            if None in x.shape:
                raise ValueError(
                    "`model` must have layers whose output shapes follow from their input's. "
                    f"Received: layer {here.name!r} of class {type(layer).__name__} with output "
                    f"{x.shape}"
                )
        calls.append(dataclasses.replace(here, inputs=tuple(tensors), outputs=flat))
        return outputs

    return private.run_through(graph(model), inputs, call)


def _follow_stack(stack, x, calls, within):
    for i in range(stack.repeats):
        repetition = dataclasses.replace(
            within,
            repeats=within.repeats * stack.repeats,
            repetition=within.repetition * stack.repeats + i,
            recomputed=f"{within.name}{i}" if stack.recompute else within.recomputed,
        )
        x = _follow(stack.block, x, calls, repetition)
    return x
