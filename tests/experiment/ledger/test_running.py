"""Runs that a ledger lacks: which they are, what they cost, and how they come into it."""

import csv
import json

import keras
import pytest

from keras_resnet.experiment import card
from keras_resnet.experiment.factories import build_model, load_data
from keras_resnet.experiment.ledger import running
from keras_resnet.experiment.ledger.budgets import BUDGETS
from keras_resnet.experiment.ledger.records import read_ledger
from keras_resnet.experiment.ledger.running import Run, cost_text, run_missing, runs_of
from keras_resnet.experiment.study import StoppedRun, Study, StudyRun
from keras_resnet.training import TrainingStopped
from keras_resnet.utils.files import write_json
from keras_resnet.weights.saving import save_model
from tests.experiment.ledger.fabricated import record

DIGITS = BUDGETS["digits"]


@pytest.fixture
def trained(tmp_path):
    """A run's folder as training leaves it: three test images, the second one wrong."""
    keras.utils.set_random_seed(0)
    experiment = DIGITS.experiment("ResNet20", 1)
    folder = tmp_path / "run"
    save_model(build_model(experiment, load_data(experiment.data)), folder / "model.keras")
    write_json(folder / "data.json", {"digest": "abc"})
    with open(folder / "predictions.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerows([["index", "label", "top1"], [0, 3, 3], [1, 4, 9], [2, 0, 0]])
    versions = {"keras_resnet": "1", "keras": "3", "tensorflow": "2", "python": "3"}
    metrics = {
        "train_accuracy": 0.9,
        "train_seconds": 12.5,
        "trained_multiply_adds": 10**6,
        "versions": versions,
    }
    epochs = [{"step": 9, "accuracy": 0.5}, {"step": 18, "accuracy": 0.9, "val_accuracy": 0.75}]
    return StudyRun("label", 1, folder, metrics, epochs)


@pytest.fixture
def studied(trained, monkeypatch):
    """The labels of what was run, which takes no time; PlainNet20 diverges."""
    labels = []

    def attempt_study(experiments, seeds, workdir, jobs):
        (label,) = experiments
        labels.append((label, *seeds))
        if label.startswith("Plain"):
            return Study([], [StoppedRun(label, seeds[0], "it diverged")])
        versions = {**card.versions(), "python": "3"}
        metrics = {**trained.metrics, "versions": versions}
        return Study([StudyRun(label, seeds[0], trained.workdir, metrics, trained.epochs)])

    monkeypatch.setattr(running, "attempt_study", attempt_study)
    return labels


def test_a_record_has_what_the_runs_folder_has(trained):
    (run,) = runs_of(DIGITS, ["ResNet20"], [1])
    found = running.record_of(run, trained, load_data(run.experiment.data))
    assert (found.cell, found.budget, found.seed) == ("ResNet20", "digits", 1)
    assert (found.images, found.wrong) == (3, 1) and found.hits().tolist() == [True, False, True]
    assert found.train_error == pytest.approx(0.1) and found.seconds == 12.5
    assert found.curve == [(9, 0.5, None), (18, 0.1, 0.25)]
    assert found.data == "abc" and found.machine == running.machine_name()
    assert len(found.responses) == 19 and found.response > 0
    json.dumps(found.__dict__)


def test_what_is_missing_is_run_once_and_stopped_runs_are_named(studied, tmp_path):
    ledger = tmp_path / "ledger.jsonl"
    runs = runs_of(DIGITS, ["PlainNet20", "ResNet20"], [0, 1])
    with pytest.raises(TrainingStopped, match="2 stopped.*PlainNet20.*seed 1: it diverged"):
        run_missing(runs, ledger, tmp_path)
    assert studied == [(f"{run.cell}-{run.hash}", run.seed) for run in runs]
    records, _ = read_ledger(ledger)
    assert [(one.cell, one.seed, one.hash) for one in records] == [
        (run.cell, run.seed, run.hash) for run in runs[2:]
    ]
    assert [run.is_in(records) for run in runs] == [False, False, True, True]
    run_missing(runs[2:], ledger, tmp_path)
    assert len(ledger.read_text().splitlines()) == 2


def test_cost_follows_from_records_of_the_same_machine(monkeypatch):
    monkeypatch.setattr(running, "_timed", lambda runs: pytest.fail("nothing is to be timed"))
    mine = running.machine_name()
    # By hand: ResNet20 has 2,516,608 multiply-adds for a digit, so 27 epochs of 1257 take 10 s.
    speed = 27 * 1257 * 2516608 // 10
    known = [
        record("ResNet20", 0, 9, machine=mine, seconds=10.0, multiply_adds=10 * speed),
        record("PlainNet20", 0, 9, seconds=1e6),
    ]
    runs = runs_of(DIGITS, ["ResNet20"], [1, 2])
    assert running.seconds_left(runs, known) == pytest.approx(20.0)
    runs = runs_of(DIGITS, ["PlainNet20"], [0])
    assert running.seconds_left(runs, known) == pytest.approx(10.0, rel=0.02)
    text = cost_text([*runs, *runs], known)
    assert text.startswith("2 runs, about 0:20 on this machine") and mine in text
    assert cost_text([], known) == "nothing"


def test_cost_is_timed_where_no_record_tells_it(monkeypatch):
    asked = []
    monkeypatch.setattr(running, "_timed", lambda runs: asked.append(runs) or 1e6)
    runs = runs_of(DIGITS, ["ResNet20"], [0, 1])
    expected = 2 * 27 * 1257 * 2516608 / 1e6
    assert running.seconds_left(runs, [record("ResNet20", 0, 9)]) == pytest.approx(expected)
    assert asked == [runs]
    assert cost_text(runs, []).startswith("2 runs, about 47.5 hours")


def test_a_few_steps_are_timed():
    experiment = DIGITS.experiment("ResNet20", 0)
    runs = [Run(name, DIGITS, 0, experiment, "") for name in ("ResNet56", "ResNet20")]
    assert running._timed(runs) > 0
