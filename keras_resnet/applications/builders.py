"""From an entry of the table to a builder with the arguments of `keras.applications`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_resnet.models import build
from keras_resnet.network import Network
from keras_resnet.utils import private
from keras_resnet.weights import PretrainedWeights

# Of all networks there: their batch normalization, and their layers.
_COMMON = {
    "bn_epsilon": 1.001e-5,
    "bn_momentum": 0.99,
    "stack_blocks": False,
    "keras_names": True,
}


def application(entry: str, published: PretrainedWeights, **options: Any) -> Callable[..., Network]:
    """Returns the builder of an entry of the table as `keras.applications` has it.

    Args:
        entry: Name of the entry.
        published: Weights that "imagenet" stands for.
        **options: Options in which the network there differs from the entry.
    """
    options = {**_COMMON, **options}

    def builder(
        include_top: bool = True,
        weights: str | Path | None = "imagenet",
        input_tensor: keras.KerasTensor | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: str | Callable | None = "softmax",
        name: str | None = entry.lower(),
    ) -> Network:
        include_top = bool(include_top)
        if weights == "imagenet" and include_top and classes != published.classes:
            raise ValueError(
                f"`classes` must be {published.classes} with the top of weights='imagenet'. "
                f"Received: classes={classes!r}"
            )
        shape: tuple[int | None, ...] | None = private.application_shape(
            input_shape, weights, include_top, classifier_activation
        )
        if input_tensor is not None:
            shape = None
        return build(
            entry,
            include_top,
            published.fetch() if weights == "imagenet" else weights,
            input_tensor,
            shape,
            # Keras takes whatever it does not use.
            pooling if pooling in ("avg", "max") else None,
            classes if include_top else None,
            classifier_activation if include_top else None,
            name,
            **options,
        )

    builder.__name__ = builder.__qualname__ = entry
    builder.__module__ = "keras_resnet.applications"
    builder.__doc__ = f"""Builds {entry} as `keras.applications.{entry}` does.

    Source: {published.recipe}.

    Args:
        include_top: Whether to end in global average pooling and the classifier.
        weights: "imagenet" for a download, once, of the weights that Keras has; the path of a file
            of weights or of a whole model; or None for random initialization.
        input_tensor: Keras tensor to build on, in place of `input_shape`; one of integers is cast.
        input_shape: Shape of one image without the batch, with the top of "imagenet" (224, 224, 3).
        pooling: Without the top: None for feature maps, "avg" or "max" for vectors.
        classes: Classes of the classifier. One of other classes in a file is not loaded, with a
            warning.
        classifier_activation: Activation of the classifier; None gives logits.
        name: Name of the model.

    Returns:
        A functional model, a `Network`, from images as the `preprocess_input` of this module
        returns them, `(batch, H, W, 3)`, to class probabilities `(batch, classes)`, feature maps
        `(batch, h, w, channels)` or vectors `(batch, channels)`. Its layers have the names, the
        order and the shapes that they have in Keras, so that each reads the weights of the other by
        `load_weights`.

    Raises:
        ValueError: If an argument is wrong, as in Keras.
        OSError: If the weights cannot be downloaded.
    """
    return builder
