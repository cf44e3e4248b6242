"""Graphs that a file may run, and those that it may not: not even their initializers."""

from __future__ import annotations

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.export import HubLayer, hub_layer, trust, trust_module
from keras_resnet.weights.saving import load_model
from tests.helpers import refused


class Writer(tf.saved_model.experimental.TrackableResource):
    """A resource whose initializer, which runs while it is loaded, writes a file."""

    def __init__(self, marker):
        super().__init__()
        self._marker = str(marker)
        self._handle = self._create_resource()

    def _create_resource(self):
        return tf.raw_ops.MutableHashTableV2(key_dtype=tf.string, value_dtype=tf.int64)

    def _initialize(self):
        tf.io.write_file(self._marker, "ran")


class Module(tf.Module):
    def __init__(self, marker):
        super().__init__()
        self.factor = tf.Variable(2.0)
        self.writer = Writer(marker)

    @tf.function(input_signature=[tf.TensorSpec((None, 3))])
    def __call__(self, x):
        # Without a use of the handle, the resource would not be saved.
        size = tf.raw_ops.LookupTableSizeV2(table_handle=self.writer.resource_handle)
        return self.factor * x + tf.cast(size, tf.float32)


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "marker"


@pytest.fixture
def module(marker, tmp_path):
    tf.saved_model.save(Module(marker), str(tmp_path / "module"))
    marker.unlink(missing_ok=True)
    return tmp_path / "module"


@pytest.fixture
def file(module, marker, tmp_path, monkeypatch):
    """A `.keras` file with the module, in a process that has neither loaded nor trusted it."""
    inputs = keras.Input((3,))
    keras.Model(inputs, HubLayer(module)(inputs)).save(tmp_path / "model.keras")
    assert marker.read_text() == "ran"
    marker.unlink()
    monkeypatch.setattr(trust, "_trusted", set())
    return tmp_path / "model.keras"


LOADERS = [load_model, keras.models.load_model]


@pytest.mark.parametrize("load", LOADERS)
def test_loading_a_file_runs_no_graph_of_a_folder(file, module, marker, load):
    with pytest.raises((ValueError, TypeError), match="trust_module"):
        load(file)
    assert not marker.exists()
    with refused("handle=", "trust_module", module):
        HubLayer.from_config({"handle": str(module)})
    assert not marker.exists()


@pytest.mark.parametrize("load", LOADERS)
def test_what_the_caller_trusts_runs(file, module, marker, load):
    trust_module(module)
    assert not marker.exists()  # until it is loaded
    x = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(load(file)(x), 2 * x)
    assert marker.read_text() == "ran"


def test_what_this_process_has_loaded_runs_as_long_as_it_is_the_same(file, module, marker):
    HubLayer(module)
    model = load_model(file)
    keras.models.clone_model(model)
    # A copy elsewhere is the same; another module in its place is not.
    shutil.copytree(module, module.with_name("copy"))
    HubLayer.from_config({"handle": str(module.with_name("copy"))})
    marker.unlink()
    (module / "variables" / "extra").write_bytes(b"x")
    with refused("`path`", "trust_module"):
        load_model(file)
    assert not marker.exists()


def test_a_file_runs_the_module_that_was_verified(file, module, monkeypatch):
    """Its handle is not looked up again: it could lead to another, or download it."""
    trust_module(module)
    found = hub_layer.trusted_directory(str(module))
    monkeypatch.setattr(hub_layer, "trusted_directory", lambda handle, sha256: found)
    address = "https://example.com/module"
    layer = HubLayer.from_config({"handle": address, "sha256": 64 * "0"})
    assert (layer.handle, layer.sha256) == (address, 64 * "0")
    assert layer.get_config()["handle"] == address
    x = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(layer(x), 2 * x)


def test_the_checksum_is_of_names_and_contents(tmp_path):
    def checksum(**files):
        shutil.rmtree(tmp_path / "m", ignore_errors=True)
        (tmp_path / "m" / "in").mkdir(parents=True)
        for name, content in files.items():
            (tmp_path / "m" / name.replace("_", "/")).write_text(content)
        return trust.module_checksum(tmp_path / "m")

    contents = [{"a": "x"}, {"a": "y"}, {"b": "x"}, {"in_a": "x"}, {"a": "x", "b": ""}, {}]
    assert len({checksum(**content) for content in contents}) == len(contents)
    assert checksum(b="1", a="2") == checksum(a="2", b="1")


def test_what_is_no_module_is_named(tmp_path, monkeypatch):
    with refused("`handle`", tmp_path):
        trust_module(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    monkeypatch.setattr(trust, "MOST_FILES", 0)
    with refused("`handle`", tmp_path):
        trust_module(tmp_path)
    monkeypatch.undo()
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    with refused("`handle`", "broken"):
        trust_module(tmp_path)
