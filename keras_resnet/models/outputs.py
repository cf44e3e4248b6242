"""The end of a network: feature maps, vectors, or the classifier."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras.layers import Dense, GlobalAveragePooling2D, GlobalMaxPooling2D

from keras_resnet.models.parts import Parts
from keras_resnet.naming import AVERAGE_POOL, CLASSIFIER, MAX_POOL
from keras_resnet.utils import checks


def check_output(include_top, pooling, classes, classifier_activation, default_classes) -> int:
    """Returns the number of classes.

    Raises:
        ValueError: If an argument is wrong, or some do not go together.
    """
    checks.one_of("pooling", pooling, (None, "avg", "max"))
    checks.boolean("include_top", include_top)
    checks.known("classifier_activation", classifier_activation, keras.activations.get)
    if include_top and pooling is not None:
        raise ValueError(
            "`pooling` goes with include_top=False; the top has its own average pooling. "
            f"Received: pooling={pooling!r} with include_top=True"
        )
    if not include_top and classes is not None:
        raise ValueError(
            "`classes` goes with include_top=True; leave it out where there is no classifier. "
            f"Received: classes={classes!r} with include_top=False"
        )
    return checks.integer("classes", default_classes if classes is None else classes)


def check_features(
    features, include_top: bool, pooling: str | None, maps: Sequence[str]
) -> tuple[str, ...]:
    """Returns the names of the stages' maps that a network is to give; none for one output.

    Raises:
        ValueError: If they are not among `maps`, or do not go with the rest.
    """
    if features is None:
        return ()
    if include_top or pooling is not None:
        raise ValueError(
            "`features` goes with include_top=False and pooling=None, since maps are what they "
            f"name. Received: features={features!r} with include_top={include_top}, "
            f"pooling={pooling!r}"
        )
    if isinstance(features, str) or not isinstance(features, Sequence) or not features:
        raise ValueError(
            f"`features` must be some of {', '.join(map(repr, maps))} in a list. "
            f"Received: features={features!r}"
        )
    return tuple(checks.one_of("features", name, maps) for name in features)


def image_output(x, include_top, pooling, classes, classifier_activation, parts: Parts):
    """Returns what the network gives out for the feature maps `x`."""
    if include_top or pooling == "avg":
        x = GlobalAveragePooling2D(parts.data_format, name=AVERAGE_POOL)(x)
    elif pooling == "max":
        x = GlobalMaxPooling2D(parts.data_format, name=MAX_POOL)(x)
    if not include_top:
        return x
    return Dense(
        classes,
        activation=classifier_activation,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        kernel_regularizer=parts.kernel_regularizer,
        # Logits and probabilities in float32 even where the rest computes in 16 bits.
        dtype=keras.config.dtype_policy().variable_dtype,
        name=CLASSIFIER,
    )(x)
