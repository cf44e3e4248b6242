"""SavedModels as TensorFlow Serving takes them: versions, image files in, rows out, a warm-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet.data import Transforms
from keras_resnet.evaluation.predictor import Classifier
from keras_resnet.export import export, load_exported, serving
from keras_resnet.export.mismatch import ExportMismatchError
from keras_resnet.preprocessing import Preprocessing
from tests.data.helpers import encode
from tests.helpers import randomize, refused

SIDE, NAMES = 8, ("cat", "bee", "ant", "dog", "eel", "fox")
PREPARED = Preprocessing(image_size=SIDE, resize=10, class_names=NAMES)


def network(classes=6, **options):
    keras.utils.set_random_seed(0)
    options |= {"input_shape": (SIDE, SIDE, 3), "include_preprocessing": PREPARED}
    return randomize(keras_resnet.CifarResNet(8, classes=classes, **options))


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving") / "pets"
    export(model, folder)
    return folder


@pytest.fixture(scope="module")
def files():
    """Files of mixed sizes and formats."""
    rng = np.random.default_rng(0)
    sizes = ((10, 10), (30, 17), (12, 40), (1, 1))
    forms = ({"form": "PNG"}, {"quality": 90}, {"form": "GIF"}, {"form": "WebP"})
    return [
        encode(rng.integers(0, 256, (*size, 3), dtype=np.uint8), **form)
        for size, form in zip(sizes, forms, strict=True)
    ]


def answer(folder, files):
    served = tf.saved_model.load(str(folder / "1")).signatures["serving_default"]
    rows = served(image_bytes=tf.constant(files, tf.string))
    return {name: value.numpy() for name, value in rows.items()}


def test_files_of_any_size_give_names_scores_and_probabilities(model, folder, files):
    rows = answer(folder, files)
    view = Transforms.of(PREPARED)
    images = np.stack([view.evaluation(file).numpy() for file in files]).astype("float32")
    expected = np.asarray(model(images, training=False))
    np.testing.assert_allclose(rows["probabilities"], expected, atol=1e-5)
    best = np.argsort(-expected, axis=1)[:, :5]
    assert rows["classes"].tolist() == [[NAMES[i].encode() for i in row] for row in best]
    np.testing.assert_allclose(rows["scores"], np.take_along_axis(expected, best, 1), atol=1e-5)
    assert rows["error"].tolist() == [b""] * 4


def test_a_broken_file_is_an_error_of_its_own_row(folder, files):
    whole = answer(folder, files)
    rows = answer(folder, [files[0], files[1][:-9], b"", *files[1:]])
    assert [bool(error) for error in rows["error"]] == [False, True, True, False, False, False]
    for name, values in rows.items():
        if name != "error":
            np.testing.assert_array_equal(values[[0, 3, 4, 5]], whole[name], name)
            assert not values[1:3].any()
    assert [bool(error) for error in answer(folder, [b"", b"x"])["error"]] == [True, True]


@pytest.mark.parametrize("count", [0, 1])
def test_batches_of_none_and_of_one(folder, files, count):
    rows = answer(folder, files[:count])
    assert {name: len(value) for name, value in rows.items()} == dict.fromkeys(rows, count)
    assert rows["probabilities"].shape == (count, 6) and rows["classes"].shape == (count, 5)


def test_logits_are_served_with_probabilities_as_scores(files, tmp_path):
    export(network(classifier_activation=None), tmp_path / "m")
    rows = answer(tmp_path / "m", files)
    shares = np.exp(rows["logits"]) / np.exp(rows["logits"]).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(rows["scores"], -np.sort(-shares, axis=1)[:, :5], rtol=1e-5)


def test_a_model_without_classifier_gives_its_outputs(files, tmp_path):
    export(network(None, include_top=False, pooling="avg"), tmp_path / "m")
    rows = answer(tmp_path / "m", files)
    assert sorted(rows) == ["error", "outputs"] and rows["outputs"].shape == (4, 64)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_maps_of_a_broken_file_are_zero_and_others_the_models(files, tmp_path, count):
    model = network(None, include_top=False)
    assert model.output_shape == (None, 2, 2, 64)
    export(model, tmp_path / "m")
    rows = answer(tmp_path / "m", [*files[: count - 1], b""])
    view = Transforms.of(PREPARED)
    images = np.zeros((count, SIDE, SIDE, 3), "float32")
    for image, file in zip(images, files, strict=False):
        image[:] = view.evaluation(file)
    expected = np.array(model(images, training=False))
    expected[-1] = 0
    np.testing.assert_allclose(rows["outputs"], expected, atol=1e-5)
    assert [bool(error) for error in rows["error"]] == [False] * (count - 1) + [True]


def test_an_answer_for_a_broken_file_is_not_kept(model, tmp_path, monkeypatch):
    def decode_files(image_bytes, transforms):
        images, _ = decode(image_bytes, transforms)
        return images, tf.ones_like(image_bytes, tf.bool)

    decode = serving.decode_files
    monkeypatch.setattr(serving, "decode_files", decode_files)
    with refused("`model`", "image files", error=ExportMismatchError):
        export(model, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_files_become_as_large_as_the_exported_images(files, tmp_path):
    images = keras.layers.Rescaling(1 / 255)(keras.Input((None, None, 3)))
    model = randomize(keras_resnet.CifarResNet(8, input_tensor=images))
    assert model.preprocessing is None
    assert export(model, tmp_path / "m", image_size=24).difference < 1e-4
    view = Transforms.of(Preprocessing.unchanged(3, 24))
    images = np.stack([view.evaluation(file).numpy() for file in files]).astype("float32")
    expected = np.asarray(model(images, training=False))
    np.testing.assert_allclose(answer(tmp_path / "m", files)["probabilities"], expected, atol=1e-5)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_one_output_is_that_of_the_second_of_two_classes(activation, files, tmp_path):
    model, names = network(1, classifier_activation=activation), np.array([b"cat", b"dog"])
    export(model, tmp_path / "m", labels=("cat", "dog"))
    rows = answer(tmp_path / "m", files)
    raw = rows["probabilities" if activation else "logits"]
    second = raw if activation else 1 / (1 + np.exp(-raw))
    scores = np.concatenate([1 - second, second], axis=1)
    np.testing.assert_allclose(rows["scores"], -np.sort(-scores), atol=1e-6)
    assert rows["classes"].tolist() == names[np.argsort(-scores)].tolist()
    model.save(tmp_path / "m.keras")
    for path in (tmp_path / "m", tmp_path / "m.keras"):
        classifier = Classifier(path, labels=("cat", "dog"))
        ((_, probabilities),) = classifier.classify(np.zeros((1, SIDE, SIDE, 3)))
        assert len(probabilities) == 2 and abs(sum(probabilities) - 1) < 1e-6


@pytest.mark.parametrize("given", [None, NAMES[::-1]])
def test_scores_of_several_classes_have_their_names(tmp_path, given):
    model = network(classifier_activation="sigmoid")
    export(model, tmp_path / "m", labels=given)
    loaded = load_exported(tmp_path / "m")
    assert loaded.output == "probabilities" and loaded.labels == (given or NAMES)


def test_what_a_killed_export_left_is_deleted(model, tmp_path):
    old, new, other = (tmp_path / f".writing-{name}" for name in ("m-a", "m-b", "n-a"))
    for leftover in (old, new, other):
        (leftover / "m").mkdir(parents=True)
    for leftover in (old, other):
        os.utime(leftover, (0, 0))
    export(model, tmp_path / "m")
    assert sorted(tmp_path.iterdir()) == [new, other, tmp_path / "m"]


def test_images_that_files_are_not_decoded_to_have_pixels_only(tmp_path):
    images = keras.Input((8, None, 3))  # of any width
    net = keras_resnet.CifarResNet(8, input_tensor=keras.layers.Rescaling(1 / 255)(images))
    export(net, tmp_path / "m")
    (signature,) = tf.saved_model.load(str(tmp_path / "m" / "1")).signatures.values()
    assert signature(images=tf.zeros((2, 8, 9, 3)))["probabilities"].shape == (2, 10)


def test_versions(model, folder, tmp_path):
    path = tmp_path / "pets"
    for version in (1, 3):
        written = export(model, path, version=version)
        assert written.path == path / str(version)
    assert load_exported(path).path == path / "3"
    assert load_exported(path / "1").labels == NAMES
    (path / "1").rename(path / "0004")
    assert load_exported(path).path == path / "0004"
    (path / "0004").rename(path / "1")
    assert sorted(file.name for file in path.iterdir()) == ["1", "3"]
    with refused("`path`", path / "3"):
        export(model, path, version=3)
    export(model, path, version=3, overwrite=True)
    with refused("`path`", path / "3", "itself"):
        export(model, path / "3")
    with refused("`version`", "version=0"):
        export(model, tmp_path / "other", version=0)
    assert not (tmp_path / "other").exists()


def test_the_warm_up_is_a_request_of_tensorflow_serving(folder, files):
    apis = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    (record,) = tf.data.TFRecordDataset(
        str(folder / "1" / "assets.extra" / "tf_serving_warmup_requests")
    ).as_numpy_iterator()
    request = apis.PredictionLog.FromString(record).predict_log.request
    assert request.model_spec.signature_name == "serving_default"
    (image,) = tf.make_ndarray(request.inputs["image_bytes"])
    assert answer(folder, [image])["error"].tolist() == [b""]


def test_tensorflows_own_runner(model, folder, files, tmp_path):
    (tmp_path / "inputs.npz").touch()
    np.savez(tmp_path / "inputs.npz", files=np.array(files[:1], dtype="S"))
    code = "from tensorflow.python.tools.saved_model_cli import main; main()"
    command = [sys.executable, "-c", code, "run", "--dir", str(folder / "1")]
    command += ["--tag_set", "serve", "--signature_def", "serving_default"]
    command += ["--inputs", f"image_bytes={tmp_path / 'inputs.npz'}[files]"]
    subprocess.run([*command, "--outdir", str(tmp_path)], check=True, capture_output=True)
    received = np.load(tmp_path / "probabilities.npy")
    np.testing.assert_allclose(received, answer(folder, files[:1])["probabilities"], atol=1e-6)


def test_the_description_lies_beside_the_labels(folder):
    said = json.loads((folder / "1" / "assets" / "preprocessing.json").read_text())
    assert said["resize"] == 10 and said["image_size"] == SIDE and said["orientation"] == "exif"
    assert (folder / "1" / "assets" / "labels.txt").read_text().split() == list(NAMES)
