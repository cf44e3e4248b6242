"""Models in `.keras` files: the same outputs again, or an error of one line."""

from __future__ import annotations

import zipfile

import keras
import pytest

from keras_resnet.export import export, export_hub
from keras_resnet.weights import load_model, save_model, save_torch_weights
from tests.evaluation.helpers import SHAPE, small_net
from tests.helpers import distance, images, refused


def test_models_are_read_from_files(tmp_path):
    model = small_net()
    model.save(tmp_path / "model.keras")
    x = images(2, *SHAPE, low=0, high=255)
    assert distance(load_model(tmp_path / "model.keras")(x), model(x)) == 0


def test_files_that_are_no_models(tmp_path):
    (tmp_path / "broken.keras").write_bytes(b"PK\x03\x04 and no more")
    unsafe = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x)])
    unsafe.save(tmp_path / "unsafe.keras")
    for name in ("missing.keras", "model.h5", "broken.keras", "unsafe.keras"):
        with refused("`path`", name):
            load_model(tmp_path / name)


def test_layers_larger_than_their_file_are_not_built(tmp_path):
    keras.Sequential([keras.Input((10,)), keras.layers.Dense(1000)]).save(tmp_path / "small.keras")
    with (
        zipfile.ZipFile(tmp_path / "small.keras") as small,
        zipfile.ZipFile(tmp_path / "large.keras", "w") as large,
    ):
        for name in small.namelist():
            large.writestr(name, small.read(name).replace(b"[null, 10]", b"[null, 1000000000]"))
    with refused("`path`", "large.keras", "weights"):
        load_model(tmp_path / "large.keras")
    assert load_model(tmp_path / "small.keras").count_params() == 11_000


@pytest.mark.parametrize("write", [save_model, save_torch_weights, export, export_hub])
def test_addresses_to_write_to_are_refused(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refused("`path`", "local", "memory://bucket/model.pth"):
        write(small_net(), "memory://bucket/model.pth", *["onnx"] * (write is export))
    assert not list(tmp_path.iterdir())
