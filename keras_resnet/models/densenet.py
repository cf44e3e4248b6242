"""Densely connected networks: each layer reads what all earlier ones of its block gave out.

Source: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks",
arXiv 1608.06993; here always in the form that the paper calls BC, with bottlenecks and compression.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
from keras.layers import Concatenate

from keras_resnet.architectures import Stem, family_and_stem
from keras_resnet.layers import BlockStack
from keras_resnet.models.arguments import open_shape, stacks_blocks
from keras_resnet.models.blocks import Step, halving_pool, steps_to
from keras_resnet.models.parts import Parts, assemble
from keras_resnet.models.parts import stem as stem_layers
from keras_resnet.naming import POST, STEM, block_name, stack_name, stage_name, transition_name
from keras_resnet.network import Network
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.utils import checks

# Section 3: a layer's 1x1 convolution gives 4k channels, and a transition keeps half.
BOTTLENECK = 4
COMPRESSION = 0.5


def DenseNet(  # noqa: D417, N802, most arguments are those of ResNet
    blocks: Sequence[int],
    include_top: bool = True,
    weights: str | Path | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = "densenet",
    *,
    growth_rate: int = 32,
    stem: str | Stem = "imagenet",
    activation: str | Callable = "relu",
    normalization: str = "batch",
    kernel_regularizer: keras.regularizers.Regularizer | str | None = None,
    bn_momentum: float = 0.9,
    bn_epsilon: float = 1e-5,
    synchronized_bn: bool = False,
    dropout: float = 0.0,
    classifier_dropout: float = 0.0,
    include_preprocessing: bool | Preprocessing = False,
    stack_blocks: bool | None = None,
    recompute: bool = False,
    keras_names: bool = False,
    filters: Mapping[str, int] | None = None,
    data_format: str | None = None,
    output_stride: int | None = None,
    features: Sequence[str] | None = None,
) -> Network:
    """Builds a densely connected network of any blocks and growth rate.

    Source: arXiv 1608.06993, the form called DenseNet-BC.

    Args:
        blocks: Layers per block, such as (6, 12, 24, 16). A transition between two blocks halves
            the channels and the map.
        weights: As in `ResNet`, such as "keras/densenet121".
        growth_rate: Channels that each layer adds, the paper's k; the stem has 2k.
        dropout: Rate of dropout after each layer, in [0, 1); the paper's for CIFAR without
            augmentation is 0.2.
        stack_blocks: Whether each block becomes one layer with the weights of all its layers; None
            does so only where the network is too deep for Keras to build otherwise.
        recompute: Whether training keeps only the input of each block and computes the rest again
            for the gradient (in the spirit of arXiv 1707.06990), to save memory.
        keras_names: Whether layers have the names of `keras.applications.densenet` where these are
            others.
        Others: As in `ResNet`.

    Returns:
        A functional model, a `Network`, as from `ResNet`.

    Raises:
        ValueError: If an argument is wrong; the message names it and the allowed values.
    """
    arguments = dict(locals())
    parts = Parts.of(arguments)
    growth_rate = checks.integer("growth_rate", growth_rate)
    family, spec = family_and_stem(stem)
    blocks = checks.integers("blocks", blocks)
    serial_layers = (7 + bool(parts.dropout)) * sum(blocks)
    stack = stacks_blocks(stack_blocks, recompute, serial_layers, filters)
    steps = steps_to(output_stride, spec.reduction, len(blocks))

    def stages(x):
        if spec.pool:
            first, x = stem_layers(x, 2 * growth_rate, spec, parts)
        else:
            # What follows the convolution directly begins with a normalization of its own.
            first = x = parts.conv(x, 2 * growth_rate, spec.kernel_size, spec.strides, name=STEM)
        yield first
        for i, (count, step) in enumerate(zip(blocks, steps, strict=True)):
            if i:
                x = transition(x, step, parts, transition_name(i - 1))
            dilation, name = step.after, stage_name(i)
            x = dense_block(x, count, growth_rate, dilation, parts, name, stack, recompute)
            yield parts.norm_act(x, name=POST) if i == len(blocks) - 1 else x

    arguments |= {"blocks": blocks, "growth_rate": growth_rate}
    return assemble("DenseNet", arguments, stages, parts, spec, family)


def dense_layer(x, growth_rate: int, dilation: int, parts: Parts, name: str):
    """Appends `growth_rate` channels to `x`, made of all of it by a 1x1 and a 3x3 convolution."""
    added = parts.norm_act(x, name=f"{name}_0")
    added = parts.conv_norm_act(added, BOTTLENECK * growth_rate, 1, name=f"{name}_1")
    added = parts.conv(added, growth_rate, 3, name=f"{name}_2", dilation=dilation)
    return Concatenate(parts.channel_axis, name=f"{name}_concat")([x, parts.drop(added, name=name)])


def dense_block(x, count: int, growth_rate: int, dilation: int, parts, name: str, stack, recompute):
    """Layers on maps of one size; with `stack` as one layer of Keras, a `BlockStack` of one."""
    if stack:
        inputs = keras.Input(open_shape(x, parts.data_format))
        outputs = dense_block(inputs, count, growth_rate, dilation, parts, name, False, False)
        block = keras.Model(inputs, outputs, name=f"{name}_block")
        return BlockStack(block, 1, recompute, name=stack_name(name))(x)
    for i in range(count):
        x = dense_layer(x, growth_rate, dilation, parts, block_name(name, i))
    return x


def transition(x, step: Step, parts: Parts, name: str):
    """Halves channels and map between two blocks."""
    x = parts.norm_act(x, name=name)
    x = parts.conv(x, int(COMPRESSION * x.shape[parts.channel_axis]), 1, name=name)
    return halving_pool(x, step, parts, f"{name}_pool")
