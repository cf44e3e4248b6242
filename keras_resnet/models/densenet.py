"""Densely connected networks: each layer reads what all earlier ones of its block gave out.

Source: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks",
arXiv 1608.06993; here always in the form that the paper calls BC, with bottlenecks and compression.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
from keras.layers import Concatenate

from keras_resnet.architectures import Stem, family_and_stem
from keras_resnet.layers import BlockStack
from keras_resnet.models.blocks import Step, halving_pool, steps_to
from keras_resnet.models.parts import Parts, assemble
from keras_resnet.models.parts import stem as stem_layers
from keras_resnet.naming import (
    POST,
    STEM,
    block_name,
    stack_name,
    stage_name,
    transition_name,
)
from keras_resnet.network import Network, kept_arguments
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.utils import checks
from keras_resnet.utils.recursion import stacks_blocks

# Section 3: a layer's 1x1 convolution gives 4k channels, and a transition keeps half.
BOTTLENECK = 4
COMPRESSION = 0.5


def DenseNet(  # noqa: N802, named as in keras.applications
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
    include_preprocessing: bool | Preprocessing = False,
    stack_blocks: bool | None = None,
    recompute: bool = False,
    data_format: str | None = None,
    output_stride: int | None = None,
    features: Sequence[str] | None = None,
) -> Network:
    """Builds a densely connected network of any blocks and growth rate.

    Source: arXiv 1608.06993, the form called DenseNet-BC.

    Args:
        blocks: Layers per block, such as (6, 12, 24, 16). A transition between two blocks halves
            the channels and the map.
        include_top: Whether to end in global average pooling and the classifier.
        weights: None for random initialization; "imagenet", or the name of published weights such
            as "keras/densenet121", for a download of what is published for this network; or the
            path of a file of Keras. A classifier of other `classes` is not loaded, with a warning.
        input_tensor: Keras tensor to build on, in place of `input_shape`.
        input_shape: Shape of one image without the batch, such as (224, 224, 3); sides may be
            None. With the top the default is RGB of 224x224 pixels, 32x32 for a CIFAR network;
            any size without.
        pooling: For `include_top=False`: None for feature maps, "avg" or "max" for vectors.
        classes: Classes of the classifier, only with `include_top`; by default 1000, 10 for a
            CIFAR network.
        classifier_activation: Activation of the classifier; None gives logits.
        name: Name of the model; by default that of the network.
        growth_rate: Channels that each layer adds, the paper's k; the stem has 2k.
        stem: "imagenet" (7x7 of stride 2 and max pool), "cifar" (3x3), or a `Stem`.
        activation: Nonlinearity everywhere, such as "silu".
        normalization: "batch", or "group" (32 groups, arXiv 1803.08494) with standardized kernels
            (arXiv 1903.10520).
        kernel_regularizer: Penalty on convolution and classifier kernels, as in `ResNet`.
        bn_momentum: Weight of the old value in the moving statistics, in [0, 1).
        bn_epsilon: Added to the variance in the normalization.
        synchronized_bn: Whether batch statistics are taken over all replicas of a strategy.
        dropout: Rate of dropout after each layer, in [0, 1); the paper's for CIFAR without
            augmentation is 0.2.
        include_preprocessing: Whether the model itself standardizes RGB images in [0, 255], or the
            `Preprocessing` by which it does so, of images of any channels. Without it, feed
            `preprocess_input(images)` or data standardized your own way.
        stack_blocks: Whether each block becomes one layer with the weights of all its layers; None
            does so only where the network is too deep for Keras to build otherwise.
        recompute: Whether training keeps only the input of each block and computes the rest again
            for the gradient (in the spirit of arXiv 1707.06990), to save memory.
        data_format: "channels_last", "channels_first", or None for Keras's default.
        output_stride: Stride of the last map, reached by dilation in place of strides, with the
            same weights: that of the stem's end (4 for ImageNet, 1 for CIFAR), or twice, four or
            eight times that. None for the network's own, 32 or 4.
        features: Names of the stages' maps to give, such as ["C3", "C5"], with `include_top=False`:
            the model is a `Backbone` then. Stages behind the last one are left out.

    Returns:
        A functional model, a `Network`, from float images `(batch, H, W, C)` to class probabilities
        `(batch, classes)`, float32 under mixed precision too; without the top, to feature maps
        `(batch, h, w, channels)`, vectors `(batch, channels)`, or a dictionary of maps.

    Raises:
        ValueError: If an argument is wrong; the message names it and what would do.
    """
    arguments = kept_arguments(locals())
    parts = Parts.of(arguments)
    growth_rate = checks.integer("growth_rate", growth_rate)
    family, spec = family_and_stem(stem)
    blocks = checks.integers("blocks", blocks)
    stack = stacks_blocks(stack_blocks, recompute, (7 + bool(parts.dropout)) * sum(blocks))
    steps = steps_to(output_stride, spec.reduction, len(blocks))

    def stages(x):
        if spec.pool:
            x = stem_layers(x, 2 * growth_rate, spec, parts)
        else:
            # What follows the convolution directly begins with a normalization of its own.
            x = parts.conv(x, 2 * growth_rate, spec.kernel_size, spec.strides, name=STEM)
        for i, (count, step) in enumerate(zip(blocks, steps, strict=True)):
            if i:
                x = transition(x, step, parts, transition_name(i - 1))
            dilation, name = step.after, stage_name(i)
            x = dense_block(x, count, growth_rate, dilation, parts, name, stack, recompute)
            yield parts.norm_act(x, name=POST) if i == len(blocks) - 1 else x

    arguments |= {"blocks": blocks, "growth_rate": growth_rate}
    return assemble(
        "DenseNet",
        arguments,
        stages,
        parts,
        spec,
        family,
        name=name,
        weights=weights,
        input_tensor=input_tensor,
    )


def dense_layer(x, growth_rate: int, dilation: int, parts: Parts, name: str):
    """Appends `growth_rate` channels to `x`, made of all of it by a 1x1 and a 3x3 convolution."""
    added = parts.norm_act(x, name=f"{name}_0")
    added = parts.conv_norm_act(added, BOTTLENECK * growth_rate, 1, name=f"{name}_1")
    added = parts.conv(added, growth_rate, 3, name=f"{name}_2", dilation=dilation)
    return Concatenate(parts.channel_axis, name=f"{name}_concat")([x, parts.drop(added, name=name)])


def dense_block(x, count: int, growth_rate: int, dilation: int, parts, name: str, stack, recompute):
    """Layers on maps of one size; with `stack` as one layer of Keras, a `BlockStack` of one."""
    if stack:
        inputs = keras.Input(
            tuple(n if i == parts.channel_axis % 4 else None for i, n in enumerate(x.shape))[1:]
        )
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
