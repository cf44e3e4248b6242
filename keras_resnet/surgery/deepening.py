"""Deeper nets out of trained ones, by blocks that begin as the identity.

The paper's argument for why depth should not hurt (section 1) is a solution by construction: a
shallow net, and added layers that are the identity. `deepen` makes that net. It works on the
functional model's configuration, so that whatever the net was built with (preprocessing, dropout,
regularisation, precision, stacked blocks) goes on in the deeper one.
"""

from __future__ import annotations

import copy
import dataclasses
import re
import sys
from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np

from keras_resnet.architectures import cifar_architecture
from keras_resnet.layers import BlockStack
from keras_resnet.surgery.graphs import rewired, rewired_outputs
from keras_resnet.utils import checks
from keras_resnet.utils.moments import Moments, image_batches, map_moments
from keras_resnet.utils.recursion import FRAMES
from keras_resnet.weights.transfer import assign_weights, layer_weights


def deepen(
    model: keras.Model,
    blocks: Sequence[int],
    *,
    images: np.ndarray | Iterable | None = None,
    batch_size: int = 128,
    name: str | None = None,
) -> keras.Model:
    """Makes a deeper net of the same family that answers as `model` does.

    The added blocks stand at the end of each stage. Their convolutions are drawn anew, and

    - in a residual net the last scale of the branch is zero: the block is `relu(x + 0)`, exactly
      the identity, in training too. The first gradients reach that scale only, then all weights.
      With pre-activation the last kernel is zero in its place, and the block is `x + 0`;
    - where a projection or a plain net's convolution lies on the path, it passes its input on (a
      kernel of one 1), and its normalisation undoes itself: scale and offset are the deviation and
      mean of its statistics. In inference that is the identity to rounding. In training, where
      batch statistics count, it is the identity as far as those of the batch are those of
      `images`; without `images` the statistics are 0 and 1, and training starts with a jump.

    Stacked blocks grow as a stack. A stage of one block grows by blocks written one after the
    other, with shortcuts as those of a net built that deep: identities with options A and B.

    The new net is not compiled and has no optimizer state; `model` is left as it is. Frozen layers
    stay frozen, and so do the copies that are made of them.

    Source: arXiv 1512.03385, section 1.

    Args:
        model: Network of this package, trained or not.
        blocks: New blocks per stage, such as (9, 9, 9); each at least as many as there are.
        images: What the model is trained on, as it takes it: an array `(n, H, W, C)`, or batches
            of images, `(images, labels)` or `(images, labels, weights)`. Used for plain nets and
            shortcut C, a few hundred images will do.
        batch_size: Size of the batches that an array is cut into: the one to train with.
        name: Name of the new model; by default that of the deeper CIFAR net (resnet20 becomes
            resnet56), and `{name}_deeper` for others.

    Returns:
        A functional `keras.Model` with the inputs and outputs of `model`.

    Raises:
        ValueError: If `model` is not named as a network of this package, `blocks` does not fit it,
            the result is too deep for Keras to build, or its blocks cannot be identities: those of
            plain bottlenecks, which narrow on the way; with another activation than ReLU at their
            end; with group normalisation on the way; with pre-activation where the kernels are
            standardised, projections stand everywhere, or a stage has but one block.
    """
    stages = _find_stages(model)
    blocks = _checked_blocks(blocks, stages)
    old_weights = layer_weights(model)
    config = copy.deepcopy(model.get_config())
    patterns = {}
    for stage, count in zip(stages, blocks, strict=True):
        if count > stage.blocks:
            pattern = _pattern(config, stage, _projects_everywhere(old_weights, stages[0]))
            _check_identity(pattern, old_weights, stage)
            _grow(config, stage, count, pattern)
            patterns[stage] = pattern
    if patterns and len(config["layers"]) > sys.getrecursionlimit() - FRAMES:
        raise ValueError(
            f"`blocks` would make {len(config['layers'])} layers, more than Keras can build one "
            "after the other; build the net with stack_blocks=True, give it the weights with "
            f"`copy_weights`, and deepen that. Received: blocks={blocks}"
        )
    config["name"] = name or _name(model.name, stages, blocks)

    classes = {type(layer) for layer in model.layers}
    with keras.saving.custom_object_scope(
        {keras.saving.get_registered_name(kind): kind for kind in classes}
    ):
        deeper = type(model).from_config(config)
    weights = layer_weights(deeper) | old_weights
    statistics = {}
    if images is not None and any(_norms_on_path(pattern) for pattern in patterns.values()):
        statistics = _output_statistics(model, patterns, image_batches(model, images, batch_size))
    for stage, count in zip(stages, blocks, strict=True):
        for i in range(stage.blocks, count):
            _make_identity(
                weights, f"{stage.name}_block{i + 1}_", patterns[stage], statistics.get(stage)
            )
    assign_weights(deeper, weights)
    return deeper


@dataclasses.dataclass(frozen=True)
class _Stage:
    """A stage as it is: `conv2`, its number of blocks, and the layer that ends it."""

    name: str
    blocks: int
    output: str

    @property
    def stacked(self) -> bool:
        return self.output.endswith("_stack")


# Configurations of the layers of one block whose output has the shape of its input, by the rest of
# their names: "1_conv", "1_bn", "out".
_Pattern = Mapping[str, dict]


def _find_stages(model):
    blocks, stacks = {}, {}
    if isinstance(model, keras.Model):
        for layer in model.layers:
            if match := re.fullmatch(r"(conv\d+)_block(\d+)_out", layer.name):
                blocks[match[1]] = max(int(match[2]), blocks.get(match[1], 0))
            elif isinstance(layer, BlockStack):
                stacks[layer.name.removesuffix("_stack")] = layer
    if not blocks or not stacks.keys() <= blocks.keys():
        raise ValueError(
            "`model` must be a network of this package itself, with layers named as "
            f"conv2_block1_out. Received: model={getattr(model, 'name', model)!r}"
        )
    return [
        _Stage(name, count + stacks[name].repeats, stacks[name].name)
        if name in stacks
        else _Stage(name, count, f"{name}_block{count}_out")
        for name, count in sorted(blocks.items(), key=lambda item: int(item[0][4:]))
    ]


def _checked_blocks(blocks, stages):
    own = tuple(stage.blocks for stage in stages)
    given = blocks.tolist() if hasattr(blocks, "tolist") else blocks
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != len(own):
        raise ValueError(
            f"`blocks` must have one number for each of the {len(own)} stages, which have {own} "
            f"blocks now. Received: blocks={blocks!r}"
        )
    given = tuple(checks.integer("blocks", count) for count in given)
    if any(new < old for new, old in zip(given, own, strict=True)):
        raise ValueError(
            f"`blocks` must not be fewer than there are, {own}. Received: blocks={given}"
        )
    return given


def _projects_everywhere(weights, first_stage):
    """Whether the shortcuts are option C: a projection where the shape does not change."""
    for name, values in weights.items():
        if match := re.fullmatch(r"(conv\d+)_block(\d+)_0_conv", name):
            square = values[0].shape[-1] == values[0].shape[-2]
            # The first stage does not stride, the others do in their first blocks.
            if int(match[2]) > 1 or (match[1] == first_stage.name and square):
                return True
    return False


def _pattern(config, stage, projects_everywhere) -> _Pattern:
    """Returns what an added block of the stage is made of."""
    layers = {layer["name"]: layer for layer in config["layers"]}
    number = stage.blocks
    if stage.stacked:
        number = 2
        inner = layers[stage.output]["config"]["block"]["config"]["layers"]
        layers = {layer["name"]: layer for layer in inner}
    prefix = f"{stage.name}_block{number}_"
    pattern = {
        name.removeprefix(prefix): layer
        for name, layer in layers.items()
        if name.startswith(prefix)
    }
    return _without_change_of_shape(pattern, projects_everywhere) if number == 1 else pattern


def _without_change_of_shape(pattern, projects_everywhere):
    """Makes of a stage's first block one that could follow it."""
    shortcut = () if projects_everywhere else ("0_conv", "0_bn", "0_gn")
    left_out = {
        layer["name"]: layer
        for suffix, layer in pattern.items()
        if suffix.endswith("_pad") or suffix in ("0_pool", *shortcut)
    }

    def source(name):
        while name in left_out:
            (node,) = left_out[name]["inbound_nodes"]
            name = node["args"][0]["config"]["keras_history"][0]
        return name

    kept = {}
    for suffix, layer in pattern.items():
        if layer["name"] in left_out:
            continue
        layer = {**layer, "inbound_nodes": rewired(layer["inbound_nodes"], source)}
        if suffix.endswith("_conv"):
            layer["config"] = {**layer["config"], "strides": (1, 1), "padding": "same"}
        kept[suffix] = layer
    return kept


def _grow(config, stage, count, pattern):
    """Adds blocks to a stage of a model's configuration."""
    layers = config["layers"]
    if stage.stacked:
        (stack,) = (layer["config"] for layer in layers if layer["name"] == stage.output)
        stack["repeats"] = count - 1
        if stack.get("drop_rates"):
            stack["drop_rates"] = stack["drop_rates"] + stack["drop_rates"][-1:] * (
                count - stage.blocks
            )
        return
    names = {layer["name"]: suffix for suffix, layer in pattern.items()}
    added, entry = [], stage.output
    for i in range(stage.blocks, count):
        prefix = f"{stage.name}_block{i + 1}_"

        def follow(name, prefix=prefix, entry=entry):
            return prefix + names[name] if name in names else entry

        added += [_renamed(layer, prefix + suffix, follow) for suffix, layer in pattern.items()]
        entry = f"{prefix}out"

    def pass_on(name):
        return entry if name == stage.output else name

    for layer in layers:
        layer["inbound_nodes"] = rewired(layer["inbound_nodes"], pass_on)
    config["output_layers"] = rewired_outputs(config["output_layers"], pass_on)
    at = next(i for i, layer in enumerate(layers) if layer["name"] == stage.output)
    layers[at + 1 : at + 1] = added


def _renamed(layer, name, follow):
    layer = copy.deepcopy(layer)
    # The shapes it was built for may be those of a first block; it is built when it is called.
    layer.pop("build_config", None)
    layer["name"] = layer["config"]["name"] = name
    layer["inbound_nodes"] = rewired(layer["inbound_nodes"], follow)
    return layer


def _name(name, stages, blocks):
    """Returns resnet56_b for resnet20_b with 9 blocks per stage, else the name with a mark."""
    own = {stage.blocks for stage in stages}
    match = re.fullmatch(r"(?:cifar)?(resnet|plainnet)(\d+)(_.*)?", name)
    if match and len(stages) == 3 and len(own) == len(set(blocks)) == 1:
        if int(match[2]) == 6 * stages[0].blocks + 2:
            line = cifar_architecture(6 * blocks[0] + 2, "A" if match[1] == "resnet" else None)
            return f"{line.name.lower()}{match[3] or ''}"
    return f"{name}_deeper"


def _preactivated(pattern: _Pattern) -> bool:
    """Whether blocks end in the addition itself."""
    return pattern["out"]["class_name"] == "Add"


def _norms_on_path(pattern: _Pattern) -> list[str]:
    """Returns which normalisations an identity has to pass: "0", or a plain net's "1" and "2"."""
    if "add" in pattern or _preactivated(pattern):
        return ["0"] if "0_bn" in pattern else []
    return [suffix[: -len("_bn")] for suffix in pattern if suffix.endswith("_bn")]


def _check_identity(pattern, weights, stage):
    """Raises a ValueError where no weights make the block an identity."""
    if _preactivated(pattern):
        standardized = any(layer["class_name"] != "Conv2D" for layer in _convolutions(pattern))
        if standardized or "0_conv" in pattern or stage.blocks == 1:
            raise ValueError(
                "`model` must have, with pre-activation, kernels that are not standardised, no "
                "projections but in the first block of a stage, and two blocks in each stage that "
                f"grows. Received: {stage.name} with {stage.blocks} blocks"
            )
        return
    if pattern["out"]["config"].get("activation") != "relu":
        raise ValueError(
            "`model` must have blocks that end in a ReLU, which passes on what a ReLU gave. "
            f"Received: {stage.name} with {pattern['out']['config']}"
        )
    if "0_gn" in pattern or ("1_gn" in pattern and "add" not in pattern):
        raise ValueError(
            "`model` must have no group normalisation on the way that identities pass: it depends "
            f"on the image. Received: {stage.name} with group normalisation there"
        )
    if "add" in pattern:
        return
    # Of the last block there is, which has an equal block's kernels but, maybe, the first.
    kernel_shapes = [
        weights[f"{stage.name}_block{stage.blocks}_{suffix}"][0].shape
        for suffix in pattern
        if re.fullmatch(r"\d+_conv", suffix)
    ]
    others = [s for s in pattern if not re.fullmatch(r"\d+_(conv|bn|relu)|dropout|out", s)]
    if others or len({shape[-1] for shape in kernel_shapes}) > 1:
        raise ValueError(
            "`model` must have shortcuts, or blocks of nothing but convolutions of one width, to "
            f"which identities can be added. Received: plain {stage.name} with kernels "
            f"{kernel_shapes} and layers {others}"
        )


def _convolutions(pattern):
    return [layer for suffix, layer in pattern.items() if re.fullmatch(r"\d+_conv", suffix)]


def _make_identity(weights, prefix, pattern, statistics):
    """Sets the weights of one added block so that it passes its input on."""
    for number in _norms_on_path(pattern):
        conv, norm = f"{prefix}{number}_conv", f"{prefix}{number}_bn"
        kernel = np.zeros_like(weights[conv][0])
        height, width, channels, _ = kernel.shape
        kernel[height // 2, width // 2] = np.eye(channels)
        weights[conv] = [kernel]
        mean, variance = statistics or (np.zeros(channels), np.ones(channels))
        deviation = np.sqrt(variance + pattern[f"{number}_bn"]["config"]["epsilon"])
        weights[norm] = [deviation, mean, mean, variance]
    if _preactivated(pattern):
        last = max(suffix for suffix in pattern if re.fullmatch(r"\d+_conv", suffix))
        weights[prefix + last] = [np.zeros_like(weights[prefix + last][0])]
    elif "add" in pattern:
        last = max(suffix for suffix in pattern if re.fullmatch(r"\d+_[bg]n", suffix))
        gamma, beta, *moving = weights[prefix + last]
        weights[prefix + last] = [np.zeros_like(gamma), np.zeros_like(beta), *moving]


def _output_statistics(model, patterns, batches):
    """Returns mean and variance of every channel at the end of each stage, in training mode."""
    # By name: of a list of one, Keras would return what is in it.
    outputs = {
        stage.name: map_moments(
            model.get_layer(stage.output).output, pattern["1_bn"]["config"]["axis"]
        )
        for stage, pattern in patterns.items()
    }
    features = keras.Model(model.input, outputs)
    variables = [variable.value for variable in features.trainable_variables]
    others = [variable.value for variable in features.non_trainable_variables]
    moments = {stage: Moments() for stage in patterns}
    for images, counted in batches:
        # Without state: what training mode does to moving statistics is not kept.
        found, _ = features.stateless_call(variables, others, images, training=True)
        for stage in patterns:
            figures = (keras.ops.convert_to_numpy(f)[counted] for f in found[stage.name])
            moments[stage].add(*figures)
    return {stage: (m.mean, m.variance) for stage, m in moments.items()}
