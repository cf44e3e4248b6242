"""Weights under the names and in the layouts of PyTorch's models, in both directions.

torchvision and timm call the parts of a residual network alike, after the attributes of their
modules: conv2_block1_3_bn is layer1.0.bn3 there, and its moving mean layer1.0.bn3.running_mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import keras
import numpy as np

from keras_resnet.naming import CLASSIFIER, find_place
from keras_resnet.weights.transfer import Layers, layer_weights, norm_epsilon, with_epsilon

EPSILON = 1e-5
# Stem and classifier; the deep stem is a sequence of convolutions, normalizations and ReLUs.
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
# What other authors call the classifier.
_HEADS = ("fc", "linear")
# What wrappers put in front of all names: `DataParallel` and `torch.compile`.
_WRAPPERS = ("module.", "_orig_mod.")
# Other names of the same parts: kuangliu's and akamaster's projections.
_ALIASES = {r"\.shortcut\.(\d+)\.": r".downsample.\1."}
# Of batch normalization, in the order in which Keras has them.
_STATISTICS = ("weight", "bias", "running_mean", "running_var")
# The steps of training, which an average by momentum does not need.
_COUNTER = "num_batches_tracked"


def torch_names(model: keras.Model) -> dict[str, str]:
    """Returns the names of the layers that have weights in PyTorch's models, by those here."""
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


def plain_names(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns a state dict under the names of torchvision and timm, where others are known."""
    plain = dict(state)
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in plain):
            plain = {name.removeprefix(wrapper): value for name, value in plain.items()}
    for pattern, name in _ALIASES.items():
        plain = {re.sub(pattern, name, key): value for key, value in plain.items()}
    return plain


def from_torch(state: Mapping[str, np.ndarray], model: keras.Model) -> Layers:
    """Returns the weights of a state dict by layer of `model`; the names of others are kept."""
    here = {there: layer for layer, there in torch_names(model).items()}
    # Also for a model without classifier, which leaves it out by the name it has here.
    here |= dict.fromkeys(_HEADS, CLASSIFIER)
    modules: dict[str, dict[str, np.ndarray]] = {}
    for name, value in plain_names(state).items():
        module, _, kind = name.rpartition(".")
        if kind != _COUNTER:
            modules.setdefault(module, {})[kind] = np.asarray(value, "float32")
    weights: Layers = {}
    for module, values in modules.items():
        if set(values) == set(_STATISTICS):
            arrays = [values[kind] for kind in _STATISTICS]
        elif set(values) in ({"weight"}, {"weight", "bias"}):
            kernel = values.pop("weight")
            kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T
            arrays = [kernel, *values.values()]
        else:
            arrays = list(values.values())
        layer = here.get(module, module)
        # Of two classifiers the second keeps its name, and is one too many.
        weights[module if layer in weights else layer] = arrays
    return weights


def to_torch(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the weights of a model as a state dict of PyTorch: float32 arrays by its names."""
    names, copied = torch_names(model), f"PyTorch's copy of {model.name!r}"
    weights = with_epsilon(layer_weights(model), norm_epsilon(model), EPSILON, copied)
    state: dict[str, np.ndarray] = {}
    for layer, module in names.items():
        arrays = [np.asarray(value, "float32") for value in weights[layer]]
        if len(arrays) == len(_STATISTICS):
            values = dict(zip(_STATISTICS, arrays, strict=True))
            values[_COUNTER] = np.zeros((), "int64")
        else:
            # Contiguous, since safetensors writes the memory as it lies.
            kernel = arrays[0].transpose((3, 2, 0, 1) if arrays[0].ndim == 4 else (1, 0))
            arrays[0] = np.ascontiguousarray(kernel)
            values = dict(zip(("weight", "bias"), arrays, strict=False))
        state |= {f"{module}.{kind}": value for kind, value in values.items()}
    return state
