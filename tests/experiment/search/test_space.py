"""The space that a search chooses from, and the experiments that the choices stand for."""

import pytest

from keras_resnet.experiment import Experiment
from keras_resnet.experiment.factories import architecture_of
from keras_resnet.experiment.search.space import RANGES, SearchSpace, candidate
from tests.helpers import refused

VALUES = {
    **{"repeats": 2, "widening": 0.5, "block": "basic", "shortcut": "B", "squeeze_excitation": 8},
    **{"dropout": 0.1, "stochastic_depth": 0.2},
    **{"learning_rate": 0.03, "momentum": 0.8, "weight_decay": 1e-5},
}


@pytest.mark.parametrize(
    ("block", "depth", "name"),
    [("basic", 14, "ResNet14x0.5_B_se8"), ("bottleneck", 20, "ResNet20x0.5_bottleneck_B_se8")],
)
def test_a_choice_is_an_experiment(block, depth, name):
    base = Experiment.from_flat(epochs=3, seed=5)
    found = candidate(base, VALUES | {"block": block, "tuner/epochs": 9}, workdir="other")
    assert (found.network.depth, found.output.workdir) == (depth, "other")
    sgd = found.optimization
    assert (sgd.epochs, sgd.seed) == (3, 5)
    assert (sgd.learning_rate, sgd.momentum, sgd.weight_decay) == (0.03, 0.8, 1e-5)
    assert (found.network.dropout, found.network.stochastic_depth) == (0.1, 0.2)
    network = architecture_of(found.network)
    assert (network.name, network.widths, network.repeats) == (name, (8, 16, 32), (2, 2, 2))
    assert (network.stem_filters, network.squeeze_excitation) == (8, 8)


def test_every_name_of_the_space_is_one_of_a_candidate():
    space = SearchSpace()
    assert set(space.choices()) == set(VALUES)
    assert space.choices()["widening"] == (0.5, 1.0, 2.0)
    assert [space.choices()[name] for name in RANGES] == [(0.02, 0.5), (1e-5, 1e-3)]
    # Numbers of one kind, which keras-tuner asks for, and each once.
    assert SearchSpace(widenings=(1, 2, 2)).widenings == (1.0, 2.0)
    assert SearchSpace(learning_rates=[0.1, 0.1]).learning_rates == (0.1, 0.1)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"repeats": (0,)}, "repeats=0"),
        ({"repeats": ()}, "repeats=()"),
        ({"widenings": (-1.0,)}, "widenings=-1.0"),
        ({"blocks": ("wide",)}, "blocks='wide'"),
        ({"blocks": "basic"}, "blocks='basic'"),
        ({"shortcuts": ("D",)}, "shortcuts='D'"),
        ({"squeeze_excitations": (-1,)}, "squeeze_excitations=-1"),
        ({"dropouts": (1.0,)}, "dropouts=1.0"),
        ({"learning_rates": (0.1,)}, "learning_rates="),
        ({"weight_decays": (1e-3, 1e-5)}, "weight_decays="),
        ({"shortcuts": ("A", "none")}, "stochastic_depths="),
    ],
)
def test_wrong_values_are_named(options, named):
    with refused(named):
        SearchSpace(**options)
