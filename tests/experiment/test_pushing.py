"""Runs pushed to a local hub: what lies there, what its card says, and loading it back."""

from __future__ import annotations

import dataclasses
import functools
import json

import keras
import numpy as np
import pytest
import yaml

import keras_resnet
from keras_resnet.cli import export
from keras_resnet.data import Transforms
from keras_resnet.evaluation import embeddings
from keras_resnet.evaluation.evaluator import open_model
from keras_resnet.evaluation.predictor import Classifier
from keras_resnet.experiment import push
from keras_resnet.export import HubLayer, export_hub, load_exported
from keras_resnet.models import load_model
from keras_resnet.network import class_names_of
from keras_resnet.weights import Preprocessing
from tests.data.helpers import encode
from tests.helpers import distance, images, randomize, refused
from tests.hub import local_hub

pytest.importorskip("huggingface_hub")

METRICS = {"split": "test", "test_accuracy": 0.9875, "test_loss": 0.05, "test_images": 360}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with local_hub(monkeypatch, tmp_path / "cache") as hub:
        yield hub


@pytest.fixture
def model():
    prepared = Preprocessing((100.0,), (50.0,), class_names=("zero", "one"))
    options = {"classes": 2, "include_preprocessing": prepared}
    return randomize(keras_resnet.CifarResNet(8, input_shape=(8, 8, 1), **options))


@pytest.fixture
def workdir(model, tmp_path):
    """What a finished run leaves."""
    workdir = tmp_path / "run"
    workdir.mkdir()
    model.save(workdir / "model.keras")
    (workdir / "labels.txt").write_text("zero\none\n")
    (workdir / "metrics.json").write_text(json.dumps(METRICS))
    (workdir / "config.json").write_text(json.dumps({"dataset": "digits: 'all'"}))
    (workdir / "model_card.md").write_text("# ResNet8 trained on digits é\n", encoding="utf-8")
    return workdir


def test_what_is_pushed_is_loaded_again(hub, workdir, model):
    address = push(workdir, "hf://me/digits", license="apache-2.0", tags=["digits"], private=True)
    assert address == f"hf://me/digits@{hub.commit}"
    (created,) = hub.created  # whose field another version of the client calls "private"
    assert created.get("visibility") == "private" or created["private"] is True
    assert len(hub.commits) == 1
    files = hub.repositories["me/digits"]
    assert set(files) == {"README.md", "config.json", "labels.txt", "metrics.json", "model.keras"}
    assert files["model.keras"] == (workdir / "model.keras").read_bytes()
    x = images(2, 8, 8, 1, low=0, high=255)
    for place in (address, "hf://me/digits"):
        loaded = load_model(place)
        assert distance(loaded(x), model(x)) == 0 and class_names_of(loaded) == ("zero", "one")
        assert loaded.network == model.network
    with refused("`path`", "model.keras"):
        hub.repositories["me/digits"]["model.keras"] = b"no archive"
        hub.repositories["me/broken"] = hub.repositories["me/digits"]
        load_model("hf://me/broken")


@pytest.fixture
def foreign(workdir):
    """A model of others in place of the run's, with what it cannot hold beside it."""
    inputs = keras.Input((8, 8, 3))
    maps = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 64)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(maps)))
    model.save(workdir / "model.keras")
    prepared = Preprocessing.unchanged(3, image_size=8)
    prepared = dataclasses.replace(prepared, resize=12, interpolation="bicubic")
    (workdir / "preprocessing.json").write_text(prepared.to_json())
    return model, prepared


def test_what_lies_beside_a_model_is_pushed_and_loaded_again(hub, workdir, foreign):
    model, prepared = foreign
    push(workdir, "hf://me/digits", license="mit")
    files = hub.repositories["me/digits"]
    assert files["preprocessing.json"] == prepared.to_json().encode()
    loaded = keras_resnet.load_model("hf://me/digits")
    named = dataclasses.replace(prepared, class_names=("zero", "one"))
    assert loaded.preprocessing == named
    exported = load_exported("hf://me/digits")
    assert (exported.preprocessing, exported.labels) == (named, ("zero", "one"))
    x = images(2, 8, 8, 3, low=0, high=255)
    assert distance(exported(x), model(x)) < 1e-5
    classifier = Classifier("hf://me/digits")
    assert classifier.transforms == Transforms.of(prepared)
    ((names, _),) = classifier.classify(x[:1].astype("uint8"))
    assert set(names) == {"zero", "one"}
    for name, content, named in (
        ("preprocessing.json", b"{}", "`path`"),
        ("labels.txt", b"\xff", "`labels`"),
    ):
        hub.repositories[f"me/no-{name}"] = {**files, name: content}
        with refused(named, name):
            keras_resnet.load_model(f"hf://me/no-{name}")


def test_an_address_is_looked_up_once(hub, workdir, foreign, tmp_path):
    """Whatever is pushed meanwhile, what is asked of the model is answered by one commit."""
    push(workdir, "hf://me/digits", license="mit")

    def open_export(address):
        export.main([address, str(tmp_path / "out")])

    embed = functools.partial(embeddings.embed, folder=tmp_path / "images")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(encode(np.zeros((8, 8, 3), np.uint8), "PNG"))
    for ask in (load_model, load_exported, open_model, embed, open_export):
        hub.newest.clear()
        ask("hf://me/digits")
        assert hub.newest == ["/me/digits/resolve/main/config.json"], ask


def test_a_network_without_names_takes_those_beside_it(hub, workdir, model):
    """What a network remembers itself counts more."""
    push(workdir, "hf://me/named", license="mit")
    hub.repositories["me/named"]["labels.txt"] = b"other\nnames\n"
    assert class_names_of(load_model("hf://me/named")) == ("zero", "one")
    model.remember(model.network.with_class_names(None))
    model.save(workdir / "model.keras")
    push(workdir, "hf://me/digits", license="mit")
    assert load_model("hf://me/digits").preprocessing.class_names == ("zero", "one")


def test_weights_of_a_pushed_model(hub, workdir, model):
    push(workdir, "hf://me/digits", license="mit")
    new = keras_resnet.CifarResNet(
        8, input_shape=(8, 8, 1), classes=2, weights="hf://me/digits", stack_blocks=True
    )
    x = images(2, 8, 8, 1, low=0, high=255)
    assert distance(new((x - 100) / 50), model(x)) < 1e-5


def test_the_card_has_license_kind_and_figures(hub, workdir):
    push(workdir, "hf://me/digits", license="cc-by-4.0")
    card = hub.repositories["me/digits"]["README.md"].decode()
    _, head, text = card.split("---\n", 2)
    about = yaml.safe_load(head)
    assert (about["license"], about["pipeline_tag"]) == ("cc-by-4.0", "image-classification")
    assert about["library_name"] == "keras" and about["tags"] == ["keras-resnet", "resnet8"]
    (index,) = about["model-index"]
    assert index["name"] == "digits"
    (result,) = index["results"]
    assert result["dataset"] == {"name": "digits: 'all'", "type": "digits: 'all'", "split": "test"}
    figures = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert figures == {"accuracy": 0.9875, "loss": 0.05}
    assert text.lstrip().startswith("# ResNet8 trained on digits é")
    assert 'keras_resnet.load_model("hf://me/digits")' in text


def test_what_cannot_be_pushed_is_named(hub, workdir, tmp_path):
    for address in ("me/digits", "hf://digits", "hf://me/digits@main"):
        with refused("`address`", address):
            push(workdir, address, license="mit")
    with refused("`license`", "None"):
        push(workdir, "hf://me/digits", license=None)
    for file, key in (("config.json", "dataset"), ("metrics.json", "split")):
        whole = (workdir / file).read_text()
        (workdir / file).write_text("{}")
        with refused("`workdir`", file, key):
            push(workdir, "hf://me/digits", license="mit")
        (workdir / file).write_text(whole)
    (workdir / "metrics.json").rename(tmp_path / "metrics.json")
    with refused("`workdir`", "metrics.json"):
        push(workdir, "hf://me/digits", license="mit")
    assert hub.created == hub.commits == []


def test_a_module_is_not_in_its_file(hub, workdir, model, tmp_path):
    module = export_hub(model, tmp_path / "module")
    inputs = keras.Input((8, 8, 1))
    flat = keras.Model(inputs, HubLayer(module)(inputs))
    for whole in (flat, keras.Model(inputs, keras.layers.Softmax()(flat(inputs)))):
        whole.save(workdir / "model.keras")
        with refused("`workdir`", "HubLayer"):
            push(workdir, "hf://me/digits", license="mit")
    assert hub.created == []


def test_a_hub_that_refuses(hub, workdir, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"{hub.url}/closed")
    with pytest.raises(OSError, match="me/digits cannot be written") as error:
        push(workdir, "hf://me/digits", license="mit")
    assert "\n" not in str(error.value)
    assert np.array_equal(hub.commits, [])
