r"""Trains plain and residual nets of several depths alike: the degradation (Fig. 1 and 6).

    python recipes/degradation.py --workdir runs/degradation

PlainNet20, PlainNet56, ResNet20 and ResNet56 on scikit-learn's handwritten digits, 27 epochs, three
seeds each. The deeper plain net has the larger training error, which is not overfitting but a
failure to train; the deeper residual net trains as well as the shallow one and converges faster
than the plain ones. The test images are looked at after each epoch to draw the curve, and choose
nothing.

In the paper, on CIFAR-10 (section 4.2): test error 8.75 % for ResNet20, 6.97 % for ResNet56; the
plain nets get worse from 20 layers on. The same with the paper's data and schedule:

    python recipes/degradation.py --preset paper --data-dir DIR --gpus 1

and on photographs:

    python recipes/degradation.py --dataset folder --data-dir DIR --validation-split validation \
        --models PlainNet18 PlainNet34 ResNet18 ResNet34
"""

import keras_resnet_command  # noqa: F401
from keras_resnet.cli import run, studies
from keras_resnet.experiment.settings import Data, Experiment, Optimization, Output

PRESETS = {
    "paper": Experiment(
        data=Data("cifar10", validation_split="test"),
        optimization=Optimization(steps=64_000),
        output=Output("runs/degradation-cifar10", export=False),
    ),
}


if __name__ == "__main__":
    run(studies.degradation, description=__doc__, presets=PRESETS)
