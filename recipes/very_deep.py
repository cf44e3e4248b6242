"""Trains a very deep net with and without the regularization that the paper leaves untried.

    python recipes/very_deep.py --workdir runs/very_deep

The paper's 1202-layer net reaches a training error below 0.1 % on CIFAR-10 and tests at 7.93 %,
worse than the 110-layer one with 6.43 %; the authors suspect overfitting and name maxout or dropout
as the cure they did not try (section 4.2). Here a net without regularization is compared with
dropout in the branches and with stochastic depth (arXiv 1603.09382), each from the same seeds. The
default is ResNet56 on scikit-learn's handwritten digits for 27 epochs, which are enough for it and
too few for ResNet110 (--model ResNet110 --epochs 100). The digits are nearly solved without any
regularization, so do not expect it to help there.

The paper's own case, with the memory of one GPU (blocks stacked, activations recomputed):

    python recipes/very_deep.py --preset paper --data-dir DIR --gpus 1

costs 9 x 64k steps (three nets, three seeds) of batch 128 through 2.8e9 multiply-adds an image.
"""

import environment  # noqa: F401

from keras_resnet import cli
from keras_resnet.experiment import Data, Experiment, Network, Optimization, Output
from keras_resnet.experiment.factories import architecture_of
from keras_resnet.experiment.reports import side_by_side

PRESETS = {
    "digits": Experiment(
        # At a stochastic depth of 0.5, as below, 27 epochs do not train it.
        Network("ResNet56", dropout=0.2, stochastic_depth=0.2),
        Data("digits", validation_split="test"),
        Optimization(epochs=27, warmup="linear", warmup_share=0.2),
        output=Output("runs/very_deep", export=False),
    ),
    "paper": Experiment(
        Network("ResNet1202", dropout=0.2, stochastic_depth=0.5, recompute=True),
        Data("cifar10", validation_split="test"),
        Optimization(steps=64_000, recompute_bn=True),
        output=Output("runs/very_deep-cifar10", export=False, checkpoint_every=500),
    ),
}


def main() -> None:
    parser = cli.Parser(__doc__, PRESETS, without=("seed", *cli.OF_A_TRAINED_NETWORK))
    parser.add_study()
    base, own = parser.settings()
    side_by_side(
        {
            "none": base.replace(dropout=0.0, stochastic_depth=0.0),
            "dropout": base.replace(stochastic_depth=0.0),
            "stochastic-depth": base.replace(dropout=0.0),
        },
        base,
        own["seeds"],
        title=f"Regularization of {architecture_of(base.network).name}",
        jobs=own["jobs"],
    )


if __name__ == "__main__":
    cli.run(main)
