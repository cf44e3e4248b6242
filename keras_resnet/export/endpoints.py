"""The part of a network that a Hub module computes: logits, features, or the stages' maps.

Uses Keras only.
"""

from __future__ import annotations

from typing import Any

import keras

from keras_resnet.surgery.graphs import (
    OF_SCORES,
    output_function,
    score_layer,
    source,
    stage_ends,
)

# Kinds of modules, and the name of their single output; feature maps have the stages' names.
KINDS = {
    "feature_vector": "features",
    "classification": "logits",
    "feature_maps": None,
    "outputs": "outputs",
}
# Name of the logits of a classifier that ends in sigmoid, by which readers know what to apply.
SIGMOID_LOGITS = "sigmoid_logits"


def endpoint(model: keras.Model, kind: str) -> keras.Model:
    """Returns the part of the model that a module of that kind computes, on its own layers.

    For "classification" it ends as the model does; `drop_output_activation` makes logits of it.
    """
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    named = isinstance(model.output, dict)
    several = named or len(model.outputs) > 1
    outputs = model.output if named else dict(zip(model.output_names, model.outputs, strict=True))
    received = f"Received: model {model.name!r} with outputs {', '.join(outputs)}"
    if kind == "feature_maps":
        maps = dict(outputs) if several else stage_ends(model)
        if not maps or any(len(value.shape) != 4 for value in maps.values()):
            raise ValueError(
                "`model` must have stages whose layers are named conv2_... and on, or several maps "
                f"(batch, h, w, channels) as outputs. {received}"
            )
        return keras.Model(model.inputs[0], maps, name=model.name)
    if several:
        raise ValueError(
            "`model` must have one output without a name; export one of several or of named "
            f"outputs as kind='feature_maps'. {received}"
        )
    if kind == "feature_vector":
        return _vectors(model)
    if kind == "classification":
        _expect_scores(model)
    return model


def _expect_scores(model: keras.Model) -> None:
    scores = score_layer(model) is not None or output_function(model) in OF_SCORES
    if not scores or len(model.output_shape) != 2:
        raise ValueError(
            "`model` must end in a score for each class, with softmax, sigmoid or a layer "
            "without activation, for kind='classification'; export others as 'feature_vector' "
            f"or 'outputs'. Received: model {model.name!r} with outputs of shape "
            f"{tuple(model.output_shape[1:])}"
        )


def _vectors(model: keras.Model) -> keras.Model:
    """Returns the part of the model in front of its classifier, if it ends in one."""
    classifier = score_layer(model)
    # Dropout in front of a classifier is the classifier's own.
    features = model.outputs[0] if classifier is None else _before_dropout(classifier.input)
    if len(features.shape) != 2:
        raise ValueError(
            "`model` must give a vector per image; build it with pooling='avg', or export its maps "
            "as kind='feature_maps' or 'outputs'. "
            f"Received: model {model.name!r} with outputs of shape {tuple(features.shape[1:])}"
        )
    return model if classifier is None else keras.Model(model.inputs[0], features, name=model.name)


def class_probabilities(outputs: Any, output: str) -> Any:
    """Returns the probability of every class, `(batch, classes)`.

    Args:
        outputs: Outputs of a classifier, `(batch, outputs)`; one is that of the second of two
            classes, of sigmoid where it is a logit.
        output: "probabilities" or "logits".
    """
    single = outputs.shape[-1] == 1
    if output == "logits":
        outputs = keras.ops.sigmoid(outputs) if single else keras.ops.softmax(outputs)
    if single:
        return keras.ops.concatenate([1.0 - outputs, outputs], axis=-1)
    return outputs


def _before_dropout(tensor: keras.KerasTensor) -> keras.KerasTensor:
    dropped = isinstance(source(tensor), keras.layers.Dropout)
    return source(tensor, (keras.layers.Dropout,)).output if dropped else tensor
