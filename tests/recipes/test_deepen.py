"""Deepening and layer responses, as a user runs them."""

import csv
import json

import pytest
from PIL import Image

import keras_resnet
from tests.recipes.running import refused, run_here, run_recipe, save_untrained


@pytest.fixture(scope="module")
def deepened(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("deepen") / "run"
    flags = ["--depth", 8, "--to", 14, "--epochs", 2, "--more-epochs", 1, "--jobs", 1]
    result = run_recipe("deepen", "--workdir", workdir, *flags)
    assert result.returncode == 0, result.stderr
    return workdir, result.stdout


@pytest.mark.slow
def test_outputs_are_equal_and_training_continues(deepened):
    workdir, output = deepened
    held = json.loads((workdir / "table.json").read_text())
    shallow, grown, after, scratch = held["rows"]
    assert [row["epochs"] for row in held["rows"]] == [2, 2, 3, 3]
    assert grown["outputs_differ"] <= 1e-5
    for figure in ("loss_in_training", "test_loss", "test_accuracy"):
        assert grown[figure] == pytest.approx(shallow[figure], rel=1e-5)
    assert after["loss_in_training"] < grown["loss_in_training"]
    assert scratch["network"] == "ResNet14 from scratch"
    with open(workdir / "table.csv", newline="") as file:
        assert [row["network"] for row in csv.DictReader(file)] == [
            row["network"] for row in held["rows"]
        ]
    with open(workdir / "deepening.csv", newline="") as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == [1, 2, 3, 1, 2, 3]
    for label in ("ResNet8", "ResNet14, deepened", "deepened here", "nats"):
        assert label in (workdir / "deepening.svg").read_text()
    assert "outputs 0 off" in output


@pytest.mark.slow
def test_responses_of_the_models(deepened, tmp_path):
    models = sorted(deepened[0].glob("*/model.keras"))
    assert len(models) == 3
    result = run_recipe("responses", "--models", *models, "--workdir", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "out" / "responses.json").read_text())
    assert found["images"] == 360
    # Two nets of one name go by their folders.
    assert {label: len(layers) for label, layers in found["responses"].items()} == {
        "resnet8": 7,
        "resnet14 (ResNet14-0)": 13,
        "resnet14 (ResNet14-deepened-0)": 13,
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(f"responses.{kind}" for kind in ("png", "svg", "csv", "json")),
        "report.html",
    }


def test_models_of_one_name_and_folder_go_by_their_paths(tmp_path):
    models = [tmp_path / one / "run" / "model.keras" for one in "ab"]
    for path in models:
        path.parent.mkdir(parents=True)
        save_untrained(path.parent, channels=1, labels="abcdefghij")
    printed = run_here("responses", "--models", *models, "--workdir", tmp_path / "out", "--json")
    found = json.loads(printed)
    assert found == json.loads((tmp_path / "out" / "responses.json").read_text())
    assert list(found["responses"]) == [str(path) for path in models]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Responses by layer" in page and page.count(str(models[0])) >= 2


def test_responses_to_images_of_other_sides(tmp_path):
    for name in ("train/a", "train/b", "test/a"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (30, 20)).save(tmp_path / name / "0.png")
    model = keras_resnet.CifarResNet(8, input_shape=(8, 12, 3), classes=2)
    model.save(tmp_path / "model.keras")
    data = ("--dataset", "folder", "--data-dir", tmp_path, "--image-size", "8x12")
    words = ("--models", tmp_path / "model.keras", *data, "--workdir", tmp_path / "out", "--json")
    found = json.loads(run_here("responses", *words))
    assert found["images"] == 1 and len(*found["responses"].values()) == 7


@pytest.mark.parametrize(
    ("name", "flags", "named"),
    [
        ("deepen.py", ["--to", "20"], "depth=20"),
        ("deepen.py", ["--to", "21"], "depth=21"),
        ("deepen.py", ["--more-epochs", "0"], "more_epochs=0"),
        ("deepen.py", ["--shortcut", "D"], "shortcut='D'"),
        ("responses", ["--models", "nowhere.keras"], "nowhere.keras"),
    ],
)
def test_wrong_flag_is_one_line_and_writes_nothing(tmp_path, name, flags, named):
    refused(named, name, "--workdir", tmp_path / "run", *flags)
    assert list(tmp_path.iterdir()) == []
