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

import keras_resnet_command  # noqa: F401
from keras_resnet.cli import run, tune
from keras_resnet.experiment.settings import Data, Experiment, Optimization, Output

DIGITS = Experiment(
    data=Data("digits"),
    optimization=Optimization(epochs=8, warmup="linear"),
    output=Output("runs/tune", export=False),
)


if __name__ == "__main__":
    run(tune.main, description=__doc__, presets={"digits": DIGITS})
