"""Saved forms of a trained model, compared with it."""

import keras
import pytest

from keras_resnet.data import load_dataset
from keras_resnet.experiment import Experiment, build_model, finish
from keras_resnet.export.mismatch import ExportMismatchError
from keras_resnet.network import class_names_of
from keras_resnet.weights.saving import load_model
from tests.helpers import refused


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits", per_class=8)


def test_forms_give_the_outputs_of_the_model_or_end_in_a_mismatch(digits, tmp_path, monkeypatch):
    experiment = Experiment.from_flat(depth=8, workdir=str(tmp_path))
    model = build_model(experiment, digits)
    differences = finish.save(model, digits, lambda part: "# A card", experiment)
    assert list(differences) == ["model.keras", "saved_model", "feature_vector"]
    assert max(differences.values()) <= 1e-5
    saved = load_model(tmp_path / "model.keras")
    assert class_names_of(saved) == digits.class_names == tuple("0123456789")

    keras.config.set_dtype_policy("mixed_bfloat16")
    options = {"epochs": 1, "batch_size": 40}
    found = finish.fine_tune(tmp_path / "feature_vector", digits, "test", **options)
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    keras.config.set_dtype_policy("float32")
    assert found["fine_tuned_epochs"] == 1 and 0 <= found["fine_tuned_test_accuracy"] <= 1

    monkeypatch.setitem(finish.TOLERANCES, "float32", -1.0)
    with refused("within -1.0", "model.keras", error=ExportMismatchError):
        finish.save(model, digits, lambda part: "# A card", experiment.replace(export=False))
