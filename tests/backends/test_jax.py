"""The builders and layers on the JAX backend, in a process of its own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet.surgery import slimming
from tests.backends.cases import CASES, build
from tests.helpers import images, randomize

SCRIPT = Path(__file__).with_name("jax_builders.py")


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
@pytest.mark.parametrize(
    "names", [("basic", "stacked"), pytest.param(tuple(CASES), marks=pytest.mark.slow)]
)
def test_builders_on_jax(subprocess_python, tmp_path, names):
    for name in names:
        model = randomize(build(keras_resnet, name))
        model.save_weights(tmp_path / f"{name}.weights.h5")
        x, labels = images(4, *model.input_shape[1:]), np.arange(4)
        y = model(x, training=False)
        changes = {}
        if name == "basic":
            crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            changes = slimming._loss_changes(model, [(x, labels)], crossentropy)
        logits = model(x, training=True)
        losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        loss = tf.reduce_mean(losses)
        statistics = {v.path: v.numpy() for v in model.non_trainable_variables}
        statistics |= {f"change of {name}": change for name, change in changes.items()}
        np.savez(tmp_path / f"{name}.npz", x=x, y=y, labels=labels, loss=loss, **statistics)
    run = subprocess_python(SCRIPT, tmp_path, *names, env={"KERAS_BACKEND": "jax"}, timeout=600)
    expected = [
        *("basic", "stacked", "v2", "v2-keras", "recomputed"),
        *("basic, channels first", "D, channels first", "dense, channels first"),
        *("heads and maps", "slimmed", "trained and loaded"),
    ]
    assert run.stdout.splitlines() == [
        line
        for line in expected
        if line.split(",")[0] in {*names, "heads and maps", "slimmed", "trained and loaded"}
    ]
