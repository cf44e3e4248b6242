"""A model built anew from its config, with something changed in it and the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_resnet.utils import private
from keras_resnet.weights import copy_weights

Config = dict[str, Any]


def is_functional(model: object) -> bool:
    """Whether `model` is a Keras model of one input and one output."""
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    return (
        isinstance(model, keras.Model)
        and bool(inputs and outputs)
        and len(inputs) == len(outputs) == 1
    )


def functional_config(model: keras.Model) -> Config:
    """Returns the config of a model as a functional one, a `Sequential` too.

    Raises:
        ValueError: If the model is not functional, or has several inputs or outputs.
    """
    if not is_functional(model):
        raise ValueError(
            "`model` must be a functional Keras model with one input and one output. "
            f"Received: model of type {type(model).__name__}"
        )
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name).get_config()


def source(tensor: keras.KerasTensor, skipped: tuple[type, ...] = ()) -> keras.Operation:
    """Returns the layer that a tensor comes from, past layers of the kinds `skipped`."""
    layer = private.layer_of(tensor)
    while isinstance(layer, skipped):
        layer = private.layer_of(layer.input)
    return layer


def classifier_of(model: keras.Model) -> keras.Operation:
    """Returns the layer that gives a model's scores, in front of an activation of its own.

    Args:
        model: Functional model; whether the layer is a `Dense` one is for the caller to see.
    """
    return source(model.output, (keras.layers.Softmax, keras.layers.Activation))


def rebuilt(model: keras.Model, config: Config) -> keras.Model:
    """Returns the model of a config, with weights of its own: copies of those of `model`."""
    net = keras.Model.from_config(config)
    copy_weights(model, net)
    return net


def sources(nodes: Any) -> Iterator[str]:
    """Yields the names of the layers that a layer's inbound nodes take their tensors from."""
    if isinstance(nodes, dict):
        if nodes.get("class_name") == "__keras_tensor__":
            yield nodes["config"]["keras_history"][0]
            return
        nodes = nodes.values()
    elif not isinstance(nodes, (list, tuple)):
        return
    for node in nodes:
        yield from sources(node)


def rewired(nodes: Any, follow: Callable[[str], str]) -> Any:
    """Returns a layer's inbound nodes with their tensors taken from other layers.

    Args:
        nodes: `inbound_nodes` of a layer in the config of a functional model.
        follow: Maps the name of the layer that a tensor comes from to that of the new one.
    """
    if isinstance(nodes, dict):
        if nodes.get("class_name") == "__keras_tensor__":
            name, *place = nodes["config"]["keras_history"]
            config = {**nodes["config"], "keras_history": [follow(name), *place]}
            return {**nodes, "config": config}
        return {key: rewired(value, follow) for key, value in nodes.items()}
    if isinstance(nodes, (list, tuple)):
        return type(nodes)(rewired(value, follow) for value in nodes)
    return nodes


def rewired_outputs(outputs: Any, follow: Callable[[str], str]) -> Any:
    """Does to a model's `output_layers`, however nested, what `rewired` does to inbound nodes."""
    if isinstance(outputs, dict):
        return {key: rewired_outputs(value, follow) for key, value in outputs.items()}
    if isinstance(outputs[0], str):
        return [follow(outputs[0]), *outputs[1:]]
    return [rewired_outputs(value, follow) for value in outputs]


def output_activation(config: Config) -> str | None:
    """Returns the name of the activation that a model ends in.

    Args:
        config: Config of a functional model, or of one that ends in another one.

    Returns:
        "softmax", "linear" (which is to say logits) or whatever else, or None where the last layer
        does not tell.
    """
    layer = _output_layer(config)
    if layer["class_name"] == "Softmax":
        return "softmax"
    activation = layer["config"].get("activation")
    return activation if activation is None or isinstance(activation, str) else "custom"


def drop_output_activation(config: Config) -> None:
    """Makes a model that ends in softmax give logits; changes its config in place."""
    layer = _output_layer(config)
    if layer["class_name"] == "Softmax":
        if layer["config"].pop("axis") != -1:
            raise ValueError("A model must end in a softmax over its last axis, that of classes.")
        # In its place one that does nothing, and that takes no mask.
        layer |= {"module": "keras.layers", "class_name": "Activation"}
        for node in layer["inbound_nodes"]:
            node["kwargs"] = {}
    layer["config"]["activation"] = "linear"


def open_sides(config: Config) -> None:
    """Makes a model take images of any size; changes its config, and those in it, in place."""
    first = is_channels_first(config)
    for layer in _input_layers(config):
        batch, *shape = layer["config"]["batch_shape"]
        if len(shape) == 3:
            opened = [shape[0], None, None] if first else [None, None, shape[-1]]
            layer["config"]["batch_shape"] = [batch, *opened]


def is_channels_first(config: Config) -> bool:
    """Whether a functional model takes images (channels, height, width)."""
    formats = (layer["config"].get("data_format") for layer in config["layers"])
    return "channels_first" in formats


def _output_layer(config: Config) -> Config:
    name = config["output_layers"][0]
    while isinstance(name, (list, tuple)):
        name = name[0]
    layer = next(layer for layer in config["layers"] if layer["name"] == name)
    inner = layer["config"]
    return _output_layer(inner) if "output_layers" in inner else layer


def _input_layers(value: Any) -> Iterator[Config]:
    """Yields every input in a config, those of nested models and of the blocks of stacks too."""
    if isinstance(value, dict):
        if value.get("class_name") == "InputLayer":
            yield value
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return
    for entry in value:
        yield from _input_layers(entry)
