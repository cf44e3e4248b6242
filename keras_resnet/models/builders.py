"""From an entry of the table to its builder: a general one with some arguments filled in."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

from keras_resnet.architectures import (
    ARCHITECTURES,
    FAMILIES,
    Architecture,
    DenseArchitecture,
    cifar_architecture,
    dense_architecture,
    find_architecture,
    wide_architecture,
)
from keras_resnet.models.densenet import DenseNet
from keras_resnet.models.resnet import ResNet
from keras_resnet.network import Network

_P = ParamSpec("_P")
_F = TypeVar("_F", bound=Callable)
# The general builders, by the name under which a `NetworkConfig` keeps them.
GENERAL_BUILDERS: dict[str, Callable[..., Network]] = {"ResNet": ResNet, "DenseNet": DenseNet}


def build(architecture: Architecture | DenseArchitecture | str, *args, **kwargs) -> Network:
    """Builds a network from its entry of the table.

    Args:
        architecture: An entry of the table or a variant of one, or its name, such as "ResNet50".
        *args: As those of the named builders.
        **kwargs: As those of the named builders.

    Raises:
        ValueError: If there is no network of that name, or an argument is wrong.
        TypeError: If there is no argument of that name.
    """
    if not isinstance(architecture, (Architecture, DenseArchitecture)):
        architecture = find_architecture(architecture)
    general, fixed = _filled_in(architecture)
    try:
        given = _signature(architecture).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{architecture.name}() {error}") from None
    given.apply_defaults()
    return general(**fixed, **given.arguments)


def _filled_in(
    architecture: Architecture | DenseArchitecture,
) -> tuple[Callable[..., Network], Mapping[str, Any]]:
    """Returns the general builder of a network, and its arguments that the table decides."""
    fixed = {
        "blocks": architecture.repeats,
        "stem": architecture.custom_stem or architecture.family,
    }
    if isinstance(architecture, DenseArchitecture):
        return DenseNet, {**fixed, "growth_rate": architecture.growth_rate}
    names = ("block", "widths", "stem_filters")
    return ResNet, {**fixed, **{name: getattr(architecture, name) for name in names}}


def _signature(architecture: Architecture | DenseArchitecture) -> inspect.Signature:
    """Returns that of the general builder, less what the table decides and with its defaults."""
    general, fixed = _filled_in(architecture)
    own = {"name": None, **getattr(architecture, "options", {})}
    signature = inspect.signature(general)
    return signature.replace(
        parameters=[
            parameter.replace(default=own.get(name, parameter.default))
            for name, parameter in signature.parameters.items()
            if name not in fixed
        ]
    )


def _any_depth(like: str) -> Callable[[_F], _F]:
    """Gives a builder of any depth the signature of a named one behind its own arguments."""

    def decorate(function: _F) -> _F:
        own = inspect.signature(function).parameters.values()
        first = [
            parameter for parameter in own if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        signature = _signature(ARCHITECTURES[like])
        signature = signature.replace(parameters=[*first, *signature.parameters.values()])
        setattr(function, "__signature__", signature)  # noqa: B010
        return function

    return decorate


@_any_depth(like="ResNet20")
def CifarResNet(depth: int, *args, **kwargs) -> Network:  # noqa: N802
    """Builds the CIFAR network of any depth 6n+2 (section 4.2), plain with `shortcut=None`.

    Args:
        depth: Weighted layers: 8, 14, 20, 26, ...
        *args: As those of `ResNet20`.
        **kwargs: As those of `ResNet20`.

    Raises:
        ValueError: If `depth` is not 6n+2, or as `ResNet20` raises.
    """
    return build(cifar_architecture(depth), *args, **kwargs)


@_any_depth(like="WideResNet28_10")
def CifarWideResNet(depth: int, widening: int, *args, **kwargs) -> Network:  # noqa: N802
    """Builds the wide CIFAR network WRN-depth-widening (arXiv 1605.07146).

    Args:
        depth: Layers as the paper counts them, 6n+4: 10, 16, 22, 28, 34, 40, ...
        widening: Factor of the widths 16, 32 and 64.
        *args: As those of `WideResNet28_10`.
        **kwargs: As those of `WideResNet28_10`; the paper's `dropout` is 0.3.

    Raises:
        ValueError: If `depth` is not 6n+4, or as `WideResNet28_10` raises.
    """
    return build(wide_architecture(depth, widening), *args, **kwargs)


@_any_depth(like="DenseNetBC100_12")
def CifarDenseNet(depth: int, growth_rate: int, *args, **kwargs) -> Network:  # noqa: N802
    """Builds the CIFAR network DenseNet-BC of any depth and growth rate (Table 2 of the paper).

    Args:
        depth: Weighted layers, 6n+4: 10, 16, ..., 100, 190, 250.
        growth_rate: Channels that each layer adds.
        *args: As those of `DenseNetBC100_12`.
        **kwargs: As those of `DenseNetBC100_12`.

    Raises:
        ValueError: If `depth` is not 6n+4, or as `DenseNetBC100_12` raises.
    """
    return build(dense_architecture(depth, growth_rate), *args, **kwargs)


def named_builder(
    general: Callable[Concatenate[Any, _P], Network], name: str
) -> Callable[_P, Network]:
    """Returns the builder of an entry of the table, a function of `models.named`.

    To a type checker it has the arguments of the general builder but for `blocks`.
    """
    architecture = ARCHITECTURES[name]
    fixed = _filled_in(architecture)[1]

    def builder(*args: _P.args, **kwargs: _P.kwargs) -> Network:
        return build(architecture, *args, **kwargs)

    size = FAMILIES[architecture.family].image_size
    given = ", ".join(f"{option}={value!r}" for option, value in fixed.items())
    builder.__name__ = builder.__qualname__ = name
    builder.__module__ = "keras_resnet.models.named"
    setattr(builder, "__signature__", _signature(architecture))  # noqa: B010
    builder.__doc__ = f"""Builds {name}, a network of {architecture.depth} weighted layers.

    Source: {architecture.source}. It is `{general.__name__}({given})`,
    whose documentation says what every argument means; the defaults here are the network's.

    Args:
        include_top: Whether to end in global average pooling and the classifier.
        weights: None for random initialization, "imagenet" or the name of published weights, or the
            path of a file.
        input_tensor: Keras tensor to build on, in place of `input_shape`.
        input_shape: Shape of one image without the batch; ({size}, {size}, 3) with the top.
        pooling: For `include_top=False`: None for feature maps, "avg" or "max" for vectors.
        classes: Classes of the classifier.
        classifier_activation: Activation of the classifier; None gives logits.
        name: Name of the model; by default that of the network, with suffixes for options.
        **options: Keyword arguments of `{general.__name__}`, but for those named above.

    Returns:
        A functional model, a `Network`, from images `(batch, H, W, C)` to class probabilities
        `(batch, classes)`, feature maps `(batch, h, w, channels)` or vectors `(batch, channels)`.

    Raises:
        ValueError: If an argument is wrong; the message names it and the allowed values.
    """
    return builder
