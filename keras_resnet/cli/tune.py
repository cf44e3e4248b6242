"""Searches for a network and its optimizer's settings, and trains the best one fully.

    keras-resnet tune --dataset folder --data-dir DIR --image-size 32 --trials 20

Draws candidates (depth, width, blocks, shortcuts, squeeze-and-excitation, drop rates, learning
rate, momentum and weight decay), trains each for --epochs, prints their table, draws accuracy
against multiply-adds, and trains the one with the best validation accuracy for --final-epochs. The
test images choose nothing. Interrupted and started again, it resumes; with more --trials it adds
them. A candidate that runs out of memory has failed, and the search continues; where the system
kills the process for it, start the search again: after two such kills it passes the candidate over.
Candidates over --max-multiply-adds or --max-parameters are trials that are not trained.
"""

from collections.abc import Mapping, Sequence

from keras_resnet.cli.flags import OF_A_TRAINED_NETWORK, Parser
from keras_resnet.experiment import Experiment
from keras_resnet.experiment.search.searching import TRIALS, search
from keras_resnet.experiment.search.space import SEARCHED, SearchSpace

PRESETS = {"default": Experiment.from_flat(epochs=8, workdir="runs/tune", export=False)}


def main(
    argv: Sequence[str] | None = None,
    description: str | None = __doc__,
    prog: str | None = None,
    presets: Mapping[str, Experiment] = PRESETS,
) -> None:
    """Runs the search that the flags describe."""
    without = (*SEARCHED, *OF_A_TRAINED_NETWORK, "steps", "validation_split")
    parser = Parser(description, presets, without, prog)
    add = parser.add_own
    tuners = ("random", "hyperband", "bayesian")
    add("--tuner", choices=tuners, default="random", help="How to choose candidates")
    add("--trials", type=int, help=f"Number of candidates (by default {TRIALS})")
    add("--factor", type=int, default=3, help="Hyperband trains one of so many on")
    add("--max-parameters", type=int, help="The most parameters of a candidate")
    add("--max-multiply-adds", type=int, help="The most multiply-adds of one image")
    add("--final-epochs", type=int, default=60, help="Epochs that the best one trains")
    space = parser.add_fields(SearchSpace)
    base, own = parser.settings(argv)
    search(base, SearchSpace(**{name: own.pop(name) for name in space if name in own}), **own)
