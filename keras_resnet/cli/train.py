"""Trains a network with any settings.

    keras-resnet train --model ResNet50 --dataset folder --data-dir DIR --image-size 224 --gpus 1

The default is ResNet20 on scikit-learn's handwritten digits with the paper's settings for CIFAR-10,
60 epochs. Writes the trained model, its exported forms, a model card, metrics and the learning
curve to --workdir. Killed and started again with the same command, it resumes. The paper's
experiments with their settings are the recipes of the repository.

--find-learning-rate trains nothing: it tests learning rates on the same settings, prints the one it
suggests, and writes learning_rates.png, .svg, .csv and .json to --workdir, where a run may be.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from keras_resnet import experiment
from keras_resnet.cli import Arguments, parse_experiment, print_json
from keras_resnet.experiment.settings import Experiment
from keras_resnet.utils.tables import cell_text, heading_text

PRESETS = {"default": Experiment()}


@dataclasses.dataclass(frozen=True)
class Train(Arguments):
    """Arguments of `keras-resnet train`.

    Attributes:
        find_learning_rate: Whether a range test of the learning rate takes the place of training:
            a hundred steps at a learning rate that rises from 1e-6 to 10. It ends where the loss
            has grown, and suggests the rate at which it fell fastest.
        json: Print the content of metrics.json, or of learning_rates.json, as JSON.
    """

    find_learning_rate: bool = False
    json: bool = False


def main(
    argv: Sequence[str] | None = None,
    description: str | None = __doc__,
    prog: str | None = None,
    presets: Mapping[str, Experiment] = PRESETS,
) -> None:
    """Runs the experiment that the flags describe."""
    settings, given = parse_experiment(argv, description, presets, Train, prog=prog)
    start = experiment.find_learning_rate if given.find_learning_rate else experiment.run
    figures = start(settings)
    if given.json:
        print_json(figures)
    elif not given.find_learning_rate:  # which logs what it found
        names = (f"{figures['split']}_accuracy", "epochs", "steps", "train_seconds")
        shown = [f"{heading_text(n)} {cell_text(figures[n])}" for n in names if n in figures]
        print(f"{settings.output.workdir}: {', '.join(shown)}")
