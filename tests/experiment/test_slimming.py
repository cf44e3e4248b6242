"""The report of `compare_slimmed`, on runs that were made by hand."""

import json

import pytest

from keras_resnet.experiment import Experiment, build_model, slimming
from keras_resnet.experiment.study import StoppedRun, Study, StudyRun
from keras_resnet.training import TrainingStopped
from keras_resnet.weights.saving import load_model, save_model
from tests.helpers import refused

BASE = Experiment.from_flat(depth=8, epochs=2, batch_size=8, validation_split="test", log_every=1)


def test_rows_of_a_trained_net_and_of_what_came_of_it(tmp_path, monkeypatch, noise, logged):
    monkeypatch.setattr(slimming, "load_data", lambda settings: noise)
    base = BASE.replace(workdir=str(tmp_path))
    asked = {}

    def attempt_study(experiments, seeds, workdir, jobs):
        asked.update(experiments)
        runs = []
        for label in ("full", "uniform-0.5"):
            folder = tmp_path / f"{label}-0"
            save_model(build_model(experiments[label], noise), folder / "model.keras")
            epochs = experiments[label].optimization.epochs
            runs.append(StudyRun(label, 0, folder, {"train_seconds": 1000.0, "epochs": epochs}, []))
        return Study(runs, [StoppedRun("uniform-0.5", 1, "it diverged")])

    monkeypatch.setattr(slimming, "attempt_study", attempt_study)
    with pytest.raises(TrainingStopped, match="uniform-0.5, seed 1"):
        slimming.compare_slimmed(base, (0.5,), (0, 1), more_epochs=1)
    assert asked["uniform-0.5"].network.widening == pytest.approx(0.5**0.5)
    *rows, stopped = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert stopped["stopped"] == "it diverged"
    by_method = {row["method"]: row for row in rows}
    epochs = {method: row["epochs"] for method, row in by_method.items()}
    assert epochs == {"full": 2, "slimmed": 3, "as slim, from scratch": 3, "uniform width": 3}
    full, slim, scratch = (by_method[one] for one in ("full", "slimmed", "as slim, from scratch"))
    assert slim["multiply_adds"] == scratch["multiply_adds"] <= full["multiply_adds"] / 2
    assert scratch["train_seconds"] < full["train_seconds"] == 1000 < slim["train_seconds"]
    assert 0 <= slim["accuracy_before"] <= 1
    model = load_model(tmp_path / "slimmed-0.5-0" / "model.keras")
    assert model.network.arguments["filters"]
    assert "from scratch" in (tmp_path / "slimming.svg").read_text()
    assert f"{slim['multiply_adds']:,} multiply-adds" in logged()


def test_nets_that_stop_leave_the_others(tmp_path, monkeypatch, noise):
    base = BASE.replace(workdir=str(tmp_path))
    run = StudyRun("full", 0, tmp_path / "full-0", {"train_seconds": 1.0, "epochs": 2}, [])
    save_model(build_model(base, noise), run.workdir / "model.keras")

    def train_on(net, label, *_):
        if label.startswith("slimmed"):
            raise TrainingStopped("the disk is full")
        return StudyRun(label, 0, tmp_path, {"seed": 0}, [])

    monkeypatch.setattr(slimming, "train_on", train_on)
    monkeypatch.setattr(slimming, "measure", lambda *_: {})
    rows, study = slimming._slimmed(run, base, base, (0.5,), 1, noise)
    assert [row["method"] for row in rows] == ["as slim, from scratch"]
    assert study.stopped == [StoppedRun("slimmed 0.5", 0, "the disk is full")]
    assert [one.label for one in study.finished] == ["as slim, from scratch 0.5"]


def test_what_is_refused():
    with refused("shares", "1.5"):
        slimming.compare_slimmed(BASE, (1.5,), (0,))
    with refused("shares", "0"):
        slimming.compare_slimmed(BASE, (0.0,), (0,))
    with refused("depth", "None"):
        slimming.compare_slimmed(Experiment(), (0.5,), (0,))
