"""Weights under the names and in the layouts of PyTorch's models, in both directions.

torchvision and timm call the parts of a network alike, after the attributes of their modules:
conv2_block1_3_bn of a residual network is layer1.0.bn3 there, and its moving mean
layer1.0.bn3.running_mean.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import keras
import numpy as np

from keras_resnet.naming import CLASSIFIER, DENSENET_NAMES, POST, find_place, find_stage
from keras_resnet.network import remembered
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
# timm's legacy_seresnet50, from Cadene's, and its pool without padding in front.
_LEGACY = dataclasses.replace(
    _RESNET,
    outside={"conv1_conv": "layer0.conv1", "conv1_bn": "layer0.bn1", CLASSIFIER: "last_linear"},
    in_block={
        **_RESNET.in_block,
        "se_reduce": "se_module.fc1",
        "se_expand": "se_module.fc2",
    },
)
# timm's resnetv2_50, with the pool in front of the stem's normalization.
_V2 = _Names(
    {
        "conv1_conv": "stem.conv",
        "conv1_1_conv": "stem.conv1",
        "conv1_1_bn": "stem.norm1",
        "conv1_2_conv": "stem.conv2",
        "conv1_2_bn": "stem.norm2",
        "conv1_3_conv": "stem.conv3",
        f"{POST}_bn": "norm",
        CLASSIFIER: "head.fc",
    },
    "stages.{stage}.blocks.{block}",
    {
        **{f"{i}_conv": f"conv{i}" for i in (1, 2, 3)},
        "preact_bn": "norm1",
        "1_bn": "norm2",
        "2_bn": "norm3",
        "0_conv": "downsample.conv",
    },
)
_DENSENET = _Names(
    {
        "conv1_conv": "features.conv0",
        "conv1_bn": "features.norm0",
        # Also where there are more or fewer than four blocks.
        f"{POST}_bn": "features.norm5",
        DENSENET_NAMES[f"{POST}_bn"]: "features.norm5",
        CLASSIFIER: "classifier",
    },
    "features.denseblock{stage1}.denselayer{block1}",
    {"0_bn": "norm1", "1_conv": "conv1", "1_bn": "norm2", "2_conv": "conv2"},
    transition="features.transition{}",
)
# What other authors call the classifier.
_HEADS = ("fc", "linear", "classifier", "last_linear", "head.fc")
# What wrappers put in front of all names: `DataParallel` and `torch.compile`.
_WRAPPERS = ("module.", "_orig_mod.")
# Other names of the same parts.
_ALIASES = {
    # Projections of kuangliu's and akamaster's.
    r"\.shortcut\.(\d+)\.": r".downsample.\1.",
    # DenseNets of torchvision before 0.3, whose files are the published ones; of gpleiss's.
    r"(\.denselayer\d+\.(?:norm|conv))\.([12])\.": r"\1\2.",
    r"^features\.norm_final\.": "features.norm5.",
    # Cadene's, and timm's legacy_seresnet50.
    r"^layer0\.": "",
    r"\.se_module\.": ".se.",
}
# Of batch normalization, in the order in which Keras has them.
_STATISTICS = ("weight", "bias", "running_mean", "running_var")
# The steps of training, which an average by momentum does not need.
_COUNTER = "num_batches_tracked"


def torch_names(model: keras.Model) -> dict[str, str]:
    """Returns the names of the layers that have weights in PyTorch's models, by those here."""
    names, kind = {}, _kind_of(model)
    for layer in layer_weights(model):
        there = kind.of(layer)
        if there is None:
            raise ValueError(
                "`weights` under PyTorch's names are for residual networks of version 'v1' or "
                "'v1.5', with stem_pool='ceil' for bottlenecks with squeeze-and-excitation, of "
                "'v2' with stem_pool='first', and for DenseNets. "
                f"Received: model {model.name!r} with the layer {layer!r}"
            )
        names[layer] = there
    return names


def _kind_of(model: keras.Model) -> _Names:
    layers = {*layer_weights(model), *(layer.name for layer in model.layers)}
    parts = {place.part for layer in layers if (place := find_place(layer))}
    if "0_bn" in parts and "0_conv" not in parts:  # In residual networks both or none.
        return _DENSENET
    if "preact_bn" in parts and layers.isdisjoint(("conv1_bn", "conv1_3_bn")):
        return _V2
    if stem_pool(model) == "ceil":
        # Of others than bottlenecks with squeeze-and-excitation there is no model.
        legacy = {"se_reduce", "3_conv"} <= parts
        return _LEGACY if legacy else dataclasses.replace(_RESNET, outside={})
    return _POOLED if "0_pool" in parts else _RESNET


def stem_pool(model: keras.Model) -> str | None:
    """Returns the option `stem_pool` of a network, or None if it has no pool in its stem."""
    config = remembered(model)
    stem = None if config is None else config.architecture.stem
    if config is None or stem is None or not stem.pool:
        return None
    return config.arguments.get("stem_pool", "padded")


def pool_of_names(state: Mapping[str, np.ndarray]) -> str:
    """Returns the `stem_pool` of the networks whose state dicts have such names."""
    if any(re.search(r"(^|\.)layer0\.", name) for name in state):
        return "ceil"
    return "first" if any(re.search(r"(^|\.)stem\.conv", name) for name in state) else "padded"


def version_of_names(state: Mapping[str, np.ndarray]) -> str:
    """Returns the version of the networks whose state dicts have such names and shapes."""
    kernels = (value for name, value in state.items() if name.endswith("layer1.0.conv2.weight"))
    grouped = any(value.ndim == 4 and value.shape[1] < value.shape[0] for value in kernels)
    # The stride of Cadene's networks is on the first convolution unless there are groups.
    return "v1" if pool_of_names(state) == "ceil" and not grouped else "v1.5"


def plain_names(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns a state dict under the names of torchvision and timm, where others are known."""
    plain = dict(state)
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in plain):
            plain = {name.removeprefix(wrapper): value for name, value in plain.items()}
    return {_plain_name(name): value for name, value in plain.items()}


def _plain_name(name: str) -> str:
    for pattern, plain in _ALIASES.items():
        name = re.sub(pattern, plain, name)
    return name


def from_torch(state: Mapping[str, np.ndarray], model: keras.Model) -> Layers:
    """Returns the weights of a state dict by layer of `model`; the names of others are kept."""
    names = torch_names(model).items()
    here = {_plain_name(f"{there}.").removesuffix("."): layer for layer, there in names}
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
            if kernel.ndim == 4 and here.get(module) == CLASSIFIER:
                kernel = kernel[0, 0]  # A classifier that is a convolution over one pixel.
            arrays = [kernel, *values.values()]
        else:
            arrays = list(values.values())
        layer = here.get(module, module)
        # Of two classifiers the second keeps its name, and is one too many.
        weights[module if layer in weights else layer] = arrays
    return weights


def to_torch(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the weights of a model as a state dict of PyTorch: float32 arrays by its names."""
    convolutional = _kind_of(model) is _V2
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
            if layer == CLASSIFIER and convolutional:
                kernel = kernel[:, :, None, None]
            arrays[0] = np.ascontiguousarray(kernel)
            values = dict(zip(("weight", "bias"), arrays, strict=False))
        state |= {f"{module}.{kind}": value for kind, value in values.items()}
    return state
