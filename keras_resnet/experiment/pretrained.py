"""A trained network with a new classifier, to start from. Needs TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from keras_resnet.export import HubLayer
from keras_resnet.export.copies import missing_standardization
from keras_resnet.models.parts import classifier
from keras_resnet.naming import PREPROCESSING
from keras_resnet.network import Network
from keras_resnet.surgery import any_size, replace_classifier
from keras_resnet.surgery.graphs import classifier_of
from keras_resnet.utils.checks import first_line
from keras_resnet.utils.remote import is_remote, local_copy
from keras_resnet.weights.saving import load_model


def with_new_classifier(
    init: str, image_shape: tuple[int, ...], classes: int, activation: str = "softmax"
) -> keras.Model:
    """Returns a trained network whose classifier is a fresh one.

    Args:
        init: A `.keras` file of a model that ends in a Dense layer and standardizes images in
            [0, 255] itself, or remembers how; or a TF Hub module of images in [0, 1], its folder or
            https address. A module for classification keeps its logits as features. Both may be at
            an address such as gs://bucket/run/model.keras.
        image_shape: `(H, W, C)` of the images to come; another size than the network's own will do
            where it takes any.
        classes: Outputs of the new classifier.
        activation: Its activation.

    Returns:
        A model from images in [0, 255], `(batch, H, W, C)`, to probabilities `(batch, classes)`. A
        network of this package remembers how it was built and what its weights want done to images.

    Raises:
        ValueError: If there is no such network, or it takes other images.
    """
    if init.endswith(".keras"):
        model = load_model(init)
        _expect_classifier(model, image_shape)
        prepared = missing_standardization(model, "init", init)
        if isinstance(model, Network):
            changes: dict[str, Any] = {"input_shape": image_shape}
            if prepared is not None:
                changes["include_preprocessing"] = prepared
            return replace_classifier(model, classes, activation=activation, **changes)
        if model.input_shape[1:] != image_shape:
            model = any_size(model)
        inputs, features, name = model.input, classifier_of(model).input, model.name
    else:
        inputs, name = keras.Input(image_shape), Path(init).name.split("?")[0] or "module"
        images = keras.layers.Rescaling(1 / 255, name=PREPROCESSING)(inputs)
        try:
            handle = local_copy("init", init) if is_remote(init) else init
            features = HubLayer(handle, trainable=True, name="module")(images)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"`init` must be a module of images of shape {image_shape}. Received: "
                f"init={init!r} ({first_line(error)})"
            ) from error
    if len(getattr(features, "shape", ())) != 2:
        raise ValueError(
            "`init` must give a vector for each image, not maps or several outputs. "
            f"Received: init={init!r}"
        )
    return keras.Model(inputs, classifier(classes, activation)(features), name=name)


def _expect_classifier(model: keras.Model, image_shape: tuple[int, ...]) -> None:
    """Raises a ValueError if a model takes images of other channels, or ends in no Dense layer."""
    own = tuple(model.input_shape[1:])
    if len(own) != 3 or own[-1] != image_shape[-1]:
        raise ValueError(
            f"`init` must take images of {image_shape[-1]} channels, as the data set has them. "
            f"Received: a model of images of shape {own}"
        )
    last = classifier_of(model)
    if not isinstance(last, keras.layers.Dense):
        raise ValueError(
            "`init` must end in a Dense layer, the classifier, which a new one replaces. "
            f"Received: a model that ends in {type(last).__name__}"
        )
