"""Reports of studies, whole or with runs that had to stop, on made-up runs."""

import csv
import json
from pathlib import Path

import pytest

from keras_resnet.experiment import Experiment, reports
from keras_resnet.experiment.study import StoppedRun, Study, StudyRun
from keras_resnet.training import TrainingStopped

REASON = "Training diverged by step 3, learning rate 0.1: the loss is nan; no checkpoint"


def made(label, seed, epochs=3, **more):
    rows = [
        {"epoch": e, "accuracy": 1 - 0.6**e, "val_accuracy": 1 - (0.7 + seed / 100) ** e}
        for e in range(1, epochs + 1)
    ]
    metrics = {"parameters": 1000, "multiply_adds": 2000, "train_seconds": 7.0, "threads": 1 + seed}
    metrics |= more
    return StudyRun(label, seed, Path(label), metrics, rows)


@pytest.fixture
def outcome(monkeypatch):
    """Sets what becomes of the next study."""

    def become(finished, stopped=()):
        stopped = [StoppedRun(*key, REASON) for key in stopped]
        study = Study([made(*key) for key in finished], stopped, jobs=2)
        monkeypatch.setattr(reports, "attempt_study", lambda *args, **options: study)

    return become


def table(workdir):
    rows = json.loads((workdir / "table.json").read_text())["rows"]
    with open(workdir / "table.csv", newline="") as file:
        assert [row["network"] for row in csv.DictReader(file)] == [row["network"] for row in rows]
    return rows


def titles(svg):
    """Returns the texts of a figure, of which matplotlib keeps a comment for every line."""
    return " ".join(line.strip()[5:-4] for line in svg.read_text().splitlines() if "<!--" in line)


def test_degradation_of_nets_of_which_some_diverged(tmp_path, outcome, logged):
    outcome(
        [("PlainNet20", 0), ("PlainNet20", 1), ("ResNet20", 0)],
        [("PlainNet56", 0), ("PlainNet56", 1), ("ResNet20", 1)],
    )
    models = ["PlainNet20", "PlainNet56", "ResNet20"]
    with pytest.raises(TrainingStopped, match="6 .*3 .*PlainNet56, seed 0"):
        reports.degradation(models, Experiment.from_flat(workdir=str(tmp_path), epochs=3), [0, 1])
    plain, deep, residual = table(tmp_path)
    assert (plain["network"], plain["seeds"]) == ("PlainNet20", 2) and "stopped" not in plain
    assert deep == {
        "network": "PlainNet56",
        "seeds": 0,
        "stopped": f"seed 0: {REASON} | seed 1: {REASON}",
    }
    assert (residual["seeds"], residual["stopped"]) == (1, f"seed 1: {REASON}")
    printed = logged()
    (line,) = (line for line in printed.splitlines() if line.startswith("PlainNet56"))
    assert line.split()[1:] == ["-"] * 7 + ["seed", "0,", "1"]
    # Where the numbers of the column end.
    assert line.index("-") == printed.index("parameters") + len("parameters") - 1
    drawn = titles(tmp_path / "degradation.svg")
    assert "PlainNet56 (seed 0)" in drawn and "PlainNet20, training" in drawn
    assert "PlainNet56, training" not in drawn


@pytest.mark.parametrize("finished", [[], [("a", 0)]])
def test_side_by_side_with_some_that_stopped(tmp_path, outcome, finished):
    outcome(finished, [(label, 0) for label in "ab" if (label, 0) not in finished])
    base = Experiment.from_flat(workdir=str(tmp_path))
    with pytest.raises(TrainingStopped):
        reports.side_by_side({"a": base, "b": base}, base, [0], title="Two")
    stopped = [row["stopped"] for row in table(tmp_path) if not row["seeds"]]
    assert stopped == [f"seed 0: {REASON}"] * (2 - len(finished))
    if not finished:
        assert {path.name for path in tmp_path.iterdir()} == {"table.csv", "table.json"}
    for name in ("comparison", "curves") if finished else ():
        assert "stopped before their end: b (seed 0)" in titles(tmp_path / f"{name}.svg")


def test_whole_study_says_what_its_time_is(tmp_path, outcome, logged):
    outcome([("ResNet20", 0, 1), ("ResNet20", 1, 1)])
    base = Experiment.from_flat(workdir=str(tmp_path), epochs=1, validation_split="test")
    (row,) = reports.degradation(["ResNet20"], base, [0, 1])
    assert row["train_seconds"] == 7.0 and "stopped" not in row
    assert (row["threads"], row["jobs"]) == ("1, 2", 2)
    printed = logged()
    assert "wall s" in printed and "wall s: of a run, with compilation" in printed
    assert "stopped" not in printed
    assert "other threads than 1, 2" in printed
    reports.degradation(["ResNet20"], base.replace(deterministic=True), [0, 1])
    assert "threads than" not in logged()[len(printed) :]
    assert "1 epoch of batch 128" in titles(tmp_path / "degradation.svg")


def test_errors_are_headed_by_their_split(tmp_path, monkeypatch, logged):
    """The validation error of averaged weights, and the test error of the trained model."""
    runs = [made("ResNet20", seed, split="test", test_accuracy=0.5 + seed / 4) for seed in (0, 1)]
    for run in runs:
        for row in run.epochs:
            row["ema_val_accuracy"] = 0.75
    monkeypatch.setattr(reports, "attempt_study", lambda *args, **options: Study(runs, [], jobs=1))
    base = Experiment.from_flat(workdir=str(tmp_path), epochs=3)
    reports.side_by_side({"ResNet20": base}, base, [0, 1], title="One")
    (row,) = table(tmp_path)
    assert row["validation_error"] == pytest.approx((0.7**3 + 0.71**3) / 2)
    assert row["test_error"] == pytest.approx(0.375)
    printed = logged()
    assert "validation error %" in printed and "test error %" in printed
    assert "their average" not in printed
    assert "validation error" in titles(tmp_path / "comparison.svg")
    assert "ResNet20, validation" in titles(tmp_path / "curves.svg")
    averaged = base.replace(ema=0.9)
    reports.side_by_side({"ResNet20": averaged}, averaged, [0, 1], title="One")
    (row,) = table(tmp_path)
    assert (row["validation_error"], row["test_error"]) == (0.25, pytest.approx(0.375))
    assert "other errors: of their average" in logged()
