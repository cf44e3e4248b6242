"""Predictions for image files by every format of one trained model."""

from __future__ import annotations

import errno
import os

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet.data import BadImageWarning, Transforms
from keras_resnet.evaluation import predictor
from keras_resnet.evaluation.predictor import calibration_batches, predict, read_images
from keras_resnet.export import export, export_hub
from keras_resnet.preprocessing import Preprocessing
from tests.helpers import refused

for package in ("ai_edge_litert", "onnxruntime", "tf2onnx"):
    pytest.importorskip(package)

SIDE = 8
LABELS = ["dark", "bright", "neither"]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    images = keras.Input((SIDE, SIDE, 3))
    return keras_resnet.CifarResNet(
        8, input_tensor=keras.layers.Rescaling(1 / 64, offset=-2)(images), classes=3
    )


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(pixels, tmp_path_factory):
    """Three images of the model's size, in folders, and a file that is no image."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "b").mkdir()
    for name, image in zip(["a.png", "b/c.bmp", "z.PNG"], pixels, strict=True):
        Image.fromarray(image).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def forms(model, tmp_path_factory):
    """The model in all formats, by name."""
    folder = tmp_path_factory.mktemp("forms")
    model.save(folder / "model.keras")
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    export_hub(model, folder / "hub", "classification", labels=LABELS)
    formats = {"saved_model": "saved_model", "m.tflite": "litert", "m.onnx": "onnx"}
    for name, format in formats.items():
        export(model, folder / name, format, labels=LABELS)
    return {name: folder / name for name in ("model.keras", "hub", *formats)}


def test_all_formats_predict_alike(model, pixels, folder, forms):
    scores = model.predict(pixels.astype("float32"), verbose=0)
    for name, path in forms.items():
        predictions = predict(path, folder, top=5, batch_size=2)
        files = [prediction.path.relative_to(folder).as_posix() for prediction in predictions]
        assert files == ["a.png", "b/c.bmp", "z.PNG"], name
        for prediction, row in zip(predictions, scores, strict=True):
            order = np.argsort(-row)
            assert prediction.labels == tuple(LABELS[i] for i in order), name
            np.testing.assert_allclose(prediction.probabilities, row[order], atol=1e-5)


def test_top_and_labels(folder, forms, tmp_path):
    image = folder / "a.png"
    (best,) = predict(forms["model.keras"], image, top=1)
    assert len(best.labels) == len(best.probabilities) == 1
    (tmp_path / "names.txt").write_text("x\ny\nz\n")
    for labels in (["x", "y", "z"], tmp_path / "names.txt"):
        (named,) = predict(forms["hub"], [image], labels=labels)
        assert sorted(named.labels) == ["x", "y", "z"]


def test_numbers_where_there_are_no_labels(model, folder, tmp_path):
    model.save(tmp_path / "model.keras")
    (numbered,) = predict(tmp_path / "model.keras", folder / "a.png")
    assert sorted(numbered.labels) == ["0", "1", "2"]


def test_images_are_cropped_as_for_evaluation(tmp_path):
    photo = tmp_path / "photo.jpg"
    pixels = np.random.default_rng(1).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photo)
    for resize in (None, 8, 12):
        view = Transforms(image_size=8, eval_resize=resize)
        ((_, seen),) = read_images(photo, view)
        np.testing.assert_array_equal(seen, view.evaluation(photo.read_bytes()))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_without_a_margin_an_image_of_the_models_size_is_taken_as_it_is(tmp_path, suffix):
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(pixels).save(path, quality=95)
    ((_, seen),) = read_images(path, Transforms.of(Preprocessing.unchanged(3, 8)))
    np.testing.assert_allclose(seen, np.asarray(Image.open(path)), atol=2)


def test_a_corrupt_image_is_an_error_or_a_warning_that_counts(folder, forms, tmp_path):
    whole = (folder / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "whole.png").write_bytes(whole)
    for name, fault in (("cut.png", "truncated"), ("empty.jpg", "zero-byte")):
        with refused("`images`", name, fault):
            predict(forms["model.keras"], tmp_path / name)
    with pytest.warns(BadImageWarning) as warned:
        predictions = predict(forms["model.keras"], tmp_path)
    assert [prediction.path.name for prediction in predictions] == ["whole.png"]
    for (number, name), warning in zip(((1, "cut.png"), (2, "empty.jpg")), warned, strict=True):
        assert f" {number}: " in str(warning.message) and name in str(warning.message)


def test_hidden_files_and_pipes_are_passed_over(folder, tmp_path):
    (tmp_path / "__MACOSX").mkdir()
    for name in ("a.png", "._a.png", "__MACOSX/b.png"):
        (tmp_path / name).write_bytes((folder / "a.png").read_bytes())
    os.mkfifo(tmp_path / "pipe.png")
    read = list(read_images(tmp_path, Transforms(image_size=SIDE)))
    assert [path.name for path, _ in read] == ["a.png"]
    with refused("`images`", tmp_path / "pipe.png"):
        list(read_images(tmp_path / "pipe.png", Transforms(image_size=SIDE)))


def test_files_of_a_folder_that_cannot_be_read_are_reported(folder, tmp_path):
    (tmp_path / "whole.png").write_bytes((folder / "a.png").read_bytes())
    for name, target in (("gone.png", "nowhere"), ("loop.png", "loop.png")):
        (tmp_path / name).symlink_to(target)
    with pytest.warns(BadImageWarning) as warned:
        read = list(read_images(tmp_path, Transforms(image_size=SIDE)))
    assert [path.name for path, _ in read] == ["whole.png"]
    gone, loop = (str(warning.message) for warning in warned)
    assert f"gone.png is unreadable ({os.strerror(errno.ENOENT)})" in gone
    assert f"loop.png is unreadable ({os.strerror(errno.ELOOP)})" in loop
    for name in ("loop.png", "gone.png"):
        with pytest.raises(OSError, match=f"^`images` .* Received: .*{name}'"):
            list(read_images(tmp_path / name, Transforms(image_size=SIDE)))


def test_calibration_batches(model, pixels, folder):
    batches = list(calibration_batches(str(folder), model))
    np.testing.assert_array_equal(np.concatenate(batches), pixels)
    # Prepared as the file beside a model says.
    prepared = Preprocessing(image_size=SIDE, resize=12)
    cropped = calibration_batches(str(folder), model, preprocessing=prepared)
    view = Transforms.of(prepared).evaluation((folder / "a.png").read_bytes())
    np.testing.assert_array_equal(next(cropped)[0], view)
    assert np.any(view != pixels[0])
    gray = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    assert next(calibration_batches("digits", gray, preprocessing="none")).shape == (64, 8, 8, 1)
    with refused("`calibration`", "'digits'", "calibration='nowhere'"):
        calibration_batches("nowhere", model)


def test_calibration_images_are_of_all_class_folders(model, tmp_path, monkeypatch):
    monkeypatch.setattr(predictor, "CALIBRATION_IMAGES", 12)
    for name in "abc":
        (tmp_path / name).mkdir()
        color = 50 * (ord(name) - ord("a"))
        Image.new("RGB", (SIDE, SIDE), (color,) * 3).save(tmp_path / name / "0.bmp")
        for i in range(1, 15):
            os.link(tmp_path / name / "0.bmp", tmp_path / name / f"{i}.bmp")
    images = np.concatenate(list(calibration_batches(str(tmp_path), model)))
    counts = np.unique(images[:, 0, 0, 0], return_counts=True)[1]
    assert len(images) == 12 and len(counts) == 3 and np.ptp(counts) <= 1


def test_wrong_arguments_are_named(model, folder, forms, tmp_path):
    (tmp_path / "empty").mkdir()
    backbone = keras.Model(model.input, model.get_layer("avg_pool").output)
    export_hub(backbone, tmp_path / "features")
    image, keras_file = folder / "a.png", forms["model.keras"]
    for path, images, arguments, *words in (
        (keras_file, image, {"top": 0}, "`top`", "top=0"),
        (keras_file, image, {"batch_size": 0}, "`batch_size`", "batch_size=0"),
        (keras_file, folder / "none.png", {"labels": ["a"]}, "`class_names`", "1 names"),
        (keras_file, image, {"resize": 7}, "`resize`", "resize=7"),
        (keras_file, image, {"image_size": 9}, "`image_size`", "image_size=9"),
        (keras_file, tmp_path / "empty", {}, "`images`", tmp_path / "empty"),
        (tmp_path / "features", image, {}, "`model`", tmp_path / "features"),
        (tmp_path / "none.keras", image, {}, "`path`", tmp_path / "none.keras"),
    ):
        with refused(*words):
            predict(path, images, **arguments)
    with pytest.raises(FileNotFoundError):
        predict(keras_file, tmp_path / "none.png")
