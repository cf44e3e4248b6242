"""The studies end to end, at the smallest size, as a user starts them."""

import csv
import json

import numpy as np
import pytest

from keras_resnet.weights.saving import load_model
from tests.recipes.running import refused, run_here, run_recipe, streams_here

SHORT = ("--epochs", 1, "--batch-size", 256)


@pytest.fixture(scope="module")
def degradation(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("study") / "run"
    flags = ("--models", "PlainNet20", "ResNet20", "--seeds", 0, "--workdir", workdir, *SHORT)
    return workdir, streams_here("degradation.py", *flags), flags


def test_degradation_writes_curves_and_table(degradation):
    workdir, (printed, log), _ = degradation
    table = json.loads((workdir / "table.json").read_text())
    assert [row["network"] for row in table["rows"]] == ["PlainNet20", "ResNet20"]
    for row in table["rows"]:
        # The plain net has the parameters of its option-A twin; 8x8 images of one channel.
        assert row["parameters"] == 269_434
        metrics = json.loads((workdir / f"{row['network']}-0" / "metrics.json").read_text())
        assert row["test_error"] == pytest.approx(1 - metrics["test_accuracy"], abs=1e-6)
        assert row["training_error"] == pytest.approx(1 - metrics["train_accuracy"])
        assert row["network"] in printed
    with open(workdir / "degradation.csv", newline="") as file:
        assert {row["kind"] for row in csv.DictReader(file)} == {"training", "test"}
    assert (workdir / "degradation.png").exists()
    assert "2/2" in log and "2/2" not in printed


def test_a_study_prints_its_table_as_json(degradation):
    workdir, _, flags = degradation
    printed = run_here("degradation.py", *flags, "--json")
    assert json.loads(printed) == json.loads((workdir / "table.json").read_text())


@pytest.mark.slow
def test_a_finished_study_is_not_trained_again(degradation):
    workdir, _, flags = degradation
    model = workdir / "ResNet20-0" / "model.keras"
    before = model.stat().st_mtime_ns
    (workdir / "table.json").unlink()
    run_here("degradation.py", *flags)
    assert model.stat().st_mtime_ns == before and (workdir / "table.json").exists()


@pytest.mark.slow
def test_figures_of_deterministic_runs_do_not_depend_on_the_number_of_jobs(tmp_path):
    weights = []
    for jobs in (1, 2):
        workdir = tmp_path / str(jobs)
        flags = ("--depth", 8, "--shortcuts", "A", "--seeds", 0, 1, "--workdir", workdir, *SHORT)
        result = run_recipe("shortcuts", *flags, "--deterministic", "--jobs", jobs)
        assert result.returncode == 0, result.stderr
        (row,) = json.loads((workdir / "table.json").read_text())["rows"]
        assert (row["threads"], row["jobs"]) == ("1", jobs)
        models = [load_model(workdir / f"option A-{seed}" / "model.keras") for seed in (0, 1)]
        weights.append([model.get_weights() for model in models])
    for one, other in zip(*weights, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_shortcut_options_side_by_side(tmp_path):
    workdir = tmp_path / "run"
    result = run_recipe(
        "shortcuts",
        *("--depth", 8, "--shortcuts", "A", "C", "--seeds", 0, "--workdir", workdir, *SHORT),
    )
    assert result.returncode == 0, result.stderr
    rows = json.loads((workdir / "table.json").read_text())["rows"]
    assert [row["network"] for row in rows] == ["option A", "option C"]
    assert rows[0]["parameters"] < rows[1]["parameters"]
    assert rows[0]["multiply_adds"] < rows[1]["multiply_adds"]
    assert all(row["train_seconds"] > 0 for row in rows)
    assert (workdir / "comparison.png").exists() and (workdir / "curves.png").exists()


@pytest.mark.slow
def test_very_deep_net_with_three_kinds_of_regularization(tmp_path):
    workdir = tmp_path / "run"
    result = run_recipe("very_deep", "--depth", 14, "--recompute", "--workdir", workdir, *SHORT)
    assert result.returncode == 0, result.stderr
    rows = json.loads((workdir / "table.json").read_text())["rows"]
    assert [row["network"] for row in rows] == ["none", "dropout", "stochastic-depth"]
    for name, option in (("dropout", "dropout"), ("stochastic-depth", "stochastic_depth")):
        config = json.loads((workdir / f"{name}-0" / "config.json").read_text())
        assert config[option] > 0


@pytest.mark.parametrize(
    ("recipe", "flags", "named"),
    [
        ("degradation", ("--models", "ResNet21"), "ResNet21"),
        ("degradation", ("--models", "ResNet20", "resnet20"), "`models`"),
        ("degradation", ("--seeds", "0", "0"), "seeds"),
        ("degradation", ("--jobs", "0"), "jobs=0"),
        ("degradation", ("--reach", "2"), "reach=2"),
        ("shortcuts", ("--shortcuts", "D"), "'D'"),
        ("shortcuts", ("--shortcuts", "A", "A"), "`shortcuts`"),
        ("very_deep", ("--dropout", "1.5"), "dropout=1.5"),
    ],
)
def test_wrong_flags_are_one_line_and_write_nothing(tmp_path, recipe, flags, named):
    refused(named, f"{recipe}.py", *flags, "--workdir", tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
