"""Smaller networks from trained ones, by the channels and blocks that matter least.

The dual of `deepen`: a narrower or shallower network of the same family is built, and gets slices
of the weights. Where what is taken out computes nothing but zeros, the outputs stay the same;
otherwise a little training recovers them.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet.layers import ZeroPadShortcut
from keras_resnet.naming import block_name, find_place, stage_name
from keras_resnet.network import Network, network_of
from keras_resnet.surgery.channels import ChannelGroups, channel_groups
from keras_resnet.surgery.rebuilding import freeze_as, rebuild
from keras_resnet.utils import checks, private
from keras_resnet.weights.transfer import assign_weights, layer_weights

_Data = list[tuple[np.ndarray, np.ndarray]]


def slim(
    model: Network,
    keep: float | None = None,
    *,
    max_multiply_adds: int | None = None,
    blocks: Sequence[int] | None = None,
    batches: Iterable | None = None,
    batch_size: int = 128,
    loss: str | keras.losses.Loss = "sparse_categorical_crossentropy",
    least: float = 0.125,
    divisor: int = 1,
    name: str | None = None,
) -> Network:
    """Builds a smaller network of the same family with the weights of `model` that matter most.

        small = keras_resnet.slim(model, max_multiply_adds=20_000_000, batches=(x[:512], y[:512]))

    Channels that additions and shortcuts tie together go or stay together. They are ranked by one
    of two criteria, each relative to the root mean square over its layer:

    - without `batches`, the scale of the batch normalizations (arXiv 1708.06519);
    - with them, the first-order change of the loss if a normalized map were zero, which is
      `scale * gradient + offset * gradient`, its size averaged over the batches (arXiv 1611.06440,
      equation 8, with the mean over the images of a batch).

    Blocks go first, where `blocks` asks for it: of each stage those whose branch responds least to
    the images, as a share of what it is added to (the paper's Fig. 7). Only blocks with identity
    shortcuts can go.

    Channels in front of and behind grouped convolutions stay, as do those inside of
    squeeze-and-excitation and those of pre-activated sums that no normalization ranks.

    The new network is not compiled and has no optimizer state; `model` is unchanged. Frozen layers
    stay frozen. It remembers its `filters`, so that it can be saved, rebuilt, deepened, exported
    and slimmed again.

    Args:
        model: Network of this package with batch normalization, best a trained one, unrolled.
        keep: Fraction of the channels to keep, in [0, 1], over all layers that can lose some.
        max_multiply_adds: Multiply-adds for one image of the new network at most, in place of
            `keep`. Of what the ranking allows the largest network is built.
        blocks: New blocks per stage, such as (2, 2, 2); each at most as many as there are. None for
            all. Needs `batches`.
        batches: Training images with labels, as the model takes them: arrays `(images, labels)`,
            or an iterable of such batches, all of which are held in memory; some hundred images
            will do.
        batch_size: Size of the batches that arrays are cut into.
        loss: Loss of labels and outputs, as in `compile`, for the ranking by `batches`.
        least: Fraction of the channels of every layer that stays in any case, in [0, 1].
        divisor: Number that channels are rounded up to multiples of, where a layer has more: 8 or
            16 is what processors compute well.
        name: Name of the new model; by default `{name}_slim`.

    Returns:
        A `Network` with the inputs and outputs of `model`.

    Raises:
        ValueError: If `model` does not remember how it was built, or has stacked blocks or other
            normalizations; if both or none of `keep`, `max_multiply_adds` and `blocks` are given;
            if a number cannot be reached, or an argument is wrong.
    """
    config = network_of(model)
    if (keep is not None) + (max_multiply_adds is not None) > 1 or (
        keep is None and max_multiply_adds is None and blocks is None
    ):
        raise ValueError(
            "Either `keep`, `max_multiply_adds` or neither beside `blocks` must be given. "
            f"Received: keep={keep}, max_multiply_adds={max_multiply_adds}, blocks={blocks}"
        )
    checks.fraction("least", least, one_allowed=True)
    checks.integer("divisor", divisor)
    if keep is not None:
        checks.fraction("keep", keep, one_allowed=True)
    if config.arguments["normalization"] != "batch":
        raise ValueError(
            "`model` must have batch normalization, whose channels are independent. Received: "
            f"normalization={config.arguments['normalization']!r}"
        )
    data = None if batches is None else list(_pairs(batches, batch_size))
    name = name or f"{model.name}_slim"
    if blocks is not None:
        model = _without_blocks(model, checks.integers("blocks", blocks), data, name)
    if keep is None and max_multiply_adds is None:
        return model
    groups = channel_groups(model)
    figures = _scales(model)
    if data is not None:
        figures = _loss_changes(model, data, checks.known("loss", loss, keras.losses.get))
    scores = _scores(groups, figures)
    sets = _alike(groups, scores)
    # Places of those that may go, by share: of equal scores every layer loses its last ones first,
    # as `kept` fills up from the front, and all layers lose as much.
    places = {
        group: i / len(alike)
        for alike in sets
        for i, group in enumerate(alike.tolist())
        if i >= max(1, math.ceil(least * len(alike)))
    }
    order = np.array(sorted(places, key=lambda group: (scores[group], -places[group])), int)

    def kept(count: int) -> np.ndarray:
        """Returns which groups stay if the first `count` go, and others fill up multiples."""
        stay = np.ones(len(scores), bool)
        stay[order[:count]] = False
        for alike in sets:
            stay[alike[: -(-stay[alike].sum() // divisor) * divisor]] = True
        return stay

    if keep is not None:
        count = min(len(order), round((1 - keep) * np.isfinite(scores).sum()))
    else:
        limit = checks.integer("max_multiply_adds", max_multiply_adds)
        fewest = _multiply_adds(groups, kept(len(order)))
        if fewest > limit:
            raise ValueError(
                f"`max_multiply_adds` must be at least {fewest}, what is left where all layers "
                f"lose what they may. Received: max_multiply_adds={limit}"
            )
        # They fall as more go.
        count = bisect.bisect_left(
            range(len(order)), -limit, key=lambda count: -_multiply_adds(groups, kept(count))
        )
    return _narrowed(model, groups, kept(count), name)


def _pairs(batches: Any, batch_size: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Yields batches of images and labels."""
    if isinstance(batches, tuple) and len(batches) == 2 and np.ndim(batches[0]) == 4:
        images, labels = map(np.asarray, batches)
        for i in range(0, len(images), batch_size):
            yield images[i : i + batch_size], labels[i : i + batch_size]
        return
    for batch in batches:
        images, labels, *_ = batch
        yield np.asarray(images, "float32"), np.asarray(labels)


def _normalizations(model: Network) -> list[keras.layers.BatchNormalization]:
    kind = keras.layers.BatchNormalization
    return [layer for layer in model.layers if isinstance(layer, kind)]


def _scales(model: Network) -> dict[str, np.ndarray]:
    """Returns the sizes of the scales of all normalizations, by layer."""
    norms = [norm for norm in _normalizations(model) if norm.scale]
    return {norm.name: np.abs(ops.convert_to_numpy(norm.gamma)).astype("float64") for norm in norms}


def _scores(groups: ChannelGroups, figures: dict[str, np.ndarray]) -> np.ndarray:
    """Returns how much each group of channels matters; infinity for those that have to stay.

    It is the mean over the layers, of whose figures the root mean square is made 1.
    """
    totals, counts = np.zeros(len(groups.fixed)), np.zeros(len(groups.fixed))
    for name, figure in figures.items():
        outputs = groups.layers[name].outputs
        np.add.at(totals, outputs, figure / (np.sqrt(np.mean(np.square(figure))) or 1.0))
        np.add.at(counts, outputs, 1)
    scores = np.full(len(totals), np.inf)
    np.divide(totals, counts, out=scores, where=(counts > 0) & ~groups.fixed)
    return scores


def _loss_changes(model: Network, data: _Data, loss: Any) -> dict[str, np.ndarray]:
    """Returns the first-order changes of the loss without each normalized channel, by layer."""
    norms = [norm for norm in _normalizations(model) if norm.scale and norm.center]
    variables = [variable for norm in norms for variable in (norm.gamma, norm.beta)]
    values = [ops.copy(variable) for variable in variables]
    sums = {norm.name: np.zeros(norm.gamma.shape) for norm in norms}
    for images, labels in data:

        def mean_loss(values, images=images, labels=labels):
            with keras.StatelessScope(zip(variables, values, strict=True)):
                return ops.mean(loss(labels, model(images, training=False)))

        changes = [
            np.asarray(ops.convert_to_numpy(value), "float64") * ops.convert_to_numpy(gradient)
            for value, gradient in zip(values, _gradients(mean_loss, values), strict=True)
        ]
        for i, total in enumerate(sums.values()):
            total += np.abs(changes[2 * i] + changes[2 * i + 1])
    return sums


def _gradients(function: Any, values: list) -> list:
    """Returns the gradients of a function of tensors, on the backend."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(function)(values)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(values)
        result = function(values)
    return tape.gradient(result, values)


def _alike(groups: ChannelGroups, scores: np.ndarray) -> list[np.ndarray]:
    """Returns the groups that may go, as sets of those that are in the same layers.

    In each set those that matter most stand in front.
    """
    layers_of: list[list[int]] = [[] for _ in scores]
    for i, channels in enumerate(groups.layers.values()):
        for group in set(channels.outputs.tolist()):
            layers_of[group].append(i)
    sets: dict[tuple[int, ...], list[int]] = {}
    for group in np.argsort(-scores, kind="stable").tolist():
        if np.isfinite(scores[group]):
            sets.setdefault(tuple(layers_of[group]), []).append(group)
    return [np.array(groups) for groups in sets.values()]


def _multiply_adds(groups: ChannelGroups, kept: np.ndarray) -> int:
    return round(
        sum(
            channels.multiply_adds * kept[channels.inputs].sum() * kept[channels.outputs].sum()
            for channels in groups.layers.values()
        )
    )


def _narrowed(model: Network, groups: ChannelGroups, kept: np.ndarray, name: str) -> Network:
    """Returns the network of the channels that stay."""
    weights, filters = layer_weights(model), {}
    for own, channels in groups.layers.items():
        inputs, outputs = kept[channels.inputs], kept[channels.outputs]
        if isinstance(channels.layer, (keras.layers.Conv2D, ZeroPadShortcut)):
            filters[own] = int(outputs.sum())
        if isinstance(channels.layer, keras.layers.Conv2D) and channels.layer.groups > 1:
            continue
        if isinstance(channels.layer, keras.layers.BatchNormalization):
            weights[own] = [values[outputs] for values in weights[own]]
        elif own in weights:
            kernel, *bias = weights[own]
            bias = [values[outputs] for values in bias]
            weights[own] = [kernel[..., inputs, :][..., outputs], *bias]
    network = rebuild(model, filters=filters, stack_blocks=False, recompute=False, name=name)
    assign_weights(network, weights)
    return network


def _without_blocks(
    model: Network, blocks: tuple[int, ...], data: _Data | None, name: str
) -> Network:
    """Returns the network without the blocks of each stage that respond least."""
    config = network_of(model)
    own = tuple(config.arguments["blocks"])
    if len(blocks) != len(own) or any(new > old for new, old in zip(blocks, own, strict=True)):
        raise ValueError(
            f"`blocks` must have a number for each of the {len(own)} stages, at most the {own} "
            f"that there are. Received: blocks={blocks}"
        )
    if data is None:
        raise ValueError(
            f"`batches` must be given to measure which blocks respond least. Received: {blocks=} "
            "with batches=None"
        )
    responses = _responses(model, data)
    kept: dict[str, str] = {}
    for stage, count in enumerate(blocks):
        names = [block_name(stage_name(stage), i) for i in range(own[stage])]
        ranked = sorted((name for name in names if name in responses), key=responses.__getitem__)
        if len(ranked) < own[stage] - count:
            raise ValueError(
                "`blocks` must leave the blocks that change the shape, or project: only those with "
                f"identity shortcuts can go. Received: blocks={blocks}, where stage {stage + 1} "
                f"has {len(ranked)} of {own[stage]} with identities"
            )
        gone = set(ranked[: own[stage] - count])
        stay = [name for name in names if name not in gone]
        kept |= {old: block_name(stage_name(stage), i) for i, old in enumerate(stay)}

    def follow(layer: str) -> str | None:
        place = find_place(layer)
        if place is None:
            return layer
        block = block_name(stage_name(place.stage), place.block)
        return f"{kept[block]}_{place.part}" if block in kept else None

    changes: dict[str, Any] = {"blocks": blocks, "stack_blocks": None}
    if filters := config.arguments.get("filters"):
        changes["filters"] = {new: n for old, n in filters.items() if (new := follow(old))}
    network = rebuild(model, name=name, **changes)
    freeze_as({new: old for old in model.layers if (new := follow(old.name))}, network)
    weights = {new: w for old, w in layer_weights(model).items() if (new := follow(old))}
    assign_weights(network, weights)
    return network


def _responses(model: Network, data: _Data) -> dict[str, float]:
    """Returns how much each block with an identity adds, as a share of the sum, by its name."""
    outputs = {}
    for layer in model.layers:
        place = find_place(layer.name)
        if not isinstance(layer, keras.layers.Add) or place is None:
            continue
        block = block_name(stage_name(place.stage), place.block)
        path, branch = layer.input
        if not private.layer_of(path).name.startswith(f"{block}_0_"):
            squares = [ops.sum(ops.square(ops.cast(x, "float32"))) for x in (branch, path)]
            outputs[block] = ops.stack(squares)
    if not outputs:
        return {}
    measured = keras.Model(model.input, outputs)
    totals = {block: np.zeros(2) for block in outputs}
    for images, _ in data:
        for block, squares in measured(images, training=False).items():
            totals[block] += ops.convert_to_numpy(squares)
    return {block: float(branch / path) for block, (branch, path) in totals.items()}
