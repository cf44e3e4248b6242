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

import keras_resnet_command  # noqa: F401
from keras_resnet.cli import run, studies
from keras_resnet.experiment.settings import Data, Experiment, Network, Optimization, Output

PRESETS = {
    "paper": Experiment(
        Network("ResNet1202", dropout=0.2, stochastic_depth=0.5, recompute=True),
        Data("cifar10", validation_split="test"),
        Optimization(steps=64_000, recompute_bn=True),
        output=Output("runs/very_deep-cifar10", export=False, checkpoint_every=500),
    ),
}


if __name__ == "__main__":
    run(studies.regularization, description=__doc__, presets=PRESETS)
