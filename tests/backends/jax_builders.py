"""Runs the builders on JAX, and compares with what TensorFlow gave for the same weights.

Usage: jax_builders.py FOLDER NAMES..., where FOLDER has NAME.weights.h5 and NAME.npz for each of
them, "stacked" among them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import keras
import numpy as np
from cases import CHANNELS_FIRST, OPTIONS, TRAINED, build

import keras_resnet
from keras_resnet.analysis import class_activation_maps
from keras_resnet.surgery import slimming

# Two frameworks' kernels in float32.
TOLERANCE = 1e-4

folder = Path(sys.argv[1])
names = sys.argv[2:]
assert keras.backend.backend() == "jax"


def assert_close(value, expected, what):
    value, expected = np.asarray(value, "float64"), np.asarray(expected, "float64")
    assert value.shape == expected.shape, (what, value.shape, expected.shape)
    distance = np.abs(value - expected).max() / np.abs(expected).max()
    assert distance < TOLERANCE, (what, distance)


def variables(model):
    return [
        [variable.value for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]


def answers(model, x):
    return jax.jit(lambda *v: model.stateless_call(*v, x, training=False)[0])(*variables(model))


def training_step(model, x, labels):
    """Returns the loss, the gradients and the moving statistics after one step."""

    def loss_of(trainable, fixed):
        logits, fixed = model.stateless_call(trainable, fixed, x, training=True)
        losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        return keras.ops.mean(losses), fixed

    (loss, fixed), gradients = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(*variables(model))
    return loss, gradients, fixed


for name in names:
    if name in CHANNELS_FIRST and name not in TRAINED:
        continue
    data = np.load(folder / f"{name}.npz", allow_pickle=False)
    model = build(keras_resnet, name, weights=folder / f"{name}.weights.h5")
    assert_close(answers(model, data["x"]), data["y"], name)
    print(name)
    if name not in TRAINED:
        continue
    loss, gradients, fixed = training_step(model, data["x"], data["labels"])
    assert_close(loss, data["loss"], name)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert np.isfinite(gradient).all(), (name, variable.path)
        assert np.any(gradient), (name, variable.path)
    for variable, value in zip(model.non_trainable_variables, fixed, strict=True):
        assert_close(value, data[variable.path], (name, variable.path))

# Channels first, which TensorFlow convolves on GPUs only; option A's padding is in it too, and the
# average pools of the wider family.
height, width, channels = OPTIONS["input_shape"]
for name in [name for name in names if name in CHANNELS_FIRST]:
    data = np.load(folder / f"{name}.npz", allow_pickle=False)
    model = build(
        keras_resnet,
        name,
        input_shape=(channels, height, width),
        weights=folder / f"{name}.weights.h5",
        data_format="channels_first",
    )
    first = np.moveaxis(data["x"], -1, 1)
    assert_close(answers(model, first), data["y"], (name, "channels first"))
    print(f"{name}, channels first")

# A new classifier, class activation maps, and maps by number.
for name, data_format in (("basic", "channels_last"), ("basic", "channels_first")):
    data = np.load(folder / f"{name}.npz", allow_pickle=False)
    first = data_format == "channels_first"
    x = np.moveaxis(data["x"], -1, 1) if first else data["x"]
    weights = folder / f"{name}.weights.h5"
    options = {"input_shape": x.shape[1:], "data_format": data_format, "weights": weights}
    model = build(keras_resnet, name, **options)
    maps = class_activation_maps(model, x, resize=True)
    assert maps.shape == (len(x), height, width)
    maps, best = class_activation_maps(model, x), data["y"].argmax(axis=1)
    bias = np.asarray(model.get_layer("predictions").bias)
    assert_close(maps.mean(axis=(1, 2)) + bias[best], data["y"].max(axis=1), "activation maps")
    new = keras_resnet.replace_classifier(model, 3, activation=None, dropout=0.1)
    old = keras_resnet.backbone(model, [1, 3]).predict_on_batch(x)["C3"]
    kernel = np.asarray(new.get_layer("predictions").kernel)
    features = np.asarray(old).mean(axis=(2, 3) if first else (1, 2))
    assert_close(answers(new, x), features @ kernel, "new classifier")
print("heads and maps")

# Slimmed by the gradients of the loss: the figures that rank channels, and a network.
data = np.load(folder / "basic.npz", allow_pickle=False)
model = build(keras_resnet, "basic", weights=folder / "basic.weights.h5")
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
small = keras_resnet.slim(model, 0.7, batches=(data["x"], data["labels"]), loss=loss)
changes = slimming._loss_changes(model, [(data["x"], data["labels"])], loss)
for own, change in changes.items():
    assert_close(change, data[f"change of {own}"], own)
assert np.isfinite(answers(small, data["x"])).all()
assert small.count_params() < model.count_params()
print("slimmed")

# A stack with dropout in mixed precision: trained, saved and loaded.
data = np.load(folder / "stacked.npz", allow_pickle=False)
keras.config.set_dtype_policy("mixed_bfloat16")
model = build(keras_resnet, "stacked", dropout=0.1, stochastic_depth=0.2)
loss, gradients, _ = training_step(model, data["x"], data["labels"])
assert np.isfinite(loss)
assert all(np.isfinite(gradient).all() for gradient in gradients)
model.save(folder / "jax.keras")
again = keras.models.load_model(folder / "jax.keras")
found, expected = (answers(m, data["x"]) for m in (again, model))
assert found.dtype == "float32"
assert_close(found, expected, "loaded")
print("trained and loaded")
