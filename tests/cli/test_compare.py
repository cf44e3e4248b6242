"""`keras-resnet compare`, run as a user runs it."""

import csv
import json

import pytest

from keras_resnet.analysis import cost
from keras_resnet.analysis.cost import Cost, Phase
from tests.recipes.running import refused, run_here, run_recipe


@pytest.mark.slow
def test_two_small_networks(tmp_path):
    workdir = tmp_path / "compare"
    result = run_recipe(
        "compare",
        *("--models", "ResNet20", "MobileNetV2", "--image-size", 32, "--batch-sizes", 1, 2),
        *("--repeats", 3, "--seconds", 0.1, "--accuracy", "ResNet20=0.75"),
        *("--workdir", workdir),
    )
    assert result.returncode == 0, result.stderr
    assert "multiply-adds" in result.stdout and "FLOP" not in result.stdout
    assert result.stdout.count("s/image") == 8  # two networks, two batch sizes, two kinds of step
    assert {path.name for path in workdir.iterdir()} == {
        *("comparison.png", "comparison.svg", "comparison.csv", "comparison.json"),
        *("cost.png", "cost.svg", "cost.csv", "layers", "report.html"),
    }
    page = (workdir / "report.html").read_text()
    assert "Comparison of 2 networks" in page and "MobileNetV2" in page
    assert {path.name for path in (workdir / "layers").iterdir()} == {
        *("ResNet20.csv", "MobileNetV2.csv")
    }
    record = json.loads((workdir / "comparison.json").read_text())
    first, second = record["models"]
    assert (first["multiply_adds"], first["accuracy_is"]) == (40_551_040, "measured")
    assert second["top1_accuracy"] is None  # published for 224 pixels, not for 32
    assert record["failures"] == [] and len(record["costs"]) == 4 and record["finished"]
    with open(workdir / "cost.csv", newline="") as file:
        for row in csv.DictReader(file):
            # A figure, or the word: never an empty field.
            assert all(row.values()) and row["forward_joules_per_image"] != "0"
    for one in record["costs"]:
        assert one["training_seconds_per_image"] > 0
        assert one["forward_joules_per_image"] != 0 and one["forward_memory_bytes"] != 0


def test_an_interrupted_comparison_keeps_what_is_known(tmp_path, monkeypatch, capsys):
    measured = Phase(0.1, 0.1, 0.1, 3, None, None)
    found = Cost("ResNet20", 1, (32, 32, 3), "float32", "CPU", None, measured, None)

    def measure_all(names, batch_sizes, **options):
        yield found
        raise KeyboardInterrupt

    monkeypatch.setattr(cost, "measure_all", measure_all)
    flags = ["--models", "ResNet20", "--image-size", "32x16", "--accuracy", "ResNet20=0.75"]
    with pytest.raises(SystemExit) as exit:
        run_here("compare", "--workdir", tmp_path, *flags)
    assert exit.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"
    record = json.loads((tmp_path / "comparison.json").read_text())
    assert record["command"].startswith("keras-resnet compare --workdir ")
    assert [row["model"] for row in record["models"]] == ["ResNet20"]
    assert record["models"][0]["image_shape"] == "32x16x3"
    assert record["costs"] == [json.loads(json.dumps(found.row()))] and not record["finished"]
    with open(tmp_path / "cost.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    for name in ("forward_joules_per_image", "forward_memory_bytes", "energy_meter"):
        assert row[name] == "unavailable"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--models", "ResNet51"], "models='ResNet51'"),
        (["--models", "VGG16", "--batch-sizes", "0"], "batch_size=0"),
        (["--models", "VGG16", "--accuracy", "VGG19=0.7"], "accuracy='VGG19'"),
        (["--models", "VGG16", "--accuracy", "VGG16=71"], "accuracy=71"),
        (["--models", "VGG16", "--accuracy", "VGG16=none.json"], "none.json"),
        (["--models", "VGG16", "--image-size", "-1"], "image_size='-1'"),
        (["--models", "InceptionV3", "--image-size", "32"], "image_size=32"),
        (["--precision", "float8"], "precision='float8'"),
    ],
)
def test_wrong_flag_is_one_line_and_writes_nothing(tmp_path, flags, named):
    refused(named, "compare", "--workdir", tmp_path / "run", *flags)
    assert list(tmp_path.iterdir()) == []
