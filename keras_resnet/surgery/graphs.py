"""Graphs of functional models, read from their layers or configs, changed, and built again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_resnet.naming import CLASSIFIER, find_stage, is_post, map_name
from keras_resnet.utils import private
from keras_resnet.weights import copy_weights

Config = dict[str, Any]
# What classifiers end in.
OF_SCORES = (keras.activations.softmax, keras.activations.sigmoid, keras.activations.linear)


def functional_config(model: keras.Model, *, several_outputs: bool = False) -> Config:
    """Returns the config of a model of one input and output, a `Sequential` one as functional.

    With `several_outputs` there may be several or named ones, which the config keeps.
    """
    inputs: list[Any] = getattr(model, "inputs", None) or []
    outputs: list[Any] = getattr(model, "outputs", None) or []
    allowed = len(outputs) == 1 or (several_outputs and outputs)
    if not isinstance(model, keras.Model) or len(inputs) != 1 or not allowed:
        raise ValueError(
            "`model` must be a functional Keras model with one input and one output. "
            f"Received: model of type {type(model).__name__}"
        )
    named = several_outputs and not isinstance(model, keras.Sequential)
    output = model.output if named else outputs[0]
    return keras.Model(inputs[0], output, name=model.name).get_config()


def source(tensor: keras.KerasTensor, skipped: tuple[type[Any], ...] = ()) -> keras.Operation:
    """Returns the layer that a tensor comes from, before layers of the classes `skipped`."""
    layer = private.layer_of(tensor)
    while isinstance(layer, skipped):
        layer = private.layer_of(layer.input)
    return layer


def classifier_of(model: keras.Model) -> keras.Operation:
    """Returns the layer that a model's first output comes from, before a separate activation."""
    return source(model.outputs[0], (keras.layers.Softmax, keras.layers.Activation))


def score_layer(model: keras.Model) -> keras.layers.Dense | None:
    """Returns the Dense layer in the end of a model that gives a score for each class, or None.

    It is called as in networks of this package, or reads vectors and ends in softmax, sigmoid or no
    activation. One that ends in another activation gives features.
    """
    dense = classifier_of(model)
    if not isinstance(dense, keras.layers.Dense):
        return None
    of_vectors = len(dense.input.shape) == 2 and output_function(model) in OF_SCORES
    return dense if of_vectors or dense.name == CLASSIFIER else None


def output_function(model: keras.Model) -> Callable | None:
    """Returns the activation that a model, or the model in its end, ends in; None without one."""
    layer = source(model.outputs[0])
    if isinstance(layer, keras.Model):
        return output_function(layer)
    if isinstance(layer, keras.layers.Softmax):
        return keras.activations.softmax if layer.axis == -1 else None
    return getattr(layer, "activation", None)


def stage_ends(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """Returns the last map of every stage by name, C2 to C5; nothing where there are no stages.

    It is the input of the next stage, and for the last one that of the pooling: with pre-activation
    (version "v2", DenseNet) the sum or concatenation that ends a stage, normalized and activated in
    the last stage only.
    """
    ends, name = {}, None
    # Layers are in order of computation.
    for layer in model.layers:
        stage = find_stage(layer.name)
        if stage is not None and stage >= 0:
            name = map_name(stage)
            ends[name] = layer.output
        elif name and is_post(layer.name) and layer.input is ends[name]:
            ends[name] = layer.output
    return ends


def rebuilt(model: keras.Model, config: Config) -> keras.Model:
    """Returns the model of a config, with copies of the weights of `model`."""
    net = keras.Model.from_config(config)
    copy_weights(model, net)
    return net


def sources(nodes: Any) -> list[str]:
    """Returns the names of the layers that inbound nodes read, once for each tensor."""
    found: list[str] = []

    def note(name):
        found.append(name)
        return name

    rewired(nodes, note)
    return found


def rewired(nodes: Any, follow: Callable[[str], str]) -> Any:
    """Returns a layer's inbound nodes with tensors of other layers; `follow` maps their names."""
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
    """Returns a model's `output_layers`, however nested, with other layers as in `rewired`."""
    if isinstance(outputs, dict):
        return {key: rewired_outputs(value, follow) for key, value in outputs.items()}
    if isinstance(outputs[0], str):
        return [follow(outputs[0]), *outputs[1:]]
    return [rewired_outputs(value, follow) for value in outputs]


def output_activation(config: Config) -> str | None:
    """Returns the name of the activation that a model, or the model in its end, ends in.

    It is "linear" for logits, "custom" for objects, and None where the last layer has none.
    """
    layer = _output_layer(config)
    if layer["class_name"] == "Softmax":
        return "softmax"
    activation = layer["config"].get("activation")
    return activation if activation is None or isinstance(activation, str) else "custom"


def drop_output_activation(config: Config) -> None:
    """Changes the config of a model that ends in softmax to one of logits, in place."""
    layer = _output_layer(config)
    if layer["class_name"] == "Softmax":
        if layer["config"].pop("axis") != -1:
            raise ValueError("A model must end in a softmax over its last axis, that of classes.")
        # Replaced by one that does nothing, and that takes no mask.
        layer |= {"module": "keras.layers", "class_name": "Activation"}
        for node in layer["inbound_nodes"]:
            node["kwargs"] = {}
    layer["config"]["activation"] = "linear"


def open_sides(config: Config) -> None:
    """Changes a config, and those in it, in place: images `(batch, any, any, C)` are taken."""
    for layer in _input_layers(config):
        batch, *shape = layer["config"]["batch_shape"]
        if len(shape) == 3:
            layer["config"]["batch_shape"] = [batch, None, None, shape[-1]]


def _output_layer(config: Config) -> Config:
    name = config["output_layers"][0]
    while isinstance(name, (list, tuple)):
        name = name[0]
    layer = next(layer for layer in config["layers"] if layer["name"] == name)
    inner = layer["config"]
    return _output_layer(inner) if "output_layers" in inner else layer


def _input_layers(value: Any) -> Iterator[Config]:
    """Yields every input in a config, those of nested models and of blocks of stacks included."""
    if isinstance(value, dict):
        if value.get("class_name") == "InputLayer":
            yield value
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return
    for entry in value:
        yield from _input_layers(entry)
