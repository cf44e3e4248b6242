"""`keras-resnet evaluate`, run as a user runs it."""

import csv
import json

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.data import load_dataset
from tests.recipes.running import refused, run_here


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two small untrained nets for the digits, of different seeds."""
    folder = tmp_path_factory.mktemp("models")
    for seed in range(2):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((8, 8, 1))
        scaled = keras.layers.Rescaling(1 / 64)(inputs)
        keras_resnet.CifarResNet(8, input_tensor=scaled).save(folder / f"{seed}.keras")
    return [folder / f"{seed}.keras" for seed in range(2)]


@pytest.fixture(scope="module")
def finished(models, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("evaluation") / "run"
    flags = ["--protocol", "multi-scale", "--scales", 8, 10, "--flip", "--average", "logits"]
    return workdir, run_here("evaluate", "--models", *models, *flags, "--workdir", workdir)


def test_everything_is_written(finished):
    workdir, output = finished
    tables = {f"{name}.{kind}" for name in ("confusion", "per_class") for kind in ("csv", "png")}
    assert {path.name for path in workdir.iterdir()} == {
        *tables,
        *("confusion.svg", "per_class.svg", "predictions.csv", "metrics.json"),
    }
    assert "whole image at 8, 10 pixels, and mirrored: top-1 error" in output


def test_figures_agree_with_each_other(finished, models):
    workdir, _ = finished
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics["models"] == [str(path) for path in models] and metrics["images"] == 360
    protocol = {"name": "multi-scale", "scales": [8, 10], "flip": True}
    assert metrics["protocol"] == protocol and metrics["average"] == "logits"
    predictions = rows_of(workdir / "predictions.csv")
    wrong = sum(row["label"] != row["top1"] for row in predictions)
    assert metrics["top1_error"] == pytest.approx(wrong / 360)
    confusion = rows_of(workdir / "confusion.csv")
    counts = np.array([[int(row[str(digit)]) for digit in range(10)] for row in confusion])
    assert counts.sum() == 360 and 360 - np.trace(counts) == wrong
    by_class = rows_of(workdir / "per_class.csv")
    assert [int(row["images"]) for row in by_class] == counts.sum(axis=1).tolist()


def test_the_default_is_the_models_own_prediction(models, tmp_path):
    flags = ["--models", models[0], "--workdir", tmp_path / "run"]
    run_here("evaluate", *flags)
    ((images, labels, _),) = load_dataset("digits").eval_batches("test", 360)
    best = np.argmax(keras.models.load_model(models[0])(np.asarray(images, "float32")), axis=1)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["top1_error"] == pytest.approx(np.mean(best != labels))
    assert metrics["split"] == "test" and metrics["protocol"]["name"] == "single-crop"
    # What is there already stays.
    refused("`workdir`", "evaluate", *flags)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--models", "nothing.keras"], "'nothing.keras'"),
        (["--dataset", "mnist"], "dataset='mnist'"),
        (["--data-dir", "/x"], "data_dir='/x'"),
        (["--image-size", "7"], "image_size=7"),
        (["--split", "dev"], "split='dev'"),
        (["--protocol", "five-crop"], "protocol='five-crop'"),
        (["--scales", "8"], "scales=[8]"),
        (["--protocol", "multi-scale", "--scales"], "scales=[]"),
        (["--protocol", "multi-scale", "--resize", "9"], "resize=9"),
        (["--protocol", "ten-crop", "--resize", "7"], "resize=7"),
        (["--average", "votes"], "average='votes'"),
        (["--batch-size", "0"], "batch_size=0"),
    ],
)
def test_wrong_flag_is_one_line_and_writes_nothing(models, tmp_path, flags, named):
    refused(named, "evaluate", "--models", models[0], "--workdir", tmp_path / "run", *flags)
    assert list(tmp_path.iterdir()) == []
