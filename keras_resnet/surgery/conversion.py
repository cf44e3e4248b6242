"""Trained networks prepared for evaluation: for images of any size, as logits, as a map."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from keras_resnet.models.arguments import open_shape
from keras_resnet.network import remembered
from keras_resnet.surgery.fake_quantization import is_quantized
from keras_resnet.surgery.graphs import (
    drop_output_activation,
    functional_config,
    open_sides,
    output_activation,
    rebuilt,
)
from keras_resnet.surgery.heads import pooled_classifier
from keras_resnet.surgery.rebuilding import rebuild


def any_size(model: keras.Model) -> keras.Model:
    """Returns a copy that takes images of any size, with the same weights.

    A network that ends in global pooling is fully convolutional but for its input: where the maps
    are larger, the logits are the mean of those at all positions (`score_map`). At the model's own
    size the outputs are the model's own, and no padding is added anywhere.

    Args:
        model: Network of this package, or another functional model of images `(batch, H, W, C)`.

    Returns:
        The model of images `(batch, any, any, C)`; of a `Network` one that remembers what it is.

    Raises:
        ValueError: If the model is not functional, or one of its layers depends on the size.
    """
    # Models in front of a network take images of one size, unless opened by their configs.
    nested = any(isinstance(layer, keras.Model) for layer in getattr(model, "layers", ()))
    if remembered(model) and not nested and not is_quantized(model):
        data_format = model.network.arguments["data_format"]
        net = rebuild(model, input_shape=open_shape(model.input, data_format))
    else:
        config = functional_config(model)
        shape = model.input_shape
        formats = [layer["config"].get("data_format") for layer in config["layers"]]
        if len(shape) != 4 or "channels_first" in formats:
            raise ValueError(
                "`model` must take images (batch, height, width, channels). "
                f"Received: model {model.name!r} with inputs of shape {tuple(shape)}"
            )
        open_sides(config)
        net = rebuilt(model, config)
    fixed = next(_layers_of_one_size(net), None)
    if fixed is not None:
        raise ValueError(
            "`model` must end in global pooling to take images of any size, not in a Dense layer "
            f"on flattened maps. Received: model {model.name!r} with the layer {fixed!r}"
        )
    return net


def with_logits(model: keras.Model) -> keras.Model:
    """Returns a copy that outputs logits, with the same weights; a model of logits as it is.

    The copy of a `Network` remembers what it is.

    Raises:
        ValueError: If the model does not end in softmax or in no activation.
    """
    config = functional_config(model)
    activation = output_activation(config)
    if activation not in ("softmax", "linear"):
        raise ValueError(
            "`model` must end in softmax, or in a layer without activation, to have logits. "
            f"Received: model {model.name!r}, which ends in activation {activation!r}"
        )
    if activation == "linear":
        return model
    if remembered(model) and not is_quantized(model):
        return rebuild(model, classifier_activation=None)
    drop_output_activation(config)
    return rebuilt(model, config)


def score_map(model: keras.Model) -> keras.Model:
    """Returns the classifier applied at every position of the last map, in place of their mean.

    The classifier becomes a 1x1 convolution with the same weights. The mean of its map is the
    logits of `any_size(model)`.

    Args:
        model: Functional model that ends in global average pooling and `Dense`.

    Returns:
        A model of images `(batch, any, any, C)` to logits `(batch, h, w, classes)`.

    Raises:
        ValueError: If the model ends otherwise.
    """
    net = any_size(model)
    pooling, classifier = pooled_classifier(net)
    convolution = keras.layers.Conv2D(
        classifier.units,
        1,
        use_bias=classifier.use_bias,
        data_format=pooling.data_format,
        dtype=classifier.dtype_policy,
        name=classifier.name,
    )
    scores = keras.Model(net.input, convolution(pooling.input), name=model.name)
    kernel, *bias = classifier.get_weights()
    convolution.set_weights([kernel[None, None], *bias])
    return scores


def _layers_of_one_size(net: keras.Model) -> Iterator[str]:
    """Yields the layers whose weights fix the length of an axis that depends on the image."""
    for layer in net.layers:
        if isinstance(layer, keras.Model):
            yield from _layers_of_one_size(layer)
        elif isinstance(layer.input_spec, keras.InputSpec):
            known = layer.input_spec.axes or {}
            if any(layer.input.shape[axis] is None for axis in known):
                yield layer.name
