"""Tables of feature vectors: rows, classes, numbers, and what is read back from the files."""

from __future__ import annotations

import csv
import os
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet.data import BadImageWarning, Transforms
from keras_resnet.evaluation import embed
from keras_resnet.export import export, export_hub
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.surgery import replace_classifier
from tests.helpers import distance, randomize, refused

SIDE = 8


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    images = keras.layers.Rescaling(1 / 64, offset=-2)(keras.Input((SIDE, SIDE, 3)))
    return randomize(keras_resnet.CifarResNet(8, input_tensor=images, classes=3))


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)


FILES = ["cat/a.png", "cat/deeper/b.png", "c.png", "dog/d.bmp"]
CLASSES = {"c.png": "", "cat/a.png": "cat", "cat/deeper/b.png": "", "dog/d.bmp": "dog"}


@pytest.fixture(scope="module")
def folder(pixels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for name, image in zip(FILES, pixels, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name)
    return folder


def expected_of(model, pixels, names):
    features = keras.Model(model.input, model.get_layer("avg_pool").output)
    return features(pixels[[FILES.index(name) for name in names]].astype("float32"))


def test_rows_are_the_pooled_features(model, folder, pixels):
    table = embed(model, folder, batch_size=3)
    names = [str(path.relative_to(folder)) for path in table.paths]
    assert dict(zip(names, table.classes, strict=True)) == CLASSES and len(names) == 4
    assert table.vectors.shape == (4, 64) and table.vectors.dtype == "float32"
    assert distance(table.vectors, expected_of(model, pixels, names)) < 1e-6


def test_forms_of_the_model_agree(model, folder, tmp_path):
    expected = embed(model, folder).vectors
    model.save(tmp_path / "model.keras")
    export_hub(model, tmp_path / "hub")
    headless = keras.Model(model.input, model.get_layer("avg_pool").output)
    export(headless, tmp_path / "saved_model")
    new = replace_classifier(model, 2, dropout=0.5)
    for form in (tmp_path / "model.keras", tmp_path / "hub", tmp_path / "saved_model", new):
        assert distance(embed(form, folder).vectors, expected) < 1e-5


@pytest.mark.parametrize("activation", [None, "sigmoid", "relu"], ids=str)
def test_the_classifier_of_a_foreign_model_is_found_by_its_place(activation, model, folder, pixels):
    pooled = model.get_layer("avg_pool").output
    scores = keras.layers.Dense(1, activation, name="score")(keras.layers.Dropout(0.5)(pooled))
    foreign = keras.Model(model.input, scores)
    table = embed(foreign, folder)
    # ReLU makes features, which no classifier follows.
    expected = keras.Model(model.input, scores if activation == "relu" else pooled)
    seen = pixels[[FILES.index(str(path.relative_to(folder))) for path in table.paths]]
    assert distance(table.vectors, expected(seen.astype("float32"))) < 1e-6


def test_images_are_prepared_as_the_weights_want_it(folder, pixels, tmp_path):
    prepared = Preprocessing(image_size=SIDE, resize=12, interpolation="bicubic")
    shape = (SIDE, SIDE, 3)
    net = keras_resnet.CifarResNet(8, input_shape=shape, include_preprocessing=prepared)
    net.save(tmp_path / "model.keras")
    view = Transforms.of(prepared)
    for model in (net, tmp_path / "model.keras"):
        table = embed(model, folder)
        seen = np.stack([view.evaluation(path.read_bytes()) for path in table.paths])
        expected = keras.Model(net.input, net.get_layer("avg_pool").output)(seen.astype("float32"))
        assert distance(table.vectors, expected) < 1e-6


def test_images_are_prepared_as_the_file_beside_a_model_says(model, folder, tmp_path):
    foreign = keras.Model(model.input, model.get_layer("avg_pool").output)
    foreign.save(tmp_path / "model.keras")
    prepared = Preprocessing(image_size=SIDE, resize=12, interpolation="bicubic")
    (tmp_path / "preprocessing.json").write_text(prepared.to_json())
    table, view = embed(tmp_path / "model.keras", folder), Transforms.of(prepared)
    seen = np.stack([view.evaluation(path.read_bytes()) for path in table.paths])
    assert distance(table.vectors, foreign(seen.astype("float32"))) < 1e-6


def test_classes_in_splits(model, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "train")
    shutil.copytree(folder / "cat", tmp_path / "Val" / "cat")
    table = embed(model, tmp_path)
    found = {
        str(p.relative_to(tmp_path)): c for p, c in zip(table.paths, table.classes, strict=True)
    }
    expected = {f"train/{name}": value for name, value in CLASSES.items()}
    assert found == {**expected, "Val/cat/a.png": "cat", "Val/cat/deeper/b.png": ""}


def test_csv_gives_back_every_bit_and_name(model, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "images")
    for name in (b'co"mma, and\nline', b"not utf-8 \xff"):
        shutil.copytree(folder / "dog", tmp_path / "images" / os.fsdecode(name))
    (tmp_path / "images" / "broken.png").write_bytes(b"")
    with pytest.warns(BadImageWarning, match="broken"):
        table = embed(model, tmp_path / "images")
    table.write(tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == ["path", "class", *(f"feature_{i}" for i in range(64))]
    assert {row[1] for row in rows} == {*CLASSES.values(), 'co"mma, and\nline', "not utf-8 \\udcff"}
    assert [row[0] for row in rows][:1] == [str(table.paths[0])]
    np.testing.assert_array_equal(np.array([row[2:] for row in rows], "float32"), table.vectors)


def test_parquet(model, folder, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = embed(model, folder)
    table.write(tmp_path / "table.parquet")
    found = parquet.read_table(tmp_path / "table.parquet").to_pydict()
    assert list(found)[:3] == ["path", "class", "feature_0"]
    assert found["path"] == list(map(str, table.paths)) and found["class"] == list(table.classes)
    np.testing.assert_array_equal(np.array(list(found.values())[2:], "float32").T, table.vectors)


def test_wrong_arguments_are_named(model, folder, tmp_path):
    with refused("`folder`", folder / "c.png"):
        embed(model, folder / "c.png")
    with refused("`images`", tmp_path):
        embed(model, tmp_path)
    export(model, tmp_path / "scores")
    with refused("`model`", "probabilities"):
        embed(tmp_path / "scores", folder)
    with refused("`path`", "table.xlsx"):
        embed(model, folder).write(tmp_path / "table.xlsx")
