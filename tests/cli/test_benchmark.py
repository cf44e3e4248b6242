"""`keras-resnet benchmark`, run as a user runs it, on a tiny network."""

import csv
import json

import keras_resnet
from keras_resnet.experiment.forms import FORMS
from tests.recipes.running import refused, run_here, save_untrained

FEW = ("--batch-size", 1, 2, "--rounds", 3)


def test_every_form_and_a_training_step_are_timed(tmp_path):
    model, folder = save_untrained(tmp_path, channels=1, labels="abc"), tmp_path / "out"
    found = json.loads(run_here("benchmark", model, *FEW, "--train", "-o", folder, "--json"))
    assert found == json.loads((folder / "benchmark.json").read_text())
    forms = [*FORMS, "keras, training step"]
    assert [(row["batch_size"], row["form"]) for row in found["rows"]] == [
        (size, form) for size in (1, 2) for form in forms
    ]
    for row in found["rows"]:
        assert 0 < row["first_quartile"] <= row["seconds"] <= row["third_quartile"]
        assert row["images_per_second"] == row["batch_size"] / row["seconds"]
        assert row["rounds"] == 3 and (row["ratio"] == 1) == (row["form"] == "keras")
    assert found["machine"]["cores"] >= 1
    with open(folder / "benchmark.csv", newline="") as file:
        assert [row["form"] for row in csv.DictReader(file)] == 2 * forms
    assert (folder / "benchmark.png").exists()


def test_an_exported_model_is_timed_as_it_is(tmp_path):
    model = save_untrained(tmp_path, channels=1, labels="abc")
    keras_resnet.export.export(keras_resnet.load_model(model), tmp_path / "m.tflite", "litert")
    heading, _, row, _, about, *_ = run_here("benchmark", tmp_path / "m.tflite", *FEW).splitlines()
    assert heading.split() == "form batch size ms quartiles images/s ratio".split()
    assert row.startswith("m.tflite") and row.endswith(" 1") and "m.tflite" not in about
    refused("image_size='8x'", "benchmark", "ResNet20", "--image-size", "8x")
    refused("`forms`", "benchmark", tmp_path / "m.tflite", "--train")
    refused("model='ResNet51'", "benchmark", "ResNet51")
    refused("rounds=2", "benchmark", tmp_path / "m.tflite", "--rounds", 2)
