"""The shipped modules are what their cards say, and the command that makes them works."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet.analysis.counting import complexity
from keras_resnet.data import load_dataset
from keras_resnet.data.dataset import ArrayDataset
from keras_resnet.experiment import Experiment
from keras_resnet.experiment.publishing import CARD, module_accuracy, publish
from keras_resnet.export import export_hub
from keras_resnet.export.verification import sha256_of_files
from tests.helpers import refused

SHIPPED = Path(__file__).parents[2] / "saved_models"


def stated(card: str) -> tuple[float, dict[str, str]]:
    """The accuracy and the checksums that a card states."""
    (percent,) = re.findall(r"\| test accuracy[^|]*\| (\d+\.\d\d) % of 360 images \|", card)
    return float(percent) / 100, dict(
        re.findall(r"^\| `([^`]+)` \| `([0-9a-f]{64})` \|$", card, re.M)
    )


def sums_of(module: Path) -> dict[str, str]:
    """The checksums of all files but the card."""
    return {path: digest for path, digest in sha256_of_files(module).items() if path != CARD}


def costs(card: str) -> dict[str, int]:
    """The parameters and multiply-adds that a card states."""
    rows = re.findall(r"^\| (parameters|multiply-adds per image) \| ([\d,]+) \|$", card, re.M)
    return {name: int(number.replace(",", "")) for name, number in rows}


def expected_costs(depth: int, kind: str) -> dict[str, int]:
    features = {"include_top": False, "pooling": "avg"}
    top = features if kind == "feature_vector" else {"classes": 10}
    cost = complexity(keras_resnet.CifarResNet(depth, input_shape=(8, 8, 1), **top))
    return {"parameters": cost.parameters, "multiply-adds per image": cost.multiply_adds}


def wording(card: str) -> str:
    """A card without its figures, checksums and command."""
    return re.sub(r"made by \| .*|[0-9a-f]{64}|\d[\d.,]*", "#", card)


def names() -> list[str]:
    return [path.parent.name for path in sorted(SHIPPED.glob(f"*/{CARD}"))]


def test_there_is_a_module_of_each_kind_and_none_is_large():
    assert {name.split("_digits_")[1] for name in names()} == {"classification", "feature_vector"}
    for name in names():
        size = sum(path.stat().st_size for path in (SHIPPED / name).rglob("*") if path.is_file())
        assert size < 4e6


@pytest.mark.parametrize("name", names())
def test_a_shipped_module_is_what_its_card_says(name):
    card = (SHIPPED / name / CARD).read_text(encoding="utf-8")
    accuracy, sums = stated(card)
    assert sums == sums_of(SHIPPED / name)
    assert costs(card) == expected_costs(20, name.partition("_digits_")[2])
    module = tf.saved_model.load(SHIPPED / name)
    sizes = [variable.shape.num_elements() for variable in module.trainable_variables]
    assert costs(card)["parameters"] == sum(sizes)
    # To one image of 360, since another processor rounds otherwise.
    assert module_accuracy(SHIPPED / name, load_dataset("digits")) == pytest.approx(
        accuracy, abs=1.01 / 360
    )


def test_a_file_in_place_of_the_folder_is_refused_before_training(tmp_path):
    (tmp_path / "saved").write_text("")
    with refused("`folder`", f"folder='{tmp_path}/saved'"):
        publish(Experiment.from_flat(workdir=str(tmp_path / "run")), tmp_path / "saved")
    assert not (tmp_path / "run").exists()


def test_a_whole_model_to_begin_from_is_refused_before_training(tmp_path):
    for init in ("first.keras", str(tmp_path)):
        experiment = Experiment.from_flat(init=init, workdir=str(tmp_path / "run"))
        with refused("`init`", repr(init)):
            publish(experiment, tmp_path / "saved_models")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("classes", [1, 2])
def test_scores_of_sigmoid_are_judged_as_classes(tmp_path, classes):
    """They are no features to learn from; a single one tells the second of two classes."""
    inputs = keras.Input((8, 8, 1))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    scores = keras.layers.Dense(classes, activation="sigmoid", name="predictions")(pooled)
    model = keras.Model(inputs, scores)
    kernel, bias = ([[9.0]], [-4.5]) if classes == 1 else ([[-9.0, 9.0]], [4.5, -4.5])
    model.get_layer("predictions").set_weights([np.array(kernel), np.array(bias)])
    labels = np.arange(40, dtype="int32") % 2
    images = np.tile(200 * labels[:, None, None, None] + 20, (1, 8, 8, 1)).astype("uint8")
    labels[:10] = 1 - labels[:10]
    dataset = ArrayDataset("two", {"test": (images, labels)}, ["dark", "bright"])
    module = export_hub(model, tmp_path / "m", "classification")
    assert module_accuracy(module, dataset) == 0.75


def test_modules_made_anew_are_measured_and_carded(tmp_path, monkeypatch):
    experiment = Experiment.from_flat(
        depth=8, epochs=2, warmup="linear", workdir=str(tmp_path / "run"), batch_size=256
    )
    modules = publish(experiment, tmp_path / "saved_models")
    monkeypatch.chdir(tmp_path)
    assert [path.name for path in modules] == [
        "resnet8_digits_classification",
        "resnet8_digits_feature_vector",
    ]
    for path in modules:
        card = (path / CARD).read_text(encoding="utf-8")
        accuracy, sums = stated(card)
        assert sums == sums_of(path) and "saved_model.pb" in sums
        assert costs(card) == expected_costs(8, path.name.partition("_digits_")[2])
        shipped = SHIPPED / path.name.replace("resnet8", "resnet20") / CARD
        assert wording(card) == wording(shipped.read_text(encoding="utf-8"))
        (code,) = re.findall(r"```python\n(.*?)```", card, re.S)
        exec(code, names := {})
        assert len(names["outputs"]) == 1
        assert accuracy == pytest.approx(module_accuracy(path, load_dataset("digits")), abs=1e-4)
        # Two epochs are little; features of even an untrained net tell digits apart, though.
        assert accuracy > (0.5 if "feature" in path.name else 0.05)
