"""Searches for a network and its optimizer's settings, and trains the best one fully.

    keras-resnet tune --dataset folder --data-dir DIR --image-size 32 --trials 20

Draws candidates (depth, width, blocks, shortcuts, squeeze-and-excitation, drop rates, learning
rate, momentum and weight decay), trains each for --epochs, prints their table, draws accuracy
against multiply-adds, and trains the one with the best validation accuracy for --final-epochs. The
test images choose nothing. Interrupted and started again, it resumes; with more --trials it adds
them. A candidate that runs out of memory has failed, and the search continues; where the system
kills the process for it, start the search again: it skips a candidate after two such kills.
Candidates over --max-multiply-adds or --max-parameters are trials that are not trained.
"""

import contextlib
import dataclasses
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from keras_resnet.cli.arguments import Arguments, own_values, parse_experiment
from keras_resnet.cli.flags import OF_A_TRAINED_NETWORK
from keras_resnet.cli.session import print_json
from keras_resnet.experiment import search
from keras_resnet.experiment.search.space import SEARCHED, SearchSpace
from keras_resnet.experiment.settings import Experiment
from keras_resnet.experiment.workdir import read_object

PRESETS = {"default": Experiment.from_flat(epochs=8, workdir="runs/tune", export=False)}


@dataclasses.dataclass(frozen=True)
class Tune(Arguments, SearchSpace):
    """Arguments of `keras-resnet tune`.

    Attributes:
        tuner: Method that chooses candidates.
        trials: Number of candidates; by default 12, and as many as its rounds need for hyperband.
        factor: Of so many candidates hyperband trains one further, for so many times the epochs.
        max_parameters: Largest number of parameters of a candidate; by default any.
        max_multiply_adds: Largest number of multiply-adds of a candidate for one image; by default
            any.
        final_epochs: Epochs that the best candidate is trained for in the end.
        json: Print the content of table.json, and as "final" that of the best one's metrics.json,
            as JSON.
    """

    tuner: Literal["random", "hyperband", "bayesian"] = "random"
    trials: int | None = None
    factor: int = 3
    max_parameters: int | None = None
    max_multiply_adds: int | None = None
    final_epochs: int = 60
    json: bool = False


def main(
    argv: Sequence[str] | None = None,
    description: str | None = __doc__,
    prog: str | None = None,
    presets: Mapping[str, Experiment] = PRESETS,
) -> None:
    """Runs the search that the flags describe."""
    without = (*SEARCHED, *OF_A_TRAINED_NETWORK, "steps", "validation_split")
    base, given = parse_experiment(argv, description, presets, Tune, without, prog)
    own = own_values(given)
    space = {field.name: own.pop(field.name) for field in dataclasses.fields(SearchSpace)}
    # keras-tuner prints its progress on standard output.
    with contextlib.redirect_stdout(io.StringIO() if given.quiet else sys.stderr):
        search.searching.search(base, SearchSpace(**space), **own)
    if given.json:
        workdir = Path(base.output.workdir)
        table = read_object(workdir / "table.json")
        metrics = read_object(workdir / f"best-trial-{table['best']}" / "metrics.json")
        print_json({**table, "final": metrics})
