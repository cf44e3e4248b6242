"""Residual arithmetic in Keras's functional API: shortcuts, blocks and stages.

A block is `act(shortcut(x) + branch(x))`; a plain net's is `act(branch(x))`. With pre-activation
(version "v2") it is `x + branch(act(norm(x)))`, in which nothing stands on the path from one block
to the next (arXiv 1603.05027). Options of a network are bound once in `ResidualParts`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import keras
from keras.layers import (
    Add,
    AveragePooling2D,
    Conv2D,
    GlobalAveragePooling2D,
    MaxPooling2D,
    Multiply,
)

from keras_resnet.architectures import BLOCKS, PREACTIVATED, SHORTCUTS, VERSIONS, Block
from keras_resnet.layers import (
    BlockStack,
    DilatedAveragePooling2D,
    StochasticDepth,
    ZeroPadShortcut,
)
from keras_resnet.models.arguments import open_shape
from keras_resnet.models.parts import Parts, he_normal
from keras_resnet.naming import block_name, stack_name
from keras_resnet.utils import checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualParts(Parts):
    """Options that all blocks of one residual or plain network share, as in `ResNet`.

    Raises:
        ValueError: If one is wrong, or some do not go together.
    """

    block: str = "bottleneck"
    shortcut: str | None = "B"
    version: str = "v1"
    groups: int = 1
    width_per_group: int = 64
    squeeze_excitation: int | None = None
    se_divisor: int = 1
    shortcut_pool: bool = False
    zero_init_residual: bool = False

    def __post_init__(self):
        checks.one_of("block", self.block, tuple(BLOCKS))
        checks.one_of("shortcut", self.shortcut, SHORTCUTS)
        checks.one_of("version", self.version, VERSIONS)
        checks.integer("groups", self.groups)
        checks.integer("width_per_group", self.width_per_group)
        if self.squeeze_excitation is not None:
            checks.integer("squeeze_excitation", self.squeeze_excitation)
        if checks.integer("se_divisor", self.se_divisor) > 1 and self.squeeze_excitation is None:
            raise ValueError(
                "`se_divisor` goes with `squeeze_excitation`. "
                f"Received: se_divisor={self.se_divisor} with squeeze_excitation=None"
            )
        checks.boolean("shortcut_pool", self.shortcut_pool)
        checks.boolean("zero_init_residual", self.zero_init_residual)
        super().__post_init__()
        for argument, default in (("groups", 1), ("width_per_group", 64)):
            if getattr(self, argument) != default and not self.kind.grouped:
                raise ValueError(
                    f"`{argument}` is for the 3x3 convolution inside of bottlenecks; widen other "
                    f"blocks by `widths`. Received: {argument}={getattr(self, argument)} with "
                    f"{self.block} blocks"
                )
        if self.shortcut_pool and self.shortcut not in ("B", "C"):
            raise ValueError(
                "`shortcut_pool` goes with projections, shortcut='B' or 'C'. "
                f"Received: shortcut_pool=True with shortcut={self.shortcut!r}"
            )
        if self.preactivated and self.shortcut is None:
            raise ValueError(
                "`version` must be 'v1' or 'v1.5' in a plain net: pre-activation is for shortcuts. "
                f"Received: version={self.version!r} with shortcut=None"
            )
        if self.zero_init_residual and self.shortcut is None:
            raise ValueError(
                "`zero_init_residual` needs a shortcut: a plain net would pass on nothing but "
                "zeros. Received: zero_init_residual=True with shortcut=None"
            )
        if self.zero_init_residual and self.preactivated and self.normalization != "batch":
            raise ValueError(
                "`zero_init_residual` in version 'v2' starts kernels at zero, which standardized "
                "ones cannot; leave it out or use normalization='batch'. Received: "
                f"zero_init_residual=True with normalization={self.normalization!r}"
            )

    @property
    def kind(self) -> Block:
        return BLOCKS[self.block]

    @property
    def preactivated(self) -> bool:
        return self.version in PREACTIVATED

    @property
    def strides_last(self) -> bool:
        """True if the last block of a stage leads to the next one's resolution, not the first."""
        return self.version == "v2-keras"

    @property
    def pads_apart(self) -> bool:
        """True if convolutions without stride have their padding in a layer of its own, too."""
        return self.keras_names and self.strides_last

    def layer_name(self, name: str) -> str | None:
        """Returns the name of a layer as the network has it; None for one that Keras numbers."""
        return None if self.keras_names and name.endswith("_0_pool") else name

    def inner_width(self, width: int) -> int:
        """Channels inside of a branch, in a stage of that width.

        Raises:
            ValueError: If the groups would not be of a whole number of channels.
        """
        per_group, rest = divmod(width * self.width_per_group, 64)
        if rest or not per_group:
            raise ValueError(
                "`width_per_group` must give whole channels: it is for a width of 64, and goes "
                f"with the width of each stage. Received: width_per_group={self.width_per_group} "
                f"with a stage of width {width}"
            )
        return per_group * self.groups

    def last_conv(self, x, filters, kernel_size, strides=1, *, name, dilation=1, zero=False):
        """The convolution that ends a path, and its normalization where the path has that.

        With `zero` the last thing with weights starts at zero.
        """
        if self.preactivated:
            return self.conv(
                x, filters, kernel_size, strides, name=name, dilation=dilation, zero=zero
            )
        x = self.conv(
            x, filters, kernel_size, strides, name=name, dilation=dilation, normalized=True
        )
        return self.norm(x, name=name, gamma_initializer="zeros" if zero else "ones")


@dataclasses.dataclass(frozen=True)
class Step:
    """Change of resolution by a block: its stride, or the dilation that stands in its place.

    A stride that would lead beyond the wanted output stride becomes 1, and what follows takes its
    pixels so much further apart (atrous convolution): with the same weights it computes, among
    others, what the strided network does. Source: arXiv 1606.00915, section 3.1; arXiv 1705.09914.

    Attributes:
        strides: Stride of the block.
        before: Distance of the pixels that enter it.
        after: Distance of those that leave it.
    """

    strides: int = 1
    before: int = 1
    after: int = 1

    @property
    def halves(self) -> bool:
        """True if it halves the map, or dilates in place of that."""
        return self.strides > 1 or self.after > self.before

    def then(self) -> Step:
        """Returns the step of the blocks that follow in the stage."""
        return Step(1, self.after, self.after)


def steps_to(output_stride: int | None, first: int, stages: int) -> list[Step]:
    """Returns the step of the first block of every stage, from the stride of the `first` map on.

    All but the first halve the map, to the `output_stride` where it is not None.

    Raises:
        ValueError: If no stage ends at that stride.
    """
    reachable = tuple(first * 2**i for i in range(stages))
    checks.one_of("output_stride", output_stride, (None, *reachable))
    steps, stride = [Step()], first
    for _ in range(stages - 1):
        distance = steps[-1].after
        if output_stride is None or 2 * stride <= output_stride:
            stride *= 2
            steps.append(Step(2, distance, distance))
        else:
            steps.append(Step(1, distance, 2 * distance))
    return steps


def convolutions(x, width: int, step: Step, parts: ResidualParts, name: str):
    """The convolutions of a block (Fig. 5), from its entry of the table."""
    kind, inner = parts.kind, parts.inner_width(width)
    strided = kind.strided(parts.version)
    *sizes, last = kind.kernel_sizes
    for i, size in enumerate(sizes):
        x = parts.conv_norm_act(
            x,
            inner,
            size,
            step.strides if i == strided else 1,
            name=f"{name}_{i + 1}",
            groups=parts.groups if size > 1 else 1,
            dilation=step.before if i <= strided else step.after,
        )
    x = parts.drop(x, name=name)
    end, zero = f"{name}_{kind.weighted_layers}", parts.zero_init_residual
    filters = width * kind.expansion
    return parts.last_conv(x, filters, last, name=end, dilation=step.after, zero=zero)


# Branches of the kinds of block that are more than the convolutions of their entry.
BRANCHES: dict[str, Callable] = {}


def branch(x, width: int, step: Step, parts: ResidualParts, name: str):
    """The path of a block beside its shortcut, with squeeze-and-excitation at its end."""
    x = BRANCHES.get(parts.block, convolutions)(x, width, step, parts, name)
    return squeeze_excitation(x, parts, name) if parts.squeeze_excitation else x


def squeeze_excitation(x, parts: ResidualParts, name: str):
    """Squeeze and excitation: each channel times a number that all of them decide.

    Source: Hu et al., "Squeeze-and-Excitation Networks", arXiv 1709.01507, section 3.
    """
    channels = x.shape[parts.channel_axis]
    reduced, divisor = channels // parts.squeeze_excitation, parts.se_divisor
    if divisor > 1:
        # The nearest multiple of the divisor, halves up.
        reduced = int(channels / parts.squeeze_excitation + divisor / 2) // divisor * divisor
    reduced = parts.width(f"{name}_se_reduce", max(divisor, reduced))
    options = {
        "data_format": parts.data_format,
        "kernel_initializer": he_normal(),
        "kernel_regularizer": parts.kernel_regularizer,
    }
    gate = GlobalAveragePooling2D(parts.data_format, keepdims=True, name=f"{name}_se_squeeze")(x)
    gate = Conv2D(reduced, 1, activation="relu", name=f"{name}_se_reduce", **options)(gate)
    gate = Conv2D(channels, 1, activation="sigmoid", name=f"{name}_se_expand", **options)(gate)
    return Multiply(name=f"{name}_se_excite")([x, gate])


def shortcut(x, activated, filters: int, step: Step, parts: ResidualParts, name: str):
    """The path around a branch, by the option that `parts` names (section 3.3).

    What changes the shape starts from the activated input, the identity from `x` itself: they are
    the same but with pre-activation. Version "v2-keras" has an identity where others project to
    another resolution alone: every `strides`-th pixel.
    """
    strides = step.strides
    same_channels = x.shape[parts.channel_axis] == filters
    if parts.filters is not None:  # which may give a projection as many as enter it
        same_channels = parts.filters.keys().isdisjoint((f"{name}_0_conv", f"{name}_0_pad"))
    same_shape = same_channels and (parts.strides_last or not step.halves)
    if parts.shortcut == "C" or (parts.shortcut == "B" and not same_shape):
        if parts.shortcut_pool and step.halves:
            activated = halving_pool(activated, step, parts, f"{name}_0_pool", padding="same")
            strides = 1
        return parts.last_conv(activated, filters, 1, strides, name=f"{name}_0")
    if same_shape:
        if strides == 1:
            return x
        pool = parts.layer_name(f"{name}_0_pool")
        return MaxPooling2D(1, strides, data_format=parts.data_format, name=pool)(x)
    name = f"{name}_0_pad"
    filters = parts.width(name, filters)
    return ZeroPadShortcut(filters, strides, parts.data_format, name=name)(activated)


def halving_pool(x, step: Step, parts: Parts, name: str, padding: str = "valid"):
    """An average pool of 2x2, dilated where its stride is replaced.

    The padding "same" averages what there is of a window at the edge of an odd map.
    """
    if step.strides > 1:
        return AveragePooling2D(2, 2, padding, data_format=parts.data_format, name=name)(x)
    return DilatedAveragePooling2D(step.before, parts.data_format, name=name)(x)


def residual_block(
    x,
    width: int,
    step: Step,
    parts: ResidualParts,
    name: str,
    drop_rate: float = 0.0,
    activated: bool = False,
):
    """One block of the network, with the rate of stochastic depth in its branch.

    An input that has just been `activated`, by the stem, is taken as it is by a block with
    pre-activation (appendix of arXiv 1603.05027).
    """
    entry = x
    if parts.preactivated and not activated:
        entry = parts.norm_act(x, name=f"{name}_preact")
    end = branch(entry, width, step, parts, name)
    if parts.shortcut is not None:
        if drop_rate:
            end = StochasticDepth(drop_rate, name=f"{name}_drop")(end)
        path = shortcut(x, entry, width * parts.kind.expansion, step, parts, name)
        end = Add(name=f"{name}_{'out' if parts.preactivated else 'add'}")([path, end])
    return end if parts.preactivated else parts.activate(end, name=f"{name}_out")


def stage(
    x,
    width: int,
    drop_rates: Sequence[float],
    parts: ResidualParts,
    *,
    step: Step,
    name: str,
    stack: bool,
    recompute: bool,
    activated: bool = False,
    last_step: Step | None = None,
):
    """Blocks of one width, one for each rate of stochastic depth.

    The first takes the stride and the change of channels. With `stack`, all after it, which are
    equal but for their rates, become one `BlockStack`. Where there is a `last_step`, the last block
    takes that one, and a stack ends in front of it.
    """
    if last_step is not None and len(drop_rates) > 1:
        x = stage(
            x,
            width,
            drop_rates[:-1],
            parts,
            step=step,
            name=name,
            stack=stack,
            recompute=recompute,
            activated=activated,
        )
        last = block_name(name, len(drop_rates) - 1)
        return residual_block(x, width, last_step, parts, last, drop_rates[-1])
    first, *names = (block_name(name, i) for i in range(len(drop_rates)))
    x = residual_block(x, width, last_step or step, parts, first, drop_rates[0], activated)
    if stack and names:
        pattern = keras.Input(open_shape(x, parts.data_format))
        # Named as the first block of the stack, from which the names of the others follow.
        outputs = residual_block(pattern, width, step.then(), parts, names[0], drop_rates[1])
        block = keras.Model(pattern, outputs, name=names[0])
        rates = drop_rates[1:] if any(drop_rates) else None
        return BlockStack(block, len(names), recompute, rates, name=stack_name(name))(x)
    for block, drop_rate in zip(names, drop_rates[1:], strict=True):
        x = residual_block(x, width, step.then(), parts, block, drop_rate)
    return x
