"""Weights under the names and in the layouts of PyTorch's models, there and back.

torchvision and timm call the parts of a residual network alike, after the attributes of their
modules: conv2_block1_3_bn is layer1.0.bn3 there, and its moving mean layer1.0.bn3.running_mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from keras_resnet.naming import CLASSIFIER, find_place
from keras_resnet.weights.transfer import layer_weights

# Stem and classifier; the deep stem is a sequence of convolutions, normalisations and ReLUs.
_OUTSIDE = {
    "conv1_conv": "conv1",
    "conv1_bn": "bn1",
    "conv1_1_conv": "conv1.0",
    "conv1_1_bn": "conv1.1",
    "conv1_2_conv": "conv1.3",
    "conv1_2_bn": "conv1.4",
    "conv1_3_conv": "conv1.6",
    "conv1_3_bn": "bn1",
    CLASSIFIER: "fc",
}
_IN_BLOCK = {
    **{f"{i}_conv": f"conv{i}" for i in (1, 2, 3)},
    **{f"{i}_bn": f"bn{i}" for i in (1, 2, 3)},
    "0_conv": "downsample.0",
    "0_bn": "downsample.1",
    "se_reduce": "se.fc1",
    "se_expand": "se.fc2",
}
# With an average pool, or nothing, as the first part of every projection.
_POOLED = {"0_conv": "downsample.1", "0_bn": "downsample.2"}
# Of batch normalisation, in the order in which Keras has them.
_STATISTICS = ("weight", "bias", "running_mean", "running_var")
# The steps of training, which an average by momentum does not need.
_COUNTER = "num_batches_tracked"


def torch_names(model: keras.Model) -> dict[str, str]:
    """Returns what PyTorch's models call the layers that have weights, by their names here.

    Raises:
        ValueError: If the model has a layer that theirs have not.
    """
    places = {layer.name: find_place(layer.name) for layer in model.layers}
    pooled = any(place and place.part == "0_pool" for place in places.values())
    in_block = _IN_BLOCK | _POOLED if pooled else _IN_BLOCK
    names = {}
    for layer in layer_weights(model):
        place = find_place(layer)
        if layer in _OUTSIDE:
            names[layer] = _OUTSIDE[layer]
        elif place and place.part in in_block:
            names[layer] = f"layer{place.stage + 1}.{place.block}.{in_block[place.part]}"
        else:
            raise ValueError(
                "`weights` under PyTorch's names are for residual networks of version 'v1' or "
                f"'v1.5'. Received: model {model.name!r} with the layer {layer!r}"
            )
    return names


def from_torch(state: Mapping[str, np.ndarray], model: keras.Model) -> dict[str, list[np.ndarray]]:
    """Returns the weights of a state dict by layer, as `layer_weights` does.

    Args:
        state: Arrays by PyTorch's names.
        model: The model that they are for, which says what its layers are called there. What it
            has no layer for keeps its name.
    """
    here = {there: layer for layer, there in torch_names(model).items()}
    # For a model without classifier too, which is to leave it out by the name it has here.
    here.setdefault(_OUTSIDE[CLASSIFIER], CLASSIFIER)
    modules = {}
    for name, value in state.items():
        module, _, kind = name.rpartition(".")
        if kind != _COUNTER:
            modules.setdefault(module, {})[kind] = np.asarray(value, "float32")
    weights = {}
    for module, values in modules.items():
        if set(values) == set(_STATISTICS):
            arrays = [values[kind] for kind in _STATISTICS]
        elif set(values) in ({"weight"}, {"weight", "bias"}):
            arrays = [_kernel_here(values["weight"]), *[values[k] for k in values if k == "bias"]]
        else:
            arrays = list(values.values())
        weights[here.get(module, module)] = arrays
    return weights


def to_torch(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the weights of a model as a state dict of PyTorch: float32 arrays by its names.

    Raises:
        ValueError: If the model has a layer that PyTorch's models have not.
    """
    state = {}
    weights = layer_weights(model)
    for layer, module in torch_names(model).items():
        arrays = [np.asarray(value, "float32") for value in weights[layer]]
        if len(arrays) == len(_STATISTICS):
            values = dict(zip(_STATISTICS, arrays, strict=True))
            values[_COUNTER] = np.zeros((), "int64")
        else:
            values = dict(
                zip(("weight", "bias"), [_kernel_there(arrays[0]), *arrays[1:]], strict=False)
            )
        state |= {f"{module}.{kind}": value for kind, value in values.items()}
    return state


def _kernel_here(kernel: np.ndarray) -> np.ndarray:
    """From (out, in, height, width) or (out, in) to (height, width, in, out) or (in, out)."""
    return kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T


def _kernel_there(kernel: np.ndarray) -> np.ndarray:
    # Contiguous, since safetensors writes the memory as it lies.
    order = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
    return np.ascontiguousarray(kernel.transpose(order))
