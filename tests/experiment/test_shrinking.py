"""The smallest file within a loss of accuracy, with trainings that give figures by hand."""

import json

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.analysis import complexity
from keras_resnet.data import ArrayDataset, load_dataset
from keras_resnet.experiment import Experiment, build_model, growth, shrinking
from keras_resnet.training import BinaryCrossEntropy, TrainingStopped
from keras_resnet.weights.saving import load_model
from tests.helpers import assert_same_weights, refused

SHARES = (0.5, 0.7)
# Accuracy of the file and its bytes, by share.
FIGURES = {1: (0.98, 900), 0.7: (0.97, 700), 0.5: (0.976, 500)}


@pytest.fixture
def base(tmp_path, monkeypatch):
    """Settings of a run whose files are numbers, and the shares that it tried."""
    digits, tried = load_dataset("digits"), []
    keras.utils.set_random_seed(0)
    model = keras_resnet.CifarResNet(
        8, input_shape=(8, 8, 1), classes=10, include_preprocessing=digits.preprocessing()
    )
    model.save(tmp_path / "init.keras")

    def train_quantized(experiment):
        folder = tmp_path / "run" / experiment.output.workdir.rpartition("/run/")[2]
        share = float(folder.parent.name)
        tried.append(share)
        small = complexity(load_model(experiment.network.init)).multiply_adds
        assert small <= share * complexity(model).multiply_adds
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.tflite").write_text(str(share))
        return {"litert_bytes": FIGURES[share][1]}

    def accuracy(form, *_):
        return FIGURES[float(form)][0] if isinstance(form, str) else 0.98

    monkeypatch.setattr(shrinking, "train_quantized", train_quantized)
    monkeypatch.setattr(shrinking, "load_exported", lambda path: path.read_text())
    monkeypatch.setattr(shrinking, "_accuracy", accuracy)
    settings = Experiment.from_flat(
        init=str(tmp_path / "init.keras"), batch_size=1257, workdir=str(tmp_path / "run")
    )
    return settings, tried


def test_the_smallest_file_within_the_loss_is_kept(base, tmp_path):
    settings, tried = base
    shrinking.shrink(settings, max_loss=0.005, shares=SHARES, slim_epochs=1)
    assert tried == [1, 0.7, 0.5]
    assert (tmp_path / "run" / "small.tflite").read_text() == "0.5"
    rows = json.loads((tmp_path / "run" / "table.json").read_text())["rows"]
    assert [row["share"] for row in rows if row["chosen"]] == [0.5]
    counts = [row["multiply_adds"] for row in rows]
    assert counts == sorted(counts, reverse=True)
    assert "report.html" in {path.name for path in (tmp_path / "run").iterdir()}


def test_a_loss_as_large_as_allowed_is_allowed(base, monkeypatch):
    settings, _ = base
    # In floats, 0.92 - 0.06 is more than 0.86 as it comes of an error.
    monkeypatch.setattr(
        shrinking, "_accuracy", lambda form, *_: 1 - (0.14 if isinstance(form, str) else 0.08)
    )
    (row,) = shrinking.shrink(settings, max_loss=0.06, shares=())
    assert row["chosen"]


def test_without_test_images_a_file_is_evaluated_once(base, monkeypatch, noise, tmp_path):
    settings, _ = base
    asked = []
    monkeypatch.setattr(shrinking, "_accuracy", lambda form, data, split: asked.append(split) or 1)
    folder = tmp_path / "run" / "1" / "int8"
    model = load_model(settings.network.init)
    row = shrinking._tried(1, model, 0.9, settings.network.init, settings, folder, noise)
    assert asked == ["validation"] and row["validation_accuracy"] == 1
    assert row["float_validation_accuracy"] == 0.9


def test_two_misses_end_it_and_without_a_file_it_is_refused(base, monkeypatch, tmp_path):
    settings, tried = base
    for share in (1, 0.7):
        monkeypatch.setitem(FIGURES, share, (0.9, 1))
    with refused("max_loss", "0.005"):
        shrinking.shrink(settings, max_loss=0.005, shares=SHARES, slim_epochs=1)
    assert tried == [1, 0.7] and not (tmp_path / "run" / "small.tflite").exists()


def test_a_share_that_stops_is_a_miss_and_the_others_are_reported(base, monkeypatch, tmp_path):
    settings, tried = base
    train_quantized = shrinking.train_quantized

    def stopping(experiment):
        if "0.7" in experiment.output.workdir:
            raise TrainingStopped("it diverged")
        return train_quantized(experiment)

    monkeypatch.setattr(shrinking, "train_quantized", stopping)
    with pytest.raises(TrainingStopped, match=r"3 shares, 1 .*0\.7"):
        shrinking.shrink(settings, max_loss=0.005, shares=SHARES, slim_epochs=1)
    assert tried == [1, 0.5]
    assert (tmp_path / "run" / "small.tflite").read_text() == "0.5"
    *_, stopped = json.loads((tmp_path / "run" / "table.json").read_text())["rows"]
    assert stopped == {"share": 0.7, "stopped": "it diverged", "chosen": False}


def test_a_second_search_of_the_folder(base, monkeypatch, tmp_path):
    settings, _ = base
    small = tmp_path / "run" / "small.tflite"
    small.parent.mkdir()
    small.write_text("of an earlier one")
    monkeypatch.setattr(shrinking, "_slimmed", lambda model, *_: model)

    def train_quantized(experiment):
        share = experiment.output.workdir.split("/")[-2]
        folder = tmp_path / "run" / share / "int8"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.tflite").write_text(share)
        return {"litert_bytes": 1}

    monkeypatch.setattr(shrinking, "train_quantized", train_quantized)
    monkeypatch.setattr(
        shrinking, "_accuracy", lambda form, *_: 0.9 if isinstance(form, str) else 0.98
    )
    with refused("max_loss", "0.005"):
        shrinking.shrink(settings, max_loss=0.005, shares=SHARES)
    assert not small.exists()
    shrinking.shrink(settings, max_loss=0.1, shares=(*SHARES, 0.3))
    for others in ({"slim_epochs": 3}, {"shares": (0.5,)}):
        with refused("workdir", "run"):
            shrinking.shrink(settings, **{"max_loss": 0.1, "shares": SHARES, **others})
    assert small.exists()


def test_what_is_refused(tmp_path):
    with refused("shares", "0"):
        shrinking.shrink(Experiment(), shares=(0.0,))
    with refused("max_loss", "2"):
        shrinking.shrink(Experiment(), max_loss=2)
    with refused("init", "None"):
        shrinking.shrink(Experiment.from_flat(workdir=str(tmp_path)))


def test_images_of_several_labels_are_refused(tmp_path, monkeypatch):
    images, labels = np.zeros((4, 8, 8, 1), "uint8"), np.eye(4, dtype="float32")
    splits = dict.fromkeys(("train", "validation"), (images, labels))
    several = ArrayDataset("several", splits, list("abcd"), multi_label=True)
    monkeypatch.setattr(shrinking, "load_data", lambda settings: several)
    with refused("dataset", "several"):
        shrinking.shrink(Experiment.from_flat(init="net.keras", workdir=str(tmp_path)))


def test_channels_are_ranked_by_the_loss_of_the_run(tmp_path, noise, monkeypatch):
    monkeypatch.setattr(shrinking, "train_changed", lambda *_: None)
    settings = Experiment.from_flat(
        depth=8, batch_size=8, loss="bce", validation_split="test", workdir=str(tmp_path)
    )
    losses = []
    monkeypatch.setattr(shrinking, "slim", lambda *_, loss, **options: losses.append(loss))
    model = build_model(settings, noise)
    shrinking._slimmed(model, 1, settings, noise)
    assert isinstance(losses[0], BinaryCrossEntropy)


def test_a_slimmed_net_is_trained_settled_and_saved(tmp_path, noise, monkeypatch):
    settled = []
    monkeypatch.setattr(
        growth, "settle_statistics", lambda settings, trainer, dataset: settled.append(trainer.step)
    )
    settings = Experiment.from_flat(
        depth=8, batch_size=8, epochs=1, validation_split="test", log_every=1, workdir=str(tmp_path)
    )
    model = build_model(settings, noise)
    limit = complexity(model).multiply_adds // 2
    small = shrinking._slimmed(model, limit, settings, noise)
    assert complexity(small).multiply_adds <= limit
    assert settled == [noise.num_examples("train") // 8]
    assert_same_weights(load_model(tmp_path / "model.keras"), small)
