"""Deeper networks from trained ones, by blocks that begin as the identity.

The paper's argument for why depth should not hurt (section 1) is a solution by construction: a
shallow network, and added layers that are the identity. `deepen` builds that network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.architectures import BLOCKS, PREACTIVATED, Architecture
from keras_resnet.naming import block_name, find_place, map_name, stage_name
from keras_resnet.network import Network, network_of
from keras_resnet.surgery.graphs import stage_ends
from keras_resnet.surgery.rebuilding import rebuild
from keras_resnet.utils import checks
from keras_resnet.utils.statistics import Moments, image_batches, map_moments
from keras_resnet.weights.transfer import Layers, assign_weights, layer_weights

# Mean and variance of every channel.
_Statistics = tuple[np.ndarray, np.ndarray]


def deepen(
    model: Network,
    blocks: Sequence[int],
    *,
    images: np.ndarray | Iterable | None = None,
    batch_size: int = 128,
    name: str | None = None,
) -> Network:
    """Builds a deeper network of the same family with the outputs of `model`.

    It is built with the options of `model` and has its weights; added blocks stand at the end of
    each stage. Their convolutions are drawn anew, and

    - in a residual net the last scale of the branch is zero: the block is `relu(x + 0)`, exactly
      the identity, in training too. The first gradients reach that scale only, then all weights.
      With pre-activation the last kernel is zero in its place, and the block is `x + 0`;
    - where a projection or a plain net's convolution lies on the path, it passes its input on (a
      kernel of one 1), and its normalization undoes itself: scale and offset are the deviation and
      mean of its statistics. In inference that is the identity to rounding. In training, where
      batch statistics count, it is the identity as far as those of the batch are those of
      `images`; without `images` the statistics are 0 and 1, and training starts with a jump.

    Blocks are stacked where those of `model` are, or where the depth requires it. Drop rates of
    stochastic depth rise along a line over all blocks, as in any network built that deep.

    The new network is not compiled and has no optimizer state; `model` is unchanged. Frozen layers
    stay frozen.

    Source: arXiv 1512.03385, section 1.

    Args:
        model: Network of this package, trained or not.
        blocks: New blocks per stage, such as (9, 9, 9); each at least as many as there are.
        images: Training images as the model takes them: an array `(n, H, W, C)`, or batches of
            images, `(images, labels)` or `(images, labels, weights)`. Used for plain nets and
            shortcut C; a few hundred images will do.
        batch_size: Size of the batches that an array is cut into: that of the training to come.
        name: Name of the new model; by default that of the deeper network of the table (resnet20
            becomes resnet56), and `{name}_deeper` for others.

    Returns:
        A `Network` with the inputs and outputs of `model`.

    Raises:
        ValueError: If `model` does not remember how it was built, `blocks` does not fit it, or its
            blocks cannot be identities: those of plain bottlenecks, which narrow on the way; with
            another activation than ReLU at their end; with group normalization on the way; with
            pre-activation where kernels are standardized or projections stand everywhere; dense.
    """
    config = network_of(model)
    network = config.architecture
    if not isinstance(network, Architecture):
        raise ValueError(
            "`model` must have residual or plain blocks, to which identities can be added. "
            f"Received: {network.name}, whose blocks are densely connected"
        )
    path = _norms_on_path(network, getattr(config.arguments["activation"], "__name__", "another"))
    own, blocks = network.repeats, checks.integers("blocks", blocks)
    if len(blocks) != len(own) or any(new < old for new, old in zip(blocks, own, strict=True)):
        raise ValueError(
            f"`blocks` must have a number for each of the {len(own)} stages, at least the {own} "
            f"that there are. Received: blocks={blocks}"
        )
    growing = [stage for stage, count in enumerate(blocks) if count > own[stage]]
    if name is None:
        named = model.name == network.name.lower()
        name = network.with_repeats(blocks).name.lower() if named else f"{model.name}_deeper"
    changes: dict[str, Any] = {"blocks": blocks}
    if filters := config.arguments.get("filters"):
        changes["filters"] = _with_blocks(filters, own, blocks)
    deeper = rebuild(model, name=name, **changes)
    before = {layer.name: layer for layer in model.layers}
    for layer in deeper.layers:
        place = find_place(layer.name)
        if place and place.block >= own[place.stage]:
            last = block_name(stage_name(place.stage), own[place.stage] - 1)
            if twin := before.get(f"{last}_{place.part}"):
                layer.trainable = twin.trainable
    statistics: dict[int, _Statistics] = {}
    if images is not None and path:
        statistics = _statistics(model, growing, image_batches(model, images, batch_size))
    weights, epsilon = layer_weights(deeper), config.arguments["bn_epsilon"]
    for stage in growing:
        for block in range(own[stage], blocks[stage]):
            prefix = f"{block_name(stage_name(stage), block)}_"
            for part in path:
                _make_path_identity(weights, f"{prefix}{part}", epsilon, statistics.get(stage))
            _make_branch_zero(weights, prefix, network)
    assign_weights(deeper, weights)
    return deeper


def _with_blocks(
    filters: Mapping[str, int], own: Sequence[int], blocks: Sequence[int]
) -> dict[str, int]:
    """Returns the filters of a deeper network, whose added blocks are as each stage's last."""
    added = dict(filters)
    for layer, count in filters.items():
        place = find_place(layer)
        if place and place.block == own[place.stage] - 1 and not place.part.startswith("0_"):
            for block in range(own[place.stage], blocks[place.stage]):
                name = block_name(stage_name(place.stage), block)
                added[f"{name}_{place.part}"] = count
    return added


def _norms_on_path(network: Architecture, activation: str) -> tuple[str, ...]:
    """Returns the convolutions, with their normalizations, that an identity has to pass.

    There are none beside a shortcut without weights, "0" on a projection, "1" and "2" in a plain
    block. Raises an error if no weights make the blocks an identity.
    """
    block, shortcut, gates = network.block, network.shortcut, network.squeeze_excitation
    preactivated, grouped = network.version in PREACTIVATED, network.normalization != "batch"
    projects = shortcut == "C"
    for lacks, needed in (
        (network.version == "v2-keras", "strides in the first blocks of its stages"),
        (preactivated and grouped, "no standardized kernels with pre-activation"),
        (preactivated and projects, "projections in first blocks only, with pre-activation"),
        (not preactivated and activation != "relu", "blocks that end in a ReLU"),
        (projects and grouped, "no group normalization, which depends on the image, on the path"),
        (shortcut is None and grouped, "batch normalization in plain blocks"),
        (shortcut is None and block != "basic", "shortcuts around blocks that are not basic"),
        (shortcut is None and gates, "shortcuts around branches with squeeze-and-excitation"),
    ):
        if lacks:
            raise ValueError(
                f"`model` must have {needed}, for blocks to be identities. Received: {block=}, "
                f"version={network.version!r}, {shortcut=}, activation={activation}, "
                f"normalization={network.normalization!r}, squeeze_excitation={gates}"
            )
    if preactivated or shortcut in ("A", "B"):
        return ()
    return ("0",) if projects else ("1", "2")


def _make_path_identity(
    weights: Layers, part: str, epsilon: float, statistics: _Statistics | None
) -> None:
    """Sets a convolution and its normalization on the path so that they pass their input on."""
    kernel = np.zeros_like(weights[f"{part}_conv"][0])
    height, width, channels, _ = kernel.shape
    kernel[height // 2, width // 2] = np.eye(channels)
    mean, variance = statistics or (np.zeros(channels), np.ones(channels))
    weights[f"{part}_conv"] = [kernel, *map(np.zeros_like, weights[f"{part}_conv"][1:])]
    weights[f"{part}_bn"] = [np.sqrt(variance + epsilon), mean, mean, variance]


def _make_branch_zero(weights: Layers, prefix: str, network: Architecture) -> None:
    """Sets the end of the branch of an added block, if it has one, so that it adds nothing."""
    last = f"{prefix}{BLOCKS[network.block].weighted_layers}"
    if network.version in PREACTIVATED:
        weights[f"{last}_conv"] = [np.zeros_like(kernel) for kernel in weights[f"{last}_conv"]]
    elif network.shortcut is not None:
        norm = f"{last}_bn" if network.normalization == "batch" else f"{last}_gn"
        if norm not in weights:
            raise ValueError(
                "`model` must have branches that end in a normalization, to start at zero. "
                f"Received: {network.block} blocks without a layer {norm!r}"
            )
        gamma, beta, *moving = weights[norm]
        weights[norm] = [np.zeros_like(gamma), np.zeros_like(beta), *moving]


def _statistics(model: Network, stages: Sequence[int], batches: Iterable) -> dict[int, _Statistics]:
    """Returns mean and variance of every channel at the end of each stage, in training mode."""
    ends = stage_ends(model)
    axis = 1 if model.network.arguments["data_format"] == "channels_first" else -1
    # By name: of a list of one, Keras would return what is in it.
    outputs = {str(stage): map_moments(ends[map_name(stage)], axis) for stage in stages}
    features = keras.Model(model.input, outputs)
    variables = [variable.value for variable in features.trainable_variables]
    others = [variable.value for variable in features.non_trainable_variables]
    moments = {stage: Moments() for stage in stages}
    for images, counted in batches:
        # Without state: what training mode does to moving statistics is not kept.
        found, _ = features.stateless_call(variables, others, images, training=True)
        for stage in stages:
            figures = (keras.ops.convert_to_numpy(f)[counted] for f in found[str(stage)])
            moments[stage].add(*figures)
    return {stage: (m.mean, m.variance) for stage, m in moments.items()}
