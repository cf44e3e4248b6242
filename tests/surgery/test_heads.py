"""New classifiers: the weights that stay, the ones that do not, and what the network remembers."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.network import class_names_of
from keras_resnet.surgery import backbone, rebuild, replace_classifier
from keras_resnet.weights import Preprocessing, layer_weights, load_weights
from tests.helpers import distance, images, randomize, refused

OPTIONS = {"block": "basic", "widths": (4, 6), "stem": "cifar", "input_shape": (8, 8, 3)}


def network(**options):
    return randomize(keras_resnet.ResNet((1, 1), **OPTIONS, **{"classes": 3, **options}))


def densenet(**options):
    options = {"stem": "cifar", "input_shape": (8, 8, 3), "classes": 3, **options}
    return randomize(keras_resnet.DenseNet((1, 1), growth_rate=4, **options))


def features_of(model):
    return keras.Model(model.input, model.get_layer("avg_pool").output)


@pytest.mark.parametrize("build", [network, densenet])
@pytest.mark.parametrize("classes", [3, 5])
def test_all_but_the_classifier_stays(build, classes, tmp_path):
    model, x = build(), images(2, 8, 8, 3)
    before = layer_weights(model)
    new = replace_classifier(model, classes, activation=None, dropout=0.25)
    assert new.output_shape == (None, classes)
    assert distance(features_of(new)(x), features_of(model)(x)) == 0
    kernel, bias = new.get_layer("predictions").get_weights()
    assert 0.005 < kernel.std() < 0.02 and not bias.any()
    # By hand: the classifier of the new weights on the old features.
    assert distance(new(x), features_of(model)(x).numpy() @ kernel) < 1e-6
    assert new.get_layer("predictions_dropout").rate == 0.25
    arguments = new.network.arguments
    told = [arguments[f"classifier_{name}"] for name in ("activation", "dropout")]
    assert (arguments["classes"], *told) == (classes, None, 0.25)
    # The old network is as it was, and the new one remembers after it was saved.
    for name, values in layer_weights(model).items():
        for value, expected in zip(values, before[name], strict=True):
            np.testing.assert_array_equal(value, expected)
    new.save(tmp_path / "new.keras")
    again = keras.models.load_model(tmp_path / "new.keras", safe_mode=True)
    assert again.network == new.network and distance(again(x), new(x)) == 0
    assert replace_classifier(again, 2).get_layer("predictions").units == 2
    assert "predictions_dropout" not in [
        layer.name for layer in replace_classifier(again, 2).layers
    ]


def test_a_network_without_classifier_gets_one():
    headless = {"include_top": False, "classes": None}
    x = images(2, 8, 8, 3)
    for model in (network(pooling="avg", **headless), network(pooling="max", **headless)):
        new = replace_classifier(model, 4)
        assert new.network.arguments["pooling"] is None
        assert distance(new(x).numpy().sum(axis=1), np.ones(2)) < 1e-6
    trained = network()
    maps = backbone(trained, [2, 3])
    assert distance(features_of(replace_classifier(maps, 4))(x), features_of(trained)(x)) < 1e-6
    with refused("`model`", "C3", "C2"):
        replace_classifier(backbone(trained, ["C2"]), 4)


def test_names_of_the_old_classes_are_dropped():
    names = Preprocessing(class_names=("a", "b", "c"))
    model = network(include_preprocessing=names)
    assert class_names_of(model) == ("a", "b", "c")
    new = replace_classifier(model, 3)
    assert class_names_of(new) is None
    assert new.preprocessing == dataclasses.replace(model.preprocessing, class_names=None)
    assert new.network.standardizes


def test_frozen_layers_stay_frozen_but_for_the_classifier():
    model = network()
    model.trainable = False
    new = replace_classifier(model, 2)
    assert [variable.path for variable in new.trainable_variables] == [
        "predictions/kernel",
        "predictions/bias",
    ]


def test_dropout_acts_in_training_only():
    new = replace_classifier(network(), 2, activation=None, dropout=0.5)
    x = images(1, 8, 8, 3)
    for layer in new.layers:  # so that training differs by dropout alone
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    assert distance(new(x), new(x)) == 0
    assert distance(new(x, training=True), new(x)) > 1e-3


def test_wrong_arguments_are_named():
    with refused("`classes`", 0):
        replace_classifier(network(), 0)
    with refused("`classifier_dropout`", 1.0):
        replace_classifier(network(), 2, dropout=1.0)
    with refused("`classifier_dropout`", "include_top=False"):
        network(include_top=False, classes=None, classifier_dropout=0.1)
    with refused("`model`", "other"):
        replace_classifier(keras.Sequential([keras.Input((3,))], name="other"), 2)


def test_a_threshold_goes_with_the_classes_that_it_was_measured_on(tmp_path):
    """Also where these have no names."""
    options = {"input_shape": (8, 8, 3), "include_preprocessing": True}
    model = keras_resnet.CifarResNet(8, classes=7, **options)
    prepared = dataclasses.replace(model.preprocessing, threshold=0.9)
    model.remember(dataclasses.replace(model.network, preprocessing=prepared))
    model.save(tmp_path / "calibrated.keras")
    same = keras_resnet.CifarResNet(8, classes=7, weights=tmp_path / "calibrated.keras", **options)
    assert same.preprocessing.threshold == 0.9
    with pytest.warns(UserWarning, match="classifier"):
        other = keras_resnet.CifarResNet(
            8, classes=3, weights=tmp_path / "calibrated.keras", **options
        )
    changed = (
        *(other, keras_resnet.replace_classifier(model, 7), rebuild(model, classes=3)),
        *(keras_resnet.backbone(model), rebuild(model, include_top=False, pooling="avg")),
    )
    assert [one.preprocessing.threshold for one in changed] == [None] * 5
    assert rebuild(model, input_shape=(12, 12, 3)).preprocessing.threshold == 0.9
    # Weights of a file that tells nothing are others than those it was measured with.
    keras_resnet.CifarResNet(8, classes=7, **options).save_weights(tmp_path / "own.weights.h5")
    load_weights(model, tmp_path / "own.weights.h5")
    assert model.preprocessing.threshold is None


def test_a_backbone_of_a_file_takes_the_threshold_away(tmp_path):
    """Its classifier is kept, and was measured with other weights."""
    options = {"input_shape": (8, 8, 3), "include_preprocessing": True}
    for suffix in (".keras", ".weights.h5"):
        model = keras_resnet.CifarResNet(8, classes=7, **options)
        prepared = dataclasses.replace(model.preprocessing, threshold=0.9)
        model.remember(dataclasses.replace(model.network, preprocessing=prepared))
        other = keras_resnet.CifarResNet(8, classes=3, **options)
        save = other.save if suffix == ".keras" else other.save_weights
        save(tmp_path / f"other{suffix}")
        with pytest.warns(UserWarning, match="classifier"):
            load_weights(model, tmp_path / f"other{suffix}")
        assert model.preprocessing.threshold is None
