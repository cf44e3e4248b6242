from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.export import HubLayer
from keras_resnet.weights.saving import load_model
from tests.export.conftest import features_of, random_images
from tests.helpers import refused


def model_on(layer, classes=3):
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.Dense(classes, name="head")(layer(inputs)))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def fit(model, epochs=1):
    targets = np.random.default_rng(3).random((5, model.output.shape[1]))
    return model.fit(random_images(), targets, epochs=epochs, batch_size=5, verbose=0)


def moved(before, layer):
    return [
        weight.name
        for old, weight in zip(before, layer.weights, strict=True)
        if not np.array_equal(old, weight)
    ]


@pytest.mark.parametrize("trainable", [True, False])
def test_gives_the_models_outputs(net, feature_vector, trainable):
    layer, images = HubLayer(feature_vector, trainable=trainable), random_images()
    expected = features_of(net)(images * 255)
    np.testing.assert_allclose(layer(images), expected, rtol=1e-5, atol=1e-5)
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
    model, before = model_on(layer), layer.get_weights()
    head = model.get_layer("head").get_weights()
    fit(model)
    assert moved(before, layer) == []
    assert len(moved(head, model.get_layer("head"))) == 2


def test_weights_and_statistics_move_while_trainable(feature_vector):
    layer = HubLayer(feature_vector, trainable=True)
    model, before = model_on(layer), layer.get_weights()
    history = fit(model, epochs=3).history["loss"]
    assert history[-1] < history[0]
    assert len(moved(before, layer)) == len(before)
    # Not once it is frozen.
    layer.trainable = False
    model.compile("sgd", "mse")
    before = layer.get_weights()
    fit(model)
    assert moved(before, layer) == []


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
    np.testing.assert_allclose(
        fit(model, epochs=2).history["loss"], fit(own, epochs=2).history["loss"], rtol=1e-5
    )
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
    for old, new in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(
        model.predict(random_images(), verbose=0), loaded.predict(random_images(), verbose=0)
    )
    before = loaded.layers[1].get_weights()
    fit(loaded)
    assert len(moved(before, loaded.layers[1])) == len(before)


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
    before = layer.get_weights()
    fit(model)
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    assert len(moved(before, layer)) == len(before)


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
    assert {name: value.shape for name, value in maps.items()} == {
        "C2": (None, 8, 8, 16),
        "C3": (None, 4, 4, 32),
        "C4": (None, 2, 2, 64),
    }
    pooled = [keras.layers.GlobalAveragePooling2D()(maps[name]) for name in sorted(maps)]
    head = keras.layers.Dense(3)(keras.layers.Concatenate()(pooled))
    model = keras.Model(inputs, head)
    model.compile("sgd", "mse")
    before = layer.get_weights()
    fit(model)
    assert len(moved(before, layer)) == len(before)
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
    wrong = [
        (tmp_path / "none", "saved_model.pb"),
        ("gs://bucket/module", "https"),
        ("http://example.org/m", "https"),
        (broken, "whole"),
        (whole, "Reusable"),
    ]
    for handle, telling in wrong:
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
