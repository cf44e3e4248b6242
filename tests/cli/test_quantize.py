"""`keras-resnet quantize`, run as a user runs it."""

import json

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.data import load_dataset
from keras_resnet.evaluation import evaluate
from keras_resnet.experiment import factories
from keras_resnet.export import load_exported
from keras_resnet.surgery.fake_quantization import FakeQuantization
from keras_resnet.training.trackers import Tracker
from tests.recipes.running import refused, run_here

for package in ("ai_edge_litert", "onnxruntime", "tf2onnx"):
    pytest.importorskip(package)

FAST = ("--steps", 3, "--batch-size", 32, "--quiet")


@pytest.fixture
def init(tmp_path):
    """The file of a network of the digits' classes, which remembers how to prepare images."""
    digits = load_dataset("digits")
    model = keras_resnet.ResNet(
        (1, 1),
        widths=(4, 8),
        block="basic",
        stem="cifar",
        input_shape=(8, 8, 1),
        classes=10,
        include_preprocessing=digits.preprocessing(),
    )
    model.remember(model.network.with_class_names(list(digits.class_names)))
    model.save(tmp_path / "init.keras")
    return tmp_path / "init.keras"


def test_it_trains_saves_and_exports(init, tmp_path, monkeypatch):
    workdir, finished = tmp_path / "run", []

    class Listening(Tracker):
        name = "json"  # a library that is there

        def _open(self, identity):
            return "one"

        def _send(self, values, step):
            raise ConnectionError("no server")

        def _conclude(self, figures, files):
            finished.append((figures, [file.name for file in files]))

        def _end(self, finished):
            raise ConnectionError("no server")

    monkeypatch.setattr(factories, "make_trackers", lambda _, folder, own: [Listening(folder, own)])
    run_here("quantize", "--init", init, "--workdir", workdir, *FAST, "--no-report")
    figures = json.loads((workdir / "metrics.json").read_text())
    ((told, files),) = finished
    assert told["final/test_accuracy"] == figures["test_accuracy"]
    assert files == ["metrics.json", "model.keras", "model.tflite", "model.onnx"]
    assert figures["steps"] == 3 and 0 <= figures["test_accuracy"] <= 1
    assert {"float_test_accuracy", "litert_agreement", "onnx_bytes"} < figures.keys()
    model = keras_resnet.load_model(workdir / "model.keras")
    assert sum(isinstance(layer, FakeQuantization) for layer in model.layers) > 10
    ((images, labels, _),) = load_dataset("digits").eval_batches("test", 360)
    images = np.asarray(images, "float32")
    expected = model.predict(images, verbose=0)
    accuracy = np.mean(np.argmax(expected, axis=1) == labels)
    assert accuracy == pytest.approx(figures["test_accuracy"], abs=1e-6)
    for name in ("model.tflite", "model.onnx"):
        loaded = load_exported(workdir / name)
        assert loaded.labels == tuple("0123456789") == model.preprocessing.class_names
        assert np.max(np.abs(loaded(images) - expected)) < 0.01
        assert loaded.preprocessing.mean == model.preprocessing.mean
    # Finished: nothing is done again.
    before = (workdir / "model.tflite").stat().st_mtime_ns
    run_here("quantize", "--init", init, "--workdir", workdir, *FAST, "--no-report")
    printed = run_here("quantize", "--config", workdir / "config.json", "--json")
    assert json.loads(printed) == figures
    refused("quantize", "train", "--config", workdir / "config.json")
    assert (workdir / "model.tflite").stat().st_mtime_ns == before
    refused("`workdir`", "quantize", "--init", init, "--workdir", workdir, *FAST, "--seed", 1)


def test_what_cannot_be_quantized_is_one_line(init, tmp_path):
    words = ("--workdir", tmp_path / "run", *FAST, "--no-report")
    refused("--init", "quantize", *words)
    refused("`init`", "quantize", "--init", tmp_path / "none.keras", *words)
    refused("`init`", "quantize", "--init", init, "--classes", 1, 2, *words)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, activation="gelu")(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.Dense(10, activation="softmax")(keras.layers.GlobalMaxPooling2D()(x))
    keras.Model(inputs, x).save(tmp_path / "gelu.keras")
    refused("`model`", "quantize", "--init", tmp_path / "gelu.keras", *words)


def test_the_report_compares_the_forms(init, tmp_path):
    workdir = tmp_path / "run"
    run_here("quantize", "--init", init, "--workdir", workdir, *FAST)
    rows = json.loads((workdir / "table.json").read_text())["rows"]
    assert [row["form"] for row in rows] == ["float", "int8, post-training", "int8, trained"]
    figures = json.loads((workdir / "metrics.json").read_text())
    assert rows[0]["error"] == pytest.approx(1 - figures["float_test_accuracy"], abs=1e-6)
    assert rows[2]["bytes"] == figures["litert_bytes"]
    result = evaluate(load_exported(workdir / "model.tflite"), load_dataset("digits"))
    assert rows[2]["error"] == result.top1_error
    assert rows[2]["difference"] == pytest.approx(rows[2]["error"] - rows[0]["error"])
    assert rows[1]["difference_low"] <= rows[1]["difference"] <= rows[1]["difference_high"]
    page = (workdir / "report.html").read_text()
    assert "on the same 360 test images" in page and "int8, post-training" in page
