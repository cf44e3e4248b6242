"""Trains the modules of saved_models/ and writes them there, with their cards.

    python recipes/publish.py

ResNet20 on scikit-learn's handwritten digits as in recipes/digits.py: about two minutes on 2 cores.
The classification module and the feature vector are measured after they were written, and a card
beside each says on what, how well and how it was made, with the checksum of every file. With the
versions named there the same command makes modules of the same accuracy; the bits of the weights
depend on the processor too.
"""

import keras_resnet_command  # noqa: F401
from keras_resnet.cli import Parser, run
from keras_resnet.cli.flags import OF_A_TRAINED_NETWORK
from keras_resnet.experiment import Data, Devices, Experiment, Network, Optimization, Output
from keras_resnet.experiment.publishing import publish

DIGITS = Experiment(
    Network("ResNet20"),
    Data("digits"),
    Optimization(epochs=60, warmup="linear"),
    Devices(deterministic=True),
    Output("runs/publish"),
)

WITHOUT = ("export", "fine_tune_epochs", *OF_A_TRAINED_NETWORK)


def main() -> None:
    parser = Parser(__doc__, {"digits": DIGITS}, without=WITHOUT)
    parser.add_own("--folder", default="saved_models", help="Where the modules go")
    experiment, own = parser.settings()
    publish(experiment, own["folder"])


if __name__ == "__main__":
    run(main)
