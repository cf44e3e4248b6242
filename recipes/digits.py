"""Trains a CIFAR network of the paper on scikit-learn's handwritten digits.

    python recipes/digits.py --workdir runs/digits

ResNet-20, 60 epochs of 1257 images of 8x8 pixels: about two minutes on 2 cores. The settings are
those of the paper's section 4.2 (SGD with momentum 0.9, weight decay 1e-4, learning rate 0.1
divided by 10 at half and three quarters of the way) with a short linear warm-up in front. Expect at
least 98 % on the 360 test images. The plain net of the same depth: --shortcut none.
"""

import keras_resnet_command  # noqa: F401
from keras_resnet.cli import run, train
from keras_resnet.experiment.settings import Data, Experiment, Network, Optimization, Output

DIGITS = Experiment(
    Network("ResNet20"),
    Data("digits"),
    Optimization(epochs=60, warmup="linear"),
    output=Output("runs/digits", fine_tune_epochs=5),
)


if __name__ == "__main__":
    run(train.main, description=__doc__, presets={"digits": DIGITS})
