"""Candidates: their networks, budget and training; keras-tuner's files and a kill."""

import json

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import CifarResNet
from keras_resnet.analysis.counting import complexity
from keras_resnet.data.dataset import ArrayDataset
from keras_resnet.experiment import Experiment
from keras_resnet.experiment.search.space import SearchSpace
from keras_resnet.experiment.search.tuner import ResNetHyperModel, _kills_counted, make_tuner
from keras_resnet.training import TrainingStopped
from keras_resnet.training.checkpoints import read_checkpoint
from tests.experiment.search import fakes
from tests.experiment.search.fakes import (
    BASE,
    DenseHyperModel,
    Untrained,
    Wide,
    dense,
    results,
    searched,
)
from tests.helpers import refused
from tests.training.fakes import blobs

VALUES = {
    **{"repeats": 1, "widening": 0.5, "block": "basic", "shortcut": "A", "squeeze_excitation": 0},
    **{"dropout": 0.1, "stochastic_depth": 0.2},
    **{"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 1e-4},
}


def hyperparameters(values):
    hp = keras_tuner.HyperParameters()
    hp.values = dict(values)
    return hp


def test_build_makes_the_network_that_the_values_name():
    hp = hyperparameters(VALUES)
    space = SearchSpace(weight_decays=(1e-4, 1e-4))
    model = ResNetHyperModel(BASE, blobs(), space).build(hp)
    assert model.name == "resnet8x0.5"
    assert (model.input_shape, model.output_shape) == ((None, 8, 8, 1), (None, 4))
    rates = {layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)}
    assert rates == {0.1}
    # The preprocessing in front of it costs nothing.
    wide = ResNetHyperModel(BASE, blobs()).network(VALUES | {"widening": 1.0})
    own, plain = map(complexity, (wide, CifarResNet(8, input_shape=(8, 8, 1), classes=4)))
    assert (own.parameters, own.multiply_adds) == (plain.parameters, plain.multiply_adds)
    kinds = {one.name: type(one).__name__ for one in hp.space}
    assert list(kinds) == list(space.choices())
    assert kinds["learning_rate"] == "Float" and kinds["weight_decay"] == "Fixed"
    assert kinds["block"] == kinds["widening"] == "Choice"


class Tempting(fakes.Wide):
    """Candidates of which the more accurate cost more, so that those over the budget tempt."""

    def train(self, values, model, epochs):
        return super().train(values, model, epochs) | {"val_accuracy": values["widening"] / 3}


@pytest.mark.parametrize(
    "tuner",
    ["hyperband", *(pytest.param(t, marks=pytest.mark.slow) for t in ("random", "bayesian"))],
)
def test_candidates_over_the_budget_classify_nothing(tmp_path, tuner):
    hypermodel = dense(tmp_path, Tempting, epochs=4, max_multiply_adds=7000)
    oracle = searched(hypermodel, tuner, 12).oracle
    trials = [oracle.get_trial(one) for one in oracle.end_order]
    over = [one for one in trials if one.hyperparameters.values["widening"] > 1]
    assert over and len(over) < len(trials)
    for one in trials:
        assert one.metrics.exists("val_loss") == (one not in over)
        assert (one.score == 0) == (one in over)
    if tuner == "hyperband":
        # Later rounds, of 2 and 1 and of 2, are full; with failed trials they would be empty.
        later = [one for one in trials if "tuner/trial_id" in one.hyperparameters.values]
        assert len(later) == 5 and not set(later) <= set(over)
    if tuner == "bayesian":
        assert sum(one in over for one in trials[-4:]) < 4


def test_hyperbands_later_rounds_go_on_where_the_earlier_ended(tmp_path):
    """With the state of the optimizer, as if one run had been made in one go."""
    figures = []
    for folder, rounds in (("rounds", (1, 2)), ("straight", (2,))):
        hypermodel = dense(tmp_path / folder)
        for epochs in rounds:
            hp = hyperparameters(VALUES)
            found = hypermodel.fit(hp, hypermodel.build(hp), epochs=epochs)
        figures.append(found)
    assert figures[0]["val_loss"] == figures[1]["val_loss"]
    own, other = (
        read_checkpoint(max((tmp_path / one).rglob("step-*.npz"))) for one in ("rounds", "straight")
    )
    assert int(own.arrays["step/0000"]) == 2 * (128 // 32)
    np.testing.assert_equal(own.arrays, other.arrays)


def test_keras_tuner_finds_the_weights(tmp_path):
    class Remembering(DenseHyperModel):
        def train(self, values, model, epochs):
            found = super().train(values, model, epochs)
            self.weights = model.get_weights()
            return found

    tuner = searched(dense(tmp_path, Remembering), "random", 1)
    assert tuner.oracle.get_best_trials()[0].score > 0.5
    (model,) = tuner.get_best_models()
    np.testing.assert_equal(model.get_weights(), tuner.hypermodel.weights)


def test_one_that_diverges_or_takes_too_much_memory_classifies_nothing(
    tmp_path, monkeypatch, logged
):
    hypermodel = dense(tmp_path)
    hp = hyperparameters(VALUES | {"learning_rate": 1e38})
    found = hypermodel.fit(hp, hypermodel.build(hp))
    assert found["val_accuracy"] == 0 and "val_loss" not in found

    def train(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\nmore")

    monkeypatch.setattr(hypermodel, "train", train)
    assert hypermodel.fit(hp, hypermodel.build(hp)) == found
    diverged, too_large = logged().splitlines()
    assert "failed: Training diverged" in diverged
    assert too_large.endswith("failed: OOM when allocating")


class Large(Wide):
    """The widest networks are too large for memory: values need some, shapes do not."""

    denied = False

    def network(self, values):
        self.denied = values["widening"] == 2.0 and not self.denied
        if self.denied:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")
        return super().network(values)


def test_a_network_too_large_for_memory_has_failed_and_the_search_goes_on(tmp_path):
    oracle = searched(dense(tmp_path, Large), "random", 6).oracle
    trials = [oracle.get_trial(one) for one in oracle.end_order]
    assert len(trials) == 6 and {one.status for one in trials} == {"COMPLETED"}
    large = [one for one in trials if one.hyperparameters.values["widening"] == 2.0]
    assert large and len(large) < 6
    for one in trials:
        assert one.metrics.exists("val_loss") == (one not in large)
        assert (one.score == 0) == (one in large)
    # Its cost is known all the same.
    assert large[0].metrics.get_last_value("multiply_adds") == 64 * 200 + 200 * 4


KILLER = """
import json, os, signal, sys
from keras_resnet.experiment.search import tuner
from tests.experiment.search.fakes import dense, searched

folder, name = sys.argv[1:]
function = getattr(tuner, name)

def killed_in_the_first_trial(*args):
    if not json.load(open(folder + "/search/oracle.json"))["end_order"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*args)

setattr(tuner, name, killed_in_the_first_trial)
oracle = searched(dense(folder), "random", 2).oracle
print(json.dumps([oracle.get_trial(one).score for one in oracle.end_order]))
"""


@pytest.mark.parametrize(("kills", "counted"), [(1, 2), ("2", 1), (None, 1), (True, 1)])
def test_a_damaged_count_of_kills_is_none(tmp_path, kills, counted):
    path = tmp_path / "killed.json"
    path.write_text(json.dumps({"kills": kills, "checkpoint": []}))
    with _kills_counted(tmp_path):
        assert json.loads(path.read_text()) == {"kills": counted, "checkpoint": []}
    assert not path.exists()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kills"), [("make_trainer", 2), ("settle_statistics", 3)])
def test_a_candidate_that_kills_the_process_again_and_again_has_failed(
    tmp_path, subprocess_python, name, kills
):
    """As systems do where memory runs out: before the first checkpoint, and behind the last."""
    for _ in range(kills):
        assert subprocess_python(KILLER, tmp_path, name, check=False).returncode == -9
    first, second = json.loads(subprocess_python(KILLER, tmp_path, name).stdout.splitlines()[-1])
    assert first == 0 and second > 0.5
    assert len(list(tmp_path.rglob("killed.json"))) == 1


@pytest.mark.parametrize("error", [TrainingStopped("disk"), KeyError("bug")])
def test_errors_that_are_no_candidates_fault_come_through(tmp_path, monkeypatch, error):
    def train(*_):
        raise error

    hypermodel = dense(tmp_path)
    monkeypatch.setattr(hypermodel, "train", train)
    expected = RuntimeError if isinstance(error, KeyError) else type(error)
    with pytest.raises(expected, match=str(error)):
        searched(hypermodel, "random")
    # The trial is not over: with the fault mended, it is made.
    again = searched(dense(tmp_path, Untrained), "random")
    assert results(again) == results(searched(dense(tmp_path / "whole", Untrained), "random"))


class Killed(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("tuner", ["random", "hyperband"])
def test_a_kill_before_any_writing_of_keras_tuners_files_loses_nothing(
    tmp_path, monkeypatch, tuner
):
    whole = results(searched(dense(tmp_path / "whole", Untrained), tuner, 2))
    write, kills = fakes.write_json, 0
    for allowed in range(100):
        left = allowed

        def write_some(path, value):
            nonlocal left
            if not left:
                raise Killed
            left -= 1
            write(path, value)

        folder = tmp_path / str(allowed)
        monkeypatch.setattr(fakes, "write_json", write_some)
        try:
            searched(dense(folder, Untrained), tuner, 2)
            break
        except Killed:
            kills += 1
        monkeypatch.setattr(fakes, "write_json", write)
        assert results(searched(dense(folder, Untrained), tuner, 2)) == whole, allowed
    # The trial at its beginning, with its figures, at its end; the oracle; the tuner.
    assert kills >= 2 * 6


@pytest.mark.parametrize("name", ["oracle.json", "trial_0/trial.json", "tuner0.json"])
@pytest.mark.parametrize("content", ["", "[1, 2"])
def test_damaged_files_are_one_line(tmp_path, name, content):
    searched(dense(tmp_path, Untrained), "random", 1)
    (tmp_path / "search" / name).write_text(content)
    with refused("workdir", tmp_path):
        make_tuner(dense(tmp_path), "random", trials=1)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"validation_split": "test"}, "validation_split='test'"),
        ({"steps": 5}, "steps=5"),
        ({"init": "imagenet"}, "init='imagenet'"),
    ],
)
def test_settings_that_no_search_can_have(change, named):
    with refused(named):
        ResNetHyperModel(Experiment.from_flat(**change), blobs())


def test_arguments_that_do_not_go_together(tmp_path):
    for options, named in (
        ({"tuner": "grid", "trials": 3}, "tuner='grid'"),
        ({"tuner": "hyperband", "trials": 3}, "trials=3"),
        ({"tuner": "random"}, "trials=None"),
        ({"tuner": "bayesian", "trials": 0}, "trials=0"),
        ({"tuner": "hyperband", "factor": 1}, "factor=1"),
    ):
        with refused(named):
            make_tuner(dense(tmp_path), **options)
    with refused("max_parameters=0"):
        dense(tmp_path, max_parameters=0)
    images, labels = np.zeros((4, 8, 8, 1), "uint8"), np.zeros(4, "int32")
    splits = dict.fromkeys(("train", "test"), (images, labels))
    with refused("dataset", "has train, test"):
        DenseHyperModel(BASE, ArrayDataset("untried", splits, "0123"))
