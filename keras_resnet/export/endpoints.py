"""The part of a network that a Hub module computes: logits, features, or the stages' maps.

Uses Keras only.
"""

from __future__ import annotations

import keras

from keras_resnet.naming import CLASSIFIER
from keras_resnet.surgery.graphs import classifier_of, source, stage_ends

# Kinds of modules, and the name of their single output; feature maps have the stages' names.
KINDS = {"feature_vector": "features", "classification": "logits", "feature_maps": None}


def endpoint(model: keras.Model, kind: str) -> keras.Model:
    """Returns the part of the model that a module of that kind computes, on its own layers."""
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
    classifier = classifier_of(model)
    classifies = isinstance(classifier, keras.layers.Dense) and classifier.name == CLASSIFIER
    if kind == "classification":
        if not classifies or classifier.output is not model.outputs[0]:
            raise ValueError(
                f"`model` must end in the Dense layer {CLASSIFIER!r} for kind='classification'; "
                f"export others as a 'feature_vector'. Received: model {model.name!r}"
            )
        return model
    # Dropout in front of a classifier is the classifier's own.
    features = _before_dropout(classifier.input) if classifies else model.outputs[0]
    if len(features.shape) != 2:
        raise ValueError(
            "`model` must give a vector per image; build it with pooling='avg', or export its maps "
            "as kind='feature_maps'. "
            f"Received: model with outputs of shape {tuple(features.shape)}"
        )
    return keras.Model(model.inputs[0], features, name=model.name) if classifies else model


def _before_dropout(tensor: keras.KerasTensor) -> keras.KerasTensor:
    dropped = isinstance(source(tensor), keras.layers.Dropout)
    return source(tensor, (keras.layers.Dropout,)).output if dropped else tensor
