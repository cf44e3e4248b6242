"""Densely connected networks: each layer reads what all earlier ones of its block gave out.

Source: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks",
arXiv 1608.06993; here always in the form that the paper calls BC, with bottlenecks and compression.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
from keras.layers import AveragePooling2D, Concatenate

from keras_resnet.architectures import (
    DENSELY_CONNECTED_NETWORKS,
    FAMILIES,
    Stem,
    cifar_repeats,
    family_and_stem,
)
from keras_resnet.layers import BlockStack
from keras_resnet.models.inputs import image_input
from keras_resnet.models.named import named_builder
from keras_resnet.models.outputs import check_output, image_output
from keras_resnet.models.parts import Parts
from keras_resnet.models.parts import stem as stem_layers
from keras_resnet.utils import checks
from keras_resnet.utils.recursion import stacks_blocks
from keras_resnet.weights.files import find_weights

# Section 3: a layer's 1x1 convolution gives 4k channels, and a transition keeps half.
BOTTLENECK = 4
COMPRESSION = 0.5


@dataclasses.dataclass(frozen=True)
class DenseArchitecture:
    """One named network.

    Attributes:
        name: Public name of its builder.
        family: Key of `FAMILIES`: stem, default image size and classes.
        depth: Weighted layers.
        repeats: Layers per block.
        growth_rate: Channels that each layer adds.
        source: Where it is described.
    """

    name: str
    family: str
    depth: int
    repeats: tuple[int, ...]
    growth_rate: int
    source: str = DENSELY_CONNECTED_NETWORKS

    @property
    def stem(self) -> Stem:
        return FAMILIES[self.family].stem


def _cifar(depth, growth_rate):
    growth_rate = checks.integer("growth_rate", growth_rate)
    # Two convolutions a layer, as in basic blocks; beside them stem, classifier and transitions.
    repeats = cifar_repeats(depth, others=4)
    return DenseArchitecture(
        f"DenseNetBC{depth}_{growth_rate}", "cifar", depth, repeats, growth_rate
    )


DENSE_ARCHITECTURES: dict[str, DenseArchitecture] = {
    architecture.name: architecture
    for architecture in (
        # ImageNet, Table 1.
        DenseArchitecture("DenseNet121", "imagenet", 121, (6, 12, 24, 16), 32),
        DenseArchitecture("DenseNet169", "imagenet", 169, (6, 12, 32, 32), 32),
        DenseArchitecture("DenseNet201", "imagenet", 201, (6, 12, 48, 32), 32),
        DenseArchitecture("DenseNet264", "imagenet", 264, (6, 12, 64, 48), 32),
        # CIFAR, Table 2.
        _cifar(100, 12),
    )
}


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
    include_preprocessing: bool = False,
    stack_blocks: bool | None = None,
    recompute: bool = False,
    data_format: str | None = None,
) -> keras.Model:
    """Builds a densely connected network of any blocks and growth rate.

    Source: arXiv 1608.06993, the form called DenseNet-BC.

    Args:
        blocks: Layers per block, such as (6, 12, 24, 16). A transition between two blocks halves
            the channels and the map.
        include_top: Whether to end in global average pooling and the classifier.
        weights: None for random initialisation; "imagenet", or the name of published weights such
            as "keras/densenet121", for a download of what there is for the network, which
            `DenseNet` itself knows by `name`; or the path of a file of Keras. A classifier of
            other `classes` than theirs is left as it is, with a warning.
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
        activation: The nonlinearity everywhere, such as "silu".
        normalization: "batch", or "group" (32 groups, arXiv 1803.08494) with standardised kernels
            (arXiv 1903.10520).
        kernel_regularizer: Penalty on convolution and classifier kernels, as in `ResNet`.
        bn_momentum: Weight of the old value in the moving statistics, in [0, 1).
        bn_epsilon: Added to the variance in the normalisation.
        synchronized_bn: Whether batch statistics are taken over all replicas of a strategy.
        dropout: Rate of dropout after each layer, in [0, 1); the paper's for CIFAR without
            augmentation is 0.2.
        include_preprocessing: Whether the model itself standardises RGB images in [0, 255].
            Without it, feed `preprocess_input(images)` or data standardised your own way.
        stack_blocks: Whether each block becomes one layer with the weights of all its layers; None
            does so only where the network is too deep for Keras to build otherwise.
        recompute: Whether training keeps only the input of each block and computes the rest again
            for the gradient (in the spirit of arXiv 1707.06990), to save memory.
        data_format: "channels_last", "channels_first", or None for Keras's default.

    Returns:
        A functional `keras.Model` from float images `(batch, H, W, C)` to class probabilities
        `(batch, classes)`, float32 under mixed precision too; without the top, to feature maps
        `(batch, h, w, channels)` or vectors `(batch, channels)`.

    Raises:
        ValueError: If an argument is wrong; the message names it and what would do.
    """
    parts = Parts(
        data_format=data_format,
        activation=activation,
        normalization=normalization,
        bn_momentum=bn_momentum,
        bn_epsilon=bn_epsilon,
        synchronized_bn=synchronized_bn,
        kernel_regularizer=kernel_regularizer,
        dropout=dropout,
    )
    growth_rate = checks.integer("growth_rate", growth_rate)
    family, stem = family_and_stem(stem)
    blocks = checks.integers("blocks", blocks)
    classes = check_output(include_top, pooling, classes, classifier_activation, family.classes)
    stack = stacks_blocks(stack_blocks, recompute, (7 + bool(parts.dropout)) * sum(blocks))
    weights = find_weights(weights, name or "densenet")

    inputs, x = image_input(
        input_tensor,
        input_shape,
        default_size=family.image_size if include_top else None,
        minimum_size=stem.smallest_image(len(blocks)),
        data_format=parts.data_format,
        include_preprocessing=include_preprocessing,
        weights=weights,
    )
    if stem.pool:
        x = stem_layers(x, 2 * growth_rate, stem, parts)
    else:
        # What follows the convolution directly begins with a normalisation of its own.
        x = parts.conv(x, 2 * growth_rate, stem.kernel_size, stem.strides, name="conv1")
    for i, count in enumerate(blocks):
        if i:
            x = transition(x, parts, f"pool{i + 1}")
        x = dense_block(x, count, growth_rate, parts, f"conv{i + 2}", stack, recompute)
    x = parts.norm_act(x, name="post")
    x = image_output(x, include_top, pooling, classes, classifier_activation, parts)
    model = keras.Model(inputs, x, name=name)
    if weights is not None:
        weights.load_into(model)
    return model


def dense_layer(x, growth_rate: int, parts: Parts, name: str):
    """Appends `growth_rate` channels to `x`, made of all of it by a 1x1 and a 3x3 convolution."""
    added = parts.norm_act(x, name=f"{name}_0")
    added = parts.conv_norm_act(added, BOTTLENECK * growth_rate, 1, name=f"{name}_1")
    added = parts.drop(parts.conv(added, growth_rate, 3, name=f"{name}_2"), name=name)
    return Concatenate(parts.channel_axis, name=f"{name}_concat")([x, added])


def dense_block(x, count: int, growth_rate: int, parts: Parts, name: str, stack, recompute):
    """Layers on maps of one size; with `stack` as one layer of Keras, a `BlockStack` of one."""
    if stack:
        inputs = keras.Input(
            tuple(n if i == parts.channel_axis % 4 else None for i, n in enumerate(x.shape))[1:]
        )
        outputs = dense_block(inputs, count, growth_rate, parts, name, False, False)
        block = keras.Model(inputs, outputs, name=f"{name}_block")
        return BlockStack(block, 1, recompute, name=f"{name}_stack")(x)
    for i in range(count):
        x = dense_layer(x, growth_rate, parts, f"{name}_block{i + 1}")
    return x


def transition(x, parts: Parts, name: str):
    """Halves channels and map between two blocks."""
    x = parts.norm_act(x, name=name)
    x = parts.conv(x, int(COMPRESSION * x.shape[parts.channel_axis]), 1, name=name)
    return AveragePooling2D(2, data_format=parts.data_format, name=f"{name}_pool")(x)


def CifarDenseNet(depth: int, growth_rate: int, *args, **kwargs) -> keras.Model:  # noqa: N802
    """Builds the CIFAR network DenseNet-BC of any depth and growth rate (Table 2 of the paper).

    Args:
        depth: Weighted layers, 6n+4: 10, 16, ..., 100, 190, 250.
        growth_rate: Channels that each layer adds.
        *args: As those of `DenseNetBC100_12`.
        **kwargs: As those of `DenseNetBC100_12`.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: If `depth` is not 6n+4, or as `DenseNetBC100_12` raises.
    """
    return dense_builder(_cifar(depth, growth_rate))(*args, **kwargs)


def dense_builder(architecture: DenseArchitecture) -> Callable[..., keras.Model]:
    """Returns `DenseNet` with the line of the table filled in."""
    fixed = {
        "blocks": architecture.repeats,
        "growth_rate": architecture.growth_rate,
        "stem": architecture.family,
    }

    def build_with(options):
        if options["name"] is None:
            options["name"] = architecture.name.lower()
        options["weights"] = find_weights(options["weights"], architecture.name.lower())
        return DenseNet(**fixed, **options)

    size = FAMILIES[architecture.family].image_size
    summary = (
        f"Builds {architecture.name}, the densely connected network of {architecture.depth} "
        f"weighted layers for {size}x{size} images.\n\n    Source: {architecture.source}."
    )
    return named_builder(DenseNet, architecture.name, summary, fixed, {"name": None}, build_with)


DenseNet121 = dense_builder(DENSE_ARCHITECTURES["DenseNet121"])
DenseNet169 = dense_builder(DENSE_ARCHITECTURES["DenseNet169"])
DenseNet201 = dense_builder(DENSE_ARCHITECTURES["DenseNet201"])
DenseNet264 = dense_builder(DENSE_ARCHITECTURES["DenseNet264"])
DenseNetBC100_12 = dense_builder(DENSE_ARCHITECTURES["DenseNetBC100_12"])
