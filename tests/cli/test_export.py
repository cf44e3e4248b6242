"""`keras-resnet export`, run as a user runs it, and its file by `keras-resnet predict`."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from keras_resnet.data import load_dataset
from tests.recipes.running import refused, run_here, save_untrained

for package in ("ai_edge_litert", "onnxruntime", "tf2onnx"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained net for the digits, with labels beside it."""
    return save_untrained(tmp_path_factory.mktemp("model"), channels=1, labels="abcdefghij")


def test_exports_and_predicts(model, tmp_path):
    out = tmp_path / "m.tflite"
    flags = ["--quantize", "int8", "--calibration", "digits", "--io-dtype", "uint8"]
    flags += ["--about", "author=A", "--about", "license=a=b"]
    printed = run_here("export", model, out, *flags)
    assert f"{out}: litert, int8, {out.stat().st_size:,} " in printed
    assert " 512 " in printed

    ((images, _, _),) = load_dataset("digits").eval_batches("test", 360)
    image = np.asarray(images)[0, ..., 0].astype("uint8")
    Image.fromarray(image).save(tmp_path / "digit.png")
    printed = run_here("predict", out, tmp_path / "digit.png", "--top", 2, "--json")
    (answer,) = json.loads(printed)
    assert answer["path"] == str(tmp_path / "digit.png")
    expected = keras.models.load_model(model)(image[None, ..., None].astype("float32"))
    best = np.argsort(-np.asarray(expected)[0])[:2]
    np.testing.assert_allclose(answer["probabilities"], np.asarray(expected)[0][best], atol=0.05)
    assert set(answer["labels"]) <= set("abcdefghij") and len(answer["labels"]) == 2


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["nothing.keras", "m"], "'nothing.keras'"),
        (["{model}", "m", "--format", "torch"], "format='torch'"),
        (["{model}", "m.onnx", "--quantize", "float16"], "quantize='float16'"),
        (["{model}", "m.onnx", "--quantize", "int8"], "`calibration`"),
        (["{model}", "m.onnx", "--opset", "5"], "opset=5"),
        (["{model}", "m.tflite", "--opset", "17"], "opset=17"),
        (["{model}", "m.tflite", "--io-dtype", "int16"], "io_dtype='int16'"),
        (["{model}", "m.tflite", "--io-dtype", "uint8"], "io_dtype='uint8'"),
        (["{model}", "m.tflite", "--about", "me"], "--about me"),
        (["{model}", "m.tflite", "--about", "owner=me"], "'owner'"),
        (["{model}", "m.tflite", "--quantize", "int8"], "`calibration`"),
        (["{model}", "m.tflite", "--calibration", "nowhere"], "calibration='nowhere'"),
        (["{model}", "m", "--image-size", "9"], "image_size=9"),
        (["{model}", "m", "--preprocessing", "x"], "preprocessing='x'"),
        (["{model}", "m", "--labels", "none.txt"], "none.txt"),
    ],
)
def test_wrong_flag_is_one_line_and_writes_nothing(model, tmp_path, flags, named, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(named, "export", *(flag.format(model=model) for flag in flags))
    assert list(tmp_path.iterdir()) == []
