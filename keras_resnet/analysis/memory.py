"""Memory that the activations of one image need, from shapes alone.

Every output of a layer counts as a buffer of its own, as Keras's layers ask for them. What runs
them may do with less (an activation written over its input, fused layers) and may need more
(workspace of a convolution, several branches at once).
"""

from __future__ import annotations

import collections
import itertools
import math
import re
from collections.abc import Iterable

import keras
from keras import KerasTensor, layers

from keras_resnet.analysis.calls import Call, Trace
from keras_resnet.layers import ZeroPadShortcut

# The gradient of these is a copy, a sum or a constant multiple of the incoming gradient.
_NEED_NOTHING = (
    *(layers.Add, layers.Average, layers.Concatenate, layers.Subtract),
    *(layers.Flatten, layers.Identity, layers.Permute, layers.RepeatVector, layers.Reshape),
    *(layers.Rescaling, layers.Normalization),  # the latter of the images: they have no gradient
    *(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D),
    *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D),
    *(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D),
    *(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D),
    *(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D, ZeroPadShortcut),
)
# Activations whose slope follows from their output.
_FROM_OUTPUT = frozenset({"relu", "relu6", "sigmoid", "tanh", "softmax"})


def size_in_bytes(shape: Iterable[int], dtype: str) -> int:
    """Returns the bytes of an array: its elements times the width in its dtype's name."""
    bits = re.search(r"\d+", keras.backend.standardize_dtype(dtype))
    return math.prod(shape) * (int(bits.group()) // 8 if bits else 1)


def inference_bytes(trace: Trace) -> int:
    """Returns the largest sum of tensors alive at once in a forward pass of one image.

    A tensor lives from the call that makes it to the last one that reads it; the model's outputs
    stay. Layers run in the order in which Keras calls them.
    """
    uses = [trace.inputs, *((*call.inputs, *call.outputs) for call in trace.calls), trace.outputs]
    last = {id(x): step for step, tensors in enumerate(uses) for x in tensors}
    changes = [0] * (len(uses) + 1)
    alive: set[int] = set()
    for step, tensors in enumerate(uses):
        for x in tensors:
            if id(x) not in alive:
                alive.add(id(x))
                changes[step] += _tensor_bytes(x)
                changes[last[id(x)] + 1] -= _tensor_bytes(x)
    return max(itertools.accumulate(changes))


def training_bytes(trace: Trace) -> int:
    """Returns the bytes of the tensors that a forward pass of one image keeps for the gradient.

    Kept are the input of every convolution, dense layer and normalization, the output of
    activations such as ReLU (the input of those whose slope does not follow from it), both for
    max pooling and all layers without a rule, and nothing for additions, concatenations,
    padding, reshaping and average pooling; a tensor that several layers need counts once. Where a
    stack recomputes its blocks, kept are each block's input and the tensors of one block.
    Gradients, weights and the state of the optimizer are not counted.
    """
    made_in = {id(x): call.recomputed for call in trace.calls for x in call.outputs}
    # By the repetition that is recomputed; None for what is kept throughout.
    kept: dict[str | None, dict[int, int]] = collections.defaultdict(dict)
    for call in trace.calls:
        for x in _needed_by_gradient(call):
            inside = made_in.get(id(x)) == call.recomputed
            kept[call.recomputed if inside else None][id(x)] = _tensor_bytes(x)
    always = sum(kept.pop(None, {}).values())
    return always + max((sum(block.values()) for block in kept.values()), default=0)


def _tensor_bytes(tensor: KerasTensor) -> int:
    return size_in_bytes(tensor.shape, tensor.dtype)


def _needed_by_gradient(call: Call) -> tuple[KerasTensor, ...]:
    layer = call.layer
    if isinstance(layer, _NEED_NOTHING):
        return ()
    if isinstance(layer, (layers.ReLU, layers.Softmax)):
        return call.outputs
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if isinstance(layer, layers.Activation):
        return call.outputs if activation in _FROM_OUTPUT else call.inputs
    reads_inputs = getattr(layer, "weights", None) and activation == "linear"
    if reads_inputs or isinstance(layer, layers.Multiply):
        return call.inputs
    return (*call.inputs, *call.outputs)
