"""`keras-resnet export`, run as a user runs it, and its file by `keras-resnet predict`."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet import CifarResNet
from keras_resnet.data import Transforms, load_dataset
from keras_resnet.export import load_exported
from keras_resnet.preprocessing import Preprocessing
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


def test_what_lies_beside_the_model_goes_along(tmp_path):
    """A model of others, whose images are resized as the file beside it says."""
    images = keras.Input((8, 8, 3))
    maps = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 64)(images))
    foreign = keras.Model(images, keras.layers.Dense(2)(keras.layers.Flatten()(maps)))
    foreign.save(tmp_path / "m.keras")
    prepared = Preprocessing.unchanged(3, image_size=8)
    prepared = dataclasses.replace(prepared, resize=12, interpolation="bicubic")
    (tmp_path / "preprocessing.json").write_text(prepared.to_json())
    picture = np.random.default_rng(0).integers(0, 256, (20, 16, 3), dtype=np.uint8)
    (tmp_path / "pictures").mkdir()
    Image.fromarray(picture).save(tmp_path / "pictures" / "p.png")
    view = Transforms.of(prepared).evaluation((tmp_path / "pictures" / "p.png").read_bytes())
    expected = np.asarray(foreign(view.numpy()[None].astype("float32")))

    for name in ("served", "m.onnx"):
        run_here("export", tmp_path / "m.keras", tmp_path / name)
        assert load_exported(tmp_path / name).preprocessing == prepared
    flags = ["--quantize", "int8", "--calibration", tmp_path / "pictures"]
    run_here("export", tmp_path / "m.keras", tmp_path / "m.tflite", *flags)
    # Its ranges are those of that one image.
    received = load_exported(tmp_path / "m.tflite")(view.numpy()[None])
    np.testing.assert_allclose(received, expected, atol=0.02 * np.abs(expected).max())
    served = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures["serving_default"]
    file = (tmp_path / "pictures" / "p.png").read_bytes()
    answer = served(image_bytes=tf.constant([file]))["logits"]
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5)


def test_labels_do_not_apply_without_a_classifier(tmp_path, capsys):
    net = CifarResNet(8, input_shape=(8, 8, 1), include_top=False, pooling="avg")
    net.remember(dataclasses.replace(net.network, preprocessing=Preprocessing((9.0,), (2.0,))))
    net.save(tmp_path / "m.keras")
    (tmp_path / "labels.txt").write_text("a\nb\n")
    printed = run_here("export", tmp_path / "m.keras", tmp_path / "m.onnx")
    assert "compared on 4 images" in printed
    assert "labels.txt is left out" in capsys.readouterr().err
    for path in (tmp_path / "m.onnx", tmp_path / "m.keras"):
        loaded = load_exported(path)
        assert (loaded.output, loaded.labels) == ("outputs", None)
    refused("`labels`", "export", tmp_path / "m.keras", "m", "--labels", tmp_path / "labels.txt")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["nothing.keras", "m"], "'nothing.keras'"),
        (["{model}", "m", "--format", "torch"], "format='torch'"),
        (["{model}", "m.onnx", "--quantize", "float16"], "quantize='float16'"),
        (["{model}", "m.onnx", "--quantize", "int8"], "`calibration`"),
        (["{model}", "m.keras"], "'m.keras'"),
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
