"""The last split of a run is evaluated once for each set of weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import CifarResNet, training
from keras_resnet.data import BadImageWarning, load_dataset
from keras_resnet.evaluation import evaluate
from keras_resnet.evaluation.recording import recorder_for
from keras_resnet.experiment import Experiment, page, run
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.training import read_epochs
from keras_resnet.weights.saving import load_model
from tests.experiment.test_runner import SETTINGS, accuracy

FEW = {**SETTINGS, "epochs": 2, "learning_rate": 0.1}


@pytest.fixture
def passes(monkeypatch):
    """The split of every pass of a trainer."""
    found, original = [], training.Trainer.evaluate

    def noted(self, dataset, split, *arguments, **options):
        found.append(split)
        return original(self, dataset, split, *arguments, **options)

    monkeypatch.setattr(training.Trainer, "evaluate", noted)
    return found


def test_the_report_has_the_predictions_that_the_figures_are_of(tmp_path, passes, monkeypatch):
    given = []
    monkeypatch.setattr(page, "report_run", lambda *arguments: given.append(arguments))
    figures = run(Experiment.from_flat(**FEW, keep_best=0, workdir=str(tmp_path)))
    assert passes == ["validation", "validation", "test"]
    ((_, _, dataset, _, _, result),) = given
    expected = evaluate(load_model(tmp_path / "model.keras"), dataset)
    assert str(result.protocol) == str(expected.protocol) and result.split == "test"
    for name in ("indices", "labels"):
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))
    assert result.count == figures["test_images"] == 360
    np.testing.assert_allclose(result.scores, expected.scores, atol=1e-5)
    assert np.mean(result.ranking[:, 0] == expected.ranking[:, 0]) >= 0.99
    assert 1 - result.top1_error == pytest.approx(figures["test_accuracy"], abs=1e-6)
    assert result.first_batch[0] == 40 and 0 < result.first_batch[1] < result.seconds


@pytest.mark.parametrize("ema", [None, 0.5])
def test_the_last_epoch_is_not_measured_again(tmp_path, passes, ema):
    options = {"report": False, "keep_best": 0, "validation_split": "test", "ema": ema}
    figures = run(Experiment.from_flat(**FEW, **options, workdir=str(tmp_path)))
    last = read_epochs(tmp_path / "metrics.jsonl")[-1]
    # Averaged weights are evaluated beside those in training, and again with their statistics.
    assert len(passes) == (2 if ema is None else 5)
    if ema is None:
        assert figures["test_accuracy"] == last["val_accuracy"]
        assert figures["test_loss"] == last["val_loss"]
    assert figures["test_images"] == 360
    assert figures["test_accuracy"] == pytest.approx(accuracy(tmp_path / "model.keras", "test"))


def test_the_best_weights_that_are_the_last_are_measured_once(tmp_path, passes):
    options = {"report": False, "keep_best": 1, "workdir": str(tmp_path)}
    figures = run(Experiment.from_flat(**{**FEW, "epochs": 1}, **options))
    assert passes == ["validation", "test"]
    assert figures["best_test_accuracy"] == figures["test_accuracy"]


def network(dataset, **changes):
    prepared = dataset.preprocessing(Preprocessing.unchanged(3, dataset.image_shape[:2]))
    return CifarResNet(
        8, input_shape=dataset.image_shape, classes=2, include_preprocessing=prepared, **changes
    )


def test_files_that_cannot_be_read_are_left_out(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 256, (16 + number, 20, 3), np.uint8)
            (tmp_path / name / f"{number}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    (tmp_path / "test" / "a" / "1.png").write_bytes(b"none")
    dataset = load_dataset("folder", tmp_path, image_size=16)
    model = network(dataset)
    trainer = training.Trainer(model, keras.optimizers.SGD(), "sparse_categorical_crossentropy")
    record = recorder_for(model, dataset, "test")
    with pytest.warns(BadImageWarning):
        trainer.evaluate(dataset, "test", 4, on_batch=record)
    result, expected = record.evaluation(), evaluate(model, dataset)
    assert result.left_out == 1 and result.indices.tolist() == [0, 2, 3, 4, 5]
    assert result.places == expected.places and result.models == expected.models
    np.testing.assert_array_equal(result.ranking, expected.ranking)
    np.testing.assert_allclose(result.scores, expected.scores, atol=1e-4)


def test_what_evaluate_would_do_otherwise_is_not_recorded():
    dataset = load_dataset("digits", classes=(0, 1))
    numbers = Preprocessing.unchanged(1, 8)
    options = {"input_shape": (8, 8, 1), "classes": 2}
    assert recorder_for(CifarResNet(8, **options), dataset, "test") is None
    prepared = dataset.preprocessing(numbers)
    model = CifarResNet(8, **options, include_preprocessing=prepared)
    assert recorder_for(model, dataset, "test") is not None
    model.remember(model.network.with_class_names(["1", "0"]))
    assert recorder_for(model, dataset, "test") is None
    logits = CifarResNet(8, **options, include_preprocessing=prepared, classifier_activation=None)
    assert recorder_for(logits, dataset, "test") is None
