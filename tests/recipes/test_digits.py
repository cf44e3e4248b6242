"""The first recipe, run as a user runs it."""

import json
import re

import keras
import numpy as np
import pytest

from keras_resnet.data import load_dataset
from keras_resnet.experiment import page
from keras_resnet.training import read_records
from tests.recipes.running import ROOT, refused, run_recipe, streams_here

SMALL = ("--depth", 8, "--epochs", 12, "--shortcut", "B")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, report_run):
    """A short run of a small net, long enough to learn, with its report."""
    workdir = tmp_path_factory.mktemp("digits") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "report_run", report_run)
        return workdir, *streams_here("digits.py", "--workdir", workdir, *SMALL)


def test_the_report_shows_the_run(finished):
    text = (finished[0] / "report.html").read_text()
    metrics = json.loads((finished[0] / "metrics.json").read_text())
    assert f"{100 * metrics['test_accuracy']:.2f} %" in text and "Worst mistakes" in text


def test_it_learns(finished):
    metrics = json.loads((finished[0] / "metrics.json").read_text())
    # A linear classifier of raw pixels reaches about 96 %; chance is 10 %.
    assert metrics["test_accuracy"] > 0.9
    assert metrics["fine_tuned_test_accuracy"] > 0.9
    assert metrics["steps"] == 12 * (1257 // 128)
    assert metrics["test_images"] == 360
    assert metrics["command"].startswith("python ")
    assert f"recipes/digits.py --workdir {finished[0]} --depth 8 " in metrics["command"]


def test_stated_accuracy_is_that_of_the_saved_model(finished):
    metrics = json.loads((finished[0] / "metrics.json").read_text())
    model = keras.models.load_model(finished[0] / "model.keras")
    hits = count = 0.0
    for images, labels, weights in load_dataset("digits").eval_batches("test", 100):
        best = np.argmax(model(np.asarray(images, "float32")), axis=-1)
        hits += np.sum((best == labels) * weights)
        count += np.sum(weights)
    assert count == 360
    assert metrics["test_accuracy"] == pytest.approx(hits / count, abs=1e-6)


def test_the_model_loads_where_nothing_but_the_package_is_imported(finished, subprocess_python):
    path = finished[0] / "model.keras"
    script = f"""
import keras, keras_resnet
model = keras.models.load_model({str(path)!r}, safe_mode=True)
print(model.name, model.compiled)
"""
    assert subprocess_python(script).stdout.split() == ["resnet8_b", "False"]


def test_everything_is_written(finished):
    workdir, output, log = finished
    names = {path.name for path in workdir.iterdir()}
    # All that docs/files.md lists of a run, but for what other flags write.
    rows = (ROOT / "docs" / "files.md").read_text().partition("## Other")[0].splitlines()
    listed = set(re.findall("`(.*?)`", " ".join(row.split("|")[1] for row in rows if "|" in row)))
    assert listed - {"head/", "smoke/", "learning_rates.json"} <= names and len(listed) > 20
    assert names >= {
        "config.json",
        "metrics.csv",
        "metrics.jsonl",
        "metrics.json",
        "learning_curve.png",
        "learning_curve.csv",
        "model.keras",
        "model_card.md",
        "labels.txt",
        "saved_model",
        "feature_vector",
    }
    epochs = [row for row in read_records(workdir / "metrics.jsonl") if row["kind"] == "epoch"]
    assert [row["epoch"] for row in epochs] == list(range(1, 13))
    assert epochs[-1]["accuracy"] > epochs[0]["accuracy"]
    assert "left" in log and "images/s" in log
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert output == (
        f"{workdir}: test accuracy {metrics['test_accuracy']:.4g}, epochs 12, steps 108, "
        f"train seconds {metrics['train_seconds']:.4g}\n"
    )


def test_card_states_the_measured_figures(finished):
    card = (finished[0] / "model_card.md").read_text()
    metrics = json.loads((finished[0] / "metrics.json").read_text())
    assert f"{100 * metrics['test_accuracy']:.2f} %" in card
    assert f"{metrics['parameters']:,} trainable parameters" in card
    assert "option B" in card and "8 weighted layers" in card and "CC BY 4.0" in card


def test_finished_run_is_not_repeated_and_not_overwritten(finished):
    workdir = finished[0]
    before = (workdir / "model.keras").read_bytes()
    assert "nothing to do" in streams_here("digits.py", "--workdir", workdir, *SMALL)[1]
    refused("another epochs", "digits.py", "--workdir", workdir, *SMALL, "--epochs", 13)
    assert (workdir / "model.keras").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--depth", "21"], "depth=21"),
        (["--shortcut", "D"], "shortcut='D'"),
        (["--model", "ResNet51"], "model='ResNet51'"),
        (["--epochs", "0"], "epochs=0"),
        (["--batch-size", "5000"], "batch_size=5000"),
        (["--learning-rate", "-1"], "learning_rate=-1"),
        (["--gpus", "99"], "gpus=99"),
        (["--precision", "float8"], "precision='float8'"),
        (["--dataset", "nothing"], "'nothing'"),
    ],
)
def test_wrong_flag_is_one_line_and_writes_nothing(tmp_path, flags, named):
    refused(named, "digits.py", "--workdir", tmp_path / "run", *flags)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_mean_of_three_seeds_reaches_98_percent(tmp_path):
    accuracies, seconds = [], []
    for seed in range(3):
        result = run_recipe(
            "digits", "--workdir", tmp_path / str(seed), "--seed", seed, timeout=900
        )
        assert result.returncode == 0, result.stderr
        metrics = json.loads((tmp_path / str(seed) / "metrics.json").read_text())
        accuracies.append(metrics["test_accuracy"])
        seconds.append(metrics["train_seconds"])
    assert np.mean(accuracies) >= 0.98, accuracies
