"""A finished network with a new classifier, to train on from. Needs TensorFlow."""

from __future__ import annotations

from pathlib import Path

import keras

from keras_resnet.evaluation import any_size
from keras_resnet.export import HubLayer
from keras_resnet.surgery.graphs import classifier_of
from keras_resnet.utils.checks import first_line
from keras_resnet.weights.saving import load_model


def with_new_classifier(init: str, image_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Returns a finished network whose classifier is a fresh one.

    Args:
        init: A `.keras` file of a model that takes images in [0, 255] and ends in a Dense layer; or
            a TF Hub module of images in [0, 1], its folder or https address. A module for
            classification keeps its logits as features.
        image_shape: `(H, W, C)` of the images to come; another size than the network's own will do
            where it takes any.
        classes: Classes of the new classifier.

    Returns:
        A model from images in [0, 255], `(batch, H, W, C)`, to probabilities `(batch, classes)`.

    Raises:
        ValueError: If there is no such network, or it takes other images.
    """
    inputs = keras.Input(image_shape)
    if init.endswith(".keras"):
        body = _body(load_model(init), image_shape)
        inputs, features, name = body.input, body.output, body.name
    else:
        name = Path(init).name.split("?")[0] or "module"
        images = keras.layers.Rescaling(1 / 255, name="preprocessing")(inputs)
        try:
            features = HubLayer(init, trainable=True, name="module")(images)
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
    scores = keras.layers.Dense(
        classes,
        activation="softmax",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        # Probabilities in float32 even where the rest computes in 16 bits.
        dtype=keras.config.dtype_policy().variable_dtype,
        name="predictions",
    )(features)
    return keras.Model(inputs, scores, name=name)


def _body(model: keras.Model, image_shape: tuple[int, ...]) -> keras.Model:
    """Returns all of a network but its classifier, for images of some shape."""
    own = tuple(model.input_shape[1:])
    if len(own) != 3 or own[-1] != image_shape[-1]:
        raise ValueError(
            f"`init` must take images of {image_shape[-1]} channels, as the data set has them. "
            f"Received: a model of images of shape {own}"
        )
    if own != image_shape:
        model = any_size(model)
    classifier = classifier_of(model)
    if not isinstance(classifier, keras.layers.Dense):
        raise ValueError(
            "`init` must end in a Dense layer, the classifier, which a new one replaces. "
            f"Received: a model that ends in {type(classifier).__name__}"
        )
    return keras.Model(model.input, classifier.input, name=model.name)
