"""Deeper networks out of trained ones, by blocks that begin as the identity.

The paper's argument for why depth should not hurt (section 1) is a solution by construction: a
shallow network, and added layers that are the identity. `deepen` builds that network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np

from keras_resnet.architectures import BLOCKS
from keras_resnet.naming import block_name, map_name, stage_name
from keras_resnet.network import Network, NetworkConfig, network_of
from keras_resnet.surgery.rebuilding import rebuild
from keras_resnet.surgery.stages import stage_ends
from keras_resnet.utils import checks
from keras_resnet.utils.statistics import Moments, image_batches, map_moments
from keras_resnet.weights.transfer import assign_weights, layer_weights

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
      kernel of one 1), and its normalisation undoes itself: scale and offset are the deviation and
      mean of its statistics. In inference that is the identity to rounding. In training, where
      batch statistics count, it is the identity as far as those of the batch are those of
      `images`; without `images` the statistics are 0 and 1, and training starts with a jump.

    Blocks are stacked where those of `model` are, or where depth leaves no choice. Rates of
    stochastic depth rise along a line over all blocks, as in any network built that deep.

    The new network is not compiled and has no optimizer state; `model` is unchanged. Frozen layers
    stay frozen.

    Source: arXiv 1512.03385, section 1.

    Args:
        model: Network of this package, trained or not.
        blocks: New blocks per stage, such as (9, 9, 9); each at least as many as there are.
        images: What the model is trained on, as it takes it: an array `(n, H, W, C)`, or batches
            of images, `(images, labels)` or `(images, labels, weights)`. Used for plain nets and
            shortcut C, a few hundred images will do.
        batch_size: Size of the batches that an array is cut into: the one to train with.
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
    path = _norms_on_path(config)
    own = config.architecture.repeats
    blocks = _checked_blocks(blocks, own)
    growing = [stage for stage, count in enumerate(blocks) if count > own[stage]]
    if name is None:
        named = model.name == config.architecture.name.lower()
        deeper_name = config.architecture.with_repeats(blocks).name.lower()
        name = deeper_name if named else f"{model.name}_deeper"
    deeper = rebuild(model, blocks=blocks, name=name)
    statistics = {}
    if images is not None and path:
        statistics = _statistics(model, growing, image_batches(model, images, batch_size))
    weights = layer_weights(deeper)
    for stage in growing:
        for block in range(own[stage], blocks[stage]):
            prefix = f"{block_name(stage_name(stage), block)}_"
            _make_identity(weights, prefix, config, path, statistics.get(stage))
    assign_weights(deeper, weights)
    return deeper


def _checked_blocks(blocks: Sequence[int], own: tuple[int, ...]) -> tuple[int, ...]:
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


def _norms_on_path(config: NetworkConfig) -> tuple[str, ...]:
    """Returns which convolutions and normalizations an identity has to pass.

    None beside a shortcut without weights, "0" on a projection, "1" and "2" in a plain block.

    Raises:
        ValueError: If no weights make the blocks of such a network an identity.
    """
    network = config.architecture
    if config.builder != "ResNet":
        raise ValueError(
            "`model` must have residual or plain blocks, to which identities can be added. "
            f"Received: {network.name}, whose blocks are densely connected"
        )
    activation = getattr(config.arguments["activation"], "__name__", "another")
    if network.version == "v2":
        if network.normalization != "batch" or network.shortcut == "C":
            raise ValueError(
                "`model` must have, with pre-activation, kernels that are not standardized and no "
                "projections but in the first block of a stage. Received: "
                f"normalization={network.normalization!r} with shortcut={network.shortcut!r}"
            )
        return ()
    if activation != "relu":
        raise ValueError(
            "`model` must have blocks that end in a ReLU, which passes on what a ReLU gave. "
            f"Received: activation={activation}"
        )
    if network.shortcut in ("A", "B"):
        return ()
    if network.normalization != "batch":
        raise ValueError(
            "`model` must have no group normalization on the way that identities pass: it depends "
            f"on the image. Received: normalization={network.normalization!r} with "
            f"shortcut={network.shortcut!r}"
        )
    if network.shortcut == "C":
        return ("0",)
    if network.block != "basic" or network.squeeze_excitation:
        raise ValueError(
            "`model` must have shortcuts, or blocks of nothing but convolutions of one width. "
            f"Received: plain {network.block} blocks with "
            f"squeeze_excitation={network.squeeze_excitation}"
        )
    return ("1", "2")


def _make_identity(
    weights: dict[str, list[np.ndarray]],
    prefix: str,
    config: NetworkConfig,
    path: tuple[str, ...],
    statistics: _Statistics | None,
) -> None:
    """Sets the weights of one added block so that it passes its input on."""
    for part in path:
        kernel = np.zeros_like(weights[f"{prefix}{part}_conv"][0])
        height, width, channels, _ = kernel.shape
        kernel[height // 2, width // 2] = np.eye(channels)
        weights[f"{prefix}{part}_conv"] = [kernel]
        mean, variance = statistics or (np.zeros(channels), np.ones(channels))
        deviation = np.sqrt(variance + config.arguments["bn_epsilon"])
        weights[f"{prefix}{part}_bn"] = [deviation, mean, mean, variance]
    network = config.architecture
    last = f"{prefix}{BLOCKS[network.block].weighted_layers}"
    if network.version == "v2":
        weights[f"{last}_conv"] = [np.zeros_like(kernel) for kernel in weights[f"{last}_conv"]]
    elif network.shortcut is not None:
        norm = f"{last}_bn" if network.normalization == "batch" else f"{last}_gn"
        gamma, beta, *moving = weights[norm]
        weights[norm] = [np.zeros_like(gamma), np.zeros_like(beta), *moving]


def _statistics(model: Network, stages: Sequence[int], batches) -> Mapping[int, _Statistics]:
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
