"""Deepens a trained net by identity blocks, and trains on (section 1 of arXiv 1512.03385).

    python recipes/deepen.py --workdir runs/deepen

ResNet20 on scikit-learn's handwritten digits for 12 epochs, deepened to ResNet56: the same outputs,
the same loss, and no jump when it trains on for 12 epochs more at a tenth of the learning rate.
Beside it ResNet56 from scratch for 24 epochs. The plain nets, whose added blocks are identities by
construction:

    python recipes/deepen.py --shortcut none --workdir runs/deepen-plain
"""

import environment  # noqa: F401

from keras_resnet import cli
from keras_resnet.experiment import Data, Experiment, Network, Optimization, Output
from keras_resnet.experiment.growth import deepening

DIGITS = Experiment(
    Network(depth=20),
    Data("digits", validation_split="test"),
    Optimization(epochs=12, warmup="linear", warmup_share=0.2),
    output=Output("runs/deepen", export=False),
)

# Set by the recipe, or meant for runs on several devices.
WITHOUT = (
    *("model", "seed", "steps", "export", "fine_tune_epochs"),
    *("strategy", "gpus", "virtual_devices", "tpu"),
    *cli.OF_A_TRAINED_NETWORK,
)


def main() -> None:
    parser = cli.Parser(__doc__, {"digits": DIGITS}, without=WITHOUT)
    parser.add_own("--to", type=int, default=56, help="Layers, 6n+2, of the deep net")
    parser.add_own("--more-epochs", type=int, help="Epochs after deepening (by default --epochs)")
    parser.add_study()
    parser.set_defaults(seeds=[0])
    base, own = parser.settings()
    deepening(base, own["to"], own["seeds"], more_epochs=own["more_epochs"], jobs=own["jobs"])


if __name__ == "__main__":
    cli.run(main)
