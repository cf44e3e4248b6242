from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.export import HubLayer
from keras_resnet.weights.saving import load_model
from tests.export.conftest import close, features_of, moved, random_images
from tests.helpers import assert_same_weights, refused


def model_on(layer, classes=3):
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.Dense(classes, name="head")(layer(inputs)))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def fit(model, epochs=1):
    targets = np.random.default_rng(3).random((5, model.output.shape[1]))
    return model.fit(random_images(), targets, epochs=epochs, batch_size=5, verbose=0)


def moved_by_fit(model, layer, **options):
    """Returns the names of the weights of a layer that a fit has changed."""
    before = layer.get_weights()
    fit(model, **options)
    return moved(before, layer.weights)


@pytest.mark.parametrize("trainable", [True, False])
def test_gives_the_models_outputs(net, feature_vector, trainable):
    layer, images = HubLayer(feature_vector, trainable=trainable), random_images()
    expected = features_of(net)(images * 255)
    close(layer(images), expected)
    symbolic = layer(keras.Input((8, 8, 1)))
    assert symbolic.shape == (None, 64) and symbolic.dtype == "float32"


def test_weights_are_keras_weights(net, feature_vector):
    layer, backbone = HubLayer(feature_vector, trainable=True), features_of(net)
    assert len(layer.trainable_weights) == len(backbone.trainable_weights)
    assert layer.count_params() == backbone.count_params()
    assert layer.weights[0].path == f"{layer.name}/conv1_conv_kernel"
    layer.trainable = False
    assert layer.trainable_weights == []


def test_nothing_moves_while_frozen(feature_vector):
    layer = HubLayer(feature_vector)
    model = model_on(layer)
    assert moved_by_fit(model, layer) == []
    assert len(moved_by_fit(model, model.get_layer("head"))) == 2


def test_weights_and_statistics_move_while_trainable(feature_vector):
    layer = HubLayer(feature_vector, trainable=True)
    model, before = model_on(layer), layer.get_weights()
    history = fit(model, epochs=3).history["loss"]
    assert history[-1] < history[0]
    assert len(moved(before, layer.weights)) == len(before)
    # Not once it is frozen.
    layer.trainable = False
    model.compile("sgd", "mse")
    assert moved_by_fit(model, layer) == []


def test_fine_tuning_is_that_of_the_model_itself(net, feature_vector):
    layer = HubLayer(feature_vector, trainable=True)
    model = model_on(layer)
    twin = keras.models.clone_model(net)
    twin.set_weights(net.get_weights())
    inputs = keras.Input((8, 8, 1))
    backbone = features_of(twin)
    own = keras.Model(inputs, keras.layers.Dense(3)(backbone(inputs * 255.0)))
    own.layers[-1].set_weights(model.get_layer("head").get_weights())
    own.compile(keras.optimizers.SGD(0.01), "mse")
    losses, expected = (fit(each, epochs=2).history["loss"] for each in (model, own))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for ours, theirs in zip(layer.module_weights, backbone.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_regularization_losses_count_once_and_while_trainable(net, feature_vector):
    layer = HubLayer(feature_vector, trainable=True)
    expected = sum(features_of(net).losses)
    inputs = keras.Input((8, 8, 1))
    twice = keras.Model(inputs, layer(inputs) + layer(1 - inputs))
    twice(random_images())
    np.testing.assert_allclose(sum(twice.losses), expected, rtol=1e-6)
    layer.trainable = False
    assert twice.losses == []


def test_is_saved_with_the_model(feature_vector, tmp_path):
    model = model_on(HubLayer(feature_vector, trainable=True))
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert loaded.layers[1].handle == str(feature_vector) and loaded.layers[1].trainable
    assert_same_weights(loaded, model)
    np.testing.assert_array_equal(loaded(random_images()), model(random_images()))
    assert len(moved_by_fit(loaded, loaded.layers[1])) == len(loaded.layers[1].weights)


def test_load_model_names_the_import_that_knows_the_layer(feature_vector, tmp_path, monkeypatch):
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, HubLayer(feature_vector)(inputs))
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(random_images()), model(random_images()))
    # As in a process that has not imported the export room.
    monkeypatch.delitem(keras.saving.get_custom_objects(), "keras_resnet>HubLayer")
    with refused("`path`", "import keras_resnet.export"):
        load_model(tmp_path / "model.keras")


def test_stands_in_mixed_precision_models(feature_vector):
    keras.config.set_dtype_policy("mixed_bfloat16")
    inputs = keras.Input((8, 8, 1))
    layer = HubLayer(feature_vector, trainable=True)
    outputs = keras.layers.Dense(3)(layer(keras.layers.Rescaling(1 / 255)(inputs)))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    assert len(moved_by_fit(model, layer)) == len(layer.weights)
    assert {weight.dtype for weight in layer.weights} == {"float32"}


class Scale(tf.Module):
    """A minimal module: no `training`, no losses, named outputs."""

    def __init__(self):
        self.factor = tf.Variable(2.0, name="factor")

    @tf.function(input_signature=[tf.TensorSpec((None, 3))])
    def __call__(self, x):
        return {"scaled": self.factor * x}


def test_takes_foreign_modules(tmp_path):
    tf.saved_model.save(Scale(), str(tmp_path / "scale"))
    layer = HubLayer(tmp_path / "scale", trainable=True)
    outputs = layer(np.ones((2, 3), "float32"), training=True)
    np.testing.assert_array_equal(outputs["scaled"], np.full((2, 3), 2.0))
    assert layer(keras.Input((3,)))["scaled"].shape == (None, 3)


def test_feature_maps_come_as_a_dict(net, feature_maps, tmp_path):
    layer, inputs = HubLayer(feature_maps, trainable=True), keras.Input((8, 8, 1))
    maps = layer(inputs)
    shapes = {"C2": (None, 8, 8, 16), "C3": (None, 4, 4, 32), "C4": (None, 2, 2, 64)}
    assert {name: value.shape for name, value in maps.items()} == shapes
    pooled = [keras.layers.GlobalAveragePooling2D()(maps[name]) for name in sorted(maps)]
    head = keras.layers.Dense(3)(keras.layers.Concatenate()(pooled))
    model = keras.Model(inputs, head)
    model.compile("sgd", "mse")
    assert len(moved_by_fit(model, layer)) == len(layer.weights)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    images = random_images()
    np.testing.assert_array_equal(loaded(images), model(images))


def test_wrong_handles_are_named(net, tmp_path):
    whole = tmp_path / "signatures"
    tf.saved_model.save(tf.Module(), str(whole))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"no protocol buffer")
    for handle, telling in (
        (tmp_path / "none", "saved_model.pb"),
        ("gs://bucket/module", "https"),
        ("http://example.org/m", "https"),
        (broken, "whole"),
        (whole, "Reusable"),
    ):
        with refused("`handle`", telling, handle):
            HubLayer(handle)


OTHER_BACKEND = """
import sys, keras_resnet
from keras_resnet.export import HubLayer, export_hub
from tests.helpers import refused

calls = [
    lambda: HubLayer(sys.argv[1]),
    lambda: export_hub(keras_resnet.CifarResNet(8, input_shape=(8, 8, 1)), "module"),
]
for call in calls:
    try:
        call()
    except RuntimeError as error:
        assert "Received: KERAS_BACKEND='jax'" in str(error), error
    else:
        raise AssertionError("no error")
"""


def test_another_backend_is_told_of(feature_vector, subprocess_python):
    pytest.importorskip("jax")
    subprocess_python(OTHER_BACKEND, feature_vector, env={"KERAS_BACKEND": "jax"})
