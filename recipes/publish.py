"""Trains the modules of saved_models/ and writes them there, with their cards.

    python recipes/publish.py

ResNet20 on scikit-learn's handwritten digits as in recipes/digits.py: about two minutes on 2 cores.
The classification module and the feature vector are measured after they were written, and a card
beside each says on what, how well and how it was made, with the checksum of every file. With the
versions named there the same command makes modules of the same accuracy; the bits of the weights
depend on the processor too.
"""

import dataclasses

import keras_resnet_command  # noqa: F401
from keras_resnet import experiment
from keras_resnet.cli import Arguments, parse_experiment, run
from keras_resnet.cli.flags import OF_A_TRAINED_NETWORK
from keras_resnet.experiment.settings import (
    Data,
    Devices,
    Experiment,
    Network,
    Optimization,
    Output,
)

DIGITS = Experiment(
    Network("ResNet20"),
    Data("digits"),
    Optimization(epochs=60, warmup="linear"),
    Devices(deterministic=True),
    Output("runs/publish"),
)

WITHOUT = ("export", "fine_tune_epochs", *OF_A_TRAINED_NETWORK)


@dataclasses.dataclass(frozen=True)
class Publish(Arguments):
    """Arguments of this recipe.

    Attributes:
        folder: Where the modules go.
    """

    folder: str = "saved_models"


def main() -> None:
    settings, own = parse_experiment(None, __doc__, {"digits": DIGITS}, Publish, WITHOUT)
    experiment.publishing.publish(settings, own.folder)


if __name__ == "__main__":
    run(main)
