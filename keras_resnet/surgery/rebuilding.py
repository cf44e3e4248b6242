"""Networks built again with other options and the same weights."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from keras_resnet.models.builders import GENERAL_BUILDERS
from keras_resnet.naming import OTHER_NAMES, PREPROCESSING, STEM
from keras_resnet.network import Network, class_names_of, network_of
from keras_resnet.surgery.fake_quantization import is_quantized
from keras_resnet.utils import private
from keras_resnet.weights.transfer import assign_weights, copy_weights, layer_weights, renamed


def rebuild(model: Network, *, name: str | None = None, **changes: Any) -> Network:
    """Returns the network built with other options, with copies of the weights.

    Weights are copied by the names of the layers, where both have one of the same shapes; other
    layers are new. Layers that are frozen in `model` are frozen in the copy. Layers in front of a
    network that was built on the caller's `input_tensor` are copied, too.

    Args:
        model: A network of this package, which is unchanged.
        name: Name of the new one; by default that of `model`.
        **changes: Changed arguments of its general builder, `ResNet` or `DenseNet`, such as
            `output_stride`, `features`, `blocks`, `classes` or `input_shape`.

    Returns:
        The new network, which is not compiled.

    Raises:
        ValueError: If `model` does not remember how it was built, or an argument is wrong.
    """
    config = network_of(model)
    if is_quantized(model):
        raise ValueError(
            "`model` must be the network in front of `quantize_aware` to be built again; of one "
            f"with ranges no builder knows the layers. Received: model {model.name!r}"
        )
    arguments = {**config.arguments, "input_shape": tuple(model.input_shape[1:]), **changes}
    if arguments["include_preprocessing"] is True and config.preprocessing:
        arguments["include_preprocessing"] = config.without_classes().preprocessing
    with dtype_policy(config.dtype_policy):
        if config.on_tensor:
            front = _front(model, arguments["input_shape"])
            arguments |= {"input_tensor": front.output, "input_shape": None}
        builder: Any = GENERAL_BUILDERS[config.builder]
        network: Network = builder(name=name or model.name, **arguments)
    weights = layer_weights(network)
    for kept, values in renamed(layer_weights(model), network).items():
        if [value.shape for value in values] == [value.shape for value in weights.get(kept, ())]:
            weights[kept] = values
    assign_weights(network, weights)
    freeze_as({layer.name: layer for layer in model.layers}, network)
    # Weights want the same done to an image as before, unless the caller says otherwise.
    asked = network.preprocessing if "include_preprocessing" in changes else None
    preprocessing = asked or config.preprocessing or network.preprocessing
    built = dataclasses.replace(network.network, preprocessing=preprocessing)
    if changes.get("classes", config.arguments["classes"]) != config.arguments["classes"]:
        network.remember(built.without_classes())
    else:
        network.remember(built.with_class_names(class_names_of(model)))
    return network


def freeze_as(before: Mapping[str, keras.Layer], network: keras.Model) -> None:
    """Freezes the layers of a network as those of another, given by their names in the new one."""
    for layer in network.layers:
        if old := before.get(layer.name) or before.get(OTHER_NAMES.get(layer.name, "")):
            layer.trainable = old.trainable
            if hasattr(old, "frozen_norms"):
                layer.frozen_norms = old.frozen_norms


def dilate(model: Network, output_stride: int) -> Network:
    """Returns a copy whose maps are no coarser than `output_stride`, with the same weights.

    It is the network built again with that `output_stride`. Strides that would go beyond become 1,
    and the kernels behind them are dilated accordingly (atrous convolution). The layer whose
    stride is replaced keeps its dilation, so that the 3x3 convolution that had it in the first
    block of a stage (version "v1.5", basic blocks) is dilated as the stage before.

    In inference the maps of the copy contain those of `model`, to rounding, at every position that
    `model` has: with strides 8 and 32, as `[:, ::4, ::4]`. That holds at the borders and for odd
    sizes too; not for DenseNet where an odd map loses its last row, and not where a layer depends
    on the whole map (squeeze-and-excitation, group normalization).

    Source: Chen et al., arXiv 1606.00915, section 3.1; Yu, Koltun, Funkhouser, arXiv 1705.09914.

    Args:
        model: Network of this package, trained or not, with or without its classifier; it is
            unchanged. With the classifier the outputs are the mean over more positions;
            `surgery.score_map` has them one by one.
        output_stride: Stride of the last map: that of the stem's end, 4 for ImageNet and 1 for
            CIFAR, or twice, four or eight times that.

    Returns:
        A model like `model`, which is not compiled.

    Raises:
        ValueError: If `model` does not remember how it was built, or none of its maps has that
            stride.
    """
    return rebuild(model, output_stride=output_stride)


def _front(model: Network, input_shape: tuple[int | None, ...]) -> keras.Model:
    """Returns a copy of the layers in front of a network, for images of a shape."""
    if len(model.inputs) > 1:
        raise ValueError(
            "`model` must have one input to be built again. "
            f"Received: model {model.name!r} with {len(model.inputs)} inputs"
        )
    firsts = (PREPROCESSING,) if model.network.standardizes else ()
    first = next(
        layer for layer in model.layers if layer.name in firsts or layer.name.startswith(f"{STEM}_")
    )
    padded = getattr(first, "padding", None) == "valid" and max(first.kernel_size) > 1
    if padded:  # by a layer to which `keras_names` gives no name of the stem's
        first = private.layer_of(first.input)
    inputs = keras.Input(input_shape, dtype=model.input.dtype)
    front = keras.Model(model.inputs[0], first.input)
    if not front.layers[1:]:
        return keras.Model(inputs, inputs)
    copy = keras.models.clone_model(front, input_tensors=inputs)
    copy_weights(front, copy)
    return copy


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Sets the dtype policy of new layers for a while."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
