"""Classifiers: a trained network with a new one, and what decides one's scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from keras_resnet.naming import CLASSIFIER, map_name
from keras_resnet.network import Network, network_of
from keras_resnet.surgery.graphs import classifier_of, source
from keras_resnet.surgery.rebuilding import rebuild


def replace_classifier(
    model: Network,
    classes: int,
    *,
    activation: str | Callable | None = "softmax",
    dropout: float = 0.0,
    **changes: Any,
) -> Network:
    """Returns the network with a new classifier, and copies of all other weights.

        model = keras_resnet.ResNet50(weights="imagenet", version="v1.5")
        model = keras_resnet.replace_classifier(model, 5, dropout=0.2)
        keras_resnet.freeze(model)  # all layers but the new one

    It is the network built again with another end (`surgery.rebuild`), and remembers that; names of
    the old classes are dropped. The classifier is a Dense layer of small random weights, also where
    the old one has as many classes. Other layers that are frozen in `model` are frozen in the copy.

    Args:
        model: A network of this package, which is unchanged: with a classifier, with
            `include_top=False`, or a `Backbone` that has its last stage.
        classes: Classes of the new classifier.
        activation: Its activation; None gives logits.
        dropout: Rate of dropout in front of it, in [0, 1).
        **changes: Other arguments of the general builder to change, such as `input_shape`.

    Returns:
        The new network, which is not compiled, from images to scores `(batch, classes)`.

    Raises:
        ValueError: If `model` does not remember how it was built or lacks stages, or an argument
            is wrong.
    """
    config = network_of(model)
    last = map_name(len(config.arguments["blocks"]) - 1)
    features = config.arguments["features"]
    if features is not None and last not in model.output:
        raise ValueError(
            f"`model` must have all stages to get a classifier, up to {last!r}. "
            f"Received: model {model.name!r} with {', '.join(model.output)}"
        )
    network = rebuild(
        model,
        include_top=True,
        pooling=None,
        features=None,
        classes=classes,
        classifier_activation=activation,
        classifier_dropout=dropout,
        **changes,
    )
    network.remember(network.network.without_classes())
    new = network.get_layer(CLASSIFIER)
    new.trainable = True
    # Where it has the shape of the old one, it has got its weights.
    new.kernel.assign(new.kernel_initializer(new.kernel.shape))
    new.bias.assign(new.bias_initializer(new.bias.shape))
    return network


class PooledClassifier(NamedTuple):
    """The two layers that end a classifier on globally averaged maps."""

    pooling: keras.layers.GlobalAveragePooling2D
    dense: keras.layers.Dense


def pooled_classifier(model: keras.Model) -> PooledClassifier:
    """Returns the layers of a functional model's end, if it is global average pooling and `Dense`.

    An activation may follow, and dropout stand between the two.

    Raises:
        ValueError: If the model ends otherwise.
    """
    outputs = getattr(model, "outputs", None) or ()
    dense = classifier_of(model) if len(outputs) == 1 else None
    pooling = None
    if isinstance(dense, keras.layers.Dense):
        pooling = source(dense.input, (keras.layers.Dropout,))
    if not isinstance(pooling, keras.layers.GlobalAveragePooling2D) or pooling.keepdims:
        raise ValueError(
            "`model` must end in global average pooling and a Dense classifier. "
            f"Received: model {getattr(model, 'name', model)!r}"
        )
    return PooledClassifier(pooling, dense)
