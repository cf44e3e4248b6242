"""`keras-resnet embed`, and the flag of modules that files may have run."""

from __future__ import annotations

import fsspec
import keras
import numpy as np
import pytest
from PIL import Image

from keras_resnet.export import HubLayer, export_hub, trust
from tests.recipes.running import refused, run_here, save_untrained


@pytest.fixture
def folder(tmp_path):
    save_untrained(tmp_path, channels=3, labels=("cat", "dog"))
    (tmp_path / "cat").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cat" / "photo.png")
    return tmp_path


def test_writes_the_table(folder):
    table = folder / "table.csv"
    printed = run_here("embed", folder / "model.keras", folder, "-o", table)
    assert printed == f"1 images, 64 features each: {table}\n"
    head, row = table.read_text().splitlines()
    assert head.split(",")[-1] == "feature_63"
    assert row.split(",")[:2] == [str(folder / "cat" / "photo.png"), "cat"]
    refused("`output`", "embed", folder / "none.keras", folder, "-o", folder / "table.txt")


def test_the_table_may_be_at_an_address(folder, monkeypatch):
    monkeypatch.chdir(folder)
    fsspec.filesystem("memory").store.clear()
    for _ in range(2):  # replaces, as a local one
        run_here("embed", "model.keras", folder, "-o", "memory://tables/table.csv")
    (row,) = fsspec.filesystem("memory").cat("/tables/table.csv").decode().splitlines()[1:]
    assert row.startswith(str(folder)) and not (folder / "memory:").exists()


def test_modules_of_files_are_run_if_the_flag_says_so(folder, monkeypatch):
    model = keras.models.load_model(folder / "model.keras")
    module = export_hub(model, folder / "module")
    inputs = keras.Input((8, 8, 3))
    scaled = keras.layers.Rescaling(1 / 255)(inputs)
    keras.Model(inputs, HubLayer(module)(scaled)).save(folder / "hub.keras")
    words = ("embed", folder / "hub.keras", folder, "-o", folder / "table.csv")
    monkeypatch.setattr(trust, "_trusted", set())
    refused("trust_module", *words)
    refused("`handle`", *words, "--trust-module", folder)
    assert run_here(*words, "--trust-module", module).startswith("1 images, 64 features")
