"""Networks as TF Hub modules: SavedModels that other programs run and fine-tune without us.

Needs TensorFlow, as Keras's backend too. The interface is TF Hub's "Reusable SavedModel", and the
images are those of its common signatures: float32 in [0, 1], `(batch, H, W, C)`, any batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.export.copies import (
    computes_in_float32,
    float32_copy,
    image_network,
)
from keras_resnet.export.endpoints import KINDS, endpoint, find_classifier
from keras_resnet.export.writing import check_path, label_lines
from keras_resnet.naming import CLASSIFIER
from keras_resnet.utils import checks
from keras_resnet.utils.files import replacing

# The largest difference between module and model, as a part of the largest output (of 1, if that is
# larger). Grappler fuses what Keras runs op by op, which moves the last bits only: 3e-7 for a
# ResNet-152.
TOLERANCE = 1e-5


def export_hub(
    model: keras.Model,
    path: str | Path,
    kind: str = "feature_vector",
    *,
    preprocessing: str = "inside",
    labels: Sequence[str] | None = None,
    card: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a network as a module for `HubLayer`, `hub.KerasLayer` or `tf.saved_model.load`.

    The module computes in float32 whatever precision the network was trained in. It has

    - `__call__(images, training=False)`, from images `(batch, H, W, C)`, float32 in [0, 1], to
      features `(batch, features)`, logits `(batch, classes)` or a dict of maps `(batch, h, w,
      channels)`, any batch, and any H and W if the model takes any. With `training=True` batch
      normalisation uses the statistics of the batch and moves its averages, except in layers that
      were frozen in `model`;
    - `variables`; `trainable_variables`, without those of frozen layers; `regularization_losses`,
      a function without arguments for each kernel that has a regularizer;
    - the signatures `serving_default`, `images` as above, and `serving_bytes`, `encoded`: a vector
      of JPEG or PNG files, made grey or RGB as the model is, and scaled (bilinear, antialiased) to
      the model's size. A model of any size needs a batch of images of one size. Both return
      `features`, `logits`, or the maps by name;
    - the assets `labels.txt` and `card.md`, where given; `labels` and `card` hold their paths.

    Source: "Reusable SavedModels" and "Common Signatures for Images" on tensorflow.org/hub.

    Args:
        model: Functional model of images in [0, 255], channels last, that standardises them
            itself. It is not changed.
        path: Directory to write. It appears whole or not at all.
        kind: "feature_vector" (what goes into the classifier, the layer "predictions"; the output
            of a model without one), "classification" (the classifier without its activation) or
            "feature_maps" (the last map of every stage, C2 to C5, found by the names of the
            layers; of a model of several or named outputs, these).
        preprocessing: For a model that does not standardise its images: "imagenet" puts
            `preprocess_input` in front of it, "none" gives it [0, 255] as it is.
        labels: Name of every class, for a model with a classifier.
        card: Text of the model card, Markdown, or the `Path` of a file that holds it.
        overwrite: Whether `path` may be an existing SavedModel. It is renamed out of the way, the
            new one to `path`, and only then is it removed.

    Returns:
        `path`.

    Raises:
        ValueError: If an argument is wrong, `path` exists, or the model standardises nothing; the
            message says what would do.
        RuntimeError: If the module that was written does not give the model's outputs. Like every
            other failure, it leaves nothing behind and an existing `path` as it was.
    """
    checks.one_of("kind", kind, tuple(KINDS))
    path = Path(path)
    check_path(path, overwrite)
    model = image_network(model, preprocessing)
    source = endpoint(model, kind)
    texts = _assets(model, labels, card)
    net = float32_copy(source, linear=CLASSIFIER)

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


def _assets(model, labels, card):
    """Returns (file name, text) by the name of the module's attribute."""
    assets = {}
    if labels is not None:
        classifier = find_classifier(model)
        classes = None if classifier is None else classifier.units
        assets["labels"] = ("labels.txt", label_lines(labels, classes))
    if card is not None:
        if isinstance(card, Path) and not card.is_file():
            raise ValueError(
                f"`card` must be text or the Path of an existing file. Received: card={card!r}"
            )
        text = card.read_text(encoding="utf-8") if isinstance(card, Path) else str(card)
        assets["card"] = ("card.md", text)
    return assets


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
    return tf.TensorSpec((None, *net.inputs[0].shape[1:]), tf.float32, name=name)


def _signatures(module, net, output):
    height, width, channels = net.inputs[0].shape[1:]

    @tf.function(input_signature=[_image_spec(net, "images")], autograph=False)
    def from_images(images):
        outputs = module.__call__(images, training=False)
        return outputs if output is None else {output: outputs}

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
    shape = [64 if side is None else side for side in net.inputs[0].shape[1:]]
    images = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    # Another precision gives other outputs; the float32 copy has the same weights.
    exact = computes_in_float32(source)
    activation = find_classifier(source).activation if kind == "classification" and exact else None
    # On the CPU, where float32 is float32 everywhere and convolutions give the same bits.
    with tf.device("CPU:0"):
        module = tf.saved_model.load(str(written))
        answers = [
            module(tf.constant(images), training=False),
            module.signatures["serving_default"](images=tf.constant(images)),
        ]
        expected = _by_name((source if exact else net)(images * 255.0, training=False), kind)
        for answer in answers:
            for name, received in _by_name(answer, kind).items():
                received = received if activation is None else activation(received)
                _compare(received, expected[name], source.name)


def _by_name(outputs, kind):
    return outputs if isinstance(outputs, dict) else {KINDS[kind]: outputs}


def _compare(received, expected, name):
    received, expected = np.asarray(received), np.asarray(expected)
    difference = np.max(np.abs(received - expected)) / max(1.0, np.max(np.abs(expected)))
    if not difference <= TOLERANCE:  # so that NaN fails too
        raise RuntimeError(
            f"The module written must answer as `model` does, within {TOLERANCE} of the largest "
            f"output; it was not kept. Received: a difference of {difference:.1e} from {name!r}"
        )
