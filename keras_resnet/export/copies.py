"""Copies of trained networks prepared for export: checked, standardizing, in float32.

Needs TensorFlow, as Keras's backend too.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_resnet.export.verification import require_tensorflow
from keras_resnet.layers import BlockStack, StandardizedConv2D
from keras_resnet.network import class_names_of, described, preprocessing_of, remembered
from keras_resnet.preprocessing import Preprocessing, standardize_layer
from keras_resnet.surgery.graphs import (
    drop_output_activation,
    functional_config,
    rebuilt,
    rewired,
)
from keras_resnet.utils import checks, private
from keras_resnet.weights import copy_weights

# Standardization of images: by the model, by a layer put in front of it, or none.
PREPROCESSINGS = ("inside", "imagenet", "none")


def image_network(
    model: keras.Model,
    preprocessing: str | Preprocessing = "inside",
    *,
    argument: str = "model",
    given: str = "",
) -> tuple[keras.Model, Preprocessing | None]:
    """Returns a model of images in [0, 255], and what is done to an image for it and inside of it.

    The model is `model` itself where that begins with `Normalization` or `Rescaling`, else a copy
    with the remembered standardization in front; one that remembers none is refused, as the value
    `given` of `argument`. With `preprocessing` "imagenet" the standardization is put in front in
    any case, ImageNet's where none is remembered; with "none" nothing is. A `Preprocessing` takes
    the place of the remembered one; its mean and deviation count unless the model standardizes.

    The description is that `Preprocessing`, else the remembered one, None where neither is known.
    Its mean and deviation are those that the returned model applies: 0 and 1 where it takes
    [0, 255] as it is, or standardizes by numbers that it does not remember. Its size is the
    model's, and class names that it lacks are those that the model remembers.
    """
    told = preprocessing if isinstance(preprocessing, Preprocessing) else None
    if told is None:
        checks.one_of("preprocessing", preprocessing, PREPROCESSINGS)
    _check_takes_images(model)
    *sides, channels = model.inputs[0].shape[1:]
    remembers, inside = preprocessing_of(model), _standardizes(model)
    front = None if inside else told
    if preprocessing == "imagenet":
        front = remembers or Preprocessing()
    elif preprocessing == "inside":
        front = missing_standardization(model, argument, given or model.name)
    told = told or front or remembers
    if told is None:
        return model, None
    as_it_is = Preprocessing.unchanged(channels or len(told.mean))
    description = with_numbers(told, front or (_own_numbers(model) if inside else None) or as_it_is)
    if description.class_names is None:
        description = dataclasses.replace(description, class_names=class_names_of(model))
    if None not in sides:
        description = description.at(tuple(sides))
    if front is None or front.same_numbers(as_it_is):
        return model, description
    return _with_standardization(model, front), description


def with_numbers(prepared: Preprocessing, numbers: Preprocessing) -> Preprocessing:
    """Returns a preprocessing with the mean, deviation and order of channels of another."""
    own = {name: getattr(numbers, name) for name in ("mean", "std", "bgr")}
    return dataclasses.replace(prepared, **own)


def _check_takes_images(model: keras.Model) -> None:
    """Raises an error unless a model of images, channels last, can be exported."""
    require_tensorflow()
    inputs = getattr(model, "inputs", None)
    if not isinstance(model, keras.Model) or not inputs or len(inputs) != 1 or not model.outputs:
        raise ValueError(
            "`model` must be a functional Keras model with one input. "
            f"Received: model of type {type(model).__name__}"
        )
    if any(getattr(layer, "data_format", None) == "channels_first" for layer in model.layers):
        raise ValueError(
            "`model` must take images channels last, as every exported one does; build it with "
            "data_format='channels_last' and copy the weights. Received: a channels-first model"
        )
    if len(inputs[0].shape) != 4:
        raise ValueError(
            "`model` must take images (batch, H, W, C). "
            f"Received: model with inputs of shape {tuple(inputs[0].shape)}"
        )


def missing_standardization(model: keras.Model, argument: str, given: str) -> Preprocessing | None:
    """Returns what a model of images in [0, 255] wants in front; None where it standardizes them.

    Raises:
        ValueError: If it neither standardizes nor remembers how, as the value `given` of
            `argument`.
    """
    if _standardizes(model):
        return None
    prepared = _own_numbers(model) or described(model)
    if prepared is None:
        raise ValueError(
            f"`{argument}` must standardize its images itself, by a layer Normalization or "
            "Rescaling in front, or remember how; to export others, pass preprocessing='imagenet' "
            "(--preprocessing imagenet on the command line) to have `preprocess_input` put there, "
            "or 'none' if they take [0, 255] as it is. "
            f"Received: {argument}={given!r}, without such a layer"
        )
    return prepared


def _own_numbers(model: keras.Model) -> Preprocessing | None:
    """Returns what a network remembers, None where the caller's operations are in front of it.

    They may standardize, in a way not seen here.
    """
    network = remembered(model)
    return None if network is None or network.on_tensor else network.preprocessing


def _standardizes(model: keras.Model) -> bool:
    """Returns whether images are scaled or standardized before the first layer with weights."""
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Normalization, keras.layers.Rescaling)):
            return True
        if isinstance(layer, keras.Model) and _standardizes(layer):
            return True
        if layer.weights:
            return False
    return False


def float32_copy(model: keras.Model, linear: bool = False) -> keras.Model:
    """Returns a copy in float32, with `linear` without the activation that it ends in."""
    config = _in_float32(functional_config(model, several_outputs=True))
    if linear:
        drop_output_activation(config)
    for layer in config["layers"]:
        if layer["class_name"] == BlockStack.__name__:
            # Recomputation is Python code that runs with the gradient, which cannot be exported.
            layer["config"]["recompute"] = False
    return rebuilt(model, config)


def computes_in_float32(model: keras.Model) -> bool:
    """Returns whether no layer computes in another precision."""
    return all(layer.compute_dtype == "float32" for layer in model.layers)


def of_any_batch(net: keras.Model, images: tf.Tensor) -> Any:
    """Returns the outputs of a network in inference, for a batch that may be empty.

    TensorFlow's fused convolutions lose the channels of an empty batch, and then fail.
    """
    count = tf.shape(images)[0]
    one_more = [[0, 1], [0, 0], [0, 0], [0, 0]]
    some = tf.cond(count > 0, lambda: images, lambda: tf.pad(images, one_more))
    return keras.tree.map_structure(lambda rows: rows[:count], net(some, training=False))


def of_plain_operations(model: keras.Model, dilated: bool = False) -> keras.Model:
    """Returns a copy for inference that traces to plain operations, for formats without functions.

    Stacked blocks are traced one after the other, with constants for weights; Keras still sees a
    stack, so that depth is not limited. Grouped convolutions, which Keras hands to XLA, become one
    operation that TensorFlow itself cannot run on every CPU, but the formats can. Maps of group
    normalization stay of four dimensions, so that ONNX's can be channels first.

    Args:
        model: Network to copy.
        dilated: Whether dilated convolutions become one operation, too, not one between two that
            move pixels: LiteRT has integers for it, ONNX Runtime has it for some sizes only.
    """
    plain = functools.partial(_plain, dilated=dilated)
    if not any(
        isinstance(layer, BlockStack) or _is_replaced(layer, dilated) for layer in model.layers
    ):
        return model
    copy = keras.models.clone_model(model, clone_function=plain)
    copy_weights(model, copy)
    return copy


def _plain(layer: keras.Layer, dilated: bool = False) -> keras.Layer:
    kind = type(layer)
    if isinstance(layer, BlockStack):
        kind = _Unrolled
    elif _is_replaced(layer, dilated):
        kind = _REPLACED[kind]
    return kind.from_config(layer.get_config())


def _is_replaced(layer: keras.Layer, dilated: bool) -> bool:
    if type(layer) is keras.layers.GroupNormalization:
        return layer.input_spec.ndim == 4 and layer.axis in (-1, 3)
    if type(layer) not in _REPLACED:
        return False
    return layer.groups > 1 or (dilated and max(layer.dilation_rate) > 1)


class _PlainConv2D(keras.layers.Conv2D):
    def convolution_op(self, inputs, kernel):
        padding = self.padding.upper()
        return tf.nn.conv2d(inputs, kernel, self.strides, padding, dilations=self.dilation_rate)


class _PlainStandardizedConv2D(StandardizedConv2D, _PlainConv2D):
    """Standardizes its kernel before the convolution."""


class _PlainGroupNormalization(keras.layers.GroupNormalization):
    """Takes means of maps `(batch, H, W, C)` per channel first, then of groups of channels."""

    def call(self, inputs):
        centered = inputs - _by_channel(self._means(inputs))
        factor = tf.math.rsqrt(self._means(centered * centered) + self.epsilon)
        if self.scale:
            factor *= self.gamma
        outputs = centered * _by_channel(factor)
        return outputs + self.beta if self.center else outputs

    def _means(self, maps):
        """Returns the means of the groups, for each of their channels: `(batch, C)`."""
        channels = maps.shape[-1]
        size = channels // self.groups
        means = tf.reshape(tf.reduce_mean(maps, [1, 2]), (-1, self.groups, size))
        means = tf.tile(tf.reduce_mean(means, 2, keepdims=True), (1, 1, size))
        return tf.reshape(means, (-1, channels))


def _by_channel(values):
    """Returns `(batch, C)` as `(batch, 1, 1, C)`."""
    # By a transposition, which tf2onnx sees is that of the maps, and moves behind the product.
    return tf.transpose(tf.reshape(values, (-1, values.shape[-1], 1, 1)), (0, 2, 3, 1))


_REPLACED = {
    keras.layers.Conv2D: _PlainConv2D,
    StandardizedConv2D: _PlainStandardizedConv2D,
    keras.layers.GroupNormalization: _PlainGroupNormalization,
}


class _Unrolled(BlockStack):
    """A stack whose blocks are traced one after the other, with constants for weights."""

    def __init__(self, block, *args, **kwargs):
        super().__init__(keras.models.clone_model(block, clone_function=_plain), *args, **kwargs)

    def call(self, inputs, training=None):
        pattern = [weight for _, weight in self._pattern_weights()]
        with tf.init_scope():  # where variables have values, whatever graph is being traced
            stacked = [np.asarray(variable) for variable in self._stacked]
        for i in range(self.repeats):
            values = [ops.convert_to_tensor(value[i]) for value in stacked]
            with keras.StatelessScope(list(zip(pattern, values, strict=True))):
                inputs = self.block(inputs, training=False)
        return inputs


def _with_standardization(model: keras.Model, prepared: Preprocessing) -> keras.Model:
    """Returns the model with a layer that standardizes between input and first layer."""
    images = keras.Input(model.inputs[0].shape[1:], name=private.layer_of(model.inputs[0]).name)
    front = keras.Model(images, standardize_layer(images, -1, prepared)(images)).get_config()
    source, standardized = front["layers"]
    config = functional_config(model, several_outputs=True)
    if any(layer["name"] == standardized["name"] for layer in config["layers"]):
        raise ValueError(
            f"`model` must have no layer {standardized['name']!r} yet for "
            f"preprocessing='imagenet'. Received: model {model.name!r}, which has one"
        )
    renamed = {source["name"]: standardized["name"]}
    for layer in config["layers"]:
        layer["inbound_nodes"] = rewired(
            layer["inbound_nodes"], lambda name: renamed.get(name, name)
        )
    config["layers"].insert(1, standardized)
    return rebuilt(model, config)


def _in_float32(config: Any) -> Any:
    """Returns a copy of a Keras config in which all floating-point dtypes are float32."""
    if isinstance(config, (list, tuple)):
        return type(config)(_in_float32(entry) for entry in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy" and "float" in config["config"]["name"]:
        return {**config, "config": {"name": "float32"}}
    return {
        key: "float32"
        if key == "dtype" and isinstance(value, str) and "float" in value
        else _in_float32(value)
        for key, value in config.items()
    }
