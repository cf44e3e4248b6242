"""Whole runs: which weights they save, when they stop, and what a smoke run tries."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from keras_resnet import training
from keras_resnet.data import load_dataset
from keras_resnet.experiment import (
    Experiment,
    build_model,
    find_learning_rate,
    run,
    run_study,
    smoke,
)
from keras_resnet.training import read_epochs
from keras_resnet.weights.saving import load_model, save_model
from tests.helpers import refused

# Small, and with learning rates at which the best epoch is not the last.
SETTINGS = {
    "depth": 8,
    "widening": 0.25,
    "per_class": 8,
    "batch_size": 40,
    "epochs": 6,
    "learning_rate": 0.4,
    "schedule": "constant",
    "warmup": "none",
    "export": False,
}


def accuracy(path, split):
    """Accuracy of a saved model on a split of the digits, by hand."""
    model, right, count = load_model(path), 0, 0
    for images, labels, weights in load_dataset("digits", per_class=8).eval_batches(split, 60):
        found = np.asarray(model(np.asarray(images, "float32"), training=False)).argmax(-1)
        real = np.asarray(weights) > 0
        right += int((found == np.asarray(labels))[real].sum())
        count += int(real.sum())
    return right / count


@pytest.mark.parametrize("final", ["last", pytest.param("best", marks=pytest.mark.slow)])
def test_best_and_last_weights_are_saved_measured_and_told_apart(tmp_path, final):
    options = {**SETTINGS, "final_weights": final, "patience": 2, "workdir": str(tmp_path)}
    figures = run(Experiment.from_flat(**options))
    epochs = read_epochs(tmp_path / "metrics.jsonl")
    accuracies = [row["val_accuracy"] for row in epochs]
    assert figures["best_epoch"] == 1 + int(np.argmax(accuracies))
    assert figures["best_value"] == max(accuracies)
    # Patience ends the run two epochs behind its best, before the sixth.
    assert figures["epochs"] == len(epochs) == min(6, figures["best_epoch"] + 2)
    assert figures["stopped_early"] == (len(epochs) < 6) and figures["steps"] == 2 * len(epochs)
    other = {"last": "best", "best": "last"}[final]
    by_file = {"model": figures["test_accuracy"], other: figures[f"{other}_test_accuracy"]}
    for name, expected in by_file.items():
        assert accuracy(tmp_path / f"{name}.keras", "test") == pytest.approx(expected)
    best = tmp_path / ("best.keras" if final == "last" else "model.keras")
    assert accuracy(best, "validation") == pytest.approx(max(accuracies))
    card = (tmp_path / "model_card.md").read_text()
    assert f"`{other}.keras`" in card and f"epoch {figures['best_epoch']}" in card.replace(
        "best epoch, ", "epoch "
    )
    assert json.loads((tmp_path / "config.json").read_text())["decay"] == "l2"
    # Started again it has nothing to do.
    assert run(Experiment.from_flat(**options)) == figures


@pytest.mark.parametrize("export", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_smoke_run_tries_everything_in_a_folder_of_its_own(tmp_path, export):
    options = {**SETTINGS, "export": export, "epochs": 300, "ema": 0.5, "workdir": str(tmp_path)}
    experiment = Experiment.from_flat(**options, smoke=True)
    (tmp_path / "config.json").write_text("that of the run")
    folder = tmp_path / "smoke"
    figures = run(experiment)
    assert (figures["steps"], figures["epochs"], figures["test_images"]) == (2, 1, 80)
    names = {path.name for path in folder.iterdir()}
    assert names >= {"model.keras", "best.keras", "metrics.json"}
    assert export == ({"saved_model", "feature_vector"} <= names)
    assert (tmp_path / "config.json").read_text() == "that of the run"
    (folder / "left over").mkdir()
    smoke.clear(folder)
    assert {path.name for path in folder.iterdir()} <= {".lock"}


def test_smoke_run_leaves_other_folders_alone(tmp_path, monkeypatch):
    folder = tmp_path / "smoke"
    smoke.clear(folder)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(Experiment().recorded()))
    experiment = Experiment.from_flat(**SETTINGS, workdir=str(tmp_path), smoke=True)
    with refused("`workdir`", "'smoke'", str(tmp_path)):
        run(experiment)
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    with refused("`smoke`", "study"):
        run_study({"one": experiment}, [0], tmp_path / "study")
    with refused("`smoke`", "several machines"):
        run(experiment.replace(strategy="multi_worker"))


def test_few_batches_are_the_first_ones():
    digits = load_dataset("digits", per_class=8)
    few = smoke.few_batches(digits)
    assert (few.steps_per_epoch(40), few.steps_per_epoch(80)) == (2, 1)
    assert digits.steps_per_epoch(20) == 4
    labels = [np.asarray(labels) for _, labels, _ in few.eval_batches("test", 20)]
    expected = [np.asarray(labels) for _, labels, _ in digits.eval_batches("test", 20)][:2]
    assert np.array_equal(labels, expected)


def test_range_test_is_on_the_settings_of_training(tmp_path, monkeypatch):
    """The trainer has class weights, transform and teacher, and draws images as in training."""
    made, fitted = [], []

    class Kept(training.Trainer):
        def __init__(self, *args, **options):
            made.append(options)
            super().__init__(*args, **options)

        def fit(self, *args, **options):
            fitted.append(options)
            return super().fit(*args, **options)

    monkeypatch.setattr("keras_resnet.training.rate_finder.Trainer", Kept)
    teacher, options = tmp_path / "teacher.keras", {**SETTINGS, "workdir": str(tmp_path / "run")}
    digits = load_dataset("digits", per_class=8)
    save_model(build_model(Experiment.from_flat(**options), digits), teacher)
    options |= {"sampling": "sqrt", "mixup": 0.2, "augment": "erasing", "teacher": str(teacher)}
    weights = [float(number) for number in range(1, 11)]
    find_learning_rate(Experiment.from_flat(**options, class_weights=weights), steps=10)
    ((made_of,), (fitted_with,)) = made, fitted
    assert made_of["distillation"] is not None and fitted_with["sampling"] == "sqrt"
    assert made_of["transform"].augment.name == "erasing" and made_of["transform"].mixers
    np.testing.assert_allclose(made_of["class_weights"] / made_of["class_weights"][0], weights)


def test_range_test_of_an_experiment(tmp_path, logged):
    experiment = Experiment.from_flat(**SETTINGS, workdir=str(tmp_path))
    found = find_learning_rate(experiment, steps=30, lowest=1e-4, smoothing=0.5)
    assert found == json.loads((tmp_path / "learning_rates.json").read_text())
    assert 1e-4 < found["suggestion"] < 10.0
    assert (tmp_path / "learning_rates.png").stat().st_size > 1000
    lines = (tmp_path / "learning_rates.csv").read_text().splitlines()
    assert lines[0] == "step,learning_rate,loss,smoothed_loss" and len(lines) == 1 + found["steps"]
    assert f"{found['suggestion']:.2g}" in logged()
    assert keras.config.dtype_policy().name == "float32"
