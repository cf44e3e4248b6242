"""How much memory the activations of one image need, from shapes alone.

Both figures count every output of a layer as a buffer of its own, as Keras's layers ask for them.
What runs them may do with less (an activation written over its input, layers fused) and may need
more (workspace of a convolution, several branches at once).
"""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Iterable

import keras
from keras import KerasTensor, layers

from keras_resnet.analysis.calls import Call, Trace
from keras_resnet.layers import ZeroPadShortcut

# The gradient of these is a copy, a sum or a constant multiple of what comes back.
_NEED_NOTHING = (
    layers.Add,
    layers.Average,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.Concatenate,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.Flatten,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.Identity,
    layers.Normalization,  # of the images, which have no gradient
    layers.Permute,
    layers.RepeatVector,
    layers.Rescaling,
    layers.Reshape,
    layers.Subtract,
    layers.UpSampling1D,
    layers.UpSampling2D,
    layers.UpSampling3D,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    ZeroPadShortcut,
)
# Activations whose slope follows from their result.
_FROM_OUTPUT = frozenset({"relu", "relu6", "sigmoid", "tanh", "softmax"})


def size_in_bytes(shape: Iterable[int], dtype: str) -> int:
    """Returns what an array takes: its elements times the width in its dtype's name."""
    bits = re.search(r"\d+", keras.backend.standardize_dtype(dtype))
    return math.prod(shape) * (int(bits.group()) // 8 if bits else 1)


def inference_bytes(trace: Trace) -> int:
    """Returns the largest sum of tensors alive at once in a forward pass of one image.

    A tensor lives from the call that makes it to the last one that reads it; the model's outputs
    stay. Layers run in the order in which Keras calls them.
    """
    last_use = {id(x): -1 for x in trace.inputs}
    for i, call in enumerate(trace.calls):
        last_use |= {id(x): i for x in (*call.inputs, *call.outputs)}
    last_use |= {id(x): len(trace.calls) for x in trace.outputs}
    alive = {id(x): _tensor_bytes(x) for x in trace.inputs}
    peak = total = sum(alive.values())
    for i, call in enumerate(trace.calls):
        for x in call.outputs:
            alive[id(x)] = _tensor_bytes(x)
            total += alive[id(x)]
        peak = max(peak, total)
        for x in {id(x): x for x in (*call.inputs, *call.outputs)}:
            if last_use[x] == i:
                total -= alive.pop(x)
    return peak


def training_bytes(trace: Trace) -> int:
    """Returns the bytes of the tensors that a forward pass of one image keeps for the gradient.

    Kept are the input of every convolution, dense layer and normalisation, the output of
    activations such as ReLU (the input of those whose slope does not follow from it), both for
    maximum pooling and all layers without a rule, and nothing for additions, concatenations,
    padding, reshaping and average pooling; a tensor that several layers need counts once. Where a
    stack computes its blocks again, kept are each block's input and the tensors of one block.
    Gradients, weights and the state of the optimizer are not counted.
    """
    made_in = {id(x): call.recomputed for call in trace.calls for x in call.outputs}
    kept: dict[int, int] = {}
    recomputed: dict[str, dict[int, int]] = collections.defaultdict(dict)
    for call in trace.calls:
        for x in _needed_by_gradient(call):
            inside = call.recomputed is not None and made_in.get(id(x)) == call.recomputed
            (recomputed[call.recomputed] if inside else kept)[id(x)] = _tensor_bytes(x)
    one_block = max((sum(block.values()) for block in recomputed.values()), default=0)
    return sum(kept.values()) + one_block


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
    if isinstance(layer, layers.Multiply):
        return call.inputs
    if getattr(layer, "weights", None):
        return call.inputs if activation == "linear" else (*call.inputs, *call.outputs)
    return (*call.inputs, *call.outputs)
