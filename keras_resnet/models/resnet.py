"""`ResNet(...)`: any residual or plain network, of any repeats, widths, block and stem."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras

from keras_resnet.architectures import STEM_POOLS, Stem, family_and_stem
from keras_resnet.models.arguments import stacks_blocks
from keras_resnet.models.blocks import ResidualParts, Step, stage, steps_to
from keras_resnet.models.parts import assemble
from keras_resnet.models.parts import stem as stem_layers
from keras_resnet.naming import POST, stage_name
from keras_resnet.network import Network
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.utils import checks


def ResNet(  # noqa: N802, named as in keras.applications
    blocks: Sequence[int],
    include_top: bool = True,
    weights: str | Path | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = "resnet",
    *,
    block: str = "bottleneck",
    widths: Sequence[int] | None = None,
    stem: str | Stem = "imagenet",
    stem_filters: int | None = None,
    shortcut: str | None = "B",
    version: str = "v1",
    groups: int = 1,
    width_per_group: int = 64,
    squeeze_excitation: int | None = None,
    se_divisor: int = 1,
    deep_stem: bool = False,
    stem_pool: str = "padded",
    shortcut_pool: bool = False,
    activation: str | Callable = "relu",
    normalization: str = "batch",
    kernel_regularizer: keras.regularizers.Regularizer | str | None = None,
    zero_init_residual: bool = False,
    bn_momentum: float = 0.9,
    bn_epsilon: float = 1e-5,
    synchronized_bn: bool = False,
    dropout: float = 0.0,
    classifier_dropout: float = 0.0,
    stochastic_depth: float = 0.0,
    conv_bias: bool = False,
    include_preprocessing: bool | Preprocessing = False,
    stack_blocks: bool | None = None,
    recompute: bool = False,
    keras_names: bool = False,
    filters: Mapping[str, int] | None = None,
    data_format: str | None = None,
    output_stride: int | None = None,
    features: Sequence[str] | None = None,
) -> Network:
    """Builds a residual or plain network of any repeats, widths, block and stem.

    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", arXiv 1512.03385;
    the options have their own.

    Args:
        blocks: Blocks per stage, such as (3, 4, 6, 3). Every stage but the first halves the map.
        include_top: Whether to end in global average pooling and the classifier.
        weights: None for random initialization; "imagenet", or the name of published weights such
            as "timm/resnet50.a1_in1k" (`keras_resnet.weights.PRETRAINED`), for a download of what
            is published for this network; or the path of a file of Keras, PyTorch or safetensors. A
            classifier of other `classes` is not loaded, with a warning. For images of other
            channels than RGB the first kernel is summed (one channel) or repeated (more), as in
            timm, and the means and standard deviations of `preprocessing` with it.
        input_tensor: Keras tensor to build on, in place of `input_shape`; one of integers is cast.
        input_shape: Shape of one image without the batch, such as (224, 224, 3); sides may be
            None. With the top the default is RGB of 224x224 pixels, 32x32 for a CIFAR network;
            any size without.
        pooling: For `include_top=False`: None for feature maps, "avg" or "max" for vectors.
        classes: Classes of the classifier with `include_top`; by default 1000, 10 for a CIFAR
            network.
        classifier_activation: Activation of the classifier; None gives logits.
        name: Name of the model; None for that of the network, with suffixes for other options.
        block: "basic" (two 3x3 convolutions) or "bottleneck" (1x1, 3x3, 1x1 to 4 x width).
        widths: Width of each stage; the family's of the stem where not given.
        stem: "imagenet" (7x7 of stride 2 and max pool), "cifar" (3x3), or a `Stem`.
        stem_filters: Filters of the stem; the first stage's width where not given.
        shortcut: "A" (zero-padded identity, no parameters), "B" (1x1 projection where the shape
            changes), "C" (projection everywhere), or None for the plain net.
        version: "v1" (a bottleneck's stride on its first 1x1 convolution, as in the paper), "v1.5"
            (on its 3x3, as in torchvision; basic blocks do not differ), "v2" (normalization and
            activation in front of the convolutions, arXiv 1603.05027; the stride on the 3x3, as in
            timm, where the authors' code has it on the 1x1), or "v2-keras" (as in
            `keras.applications.resnet_v2`: the last block of a stage has the stride, its shortcut
            takes every other pixel, and nothing normalizes the stem).
        groups: Groups of a bottleneck's 3x3 convolution (ResNeXt, arXiv 1611.05431).
        width_per_group: Channels of each of these groups where the stage's width is 64, and in
            proportion in the others; with one group the factor of a wide net (arXiv 1605.07146).
        squeeze_excitation: Reduction of squeeze-and-excitation at the end of every branch (arXiv
            1709.01507, which takes 16), or None for none.
        se_divisor: Divisor of the channels inside squeeze-and-excitation, which are rounded to its
            nearest multiple: 8 for files of timm's seresnet18 and seresnet34; deeper ones are the
            same without.
        deep_stem: Whether the stem's convolution is three of 3x3 (arXiv 1812.01187, ResNet-C).
        stem_pool: How the stem's max pool is padded: "padded" on all sides, as in torchvision;
            "ceil" behind the last row and column only, as in Caffe's models and timm's
            legacy_seresnet50; "first" on all sides, but in front of the stem's normalization and
            activation, which are those of the first block then, as in timm's resnetv2_50 (only
            version "v2").
        shortcut_pool: Whether a strided projection is an average pool and a convolution of stride
            1 (arXiv 1812.01187, ResNet-D).
        activation: Nonlinearity everywhere, such as "silu", but in squeeze-and-excitation.
        normalization: "batch", or "group" (32 groups, arXiv 1803.08494) with standardized kernels
            (arXiv 1903.10520).
        kernel_regularizer: Penalty on convolution and classifier kernels. The paper's weight decay
            of 1e-4 is `keras.regularizers.L2(5e-5)`, since Keras's L2 has no factor 1/2.
        zero_init_residual: Start the last normalization of every branch at zero; in version "v2",
            where nothing follows it, the last convolution.
        bn_momentum: Weight of the old value in the moving statistics, in [0, 1).
        bn_epsilon: Added to the variance in the normalization.
        synchronized_bn: Whether batch statistics are taken over all replicas of a strategy.
        dropout: Rate of dropout between the convolutions of each branch, in [0, 1).
        classifier_dropout: Rate of dropout in front of the classifier, in [0, 1).
        stochastic_depth: Rate at which training drops the branch of the last block, in [0, 1); it
            rises from block to block along a line from 0 (section 3 of arXiv 1603.09382).
        conv_bias: Whether convolutions have biases, as in `keras.applications`; with pre-activation
            those that no normalization follows.
        include_preprocessing: Whether the model itself standardizes RGB images in [0, 255], or the
            `Preprocessing` by which it does so, of images of any channels. Without it, feed
            `preprocess_input(images)` or data standardized your own way.
        stack_blocks: Whether the equal blocks of a stage become one loop over stacked weights;
            None does so only where the network is too deep for Keras to build otherwise.
        recompute: Whether training keeps only the input of each stacked block and computes the
            rest again for the gradient, to save memory.
        keras_names: Whether layers are those of `keras.applications`, name for name, where these
            are others: in version "v2-keras" the padding in front of every 3x3 convolution is a
            layer, and the pools of shortcuts are numbered by Keras.
        data_format: "channels_last", "channels_first", or None for Keras's default.
        filters: Filters of every convolution by name of the layer, and channels of every zero-pad
            shortcut, in place of those that follow from the other arguments, as `slim` leaves
            them. Their blocks cannot be stacked.
        output_stride: Stride of the last map, reached by dilation in place of strides, with the
            same weights: that of the stem's end (4 for ImageNet, 1 for CIFAR), or twice, four or
            eight times that. None for the network's own, 32 or 4.
        features: Names of the maps to give, such as ["C3", "C5"], with `include_top=False`: the
            model is a `Backbone` then. "C1" is the stem's, in front of its pool, and "C2" the first
            stage's. Stages behind the last one are left out.

    Returns:
        A functional model, a `Network`, from float images `(batch, H, W, C)` to class probabilities
        `(batch, classes)`, float32 under mixed precision too; without the top, to feature maps
        `(batch, h, w, channels)`, vectors `(batch, channels)`, or a dictionary of maps.

    Raises:
        ValueError: If an argument is wrong; the message names it and the allowed values.
    """
    arguments = dict(locals())
    parts = ResidualParts.of(arguments)
    family, spec = family_and_stem(stem)
    if checks.boolean("deep_stem", deep_stem):
        spec = spec.deepened()
    checks.one_of("stem_pool", stem_pool, STEM_POOLS)
    if stem_pool != "padded" and not spec.pool or stem_pool == "first" and not parts.preactivated:
        raise ValueError(
            "`stem_pool` goes with a stem that has a pool, and 'first' with version='v2'. "
            f"Received: stem_pool={stem_pool!r} with stem={stem!r} and version={version!r}"
        )
    blocks = checks.integers("blocks", blocks)
    widths = family.widths if widths is None else checks.integers("widths", widths)
    if len(blocks) != len(widths):
        raise ValueError(
            "`blocks` and `widths` must have one number per stage each. "
            f"Received: blocks={blocks} and widths={widths}"
        )
    first_filters = (
        widths[0] if stem_filters is None else checks.integer("stem_filters", stem_filters)
    )
    channels = [first_filters, *(width * parts.kind.expansion for width in widths)]
    if shortcut == "A" and channels != sorted(channels):
        raise ValueError(
            "`widths` must not decrease with shortcut='A', which can only add channels; use "
            f"shortcut='B'. Received: widths={widths} after {first_filters} filters of the stem"
        )
    stochastic_depth = checks.fraction("stochastic_depth", stochastic_depth)
    if stochastic_depth and shortcut is None:
        raise ValueError(
            "`stochastic_depth` needs a shortcut: a plain net has no way around a branch. "
            f"Received: stochastic_depth={stochastic_depth} with shortcut=None"
        )
    depth = sum(blocks)
    drop_rates = [stochastic_depth * (i + 1) / depth for i in range(depth)]
    per_block = 3 * parts.kind.weighted_layers + 1 + bool(parts.dropout) + any(drop_rates)
    per_block += 4 * bool(squeeze_excitation) + parts.pads_apart
    stack = stacks_blocks(stack_blocks, recompute, per_block * depth, filters)
    steps = steps_to(output_stride, spec.reduction, len(blocks))

    last_steps: list[Step | None] = [None] * len(steps)
    if parts.strides_last:
        last_steps[:-1] = steps[1:]
        steps = [step.then() for step in steps]

    def stages(x):
        first, x = stem_layers(x, first_filters, spec, parts, stem_pool, parts.strides_last)
        yield first
        rates = iter(drop_rates)
        for i, (width, step, count) in enumerate(zip(widths, steps, blocks, strict=True)):
            x = stage(
                x,
                width,
                list(itertools.islice(rates, count)),
                parts,
                step=step,
                name=stage_name(i),
                stack=stack,
                recompute=recompute,
                activated=i == 0 and not parts.strides_last and stem_pool != "first",
                last_step=last_steps[i],
            )
            last = i == len(blocks) - 1
            yield parts.norm_act(x, name=POST) if parts.preactivated and last else x

    arguments |= {"blocks": blocks, "widths": widths, "stem_filters": first_filters}
    return assemble("ResNet", arguments, stages, parts, spec, family)
