"""Weights under the names and in the layouts of PyTorch's models, in both directions.

torchvision and timm call the parts of a network alike, after the attributes of their modules:
conv2_block1_3_bn of a residual network is layer1.0.bn3 there, and its moving mean
layer1.0.bn3.running_mean.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

import keras
import numpy as np

from keras_resnet.naming import CLASSIFIER, POST, find_place, find_stage
from keras_resnet.weights.transfer import Layers, layer_weights, norm_epsilon, with_epsilon

EPSILON = 1e-5


@dataclasses.dataclass(frozen=True)
class _Names:
    """Names of one kind of network in PyTorch.

    Attributes:
        outside: Modules of the layers that are in no block.
        block: A block by its stage and its number, each from 0 or from 1.
        in_block: Modules of a block by its parts here.
        transition: What is between two blocks, by the number of the one in front of it from 1.
    """

    outside: Mapping[str, str]
    block: str
    in_block: Mapping[str, str]
    transition: str = ""

    def of(self, layer: str) -> str | None:
        """Returns the name of a layer's module, or None if there is none."""
        place = find_place(layer)
        if place is None:
            stage = find_stage(layer, transitions=True)
            if self.transition and stage is not None and layer.startswith("pool"):
                part = {"conv": "conv", "bn": "norm"}.get(layer.rpartition("_")[2])
                return part and f"{self.transition.format(stage + 1)}.{part}"
            return self.outside.get(layer)
        if place.part not in self.in_block:
            return None
        numbers = {"stage": place.stage, "block": place.block}
        numbers |= {"stage1": place.stage + 1, "block1": place.block + 1}
        return f"{self.block.format(**numbers)}.{self.in_block[place.part]}"


_RESNET = _Names(
    {
        "conv1_conv": "conv1",
        "conv1_bn": "bn1",
        # The deep stem is a sequence of convolutions, normalizations and ReLUs.
        "conv1_1_conv": "conv1.0",
        "conv1_1_bn": "conv1.1",
        "conv1_2_conv": "conv1.3",
        "conv1_2_bn": "conv1.4",
        "conv1_3_conv": "conv1.6",
        "conv1_3_bn": "bn1",
        CLASSIFIER: "fc",
    },
    "layer{stage1}.{block}",
    {
        **{f"{i}_conv": f"conv{i}" for i in (1, 2, 3)},
        **{f"{i}_bn": f"bn{i}" for i in (1, 2, 3)},
        "0_conv": "downsample.0",
        "0_bn": "downsample.1",
        "se_reduce": "se.fc1",
        "se_expand": "se.fc2",
    },
)
# With an average pool, or nothing, as the first part of every projection.
_POOLED = dataclasses.replace(
    _RESNET, in_block={**_RESNET.in_block, "0_conv": "downsample.1", "0_bn": "downsample.2"}
)
_DENSENET = _Names(
    {
        "conv1_conv": "features.conv0",
        "conv1_bn": "features.norm0",
        # Also where there are more or fewer than four blocks.
        f"{POST}_bn": "features.norm5",
        CLASSIFIER: "classifier",
    },
    "features.denseblock{stage1}.denselayer{block1}",
    {"0_bn": "norm1", "1_conv": "conv1", "1_bn": "norm2", "2_conv": "conv2"},
    transition="features.transition{}",
)
# What other authors call the classifier.
_HEADS = ("fc", "linear", "classifier")
# What wrappers put in front of all names: `DataParallel` and `torch.compile`.
_WRAPPERS = ("module.", "_orig_mod.")
# Other names of the same parts.
_ALIASES = {
    # Projections of kuangliu's and akamaster's.
    r"\.shortcut\.(\d+)\.": r".downsample.\1.",
    # DenseNets of torchvision before 0.3, whose files are the published ones; of gpleiss's.
    r"(\.denselayer\d+\.(?:norm|conv))\.([12])\.": r"\1\2.",
    r"^features\.norm_final\.": "features.norm5.",
}
# Of batch normalization, in the order in which Keras has them.
_STATISTICS = ("weight", "bias", "running_mean", "running_var")
# The steps of training, which an average by momentum does not need.
_COUNTER = "num_batches_tracked"


def torch_names(model: keras.Model) -> dict[str, str]:
    """Returns the names of the layers that have weights in PyTorch's models, by those here."""
    layers = list(layer_weights(model))
    names, kind = {}, _kind_of([*layers, *(layer.name for layer in model.layers)])
    for layer in layers:
        there = kind.of(layer)
        if there is None:
            raise ValueError(
                "`weights` under PyTorch's names are for residual networks of version 'v1' or "
                f"'v1.5', and DenseNets. Received: model {model.name!r} with the layer {layer!r}"
            )
        names[layer] = there
    return names


def _kind_of(layers: Iterable[str]) -> _Names:
    parts = {place.part for layer in layers if (place := find_place(layer))}
    if "0_bn" in parts and "0_conv" not in parts:  # In residual networks both or none.
        return _DENSENET
    return _POOLED if "0_pool" in parts else _RESNET


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
