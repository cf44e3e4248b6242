"""A search from settings to table, figure and the run of the best, without real networks."""

import csv
import json
import shutil

import pytest

from keras_resnet.experiment import Experiment, preflight, runner
from keras_resnet.experiment.search import searching
from keras_resnet.experiment.search import tuner as tuning
from keras_resnet.experiment.search.space import SearchSpace
from keras_resnet.experiment.workdir import LOCK
from tests.experiment.search.fakes import Wide
from tests.helpers import refused

SPACE = SearchSpace(repeats=(1,), widenings=(0.5, 1.0), blocks=("basic",), shortcuts=("A",))


class Alike(Wide):
    """The wide ones cost more than 6,000 multiply-adds, the narrow ones less."""

    def train(self, values, model, epochs):
        accuracy = 0.9 if values["learning_rate"] < 0.1 else 0.5
        return super().train(values, model, epochs) | {"val_accuracy": accuracy}


@pytest.fixture
def final_runs(monkeypatch):
    runs = []
    monkeypatch.setattr(tuning, "ResNetHyperModel", Alike)
    monkeypatch.setattr(searching, "run", runs.append)
    return runs


def test_table_figure_and_final_run(tmp_path, final_runs, capsys, logged):
    base = Experiment.from_flat(workdir=str(tmp_path), epochs=2, export=False)
    options = {"max_multiply_adds": 6000, "final_epochs": 7}
    rows = searching.search(base, SPACE, trials=6, **options)
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    trained, over = (
        [row for row in rows if row["state"] == state] for state in ("trained", "over budget")
    )
    assert trained and over and len(trained) + len(over) == 6
    assert {row["network"] for row in trained} <= {"ResNet8x0.5", "ResNet8x0.5_se8"}
    assert {row["multiply_adds"] for row in trained} == {64 * 50 + 50 * 10}
    assert {row["multiply_adds"] for row in over} == {64 * 100 + 100 * 10}
    untrained = {(row["epochs"], row["val_accuracy"], row["seconds"]) for row in over}
    assert untrained == {(0, None, None)}
    # Of equals the first, since all cost the same.
    best = next(row for row in trained if row["learning_rate"] < 0.1)
    table = json.loads((tmp_path / "table.json").read_text())
    assert table == {"best": best["trial"], "rows": rows}
    with open(tmp_path / "table.csv", newline="") as file:
        assert [row["state"] for row in csv.DictReader(file)] == [row["state"] for row in rows]
    assert {path.suffix for path in tmp_path.glob("accuracy.*")} == {".png", ".svg", ".csv"}
    page = (tmp_path / "report.html").read_text()
    assert "Accuracy against multiply-adds" in page and "over budget" in page
    assert f"The best is trial {best['trial']}." in page
    (final,) = final_runs
    assert final.optimization.epochs == 7
    assert (final.network.depth, final.network.widening) == (8, 0.5)
    assert final.optimization.learning_rate == best["learning_rate"]
    assert final.output.workdir == str(tmp_path / f"best-trial-{best['trial']}")
    assert logged().count("is over the budget") == len(over)
    assert "Trial 6 Complete" in capsys.readouterr().out

    # Started again with more, it adds to them.
    more = searching.search(base, SPACE, trials=8, **options)
    assert [row["trial"] for row in more] == ["0", "1", "2", "3", "4", "5", "6", "7"]
    assert more[:6] == rows
    assert "Trial 1 Complete" not in capsys.readouterr().out
    for named, other, changed in (
        ("tuner", base, {"tuner": "bayesian"}),
        ("max_parameters", base, {"max_parameters": 5000}),
        ("seed", base.replace(seed=1), {}),
    ):
        with refused("workdir", named):
            searching.search(other, SPACE, **options | changed)


def test_a_budget_that_leaves_nothing_leaves_the_folder_free(tmp_path, final_runs, monkeypatch):
    base = Experiment.from_flat(workdir=str(tmp_path), epochs=1, export=False)
    notes = tmp_path / "search" / "notes.txt"
    locked, remove = [], shutil.rmtree

    def rmtree(path, **options):
        if path == notes.parent:
            locked.append((tmp_path / LOCK).exists())
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    for occupied in (False, True):  # what was there before is somebody's
        if occupied:
            notes.parent.mkdir()
            notes.touch()
        with refused("max_parameters", "max_multiply_adds=10"):
            searching.search(base, SPACE, trials=2, max_multiply_adds=10)
        assert notes.exists() if occupied else list(tmp_path.iterdir()) == []
    assert locked == [True]  # while no other search can begin there


def test_a_folder_that_another_search_used_meanwhile(tmp_path, final_runs, monkeypatch):
    base = Experiment.from_flat(workdir=str(tmp_path), epochs=1, export=False)
    searching.search(base, SPACE, trials=1)
    other = (tmp_path / "search.json").read_text()
    (tmp_path / "search.json").unlink()

    def meanwhile(*arguments):
        prepared = preflight.prepare(*arguments)
        (tmp_path / "search.json").write_text(other)
        return prepared

    monkeypatch.setattr(runner, "prepare", meanwhile)
    with refused("`workdir`", "another seed"):
        searching.search(base.replace(seed=1), SPACE, trials=1)
    assert (tmp_path / "search.json").read_text() == other


def test_what_a_killed_search_left_is_cleared(tmp_path, final_runs):
    base = Experiment.from_flat(workdir=str(tmp_path), epochs=1, export=False)
    searching.search(base, SPACE, trials=1)
    before = sorted(tmp_path.rglob("*"))
    for folder in (tmp_path, tmp_path / "search", tmp_path / "search" / "trial_0"):
        (folder / ".writing-oracle.json-abc").mkdir()
    searching.search(base, SPACE, trials=1)
    assert sorted(tmp_path.rglob("*")) == before


def test_workdir_that_is_a_file_or_damaged(tmp_path):
    (tmp_path / "file").touch()
    with refused("workdir", "file"):
        searching.search(Experiment.from_flat(workdir=str(tmp_path / "file")), SPACE)
    (tmp_path / "search.json").write_text("[")
    with refused("workdir", "search.json"):
        searching.search(Experiment.from_flat(workdir=str(tmp_path)), SPACE)
