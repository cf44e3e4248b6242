"""A model is opened alike, and given the same images, whoever opens it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet.data import load_dataset
from keras_resnet.evaluation import embed, evaluate, open_model
from keras_resnet.evaluation.predictor import predict
from keras_resnet.export import export
from keras_resnet.models import hub
from keras_resnet.network import describe, preprocessing_of
from keras_resnet.preprocessing import Preprocessing
from tests.helpers import refused

SIDE, NAMES = 8, ("bee", "cat", "dog")
TOLD = Preprocessing(image_size=SIDE, resize=11, interpolation="bicubic")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs of which each crop and each interpolation differ."""
    folder = tmp_path_factory.mktemp("photographs")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 28, 3), dtype=np.uint8)
    for name, picture in zip(NAMES, pixels, strict=True):
        (folder / "train" / name).mkdir(parents=True)
        Image.fromarray(picture).save(folder / "train" / name / "p.png")
    return folder


@pytest.fixture(scope="module")
def dataset(folder):
    return load_dataset("folder", folder, image_size=SIDE, val_split=0, test_split=0)


def foreign(scale=None):
    """Returns a model of others, whose scores tell small differences of pixels."""
    keras.utils.set_random_seed(0)
    images = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(scale)(images) if scale else images
    return keras.Model(images, keras.layers.Dense(3, "softmax")(keras.layers.Flatten()(x)))


def best(rows):
    return [row.probabilities[0] for row in rows]


def test_one_logit_and_names_beside_the_file(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    for number, picture in enumerate(pixels):
        place = tmp_path / "photographs" / "train" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{number}.png")
    photographs = tmp_path / "photographs"
    pair = load_dataset("folder", photographs, image_size=SIDE, val_split=0, test_split=0)
    images = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
    path = tmp_path / "one.keras"
    keras.Model(images, keras.layers.Dense(1)(x)).save(path)
    (tmp_path / "labels.txt").write_text("b\na\n")
    rows = predict(path, photographs)
    for average in ("softmax", "logits"):
        result = evaluate(open_model(path), pair, split="train", average=average)
        said = [pair.class_names[number] for number in result.ranking[:, 0]]
        assert said == [row.labels[0] for row in rows]
    result = evaluate(open_model(path), pair, split="train")
    assert result.scores == pytest.approx(best(rows), abs=1e-6)


@pytest.mark.parametrize("scale", [None, 1 / 255])
def test_a_file_beside_a_model_counts_for_all(folder, dataset, tmp_path, scale):
    path = tmp_path / "m.keras"
    foreign(scale).save(path)
    (tmp_path / "preprocessing.json").write_text(TOLD.to_json())
    result = evaluate(open_model(path), dataset, split="train")
    assert result.scores == pytest.approx(best(predict(path, folder)), abs=1e-5)
    assert result.protocol.resize == 11
    (tmp_path / "preprocessing.json").unlink()
    if scale is None:
        with refused("`models`"):
            evaluate(open_model(path), dataset, split="train")


@pytest.mark.parametrize("form", ["m.keras", "m.tflite"])
def test_without_a_description_all_take_the_center_square(folder, dataset, tmp_path, form):
    path, model = tmp_path / form, foreign(1 / 255)
    if form == "m.keras":
        model.save(path)
    else:
        pytest.importorskip("ai_edge_litert")
        export(model, path, "litert")
    opened = evaluate(open_model(path), dataset, split="train")
    assert opened.scores == pytest.approx(best(predict(path, folder)), abs=1e-5)
    # A model that no file tells of takes the images of the data set, as in training.
    assert evaluate(model, dataset, split="train").protocol.resize == dataset.eval_resize
    assert opened.protocol.resize == SIDE < dataset.eval_resize


def test_what_a_model_is_told_counts(dataset):
    """As one that was pushed to the Hugging Face hub is."""
    model = foreign()
    assert preprocessing_of(model) is None
    describe(model, TOLD)
    assert model.preprocessing == preprocessing_of(model) == TOLD
    assert evaluate(model, dataset, split="train").protocol.resize == 11


def test_names_are_models_for_all(folder, dataset, monkeypatch):
    keras.utils.set_random_seed(0)
    options = {"input_shape": (SIDE, SIDE, 3), "classes": 3, "include_preprocessing": TOLD}
    net = keras_resnet.CifarResNet(8, **options)
    monkeypatch.setattr(hub, "build", lambda *args, **options: net)
    for name in ("ResNet50", "timm/resnet50.a1_in1k"):
        scores = evaluate(open_model(name), dataset, split="train").scores
        assert scores == pytest.approx(best(predict(name, folder)), abs=1e-5)
        assert embed(name, folder).vectors.shape == (3, 64)
    for use in (open_model, keras_resnet.load_model, lambda name: predict(name, folder)):
        with refused("`path`", "ResNet5?"):
            use("ResNet5?")
