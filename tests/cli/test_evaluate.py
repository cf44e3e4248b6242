"""`keras-resnet evaluate`, run as a user runs it."""

import csv
import itertools
import json
import os

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet.cli import evaluate, run
from keras_resnet.data import load_dataset
from keras_resnet.evaluation.predictor import predict
from keras_resnet.preprocessing import Preprocessing
from tests.evaluation.test_classes import FRUIT, perfect
from tests.recipes.running import refused, run_here, streams_here


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
        "report.html",
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


def test_classes_of_a_folder_are_matched_by_name(tmp_path):
    """Two models without an error, of classes in two orders, and folders of other names."""
    orders = {"alphabetic": (0, 1, 2), "another": (2, 0, 1)}
    models = [tmp_path / name / "model.keras" for name in orders]
    for path, order in zip(models, orders.values(), strict=True):
        path.parent.mkdir()
        perfect(order).save(path)
        (path.parent / "labels.txt").write_text("".join(f"{FRUIT[i]}\n" for i in order))
    for folder, names in (("same", FRUIT), ("oth\x1b[2Jer", ("z-apple", "bee", "a-cat"))):
        for split, (i, name) in itertools.product(("train", "val"), enumerate(names)):
            place = tmp_path / folder / split / name
            place.mkdir(parents=True)
            pixels = np.zeros((4, 4, 3), np.uint8)
            pixels[..., i] = 200
            Image.fromarray(pixels).save(place / "1.png")
    flags = ["--dataset", "folder", "--image-size", 4, "--data-dir"]
    for number, chosen in enumerate(([models[1]], models)):
        workdir = tmp_path / f"run{number}"
        run_here("evaluate", *flags, tmp_path / "same", "--workdir", workdir, "--models", *chosen)
        metrics = json.loads((workdir / "metrics.json").read_text())
        assert metrics["images"] == 3 and metrics["top1_error"] == 0
    workdir = tmp_path / "refused"
    words = [*flags, tmp_path / "oth\x1b[2Jer", "--workdir", workdir, "--models", models[0]]
    refused("'apple', 'cat' and without 'a-cat', 'z-apple'", "evaluate", *words)
    # Without the names the figure depends on the order of the folders.
    os.remove(models[0].with_name("labels.txt"))
    _, printed = streams_here("evaluate", *words)
    assert r" classes of oth\x1b[2Jer by number." in printed and "\x1b" not in printed
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics["top1_error"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--models", "nothing.keras"], "'nothing.keras'"),
        (["--dataset", "mnist"], "dataset='mnist'"),
        (["--data-dir", "/x"], "data_dir='/x'"),
        (["--image-size", "7"], "image_size=7"),
        (["--split", "dev"], "split='dev'"),
        (["--protocol", "five-crop"], "protocol='five-crop'"),
        (["--scales", "8"], "scales=(8,)"),
        (["--protocol", "multi-scale", "--scales"], "scales=()"),
        (["--protocol", "multi-scale", "--resize", "9"], "resize=9"),
        (["--protocol", "ten-crop", "--resize", "7"], "resize=7"),
        (["--average", "votes"], "average='votes'"),
        (["--batch-size", "0"], "batch_size=0"),
    ],
)
def test_wrong_flag_is_one_line_and_writes_nothing(models, tmp_path, flags, named):
    refused(named, "evaluate", "--models", models[0], "--workdir", tmp_path / "run", *flags)
    assert list(tmp_path.iterdir()) == []


def test_two_models_are_compared_and_one_is_calibrated(tmp_path, monkeypatch, capsys):
    """On random outputs: the digits' 179 validation images."""
    paths = []
    for seed in range(2):
        keras.utils.set_random_seed(seed)
        prepared = Preprocessing.unchanged(1, 8)
        options = {"input_shape": (8, 8, 1), "include_preprocessing": prepared}
        model = keras_resnet.CifarResNet(8, **options)
        kernel, bias = model.layers[-1].get_weights()
        model.layers[-1].set_weights([kernel / 20, bias])
        paths.append(tmp_path / f"{seed}.keras")
        model.save(paths[-1])
    workdir, out = tmp_path / "run", tmp_path / "calibrated.keras"
    output = run_here(
        *("evaluate", "--models", paths[0], "--against", paths[1], "--split", "validation"),
        *("--calibrate", out, "--table", "json", "--workdir", workdir),
    )
    metrics = json.loads((workdir / "metrics.json").read_text())
    pair, found = metrics["against"], metrics["calibration"]
    assert pair["models"] == [str(path) for path in paths] and "McNemar" in output
    assert pair["errors"][0] == pytest.approx(metrics["top1_error"])
    assert found["images"] == pair["images"] == metrics["images"]
    assert found["cross_entropy"][1] < found["cross_entropy"][0]
    assert metrics["calibration_error"] == pytest.approx(found["error"][0], abs=1e-6)
    assert len(json.loads((workdir / "predictions.json").read_text())) == metrics["images"]
    assert len(rows_of(workdir / "reliability.csv")) > 1
    model, copy = map(keras_resnet.load_model, (paths[0], out))
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1)).astype("float32")
    logits = np.log(model(images)) / found["temperature"]
    np.testing.assert_allclose(copy(images), keras.ops.softmax(logits), rtol=1e-3, atol=1e-6)
    assert copy.preprocessing.threshold == pytest.approx(found["threshold"])
    flags = ["--models", paths[0], "--calibrate", out, "--workdir", tmp_path / "2"]
    refused("calibrate", "evaluate", *flags)
    # What was measured is told, too, where the model cannot be written.
    monkeypatch.setattr(evaluate.weights, "save_model", lambda *_: os.stat(tmp_path / "full"))
    flags[3], workdir = tmp_path / "other.keras", tmp_path / "3"
    with pytest.raises(SystemExit) as end:
        run(evaluate.main, [*map(str, flags[:-1]), str(workdir)])
    told = capsys.readouterr()
    assert end.value.code == 2 and "full" in told.err.splitlines()[-1]
    assert "top-1" in told.out and (workdir / "report.html").is_file()


def test_metrics_are_written_last(models, tmp_path, monkeypatch):
    """A folder whose report failed is not taken for a finished one."""

    def fail(*_, metrics, **__):
        assert metrics["images"] == 360
        raise OSError("no space")

    monkeypatch.setattr(evaluate.experiment.page, "write_report", fail)
    flags = ["--models", models[0], "--workdir", tmp_path / "run"]
    refused("no space", "evaluate", *flags)
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_sigmoid_of_several_classes_is_not_calibrated(tmp_path):
    options = {"input_shape": (8, 8, 1), "include_preprocessing": Preprocessing.unchanged(1, 8)}
    keras_resnet.CifarResNet(8, classifier_activation="sigmoid", **options).save(
        tmp_path / "bce.keras"
    )
    flags = ["--models", tmp_path / "bce.keras", "--calibrate", tmp_path / "new.keras"]
    refused("`calibrate`", "evaluate", *flags, "--workdir", tmp_path / "run")
    for more in (["--protocol", "ten-crop"], ["--resize", 10]):
        words = [*flags, "--workdir", tmp_path / "run", *more]
        refused("`calibrate` must go with the single crop", "evaluate", *words)
    assert [path.name for path in tmp_path.iterdir()] == ["bce.keras"]


def test_a_model_of_any_size_is_evaluated_at_the_size_it_remembers(tmp_path):
    for split, (i, name) in itertools.product(("train", "val"), enumerate(FRUIT)):
        place = tmp_path / "folder" / split / name
        place.mkdir(parents=True)
        pixels = np.random.default_rng(i).integers(0, 256, (24, 36, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / "1.png")
    prepared = Preprocessing(image_size=12, resize=20, interpolation="bicubic", class_names=FRUIT)
    model = keras_resnet.CifarResNet(
        8, input_shape=(None, None, 3), classes=3, include_preprocessing=prepared
    )
    model.save(tmp_path / "any.keras")
    words = ["--dataset", "folder", "--data-dir", tmp_path / "folder"]
    words += ["--models", tmp_path / "any.keras", "--workdir", tmp_path / "run"]
    run_here("evaluate", *words)
    rows = rows_of(tmp_path / "run" / "predictions.csv")
    expected = predict(tmp_path / "any.keras", tmp_path / "folder" / "val", top=1)
    assert [float(row["score"]) for row in rows] == pytest.approx(
        [one.probabilities[0] for one in expected], abs=1e-5
    )


def test_models_of_two_sizes_are_compared_on_the_same_files(tmp_path):
    """A perfect one, and one that predicts the first class always; digits of 8 and 16 pixels."""
    for split, (i, name) in itertools.product(("train", "val"), enumerate(FRUIT)):
        place = tmp_path / "folder" / split / name
        place.mkdir(parents=True)
        for number in range(2):
            pixels = np.full((9 + number, 12, 3), 20, np.uint8)
            pixels[..., i] = 200
            Image.fromarray(pixels).save(place / f"{number}.png")
    right, wrong = tmp_path / "right.keras", tmp_path / "wrong.keras"
    perfect((0, 1, 2)).save(right)
    inputs = keras.Input((8, 6, 3))
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    first = keras.layers.Dense(3, "softmax", kernel_initializer="zeros")(mean)
    keras.Model(inputs, first).save(wrong)
    words = ["evaluate", "--models", right, "--against", wrong, "--dataset", "folder"]
    words += ["--data-dir", tmp_path / "folder"]
    printed = run_here(*words, "--workdir", tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    pair = metrics["against"]
    assert (pair["images"], pair["first_only"], pair["second_only"]) == (6, 4, 0)
    assert pair["errors"] == [0, pytest.approx(2 / 3)] and "McNemar" in printed
    # One size for both, where that is asked for.
    fixed = [*words, "--image-size", 4, "--workdir", tmp_path / "fixed"]
    refused("`against`", "evaluate", *fixed[1:])
    assert not (tmp_path / "fixed").exists()


def test_arrays_of_a_fixed_size_are_refused_to_a_model_of_another(models, tmp_path):
    inputs = keras.Input((10, 10, 1))
    outputs = keras.layers.Dense(2, "softmax")(keras.layers.GlobalAveragePooling2D()(inputs))
    keras.Model(inputs, outputs).save(tmp_path / "other.keras")
    rng = np.random.default_rng(0)
    for name, count in (("train", 4), ("t10k", 3)):
        images = rng.integers(0, 256, (count, 8, 8), np.uint8)
        header = bytes([0, 0, 8, 3]) + np.array(images.shape, ">i4").tobytes()
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = bytes([0, 0, 8, 1]) + np.array([count], ">i4").tobytes()
        labels = (np.arange(count) % 2).astype(np.uint8).tobytes()
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(header + labels)
    words = ["--models", models[0], "--against", tmp_path / "other.keras", "--dataset", "idx"]
    words += ["--data-dir", tmp_path, "--workdir", tmp_path / "run"]
    refused("`against`", "evaluate", *words)
