"""Networks as TF Hub modules: SavedModels that other programs run and fine-tune without us.

Needs TensorFlow, as Keras's backend too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data import Transforms
from keras_resnet.export import serving, verification
from keras_resnet.export.copies import (
    computes_in_float32,
    float32_copy,
    image_network,
    of_any_batch,
)
from keras_resnet.export.endpoints import KINDS, SIGMOID_LOGITS, endpoint
from keras_resnet.export.formats import add_assets
from keras_resnet.export.mismatch import ExportMismatchError
from keras_resnet.network import class_count
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.surgery.graphs import classifier_of, output_function
from keras_resnet.utils import checks
from keras_resnet.utils.files import replacing
from keras_resnet.utils.remote import local_path
from keras_resnet.weights.beside import LABELS, PREPROCESSING

# Signature of image files.
ENCODED = "serving_bytes"


def export_hub(
    model: keras.Model,
    path: str | Path,
    kind: str = "feature_vector",
    *,
    preprocessing: str | Preprocessing = "inside",
    labels: Sequence[str] | None = None,
    card: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a network as a module for `HubLayer`, `hub.KerasLayer` or `tf.saved_model.load`.

    The module computes in float32 whatever precision the network was trained in. It has

    - `__call__(images, training=False)`, from images `(batch, H, W, C)`, float32 in [0, 1], to
      features `(batch, features)`, logits `(batch, classes)`, a dict of maps `(batch, h, w,
      channels)` or the model's own outputs, any batch, and any H and W if the model takes any. With
      `training=True`, for one image or more, batch normalization uses the statistics of the batch
      and updates its moving averages, except in layers that were frozen in `model`;
    - `variables`; `trainable_variables`, without those of frozen layers; `regularization_losses`,
      a function without arguments for each kernel that has a regularizer;
    - the signatures `serving_default`, `images` as above, and `serving_bytes`, `encoded`: a vector
      of image files (of 1, 3 or 4 channels; `.npy` files for any other number of them), turned
      upright, resized and cropped as the weights want it. Both return `features`, `logits`,
      `outputs`, or the maps by name; `serving_bytes` also `error`, which is empty, or says that
      a file cannot be read, whose other outputs are zero. Models of images of which one side is
      open, or of any number of channels, lack it;
    - the assets `labels.txt`, `card.md` and `preprocessing.json` (`Preprocessing.to_json`), where
      known; `labels`, `card` and `preprocessing` hold their paths;
    - `assets.extra/SHA256SUMS`, against which this package verifies its files before it loads it,
      and others can with `sha256sum --check`.

    Source: "Reusable SavedModels" and "Common Signatures for Images" on tensorflow.org/hub.

    Args:
        model: Functional model of images in [0, 255], channels last, that standardizes them
            itself or remembers the standardization that its weights want. It is not changed.
        path: Directory to write, atomically; it is returned.
        kind: "feature_vector" (the input of the classifier, a last Dense layer of vectors that
            ends in softmax, sigmoid or no activation; the output of a model without one; "outputs"
            keeps a last Dense layer that makes features itself), "classification"
            (the scores of a model that ends in a Dense layer or an activation, without that
            activation), "feature_maps" (the last map of every stage, C2 to C5, found by the names
            of the layers; of a model of several or named outputs, these) or "outputs" (those of
            any model of one output, of any shape, as they are).
        preprocessing: For a model that does not standardize its images: "inside" puts the
            standardization in front of it that it remembers (`model.preprocessing`), and refuses
            a model that remembers none or is built on an `input_tensor`; "imagenet" takes
            ImageNet's, `preprocess_input`, where none is remembered; "none" gives it [0, 255] as
            it is. A `Preprocessing` takes the place of what is remembered; its mean and deviation
            only for a model that does not standardize its images. The module's description has
            those that are applied: 0 and 1 where the model takes [0, 255] as it is, or
            standardizes by numbers that it does not remember.
        labels: Name of every class, for a model with a classifier; by default those that it
            remembers.
        card: Text of the model card, Markdown, or the `Path` of a file that holds it.
        overwrite: Whether `path` may be an existing SavedModel. It is renamed out of the way, the
            new one to `path`, and only then is it removed.

    Raises:
        ValueError: If an argument is wrong, `path` exists, or the model standardizes nothing.
        ExportMismatchError: If the module that was written does not give the model's outputs. Like
            every other failure, it leaves nothing behind and an existing `path` as it was.
    """
    checks.one_of("kind", kind, tuple(KINDS))
    path = local_path("path", path)
    verification.check_path(path, overwrite)
    model, prepared = image_network(model, preprocessing)
    if labels is None and prepared is not None:
        labels = prepared.class_names
    source = endpoint(model, kind)
    if isinstance(source.output, dict) and serving.ERROR in source.output:
        raise ValueError(
            f"`model` must have no output named {serving.ERROR!r}, by which the signature "
            f"{ENCODED!r} tells what cannot be read. Received: model {model.name!r} with outputs "
            f"{', '.join(source.output)}"
        )
    texts = _texts(model, kind, labels, card)
    if prepared is not None:
        texts["preprocessing"] = PREPROCESSING, prepared.to_json()
    net = float32_copy(source, linear=kind == "classification")

    with replacing(path) as written:
        module = _module(net)
        add_assets(module, written.parent, texts)
        output = KINDS[kind]
        if kind == "classification" and output_function(source) is keras.activations.sigmoid:
            output = SIGMOID_LOGITS
        transforms = Transforms.for_images(net.inputs[0].shape[1:], prepared)
        signatures = _signatures(module, net, output, transforms)
        tf.saved_model.save(module, str(written), signatures)
        _verify(written, source, net, kind, transforms)
        verification.write_checksums(written)
    return path


def _texts(
    model: keras.Model, kind: str, labels: Sequence[str] | None, card: str | Path | None
) -> dict[str, tuple[str, str | None]]:
    """Returns (file name, text) of each asset by the name of the module's attribute."""
    texts: dict[str, tuple[str, str | None]] = {}
    if labels is not None:
        classifier = classifier_of(model)
        classes = None
        if isinstance(classifier, keras.layers.Dense):
            classes = class_count(classifier.units)
        if kind == "classification":
            classes = class_count(model.outputs[0].shape[-1])
        texts["labels"] = LABELS, verification.labels_text(labels, classes)
    if isinstance(card, Path):
        if not card.is_file():
            raise ValueError(
                f"`card` must be text or the Path of an existing file. Received: card={card!r}"
            )
        card = card.read_text(encoding="utf-8")
    if card is not None:
        texts["card"] = "card.md", str(card)
    return texts


def _module(net: keras.Model) -> Any:
    """Returns the root of the SavedModel: TF Hub's interface around a network of [0, 255]."""

    @tf.function(autograph=False)
    def call(inputs, training=False):
        images = inputs * 255.0
        return net(images, training=True) if training else of_any_batch(net, images)

    for training in (True, False):
        call.get_concrete_function(_image_spec(net, "inputs"), training=training)
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


def _loss_function(variable: keras.Variable) -> Any:
    return tf.function(lambda: variable.regularizer(variable), input_signature=[], autograph=False)


def _image_spec(net: keras.Model, name: str) -> tf.TensorSpec:
    return tf.TensorSpec((None, *net.inputs[0].shape[1:]), tf.float32, name=name)


def _signatures(
    module: Any, net: keras.Model, output: str | None, transforms: Transforms | None
) -> dict[str, Any]:
    @tf.function(input_signature=[_image_spec(net, "images")], autograph=False)
    def from_images(images):
        outputs = module.__call__(images, training=False)
        return outputs if output is None else {output: outputs}

    signatures = {"serving_default": from_images}
    if transforms is None:
        return signatures

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "encoded")], autograph=False)
    def from_bytes(encoded):
        images, readable = serving.decode_files(encoded, transforms)
        outputs = from_images(tf.cast(images, tf.float32) / 255.0)
        return serving.with_errors(outputs, readable)

    return signatures | {ENCODED: from_bytes}


def _verify(
    written: Path,
    source: keras.Model,
    net: keras.Model,
    kind: str,
    transforms: Transforms | None,
) -> None:
    """Runs the module that was written, and compares its outputs with the model's."""
    # Another precision gives other outputs; the float32 copy has the same weights.
    exact = computes_in_float32(source)
    reference = source if exact else net
    activation = output_function(source) if kind == "classification" and exact else None

    def expected(images: np.ndarray) -> list[tf.Tensor]:
        return tf.nest.flatten(reference(images * np.float32(255), training=False))

    def compare(received: Any, expected: list[tf.Tensor]) -> None:
        for one, other in zip(tf.nest.flatten(received), expected, strict=True):
            one = one if activation is None else activation(one)
            difference = verification.largest_difference(np.asarray(one), other.numpy(), 1.0)
            if not difference <= verification.TOLERANCE:  # so that NaN fails too
                raise ExportMismatchError(
                    "The module written must give the outputs of `model`, within "
                    f"{verification.TOLERANCE} of the largest; it was not kept. "
                    f"Received: a difference of {difference:.1e} from {source.name!r}"
                )

    images = verification.random_images(reference, net.inputs[0].shape[1:]) / np.float32(255)
    # On the CPU, where float32 is float32 everywhere and convolutions give the same bits.
    with tf.device("CPU:0"):
        module = verification.load_saved_model(written)
        outputs = expected(images)
        compare(module(tf.constant(images), training=False), outputs)
        compare(module.signatures["serving_default"](images=tf.constant(images)), outputs)
        if transforms is not None:
            files, pixels = serving.telling_files(reference, transforms)
            rows = module.signatures[ENCODED](encoded=tf.constant(files))
            compare(serving.whole_rows(rows), expected(pixels / np.float32(255)))
