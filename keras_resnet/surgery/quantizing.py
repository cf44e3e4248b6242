"""Networks of 8-bit integers by training: kernels and ranges that are rounded while they learn.

Uses Keras only. What a layer of LiteRT computes in one step, such as a convolution with its ReLU,
is rounded once, behind it, so that integers compute what was trained.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_resnet.layers import BlockStack, StochasticDepth, ZeroPadShortcut
from keras_resnet.network import Network, class_names_of, remembered
from keras_resnet.surgery.fake_quantization import (
    FakeQuantization,
    PixelScaling,
    QuantizedConv2D,
    QuantizedDense,
    fake_quantize_kernel,
    is_quantized,
    kernel_steps,
    nudged,
)
from keras_resnet.surgery.folding import fold_batch_norm
from keras_resnet.surgery.graphs import sources
from keras_resnet.surgery.rebuilding import rebuild
from keras_resnet.utils import private

# What computes with a kernel, and rounds it.
_QUANTIZED: dict[Any, Any] = {layers.Conv2D: QuantizedConv2D, layers.Dense: QuantizedDense}
_PLAIN: dict[Any, Any] = {quantized: kind for kind, quantized in _QUANTIZED.items()}
# What LiteRT computes in one step with a ReLU that alone reads it.
_FUSED = (*_QUANTIZED, layers.Add, layers.BatchNormalization)
# What else has a range of its own.
_RANGED = (layers.Add, layers.Multiply, layers.Concatenate, layers.GlobalAveragePooling2D)
# What passes on numbers of the range that it receives.
_PASSING = (
    *(layers.ZeroPadding2D, layers.Cropping2D, layers.Flatten, layers.Dropout),
    *(layers.MaxPooling2D, layers.GlobalMaxPooling2D, StochasticDepth, ZeroPadShortcut),
)
_STANDARDIZING = (layers.Normalization, layers.Rescaling)
_PIXELS = (0.0, 255.0)
# Numbers from 0 to 1 as LiteRT has them whatever was measured: in steps of 1/256.
_GATES = (0.0, 255 / 256)
_ACTIVATIONS = {
    getattr(keras.activations, name): name for name in ("linear", "relu", "sigmoid", "softmax")
}
# Ends of a measured range, in percent of the numbers of a batch: a few are beyond, so that the ends
# have a gradient in both directions from the first step on.
PERCENTILES = (0.01, 99.99)
# Images that ranges are measured on at once; all outputs of all layers are kept meanwhile.
_BATCH = 32


def quantize_aware(
    model: keras.Model, images: np.ndarray | Iterable[np.ndarray] | None = None
) -> keras.Model:
    """Returns a network to fine-tune that computes as its 8-bit integers will.

        model = keras_resnet.surgery.quantize_aware(model, images)
        model.compile(...); model.fit(...)  # or a Trainer, at a learning rate such as 0.003
        keras_resnet.surgery.round_biases(model)
        export(model, "model.tflite", "litert", quantize="int8")  # without calibration

    Batch normalization is folded into the convolution in front of it; one that stands elsewhere
    becomes a 1x1 depthwise convolution. Kernels are rounded to 8 bits for each output channel, and
    the numbers between layers to 8 bits of a range that is trained with the weights. Everything
    computes in float32. Probabilities at the end are not rounded; integers have them in steps of
    1/256. Sources: arXiv 1712.05877, 1806.08342.

    Args:
        model: Functional model of `Conv2D`, batch normalization of maps, `Add`, `Multiply`,
            `Concatenate`, pooling, `Dense`, dropout, ReLU, and sigmoid or softmax, channels last,
            of one input and one output; trained, since the normalizations become constants. It is
            unchanged. Images of one that standardizes them itself are rounded to integers in
            [0, 255], so that they must have 8 bits per channel.
        images: Batches of images as the model takes them, or one batch, such as it was trained on:
            a hundred images will do. The ranges start where theirs lie (the mean over batches of
            the percentiles 0.01 and 99.99); by default at -6 and 6, behind a ReLU at 0 and 6.

    Returns:
        The model, which is not compiled, with the names of layers of `model`. Of a `Network` it is
        one, which remembers preprocessing and class names, but cannot be built again otherwise
        (`surgery.rebuild`).

    Raises:
        ValueError: If `model` has other layers or is of images of 16 bits, or `images` are no
            batches of its images, or are beyond [0, 255] where it standardizes them.
    """
    if is_quantized(model):
        raise ValueError(
            "`model` must be a network whose numbers are not rounded yet. Received: model "
            f"{model.name!r}, which `quantize_aware` made"
        )
    network = remembered(model)
    prepared = None if network is None else network.preprocessing
    if prepared is not None and prepared.bits != 8:
        raise ValueError(
            "`model` must be of images of 8 bits per channel, since its integers are. Received: "
            f"model {model.name!r} of images of {prepared.bits} bits or of .npy files"
        )
    if network is not None and any(isinstance(layer, BlockStack) for layer in model.layers):
        model = rebuild(model, stack_blocks=False, recompute=False)
    net = fold_batch_norm(model)
    inputs = _inputs(net)
    outputs = _Rounding(net).outputs(inputs)
    quantized = (Network if network else keras.Model)(inputs, outputs, name=model.name)
    if images is not None:
        _measure(quantized, images)
    if network is not None:
        quantized.remember(network.with_class_names(class_names_of(model)))
    return quantized


def round_biases(model: keras.Model) -> None:
    """Rounds the biases of a network from `quantize_aware` as its files have them, in place.

    Integers have biases of 32 bits, in steps of a layer's input times those of its kernel. Call it
    after training: nearly all outputs are then those of the files, and the others a step away.

    Raises:
        ValueError: If `model` is not from `quantize_aware`.
    """
    if not is_quantized(model):
        raise ValueError(
            "`model` must be a network that `quantize_aware` made. Received: model "
            f"{getattr(model, 'name', model)!r}"
        )
    for layer in model.layers:
        if not getattr(layer, "use_bias", False):
            continue
        source = private.layer_of(layer.input)
        while not isinstance(source, FakeQuantization):  # such as padding, which passes numbers on
            source = private.layer_of(source.input)
        kernel, bias = layer.get_weights()
        own = ops.convert_to_numpy(kernel_steps(kernel.reshape(-1, bias.size)))
        steps = own.astype("float64") * float(nudged(*source.ends())[0])
        layer.bias.assign(np.rint(bias / steps) * steps)


def with_constant_ranges(model: keras.Model) -> keras.Model:
    """Returns a copy for inference that has constants for ranges, and kernels that are rounded.

    It has Keras's own layers in place of those that round their kernels, and computes the same. A
    layer in front that standardizes images becomes one of integers, too.
    """
    copies: dict[str, keras.Layer] = {}

    def call(layer, *args, **kwargs):
        if _standardizes(layer):
            return _scaled_pixels(layer, *args)
        copy = copies.get(layer.name)
        if copy is not None:
            return copy(*args, **kwargs)
        ends = {}
        if isinstance(layer, FakeQuantization):
            ends = dict(zip(("low", "high"), map(float, layer.ends()), strict=True))
        config = {**layer.get_config(), **ends}
        config.pop("network", None)
        copy = copies[layer.name] = _PLAIN.get(type(layer), type(layer)).from_config(config)
        outputs, weights = copy(*args, **kwargs), layer.get_weights()
        if type(layer) in _PLAIN:
            weights[0] = ops.convert_to_numpy(fake_quantize_kernel(weights[0]))
        if getattr(layer, "use_bias", False):
            weights[-1] = _uneven(weights[-1])
        if not ends:
            copy.set_weights(weights)
        return outputs

    inputs = _inputs(model)
    return keras.Model(inputs, private.run_through(model, inputs, call), name=model.name)


class _Rounding:
    """The layers of a folded network, with rounding in between."""

    def __init__(self, net: keras.Model):
        self._net = net
        self._sources: dict[str, list[str]] = {}
        self._readers: dict[str, list[keras.Layer]] = defaultdict(list)
        for config in net.get_config()["layers"]:
            layer = net.get_layer(config["name"])
            if len(config["inbound_nodes"]) > 1:
                raise self._unknown(layer, "used several times")
            self._sources[layer.name] = sources(config["inbound_nodes"])
            for source in self._sources[layer.name]:
                self._readers[source].append(layer)
        # What rounds the numbers that come out of a layer.
        self._ranges: dict[str, FakeQuantization] = {}

    def outputs(self, images: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the outputs for images; calls new layers of the same names."""
        first = private.layer_of(self._net.inputs[0]).name
        if not all(_standardizes(layer) for layer in self._readers[first]):
            images = self._rounded(images, first)
        return private.run_through(private.function_of(self._net), images, self._call)

    def _call(self, layer: keras.Layer, inputs: Any, **_: Any) -> Any:
        self._expect_known(layer)
        name, read = layer.name, self._sources[layer.name]
        if _standardizes(layer):
            return self._rounded(_scaled_pixels(layer, inputs), name)
        activation = _activation(layer)
        if isinstance(layer, layers.BatchNormalization):
            outputs = _depthwise(layer, inputs)
        elif type(layer) in _QUANTIZED:
            inner = activation if activation == "relu" else "linear"
            outputs = _copied(layer, inputs, activation=inner)
        elif activation in ("sigmoid", "softmax"):
            return self._between_0_and_1(layer, activation, inputs, name)
        else:
            outputs = _copied(layer, inputs)

        if isinstance(layer, layers.AveragePooling2D):  # LiteRT's has one range for both ends.
            self._ranges[name] = self._ranges[read[0]]
            return self._ranges[name](outputs)
        if isinstance(layer, _PASSING) or (activation == "linear" and not layer.weights):
            self._ranges[name] = self._ranges[read[0]]
            return outputs
        readers = self._readers[name]
        fused = isinstance(layer, _FUSED) and activation in (None, "linear") and len(readers) == 1
        if fused and _activation(readers[0]) == "relu" and not readers[0].weights:
            return outputs
        outputs = self._rounded(outputs, name, 0.0 if activation == "relu" else None)
        if activation in ("sigmoid", "softmax"):
            return self._between_0_and_1(layer, activation, outputs, f"{name}_{activation}")
        if activation == "linear" and not readers:  # so that the end still says what it is
            return layers.Activation("linear", name=f"{name}_linear", dtype="float32")(outputs)
        return outputs

    def _rounded(self, x: Any, name: str, low: float | None = None, high: float | None = None):
        self._ranges[name] = FakeQuantization(low, high, name=f"{name}_range", dtype="float32")
        return self._ranges[name](x)

    def _between_0_and_1(self, layer: keras.Layer, activation: str, x: Any, name: str) -> Any:
        """Returns sigmoid or softmax; at the end of the network they are not rounded."""
        x = layers.Activation(activation, name=name, dtype="float32")(x)
        if not self._readers[layer.name]:
            return x
        x = self._rounded(x, name, *_GATES)
        self._ranges[layer.name] = self._ranges[name]
        return x

    def _expect_known(self, layer: keras.Layer) -> None:
        """Raises a ValueError for a layer that integers would compute otherwise, or not at all."""
        activation = _activation(layer)
        alone = all(isinstance(i, layers.InputLayer) for i in self._inputs_of(layer))
        known = (
            type(layer) in (*_QUANTIZED, *_RANGED, *_PASSING, layers.AveragePooling2D)
            or (activation is not None and not layer.weights)
            or (isinstance(layer, layers.BatchNormalization) and _is_of_maps(layer))
            or (_standardizes(layer) and alone)
        )
        ended = activation != "softmax" or not self._readers[layer.name]
        first = getattr(layer, "data_format", "channels_last") != "channels_last"
        if not known or activation == "other" or not ended or first:
            how = f"of class {type(layer).__name__}"
            raise self._unknown(layer, how + (activation == "other") * " with another activation")

    def _inputs_of(self, layer: keras.Layer) -> list[keras.Layer]:
        return [self._net.get_layer(name) for name in self._sources[layer.name]]

    def _unknown(self, layer: keras.Layer, how: str) -> ValueError:
        return ValueError(
            "`model` must consist of Conv2D, batch normalization of maps, Add, Multiply, "
            "Concatenate, pooling, Dense, dropout, ReLU, sigmoid and a softmax at its end, "
            "channels last, each layer used once, to be quantized. Received: "
            f"model {self._net.name!r} with the layer {layer.name!r}, {how}"
        )


def _standardizes(layer: keras.Layer) -> bool:
    return isinstance(layer, _STANDARDIZING) and not isinstance(layer, PixelScaling)


def _activation(layer: keras.Layer) -> str | None:
    """Returns the name of a layer's activation, "other", or None for a layer that has none."""
    if type(layer) is layers.Softmax:
        return "softmax" if layer.axis == -1 else "other"
    if type(layer) is layers.ReLU:
        plain = (layer.max_value, layer.negative_slope, layer.threshold) == (None, 0, 0)
        return "relu" if plain else "other"
    if type(layer) not in (layers.Activation, *_QUANTIZED):
        return None
    return _ACTIVATIONS.get(layer.activation, "other")


def _is_of_maps(norm: keras.layers.BatchNormalization) -> bool:
    """Returns whether a normalization is over the channels of maps `(batch, H, W, C)`."""
    return len(norm.input.shape) == 4 and norm.axis in (-1, 3) and not norm.renorm


def _inputs(net: keras.Model) -> keras.KerasTensor:
    """Returns new images as a model takes them."""
    images = net.inputs[0]
    return keras.Input(images.shape[1:], dtype=images.dtype, name=private.layer_of(images).name)


def _copied(layer: keras.Layer, inputs: Any, **changes: Any) -> Any:
    """Returns the outputs of a layer like another, with its weights, that rounds its kernel."""
    config = {**layer.get_config(), **changes, "dtype": "float32"}
    copy = _QUANTIZED.get(type(layer), type(layer)).from_config(config)
    outputs = copy(inputs)
    copy.set_weights(layer.get_weights())
    return outputs


def _depthwise(norm: keras.layers.BatchNormalization, inputs: Any) -> Any:
    """Returns what a batch normalization gives in inference, by a convolution of each channel."""
    kept = {"name": norm.name, "trainable": norm.trainable, "dtype": "float32"}
    copy = layers.DepthwiseConv2D(1, data_format="channels_last", **kept)
    outputs = copy(inputs)
    factor, offset = _affine(norm)
    copy.set_weights([factor[None, None, :, None], offset])
    return outputs


def _affine(norm: keras.layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """Returns factor and offset of each channel in inference."""
    mean, variance = (np.asarray(v, "float64") for v in (norm.moving_mean, norm.moving_variance))
    factor = (np.asarray(norm.gamma) if norm.scale else 1.0) / np.sqrt(variance + norm.epsilon)
    return factor, (np.asarray(norm.beta) if norm.center else 0.0) - mean * factor


def _scaled_pixels(layer: keras.Layer, images: Any) -> Any:
    """Returns what a layer that standardizes images makes of them, rounded to integers."""
    channels = images.shape[-1]
    # Of pixels that are zero, and of each channel alone.
    pixels = _PIXELS[1] * np.eye(channels + 1, channels, -1, dtype="float32")
    offset, *ends = ops.convert_to_numpy(layer(pixels[:, None, None]))[:, 0, 0].astype("float64")
    scale = (np.asarray(ends) - offset) / _PIXELS[1]
    # A whole number, as integers have it, of the step of a pixel times that of the kernel.
    step = np.abs(scale).max(0) / 127
    offset = _uneven(np.rint(offset / step) * step)
    images = FakeQuantization(*_PIXELS, name=f"{layer.name}_pixels", dtype="float32")(images)
    return PixelScaling(scale.tolist(), offset.tolist(), name=layer.name, dtype="float32")(images)


def _uneven(bias: np.ndarray) -> np.ndarray:
    """Returns offsets of channels, the first by a rounding higher where all are the same number.

    LiteRT's converter gives such a constant the scale of the first channel, and all others a wrong
    one.
    """
    bias = np.asarray(bias, "float32")
    if bias.size > 1 and np.all(bias == bias[0]):
        bias = np.append(np.nextafter(bias[:1], np.float32(np.inf)), bias[1:])
    return bias


def _measure(model: keras.Model, images: np.ndarray | Iterable[np.ndarray]) -> None:
    """Starts the ranges of a model where its numbers for images lie."""
    found = [_ends(model, batch) for batch in _batches(model, images)]
    for layer in found[0]:
        layer.start_at(*np.mean([ends[layer] for ends in found], axis=0))


def _ends(model: keras.Model, images: np.ndarray) -> dict[FakeQuantization, np.ndarray]:
    """Returns the percentiles of what each range rounds, of numbers that are not rounded."""
    found: dict[FakeQuantization, np.ndarray] = {}

    def call(layer, inputs, **_):
        if not isinstance(layer, FakeQuantization):
            return layer(inputs)
        if layer not in found:  # the second time is behind an average
            found[layer] = np.percentile(ops.convert_to_numpy(inputs), PERCENTILES)
        return inputs

    private.run_through(model, images, call)
    return found


def _batches(model: keras.Model, images: Any) -> Iterator[np.ndarray]:
    """Yields batches of images, cut into small ones."""
    batch, shape = None, tuple(model.inputs[0].shape[1:])
    of_pixels = any(isinstance(layer, PixelScaling) for layer in model.layers)
    for batch in [images] if hasattr(images, "shape") else images:
        batch = np.asarray(batch, "float32")
        sides = zip(batch.shape[1:], shape, strict=False)
        if len(batch.shape) != 4 or any(own not in (side, None) for side, own in sides):
            break
        if of_pixels and not (batch.min() >= _PIXELS[0] and batch.max() <= _PIXELS[1]):  # NaN too
            raise ValueError(
                "`images` must be in [0, 255], since `model` rounds them to integers there. "
                f"Received: images in [{batch.min():g}, {batch.max():g}]"
            )
        yield from (batch[i : i + _BATCH] for i in range(0, len(batch), _BATCH))
    else:
        if batch is not None:
            return
    received = "no images" if batch is None else f"images of shape {batch.shape}"
    raise ValueError(
        f"`images` must be batches of images of shape (batch, *{shape}). Received: {received}"
    )
