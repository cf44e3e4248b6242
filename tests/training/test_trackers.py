"""Trackers, against a stand-in and the real libraries offline, where they are installed."""

from __future__ import annotations

import json
import sys
import types
import warnings

import pytest

from keras_resnet.experiment import Experiment
from keras_resnet.training import Checkpoints
from keras_resnet.training.choices import TRACKERS
from keras_resnet.training.trackers import (
    Tracker,
    expect_installed,
    make_trackers,
)
from keras_resnet.utils.checks import ProblemsError
from tests.helpers import refused
from tests.training.fakes import fit, make_trainer


class Notes(Tracker):
    """Writes down what it is told."""

    name = "notes"
    told: list

    def _open(self, identity):
        self.told.append(("open", identity))
        return identity or "first"

    def _send(self, values, step):
        self.told.append((step, sorted(values)))

    def _conclude(self, figures, files):
        self.told.append((figures, files))

    def _end(self, finished):
        self.told.append(("end", finished))


@pytest.fixture
def notes(monkeypatch):
    monkeypatch.setitem(sys.modules, "notes", types.ModuleType("notes"))
    Notes.told = []
    return Notes


def test_events_of_a_run_that_resumes_and_ends(notes, tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    for steps in (2, 4):
        tracker = notes(tmp_path, {"lr": 0.1})
        options = {"checkpoints": Checkpoints(tmp_path / "checkpoints"), "log_every": 2}
        fit(make_trainer(), steps, callbacks=[tracker], **options)
    figures = {"accuracy": 0.5, "steps": 4, "command": "train", "jit_compile": False}
    files = [tmp_path / "metrics.json", tmp_path / "none"]
    tracker.finish(figures, files)
    values = ["accuracy", "images_per_second", "input_wait", "learning_rate", "loss"]
    interval = sorted([*(f"interval/{name}" for name in values), "epoch"])
    assert notes.told[0] == ("open", None)
    # The second life continues the run of the first.
    assert notes.told.count(("open", "first")) == 2
    logged = [entry for entry in notes.told if isinstance(entry[0], int)]
    assert [step for step, _ in logged] == [2, 2, 4, 4]
    assert set(logged[2][1]) <= set(interval) and "interval/loss" in logged[0][1]
    assert logged[3][1] == ["epoch", "epoch/accuracy", "epoch/learning_rate", "epoch/loss"]
    assert notes.told[-2:] == [
        ({"final/accuracy": 0.5, "final/steps": 4.0}, files[:1]),
        ("end", True),
    ]
    assert json.loads((tmp_path / "trackers.json").read_text()) == {"notes": "first"}


def test_a_library_that_cannot_open_a_run(notes, tmp_path, monkeypatch):
    def fail(self, identity):
        raise RuntimeError("no account\nfor you")

    monkeypatch.setattr(Notes, "_open", fail)
    with refused("`trackers`", "'notes'", "no account"):
        fit(make_trainer(), 1, callbacks=[notes(tmp_path)])


@pytest.mark.parametrize("lost", ["_send", "_end", "_open", "_conclude"])
def test_a_library_that_fails_later_ends_no_run(notes, tmp_path, monkeypatch, lost):
    """The first of its errors is a warning, and there is one only."""

    def fail(self, *args):
        raise ConnectionError(f"no server\nfor {lost}")

    if lost != "_open":
        monkeypatch.setattr(Notes, lost, fail)
    tracker = notes(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = make_trainer()
        fit(trainer, 4, callbacks=[tracker], log_every=1)
        monkeypatch.setattr(Notes, lost, fail)
        tracker.finish({"accuracy": 0.5}, [])
    assert trainer.step == 4
    (found,) = (str(one.message) for one in caught if "notes" in str(one.message))
    assert "no server" in found and str(tmp_path) in found


def test_missing_packages_name_their_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=r"wandb.*pip install .*\[wandb\]"):
        make_trackers(["wandb"], tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ImportError, match=r"\[mlflow\]"):
        expect_installed(["mlflow"])
    with pytest.raises(ProblemsError) as caught:
        expect_installed(["wandb", "mlflow", "wandb"])
    assert [line.split("pip install ")[1] for line in caught.value.lines] == [
        "'keras-deep-residual[wandb]'.",
        "'keras-deep-residual[mlflow]'.",
    ]


def test_settings_name_trackers():
    assert Experiment.from_flat(trackers=["mlflow"]).output.trackers == ("mlflow",)
    assert "trackers" not in Experiment().of_the_result()
    with refused("`trackers`", "'neptune'"):
        Experiment.from_flat(trackers=["neptune"])
    assert TRACKERS == ("tensorboard", "wandb", "mlflow", "trackio")


def lives(name, directory):
    """Trains twice, the second time from a checkpoint, and concludes."""
    file = directory / "metrics.json"
    for steps in (2, 4):
        (tracker,) = make_trackers([name], directory, {"lr": 0.1, "drops": (0.5,)})
        checkpoints = Checkpoints(directory / "checkpoints")
        fit(make_trainer(), steps, checkpoints=checkpoints, callbacks=[tracker], log_every=2)
    file.write_text("{}")
    tracker.finish({"test_accuracy": 0.5}, [file])
    return json.loads((directory / "trackers.json").read_text())[name]


def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    run = lives("mlflow", tmp_path / "run")
    client = mlflow.MlflowClient()
    found = client.get_run(run)
    assert found.data.params == {"lr": "0.1", "drops": "[0.5]"} and found.info.status == "FINISHED"
    assert found.data.metrics["final/test_accuracy"] == 0.5
    assert [metric.step for metric in client.get_metric_history(run, "interval/loss")] == [2, 4]
    assert [one.path for one in client.list_artifacts(run)] == ["metrics.json"]


def test_trackio(tmp_path, monkeypatch):
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    run = lives("trackio", tmp_path / "run")
    rows = SQLiteStorage.get_logs("keras-resnet", run)
    assert [row["step"] for row in rows if "interval/loss" in row] == [2, 4]
    assert rows[-1]["final/test_accuracy"] == 0.5


def test_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = lives("wandb", tmp_path / "run")
    written = list((tmp_path / "run" / "wandb").glob(f"offline-run-*-{run}/run-{run}.wandb"))
    data = b"".join(path.read_bytes() for path in written)
    assert len(written) == 3
    for name in (b"interval/loss", b"epoch/loss", b"final/test_accuracy", b"drops"):
        assert name in data
