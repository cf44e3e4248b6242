"""Training that begins from a trained network: a file, a module, weights."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet.experiment import Experiment, run, runner
from keras_resnet.experiment.factories import fit_options
from keras_resnet.experiment.pretrained import with_new_classifier
from keras_resnet.experiment.runner import epochs_of
from keras_resnet.experiment.study import run_study
from keras_resnet.export import HubLayer, export_hub
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.surgery import freeze
from keras_resnet.weights.transfer import layer_weights
from tests.helpers import assert_same_by_layer, assert_same_weights, images, randomize, refused


class Interrupts(keras.callbacks.Callback):
    """Notes where training begins, and ends it after so many steps, before the last is saved."""

    def __init__(self, begun, part, steps):
        super().__init__()
        self.begun, self.part, self.steps = begun, part, steps

    def on_train_begin(self, logs=None):
        self.begun.append((self.part, self.params["first_step"]))

    def on_train_batch_end(self, batch, logs=None):
        self.steps -= 1
        if not self.steps:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A network for three classes of 8x8 images in [0, 255]: two files and a Hub module.

    The model in foreign.keras has the same layers, but does not remember its network; that in
    bare.keras standardizes nothing.
    """
    inputs = keras.Input((8, 8, 1))
    standardized = keras.layers.Normalization(mean=100.0, variance=3600.0)(inputs)
    model = keras_resnet.CifarResNet(8, input_tensor=standardized, classes=3)
    randomize(model)
    folder = tmp_path_factory.mktemp("first")
    model.save(folder / "first.keras")
    keras.Model(model.input, model.output, name="foreign").save(folder / "foreign.keras")
    export_hub(model, folder / "module")
    bare = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    keras.Sequential(bare).save(folder / "bare.keras")
    return model, folder


def features(model, x):
    return keras.Model(model.input, model.get_layer("predictions").input)(x)


@pytest.mark.parametrize("form", ["first.keras", "foreign.keras", "module"])
def test_all_but_the_classifier_is_kept(first, form):
    model, folder = first
    new = with_new_classifier(str(folder / form), (8, 8, 1), 5)
    assert new.output_shape == (None, 5) and new.layers[-1].name == "predictions"
    x = images(4, 8, 8, 1, low=0, high=255)
    np.testing.assert_allclose(features(new, x), features(model, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["first.keras", "foreign.keras"])
def test_other_sizes_where_the_network_takes_any(first, form):
    new = with_new_classifier(str(first[1] / form), (12, 10, 1), 5)
    assert new(images(2, 12, 10, 1, low=0, high=255)).shape == (2, 5)


@pytest.mark.parametrize("classes", [3, 5])
def test_a_network_remembers_itself_under_a_fresh_classifier(tmp_path, classes):
    """Fresh where the number of classes is the same, too, and trainable where it was frozen."""
    names = ("apple", "bee", "cat")
    preprocessing = Preprocessing((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), 32, class_names=names)
    model = keras_resnet.CifarResNet(
        8,
        shortcut="B",
        input_shape=(32, 32, 3),
        classes=3,
        classifier_activation=None,
        include_preprocessing=preprocessing,
    )
    randomize(model)
    model.trainable = False
    model.save(tmp_path / "frozen.keras")
    new = with_new_classifier(str(tmp_path / "frozen.keras"), (16, 16, 3), classes)
    assert new.network.architecture == model.network.architecture
    without_names = dataclasses.replace(preprocessing, class_names=None, image_size=16)
    assert new.preprocessing == without_names and new.name == model.name
    assert (new.input_shape, new.output_shape) == ((None, 16, 16, 3), (None, classes))
    found, expected = layer_weights(new), layer_weights(model)
    kernel, bias = found.pop("predictions")
    old, _ = expected.pop("predictions")
    assert_same_by_layer(found, expected, 0.0)
    assert kernel.shape == (64, classes) and not np.any(bias)
    assert not np.any(np.isclose(kernel[:, :3], old)) and 0.005 < kernel.std() < 0.02
    assert new.layers[-1].trainable and not new.get_layer("conv1_conv").trainable
    outputs = np.asarray(new(images(2, 16, 16, 3, low=0, high=255)))
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-5)


def test_a_network_that_remembers_its_preprocessing_gets_it_in_front(tmp_path):
    model = keras_resnet.CifarResNet(8, input_shape=(8, 8, 3), classes=3)
    randomize(model)
    path = tmp_path / "bare.keras"
    model.save(path)
    with refused("`init`", "bare.keras"):
        with_new_classifier(str(path), (8, 8, 3), 5)
    preprocessing = Preprocessing((100.0, 110.0, 120.0), (50.0, 60.0, 70.0), 8)
    model.remember(dataclasses.replace(model.network, preprocessing=preprocessing))
    model.save(path)
    new = with_new_classifier(str(path), (8, 8, 3), 5)
    x = images(4, 8, 8, 3, low=0, high=255)
    expected = features(model, preprocessing.standardize(x))
    np.testing.assert_allclose(features(new, x), expected, rtol=1e-5, atol=1e-6)
    assert new.preprocessing == preprocessing and new.network.standardizes


@pytest.mark.parametrize(
    ("form", "shape", "named"),
    [
        ("first.keras", (8, 8, 3), ("3 channels", "shape (8, 8, 1)")),
        ("module", (8, 8, 3), ("images of shape (8, 8, 3)",)),
        ("bare.keras", (8, 8, 1), ("`init`", "bare.keras")),
        ("nowhere.keras", (8, 8, 1), ("existing .keras file",)),
        ("nowhere", (8, 8, 1), ("nowhere",)),
    ],
)
def test_what_does_not_fit_is_named(first, form, shape, named):
    with refused(*named):
        with_new_classifier(str(first[1] / form), shape, 5)


def head_first(first, workdir):
    return Experiment.from_flat(
        init=str(first[1] / "first.keras"),
        classes=(5, 6),
        per_class=8,
        workdir=str(workdir),
        batch_size=8,
        head_epochs=2,
        epochs=3,
        freeze_bn=True,
        rate_decay=0.5,
        checkpoint_every=1,
        export=False,
    )


@pytest.fixture(scope="module")
def finished(first, tmp_path_factory):
    """The settings of a run whose head was trained first, and what it found."""
    settings = head_first(first, tmp_path_factory.mktemp("finished") / "run")
    return settings, run(settings)


def test_head_first_then_the_rest_with_frozen_normalizations(first, finished):
    model, _ = first
    settings, metrics = finished
    workdir = Path(settings.output.workdir)
    assert [row["epoch"] for row in epochs_of(settings)] == [1, 2, 3, 4, 5]
    assert metrics["epochs"] == 5 and metrics["steps"] == 10
    trained = keras.models.load_model(workdir / "model.keras")
    before, after = layer_weights(model), layer_weights(trained)
    del before["predictions"]
    for name, arrays in before.items():
        same = [np.array_equal(old, new) for old, new in zip(arrays, after[name], strict=True)]
        # Normalizations, the standardization among them, are as they were; convolutions are not.
        assert all(same) if "conv" not in name or "_bn" in name else not any(same)
    card = (workdir / "model_card.md").read_text()
    assert "first.keras</code> with a classifier of its own" in card and "Classes: 5, 6." in card
    # The head was trained alone: its checkpoint has the network's weights of before.
    config = json.loads((workdir / "config.json").read_text())
    assert config["head_epochs"] == 2
    assert run(settings.replace()) == metrics


@pytest.mark.slow
def test_what_two_devices_export_is_as_trainable_as_what_one_does(first, tmp_path):
    settings = head_first(first, tmp_path).replace(
        virtual_devices=2, head_epochs=0, epochs=1, export=True
    )
    (ended,) = run_study({"two": settings}, [0], tmp_path)
    model = with_new_classifier(settings.network.init, (8, 8, 1), 2)
    freeze(model, 0, bn=True)
    trainable = [tuple(weight.shape) for weight in model.trainable_weights]
    assert 0 < len(trainable) < len(model.weights) / 3
    trained = keras.models.load_model(ended.workdir / "model.keras")
    assert [tuple(weight.shape) for weight in trained.trainable_weights] == trainable
    module = tf.saved_model.load(ended.workdir / "saved_model")
    assert [tuple(weight.shape) for weight in module.trainable_variables] == trainable


def test_interrupted_in_either_part_it_ends_as_if_never_interrupted(
    first, finished, tmp_path, monkeypatch
):
    settings = head_first(first, tmp_path / "run")
    begun = []

    def run_until(**steps):
        def with_interrupts(experiment, dataset, folder, **chief):
            options = fit_options(experiment, dataset, folder, **chief)
            interrupts = Interrupts(begun, folder.name, steps.get(folder.name, -1))
            options["callbacks"].append(interrupts)
            return options

        monkeypatch.setattr(runner, "fit_options", with_interrupts)
        return run(settings)

    for part in ("head", "run"):
        with pytest.raises(KeyboardInterrupt):
            run_until(**{part: 4})
    metrics = run_until()
    # In the middle of an epoch of two steps, once in each part.
    assert begun == [("head", 0), ("head", 3), ("run", 0), ("head", 4), ("run", 3)]
    assert metrics["test_accuracy"] == finished[1]["test_accuracy"]
    ours, theirs = (
        keras.models.load_model(Path(one.output.workdir) / "model.keras")
        for one in (settings, finished[0])
    )
    assert_same_weights(ours, theirs)


def test_a_module_is_fine_tuned_and_exported_again(first, tmp_path):
    """The module that the run exports holds the weights of the first one, as trained on."""
    changes = {"init": str(first[1] / "module"), "head_epochs": 1, "epochs": 2, "rate_decay": 1.0}
    settings = head_first(first, tmp_path / "run").replace(**changes, export=True)
    with pytest.raises(ValueError, match="`jit_compile`.*Received:"):
        run(settings.replace(jit_compile=True))
    metrics = run(settings)
    assert metrics["steps"] == 6 and metrics["jit_compile"] is False
    assert metrics["multiply_adds"] is None and metrics["parameters"] > 70_000
    assert max(metrics["reload_difference"].values()) < 1e-5
    module = tf.saved_model.load(str(tmp_path / "run" / "saved_model"))
    trained = keras.models.load_model(tmp_path / "run" / "model.keras")
    x = images(4, 8, 8, 1, low=0, high=255)
    np.testing.assert_allclose(tf.nn.softmax(module(x / 255)), trained(x), atol=1e-5)
    source, own = HubLayer(first[1] / "module"), trained.get_layer("module")
    for old, new in zip(source.module_weights, own.module_weights, strict=True):
        assert np.array_equal(old, new) == ("moving" in old.name or "preprocessing" in old.name)
    card = (tmp_path / "run" / "model_card.md").read_text()
    assert "an unknown number of multiply-adds" in card
