"""Searches for a network and its optimizer's settings, and trains the best one fully.

    python recipes/tune.py --workdir runs/tune

Draws 12 candidates at random (depth, width, blocks, shortcuts, squeeze-and-excitation, drop rates,
learning rate, momentum and weight decay), trains each for 8 epochs on scikit-learn's handwritten
digits, prints their table, draws accuracy against multiply-adds, and retrains the candidate with
the best validation accuracy for 60 epochs: a few minutes on 2 cores. The test images choose
nothing.

Interrupted and started again, it resumes, in the middle of a trial too; with more --trials it adds
them. A budget: --max-multiply-adds 1000000, --max-parameters 50000; candidates over it are trials
that are not trained. Other ways to choose: --tuner hyperband (--epochs are those of the candidates
that get the most) and --tuner bayesian. Another space: --repeats 3 5 7 9 --widenings 1 2 4
--shortcuts A.
"""

import environment  # noqa: F401

from keras_resnet import cli
from keras_resnet.experiment import Data, Experiment, Optimization, Output
from keras_resnet.experiment.search.searching import TRIALS, search
from keras_resnet.experiment.search.space import SEARCHED, SearchSpace

DIGITS = Experiment(
    data=Data("digits"),
    optimization=Optimization(epochs=8, warmup="linear"),
    output=Output("runs/tune", export=False),
)


def main() -> None:
    fixed = (*cli.OF_A_TRAINED_NETWORK, "steps", "validation_split")
    parser = cli.Parser(__doc__, {"digits": DIGITS}, without=(*SEARCHED, *fixed))
    tuners = ("random", "hyperband", "bayesian")
    parser.add_own("--tuner", choices=tuners, default="random", help="How to choose candidates")
    parser.add_own("--trials", type=int, help=f"Number of candidates (by default {TRIALS})")
    parser.add_own("--factor", type=int, default=3, help="Hyperband trains one of so many on")
    parser.add_own("--max-parameters", type=int, help="The most parameters of a candidate")
    parser.add_own("--max-multiply-adds", type=int, help="The most multiply-adds of one image")
    parser.add_own("--final-epochs", type=int, default=60, help="Epochs that the best one trains")
    space = parser.add_fields(SearchSpace)
    base, own = parser.settings()
    search(base, SearchSpace(**{name: own.pop(name) for name in space if name in own}), **own)


if __name__ == "__main__":
    cli.run(main)
