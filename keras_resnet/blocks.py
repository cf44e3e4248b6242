"""Residual arithmetic in Keras's functional API: convolutions, shortcuts and blocks.

A block is `relu(shortcut(x) + branch(x))`; a plain net's is `relu(branch(x))`. Everything a network
decides once (shortcut option, version, normalisation, regularisation) is bound in `Parts` and
handed to each block.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras
from keras.layers import Activation, Add, Conv2D, Dropout, MaxPooling2D, ZeroPadding2D

from keras_resnet.architectures import EXPANSION, Stem
from keras_resnet.layers import (
    BlockStack,
    FusedBatchNormalization,
    StochasticDepth,
    ZeroPadShortcut,
)

SHORTCUTS = ("A", "B", "C", None)
VERSIONS = ("v1", "v1.5")


@dataclasses.dataclass(frozen=True)
class Parts:
    """What all blocks of one network share.

    Attributes:
        block: "basic" or "bottleneck".
        shortcut: "A" (identity, zero-padded where channels are added), "B" (projection where the
            shape changes), "C" (projection everywhere) or None (plain).
        version: "v1" has a bottleneck's stride on its first 1x1 convolution, "v1.5" on its 3x3.
        data_format: "channels_last" or "channels_first".
        bn_momentum: Weight of the old value in the moving statistics.
        bn_epsilon: Added to the variance.
        synchronized_bn: Whether batch statistics are taken over all replicas.
        kernel_regularizer: Penalty on every convolution's kernel, or None.
        dropout: Rate of a dropout between the convolutions of each branch.
        zero_init_residual: Whether a branch's last normalisation starts at zero, its block as
            the identity.
    """

    block: str
    shortcut: str | None
    version: str
    data_format: str
    bn_momentum: float
    bn_epsilon: float
    synchronized_bn: bool
    kernel_regularizer: keras.regularizers.Regularizer | None
    dropout: float
    zero_init_residual: bool

    @property
    def channel_axis(self) -> int:
        return -1 if self.data_format == "channels_last" else 1

    def conv(self, x, filters, kernel_size, strides=1, *, name):
        """A convolution without bias, padded by the same (kernel_size - 1) / 2 on all sides.

        Not Keras's "same", which pads a strided convolution more on the bottom right than on the
        top left and so disagrees with every published set of weights.
        """
        if strides > 1 and kernel_size > 1:
            x = ZeroPadding2D(kernel_size // 2, self.data_format, name=f"{name}_pad")(x)
        return Conv2D(
            filters,
            kernel_size,
            strides,
            padding="same" if strides == 1 else "valid",
            data_format=self.data_format,
            use_bias=False,
            # He et al. 2015b: a normal of variance 2 / fan-in, not truncated as "he_normal" is.
            kernel_initializer=keras.initializers.VarianceScaling(
                2.0, "fan_in", "untruncated_normal"
            ),
            kernel_regularizer=self.kernel_regularizer,
            name=f"{name}_conv",
        )(x)

    def norm(self, x, *, name, gamma_initializer="ones"):
        return FusedBatchNormalization(
            axis=self.channel_axis,
            momentum=self.bn_momentum,
            epsilon=self.bn_epsilon,
            gamma_initializer=gamma_initializer,
            synchronized=self.synchronized_bn,
            name=f"{name}_bn",
        )(x)

    def conv_norm(self, x, filters, kernel_size, strides=1, *, name, last=False):
        """Convolution and normalisation; `last` marks the end of a branch."""
        gamma = "zeros" if last and self.zero_init_residual else "ones"
        x = self.conv(x, filters, kernel_size, strides, name=name)
        return self.norm(x, name=name, gamma_initializer=gamma)

    def conv_norm_relu(self, x, filters, kernel_size, strides=1, *, name):
        x = self.conv_norm(x, filters, kernel_size, strides, name=name)
        return Activation("relu", name=f"{name}_relu")(x)


def stem(x, filters: int, spec: Stem, parts: Parts):
    """The layers before the first stage: `conv1` and, for large images, a 3x3 max pool."""
    x = parts.conv_norm_relu(x, filters, spec.kernel_size, spec.strides, name="conv1")
    if spec.pool:
        # Zeros are neutral under the maximum, since the activations are not negative.
        x = ZeroPadding2D(1, data_format=parts.data_format, name="pool1_pad")(x)
        x = MaxPooling2D(3, 2, data_format=parts.data_format, name="pool1_pool")(x)
    return x


def basic_branch(x, width: int, strides: int, parts: Parts, name: str):
    """Two 3x3 convolutions (Fig. 5 left)."""
    x = parts.conv_norm_relu(x, width, 3, strides, name=f"{name}_1")
    x = _dropout(x, parts, name)
    return parts.conv_norm(x, width, 3, name=f"{name}_2", last=True)


def bottleneck_branch(x, width: int, strides: int, parts: Parts, name: str):
    """1x1 to `width`, 3x3, and 1x1 to four times `width` (Fig. 5 right)."""
    first, second = (strides, 1) if parts.version == "v1" else (1, strides)
    x = parts.conv_norm_relu(x, width, 1, first, name=f"{name}_1")
    x = parts.conv_norm_relu(x, width, 3, second, name=f"{name}_2")
    x = _dropout(x, parts, name)
    return parts.conv_norm(x, width * EXPANSION["bottleneck"], 1, name=f"{name}_3", last=True)


BRANCHES = {"basic": basic_branch, "bottleneck": bottleneck_branch}


def _dropout(x, parts, name):
    return Dropout(parts.dropout, name=f"{name}_dropout")(x) if parts.dropout else x


def shortcut(x, filters: int, strides: int, parts: Parts, name: str):
    """The path around a branch, by the option that `parts` names (section 3.3)."""
    same_shape = strides == 1 and x.shape[parts.channel_axis] == filters
    if parts.shortcut == "C" or (parts.shortcut == "B" and not same_shape):
        return parts.conv_norm(x, filters, 1, strides, name=f"{name}_0")
    if same_shape:
        return x
    return ZeroPadShortcut(filters, strides, parts.data_format, name=f"{name}_0_pad")(x)


def residual_block(x, width: int, strides: int, parts: Parts, name: str, drop_rate: float = 0.0):
    """One block: `relu(shortcut(x) + branch(x))`, or `relu(branch(x))` in a plain net.

    `drop_rate` is that of stochastic depth in its branch.
    """
    branch = BRANCHES[parts.block](x, width, strides, parts, name)
    if parts.shortcut is not None:
        if drop_rate:
            branch = StochasticDepth(drop_rate, name=f"{name}_drop")(branch)
        path = shortcut(x, width * EXPANSION[parts.block], strides, parts, name)
        branch = Add(name=f"{name}_add")([path, branch])
    return Activation("relu", name=f"{name}_out")(branch)


def stage(
    x,
    width: int,
    drop_rates: Sequence[float],
    parts: Parts,
    *,
    strides: int,
    name: str,
    stack: bool,
    recompute: bool,
):
    """Blocks of one width, one for each rate of stochastic depth.

    The first takes the stride and the change of channels. With `stack`, all after it, which are
    equal but for their rates, become one `BlockStack`.
    """
    x = residual_block(x, width, strides, parts, f"{name}_block1", drop_rates[0])
    if stack and len(drop_rates) > 1:
        channels = x.shape[parts.channel_axis]
        last = parts.data_format == "channels_last"
        pattern = keras.Input((None, None, channels) if last else (channels, None, None))
        # Named as the first block of the stack, from which the names of the others follow.
        first = f"{name}_block2"
        outputs = residual_block(pattern, width, 1, parts, first, drop_rates[1])
        block = keras.Model(pattern, outputs, name=first)
        rates = drop_rates[1:] if any(drop_rates) else None
        stack = BlockStack(block, len(drop_rates) - 1, recompute, rates, name=f"{name}_stack")
        return stack(x)
    for i, drop_rate in enumerate(drop_rates[1:], start=2):
        x = residual_block(x, width, 1, parts, f"{name}_block{i}", drop_rate)
    return x
