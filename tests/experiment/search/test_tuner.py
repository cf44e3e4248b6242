"""Search: candidates within the budget, rounds that go on, files that can be trusted."""

import json
import math

import keras
import keras_tuner
import numpy as np
import pytest
from keras_tuner.engine.trial import Trial

from keras_resnet import CifarResNet
from keras_resnet.data.dataset import ArrayDataset
from keras_resnet.experiment import Experiment
from keras_resnet.experiment.search.space import SearchSpace
from keras_resnet.experiment.search.tuner import Cost, ResNetHyperModel, ResNetTuner
from keras_resnet.training import Checkpoints
from keras_resnet.training.checkpoints import read_checkpoint
from tests.experiment.search.fakes import BASE, SPACE, DenseHyperModel, make_search, results
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


def end(oracle, trial, accuracy):
    """Tells the oracle what a trial came to, without any training."""
    oracle.update_trial(trial.trial_id, {"val_accuracy": accuracy})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)


def run_without_training(oracle, hypermodel, folder, accuracy=lambda trial: 0.5):
    """Runs all trials of a search, and returns them."""
    ResNetTuner(oracle, hypermodel, folder).on_search_begin()
    while (trial := oracle.create_trial("tuner0")).status == "RUNNING":
        end(oracle, trial, accuracy(trial))
    assert trial.status == "STOPPED"
    return [oracle.get_trial(one) for one in oracle.end_order]


def test_build_makes_the_network_that_the_values_name():
    model = ResNetHyperModel(BASE, blobs()).build(hyperparameters(VALUES))
    assert model.name == "resnet8x0.5"
    assert (model.input_shape, model.output_shape) == ((None, 8, 8, 1), (None, 4))
    rates = {layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)}
    assert rates == {0.1}


def test_cost_is_that_of_the_network():
    found = ResNetHyperModel(BASE, blobs()).cost(VALUES | {"widening": 1.0})
    model = CifarResNet(8, input_shape=(8, 8, 1), classes=4)
    trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    # By hand: the stem, two 3x3 convolutions a stage, and the classifier.
    convolutions = 64 * 9 * 16 + 2 * 64 * 9 * 16**2
    convolutions += sum(p * 9 * (c * c // 2 + c * c) for p, c in ((16, 32), (4, 64)))
    assert found == Cost(trained, convolutions + 64 * 4)


def test_space_is_declared_once_with_its_kinds():
    hp = keras_tuner.HyperParameters()
    space = SearchSpace(weight_decays=(1e-4, 1e-4))
    ResNetHyperModel(BASE, blobs(), space).declare_hyperparameters(hp)
    kinds = {one.name: type(one).__name__ for one in hp.space}
    assert tuple(kinds) == space.names()
    assert kinds["learning_rate"] == "Float" and kinds["weight_decay"] == "Fixed"
    assert kinds["block"] == kinds["widening"] == "Choice"


class Reckoned(DenseHyperModel):
    """Says what a network costs without building it."""

    def cost(self, values):
        return Cost(1000 * values["repeats"], round(1e6 * values["widening"] * values["repeats"]))


@pytest.mark.parametrize("tuner", ["random", "hyperband", "bayesian"])
def test_only_what_is_within_the_budget_becomes_a_trial(tmp_path, tuner):
    base = BASE.replace(epochs=4)
    limit = 1_000_000
    hypermodel = Reckoned(base, blobs(), SPACE, max_multiply_adds=limit)

    def cost(values):
        return hypermodel.cost(values).multiply_adds

    def search():
        return hypermodel.oracle(tuner, trials=None if tuner == "hyperband" else 7, factor=2)

    oracle = search()
    # The more expensive, the better: what is not to be had tempts the Gaussian process.
    found = run_without_training(
        oracle,
        hypermodel,
        tmp_path / "search",
        lambda trial: cost(trial.hyperparameters.values) / 1e7,
    )
    assert max(cost(trial.hyperparameters.values) for trial in found) <= limit
    assert len(found) == 7 if tuner != "hyperband" else len(found) > 7
    assert oracle.rejected and min(map(cost, oracle.rejected)) > limit
    # Those of a search that goes on are told too.
    again = search()
    ResNetTuner(again, hypermodel, tmp_path / "search")
    assert again.rejected == oracle.rejected


def test_hyperband_trains_the_epochs_that_were_planned(tmp_path):
    hypermodel = DenseHyperModel(BASE.replace(epochs=9), blobs(), SPACE)
    oracle = hypermodel.oracle("hyperband")
    found = run_without_training(oracle, hypermodel, tmp_path / "search")
    epochs = [
        one.hyperparameters.values["tuner/epochs"]
        - one.hyperparameters.values["tuner/initial_epoch"]
        for one in found
    ]
    assert sum(epochs) == oracle.planned_epochs() > 9 * 5
    assert hypermodel.oracle("random", trials=7).planned_epochs() == 63


def test_a_budget_that_leaves_nothing_is_an_error(tmp_path):
    hypermodel = Reckoned(BASE, blobs(), SPACE, max_parameters=999)
    oracle = hypermodel.oracle("random", trials=2)
    ResNetTuner(oracle, hypermodel, tmp_path / "search")
    with pytest.raises(
        ValueError, match="must leave some candidates. Received: max_parameters=999,"
    ):
        oracle.create_trial("tuner0")


@pytest.mark.parametrize("tuner", ["random", pytest.param("bayesian", marks=pytest.mark.slow)])
def test_same_seed_same_candidates_also_in_another_process(tmp_path, tuner):
    hypermodel = DenseHyperModel(BASE, blobs(), SPACE)

    def candidates(folder, stops):
        """Ends each trial by its rate; makes everything anew after so many of them."""
        for last in (*stops, 7):
            oracle = hypermodel.oracle(tuner, trials=7)
            ResNetTuner(oracle, hypermodel, tmp_path / folder).save()
            while len(oracle.end_order) < last:
                trial = oracle.create_trial("tuner0")
                end(oracle, trial, trial.hyperparameters.values["learning_rate"])
        return [trial.hyperparameters.values for trial in oracle.trials.values()]

    whole = candidates("whole", ())
    assert candidates("broken", (1, 6)) == whole
    assert len({json.dumps(values) for values in whole}) == 7


def test_hyperbands_later_rounds_go_on_where_the_earlier_ended(tmp_path):
    """With the state of the optimizer, as if one run had been made in one go."""
    tuner = make_search(tmp_path / "search", "hyperband")
    first = tuner.oracle.create_trial("tuner0")
    values = first.hyperparameters.values
    assert values["tuner/epochs"] == 1
    tuner.run_trial(first)
    later = {"tuner/trial_id": first.trial_id, "tuner/initial_epoch": 1, "tuner/epochs": 2}
    second = Trial(hyperparameters(values | later), trial_id="later")
    figures = tuner.run_trial(second)

    straight, folder = tmp_path / "straight", tmp_path / "search" / "trial_later" / "checkpoints"
    hp = hyperparameters(values)
    model = tuner.hypermodel.build(hp)
    whole = tuner.hypermodel.fit(hp, model, epochs=2, checkpoints=Checkpoints(straight))
    assert figures["val_loss"] == whole["val_loss"]
    own, other = (read_checkpoint(Checkpoints(one).paths()[-1]) for one in (folder, straight))
    assert int(own.arrays["step/0000"]) == 2 * (128 // 32)
    for name, array in other.arrays.items():
        np.testing.assert_array_equal(own.arrays[name], array)
    # keras-tuner finds the weights.
    for one, array in zip(tuner.load_model(second).get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, array)


def test_one_that_diverges_classifies_nothing(tmp_path):
    tuner = make_search(tmp_path / "search", "random", trials=2)
    trial = tuner.oracle.create_trial("tuner0")
    trial.hyperparameters.values["learning_rate"] = 1e38
    assert tuner.run_trial(trial) == {"val_accuracy": 0.0}
    assert trial.message.startswith("Training diverged by step")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (keras_tuner.RandomSearch, {"max_trials": 1}),
        pytest.param(
            *(keras_tuner.Hyperband, {"max_epochs": 2, "factor": 2}), marks=pytest.mark.slow
        ),
    ],
)
def test_keras_tuners_own_tuners_work(tmp_path, kind, options):
    hypermodel = DenseHyperModel(BASE, blobs(), SPACE)
    tuner = kind(
        hypermodel,
        objective=keras_tuner.Objective("val_accuracy", "max"),
        directory=tmp_path,
        seed=1,
        **options,
    )
    tuner.search(verbose=0)
    assert {trial.status for trial in tuner.oracle.trials.values()} == {"COMPLETED"}
    assert tuner.oracle.get_best_trials()[0].score > 0.5


def test_keras_tuners_own_tuners_meet_the_budget(tmp_path):
    hypermodel = Reckoned(BASE, blobs(), SPACE, max_parameters=1)
    with pytest.raises(keras_tuner.errors.FailedTrialError, match="over budget"):
        hypermodel.fit(hyperparameters(VALUES), None)


def test_errors_that_are_no_candidates_fault_come_through(tmp_path, monkeypatch):
    tuner = make_search(tmp_path / "search", "random", trials=2)
    for raised, caught in (
        (ValueError("`x` must be"), ValueError),
        (KeyError("bug"), RuntimeError),
    ):

        def fit(*args, error=raised, **options):
            raise error

        monkeypatch.setattr(tuner.hypermodel, "fit", fit)
        with pytest.raises(caught, match="must be|KeyError: 'bug'"):
            tuner.search()


def test_moments_between_two_files_are_mended(tmp_path, monkeypatch):
    """What lies there when a kill comes between the writing of a trial and of the oracle."""

    def rate(self, hp, model, **options):
        return {"val_accuracy": hp.values["learning_rate"], "val_loss": 1.0}

    monkeypatch.setattr(DenseHyperModel, "fit", rate)
    folder = tmp_path / "search"
    whole = make_search(tmp_path / "whole", "random", trials=3)
    whole.search()
    first = make_search(folder, "random", trials=3)
    first.on_search_begin()
    state = (folder / "oracle.json").read_bytes()
    first.oracle.create_trial("tuner0")
    # The trial is written, the oracle's state is not: it is made again, and equal.
    (folder / "oracle.json").write_bytes(state)
    again = make_search(folder, "random", trials=3)
    assert not again.oracle.trials and not list(folder.glob("trial_*"))
    # Trial 0 is over, but still noted as in progress.
    trial = again.oracle.create_trial("tuner0")
    again.oracle.update_trial(trial.trial_id, again.run_trial(trial))
    trial.status = "COMPLETED"
    ongoing = dict(again.oracle.ongoing_trials)
    again.on_trial_end(trial)
    again.oracle.ongoing_trials = ongoing
    again.oracle.save()
    last = make_search(folder, "random", trials=3)
    last.search()
    assert results(last) == results(whole)


@pytest.mark.parametrize("name", ["oracle.json", "trial_0/trial.json"])
@pytest.mark.parametrize("content", ["", "{}", "[1, 2"])
def test_damaged_files_are_one_line(tmp_path, name, content):
    folder = tmp_path / "search"
    hypermodel = DenseHyperModel(BASE, blobs(), SPACE)
    oracle = hypermodel.oracle("random", trials=1)
    tuner = ResNetTuner(oracle, hypermodel, folder)
    end(oracle, oracle.create_trial("tuner0"), 0.5)
    tuner.save()
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match="whole search") as error:
        make_search(folder, "random", trials=1)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"validation_split": "test"}, "validation_split='test'"),
        ({"steps": 5}, "steps=5"),
        ({"init": "imagenet"}, "init='imagenet'"),
    ],
)
def test_settings_that_no_search_can_have(change, named):
    with pytest.raises(ValueError, match=named):
        ResNetHyperModel(Experiment.from_flat(**change), blobs())


def test_arguments_that_do_not_go_together():
    hypermodel = DenseHyperModel(BASE, blobs(), SPACE)
    for options, named in (
        ({"tuner": "grid", "trials": 3}, "tuner='grid'"),
        ({"tuner": "hyperband", "trials": 3}, "trials=3"),
        ({"tuner": "random"}, "trials=None"),
        ({"tuner": "bayesian", "trials": 0}, "trials=0"),
        ({"tuner": "hyperband", "factor": 1}, "factor=1"),
    ):
        with pytest.raises(ValueError, match=named):
            hypermodel.oracle(**options)
    images, labels = np.zeros((4, 8, 8, 1), "uint8"), np.zeros(4, "int32")
    splits = {name: (images, labels) for name in ("train", "test")}
    with pytest.raises(ValueError, match="has train, test"):
        ResNetHyperModel(BASE, ArrayDataset("untried", splits, "0123"))
