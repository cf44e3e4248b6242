"""Our modules in TensorFlow Hub's own library, in a process where Keras 2 is Keras."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pytest

from keras_resnet.export.handles import module_directory
from tests.export.conftest import features_of, random_images, stage_ends

# Belongs to the `test` extra, with tf_keras. It is imported for good in the process below only.
pytest.importorskip("tensorflow_hub")

SCRIPT = """
import sys
sys.modules["keras_resnet"] = None  # whoever imports it fails
import numpy as np, os, tensorflow_hub as hub, tf_keras

path, images, expected = sys.argv[1], np.load(sys.argv[2]), np.load(sys.argv[3])
module = hub.load(path)
np.testing.assert_allclose(module(images), expected, rtol=1e-5, atol=1e-5)
losses = sum(float(loss()) for loss in module.regularization_losses)
for trainable in (True, False):
    layer = hub.KerasLayer(path, trainable=trainable)
    model = tf_keras.Sequential([tf_keras.Input((8, 8, 1)), layer, tf_keras.layers.Dense(3)])
    np.testing.assert_allclose(layer(images), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(sum(map(float, layer.losses)), losses if trainable else 0, rtol=1e-6)
    before = layer.get_weights()
    model.compile("sgd", "mse")
    model.fit(images, np.ones((len(images), 3)), verbose=0)
    moved = sum(not np.array_equal(a, b) for a, b in zip(before, layer.get_weights()))
    assert moved == (len(before) if trainable else 0), (trainable, moved, len(before))

path, expected = sys.argv[4], np.load(sys.argv[5])
inputs = tf_keras.Input((8, 8, 1))
maps = hub.KerasLayer(path, trainable=True)(inputs)
model = tf_keras.Model(inputs, [maps[name] for name in ("C2", "C3", "C4")])
for name, received in zip(("C2", "C3", "C4"), model(images)):
    np.testing.assert_allclose(received, expected[name], rtol=1e-5, atol=1e-5)
before = model.get_weights()
model.compile("sgd", "mse")
model.fit(images, [np.ones_like(expected[name]) for name in ("C2", "C3", "C4")], verbose=0)
assert not any(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))

# A module that HubLayer has fetched is found by tensorflow_hub without a network.
os.environ["TFHUB_CACHE_DIR"] = os.path.dirname(sys.argv[6])
assert hub.resolve("https://example.org/net/1") == sys.argv[6]
"""


def test_keras_layer_runs_and_fine_tunes_them_and_shares_the_cache(
    net, feature_vector, feature_maps, subprocess_python, tmp_path, monkeypatch
):
    """One process, since each starts TensorFlow."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    name = hashlib.sha1(b"https://example.org/net/1").hexdigest()
    kept = shutil.copytree(feature_maps, tmp_path / "cache" / name)
    assert module_directory("https://example.org/net/1") == kept
    images = random_images()
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "features.npy", features_of(net)(images * 255))
    np.savez(tmp_path / "maps.npz", **stage_ends(net)(images * 255))
    vector = feature_vector, tmp_path / "images.npy", tmp_path / "features.npy"
    maps = feature_maps, tmp_path / "maps.npz", kept
    subprocess_python(SCRIPT, *vector, *maps, env={"PYTHONPATH": ""})
