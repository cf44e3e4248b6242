"""Networks as TF Hub modules: SavedModels that other programs run and fine-tune without us.

Needs TensorFlow, as Keras's backend too. The interface is TF Hub's "Reusable SavedModel", and the
images are those of its common signatures: float32 in [0, 1], `(batch, H, W, C)`, any batch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import checks
from keras_resnet.files import replacing
from keras_resnet.layers import BlockStack
from keras_resnet.rebuild import is_functional, rebuilt

KINDS = {"feature_vector": "features", "classification": "logits"}
CLASSIFIER = "predictions"

# The largest difference between module and model, as a part of the largest output (of 1, if that is
# larger). Grappler fuses what Keras runs op by op, which moves the last bits only: 3e-7 for a
# ResNet-152.
TOLERANCE = 1e-5


def export_hub(
    model: keras.Model,
    path: str | Path,
    kind: str = "feature_vector",
    *,
    labels: Sequence[str] | None = None,
    card: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a network as a module for `HubLayer`, `hub.KerasLayer` or `tf.saved_model.load`.

    The module computes in float32 whatever precision the network was trained in. It has

    - `__call__(images, training=False)`, from images `(batch, H, W, C)`, float32 in [0, 1], to
      features `(batch, features)` or logits `(batch, classes)`, any batch, and any H and W if the
      model takes any. With `training=True` batch normalisation uses the statistics of the batch
      and moves its averages, except in layers that were frozen in `model`;
    - `variables`; `trainable_variables`, without those of frozen layers; `regularization_losses`,
      a function without arguments for each kernel that has a regularizer;
    - the signatures `serving_default`, `images` as above, and `serving_bytes`, `encoded`: a vector
      of JPEG or PNG files, made grey or RGB as the model is, and scaled (bilinear, antialiased) to
      the model's size. A model of any size needs a batch of images of one size. Both return
      `features` or `logits`;
    - the assets `labels.txt` and `card.md`, where given; `labels` and `card` hold their paths.

    Source: "Reusable SavedModels" and "Common Signatures for Images" on tensorflow.org/hub.

    Args:
        model: Functional model of images in [0, 255], channels last. It is not changed.
        path: Directory to write. It appears whole or not at all.
        kind: "feature_vector" (what goes into the classifier, the layer "predictions"; the output
            of a model without one) or "classification" (the classifier without its activation).
        labels: Name of every class, for a model with a classifier.
        card: Text of the model card, Markdown, or the `Path` of a file that holds it.
        overwrite: Whether `path` may be an existing SavedModel. It is renamed out of the way, the
            new one to `path`, and only then is it removed.

    Returns:
        `path`.

    Raises:
        ValueError: If an argument is wrong, or `path` exists; the message says what would do.
        RuntimeError: If the module that was written does not give the model's outputs. Like every
            other failure, it leaves nothing behind and an existing `path` as it was.
    """
    checks.one_of("kind", kind, tuple(KINDS))
    path = Path(path)
    _check_path(path, overwrite)
    source = _endpoint(model, kind)
    texts = _assets(model, labels, card)
    net = _float32_copy(source)

    with replacing(path) as written:
        module = _module(net)
        for name, (file_name, text) in texts.items():
            # Beside the module, which gets a copy of its own.
            asset = written.with_name(file_name)
            asset.write_text(text, encoding="utf-8")
            setattr(module, name, tf.saved_model.Asset(str(asset)))
        tf.saved_model.save(module, str(written), _signatures(module, net, KINDS[kind]))
        _verify(written, source, net, kind)
    return path


def _check_path(path, overwrite):
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise ValueError(
            "`path` must not exist yet, or pass overwrite=True to replace the SavedModel there. "
            f"Received: path={str(path)!r}"
        )
    if path.is_symlink() or not (path / "saved_model.pb").is_file():
        raise ValueError(
            "`path` must be new or a SavedModel's directory; overwrite=True replaces nothing else. "
            f"Received: path={str(path)!r}"
        )


def _endpoint(model, kind):
    """Returns the part of the model that the module computes, on the model's own layers."""
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "A Hub module can be written on Keras's TensorFlow backend only; set "
            f"KERAS_BACKEND=tensorflow. The backend is {keras.backend.backend()!r}."
        )
    if not is_functional(model):
        raise ValueError(
            "`model` must be a functional Keras model with one input and one output. "
            f"Received: model of type {type(model).__name__}"
        )
    if any(getattr(layer, "data_format", None) == "channels_first" for layer in model.layers):
        raise ValueError(
            "`model` must take images channels last, as TF Hub's modules do; build it with "
            "data_format='channels_last' and copy the weights. Received: a channels-first model"
        )
    if len(model.input.shape) != 4:
        raise ValueError(
            "`model` must take images (batch, H, W, C). "
            f"Received: model with inputs of shape {tuple(model.input.shape)}"
        )
    classifier = _classifier(model)
    if kind == "classification":
        if classifier is None or classifier.output is not model.output:
            raise ValueError(
                f"`model` must end in the Dense layer {CLASSIFIER!r} for kind='classification'; "
                f"export others as a 'feature_vector'. Received: model {model.name!r}"
            )
        return model
    features = model.output if classifier is None else classifier.input
    if len(features.shape) != 2:
        raise ValueError(
            "`model` must give a vector per image; build it with pooling='avg'. "
            f"Received: model with outputs of shape {tuple(features.shape)}"
        )
    return model if classifier is None else keras.Model(model.input, features, name=model.name)


def _classifier(model):
    """Returns the layer that turns features into scores, or None where there is none."""
    named = [layer for layer in model.layers if layer.name == CLASSIFIER]
    return named[0] if named and isinstance(named[0], keras.layers.Dense) else None


def _assets(model, labels, card):
    """Returns (file name, text) by the name of the module's attribute."""
    assets = {}
    if labels is not None:
        classifier = _classifier(model)
        classes = None if classifier is None else classifier.units
        labels = [labels] if isinstance(labels, str) else list(labels)
        lines = [name for name in labels if isinstance(name, str) and name.splitlines() == [name]]
        if classes is None or len(labels) != classes or len(lines) != classes:
            wanted = "none, as `model` has no classifier" if classes is None else f"{classes} lines"
            raise ValueError(
                f"`labels` must be a line of text for every class ({wanted}). "
                f"Received: {len(labels)} labels, {len(lines)} of them lines of text"
            )
        assets["labels"] = ("labels.txt", "".join(f"{name}\n" for name in labels))
    if card is not None:
        if isinstance(card, Path) and not card.is_file():
            raise ValueError(
                f"`card` must be text or the Path of an existing file. Received: card={card!r}"
            )
        text = card.read_text(encoding="utf-8") if isinstance(card, Path) else str(card)
        assets["card"] = ("card.md", text)
    return assets


def _float32_copy(source):
    """Returns the network with weights of its own, in float32, and without final activation."""
    config = _in_float32(source.get_config())
    for layer in config["layers"]:
        if layer["config"].get("name") == CLASSIFIER:
            layer["config"]["activation"] = "linear"
        if layer["class_name"] == BlockStack.__name__:
            # Recomputation is Python code that runs with the gradient, and stays behind here.
            layer["config"]["recompute"] = False
    return rebuilt(source, config)


def _in_float32(config: Any) -> Any:
    """Returns a copy of a Keras config in which all floating-point dtypes are float32."""
    if isinstance(config, (list, tuple)):
        return type(config)(_in_float32(entry) for entry in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy" and "float" in config["config"]["name"]:
        return {**config, "config": {"name": "float32"}}
    return {
        key: "float32"
        if key == "dtype" and isinstance(value, str) and "float" in value
        else _in_float32(value)
        for key, value in config.items()
    }


def _module(net):
    """Returns the root of the SavedModel: TF Hub's interface around a network of [0, 255]."""

    @tf.function(autograph=False)
    def call(inputs, training=False):
        return net(inputs * 255.0, training=training)

    images = _image_spec(net)
    for training in (True, False):
        call.get_concrete_function(images, training=training)
    module = tf.__internal__.tracking.AutoTrackable()
    module.__call__ = call
    # With the seeds of dropout, which `weights` lacks.
    module.variables = [variable.value for variable in net.variables]
    module.trainable_variables = [variable.value for variable in net.trainable_variables]
    module.regularization_losses = [
        _loss_function(variable)
        for variable in net.trainable_variables
        if variable.regularizer is not None
    ]
    return module


def _loss_function(variable):
    return tf.function(lambda: variable.regularizer(variable), input_signature=[], autograph=False)


def _image_spec(net, name="inputs"):
    return tf.TensorSpec((None, *net.input.shape[1:]), tf.float32, name=name)


def _signatures(module, net, output):
    height, width, channels = net.input.shape[1:]

    @tf.function(input_signature=[_image_spec(net, "images")], autograph=False)
    def from_images(images):
        return {output: module.__call__(images, training=False)}

    def decoded(encoded):
        image = tf.io.decode_image(encoded, channels, expand_animations=False)
        image = tf.cast(image, tf.float32)
        if height and width:
            image = tf.image.resize(image, (height, width), antialias=True)
        return image / 255.0

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "encoded")], autograph=False)
    def from_bytes(encoded):
        spec = tf.TensorSpec((height, width, channels), tf.float32)
        return from_images(tf.map_fn(decoded, encoded, fn_output_signature=spec))

    signatures = {"serving_default": from_images}
    if channels in (1, 3, 4):  # grey, RGB, RGBA: what an image file can hold
        signatures["serving_bytes"] = from_bytes
    return signatures


def _verify(written, source, net, kind):
    """Runs the module that was written, and compares its outputs with the model's."""
    # Any side will do that leaves a pixel on the last map of the deepest of the networks.
    shape = [64 if side is None else side for side in net.input.shape[1:]]
    images = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    # On the CPU, where float32 is float32 everywhere and convolutions give the same bits.
    with tf.device("CPU:0"):
        module = tf.saved_model.load(str(written))
        signature = module.signatures["serving_default"](images=tf.constant(images))
        received = module(tf.constant(images), training=False)
        if all(layer.compute_dtype == "float32" for layer in source.layers):
            expected = source(images * 255.0, training=False)
            if kind == "classification":
                received = _classifier(source).activation(received)
                signature = {KINDS[kind]: _classifier(source).activation(signature[KINDS[kind]])}
        else:  # Another precision gives other outputs; the float32 copy has the same weights.
            expected = net(images * 255.0, training=False)
    expected = np.asarray(expected)
    scale = max(1.0, np.max(np.abs(expected)))
    for outputs in (received, signature[KINDS[kind]]):
        difference = np.max(np.abs(np.asarray(outputs) - expected)) / scale
        if not difference <= TOLERANCE:  # so that NaN fails too
            raise RuntimeError(
                f"The module that was written differs from {source.name!r} by {difference:.1e} of "
                f"the largest output, more than {TOLERANCE}; it was not kept."
            )
