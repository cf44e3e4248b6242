"""Trains the paper's CIFAR-10 networks (section 4.2 of arXiv 1512.03385).

    python recipes/cifar10.py --model ResNet56 --workdir runs/resnet56

The default settings are the paper's: 45 000 training images, 4 pixels of padding, random crops
and mirror images, batch 128, SGD with momentum 0.9, weight decay 1e-4 in the gradient, learning
rate 0.1 divided by 10 after 32k and 48k of 64k steps; ResNet-110 and deeper begin at 0.01 until the
training error is below 80 %. Tested on single 32x32 crops.

Test error in the paper: ResNet20 8.75 %, ResNet32 7.51, ResNet44 7.17, ResNet56 6.97, ResNet110
6.43 (best of 5; mean 6.61), ResNet1202 7.93. Cost: 64k steps are 8.2 million images, forward and
backward, of 41 million multiply-adds forward for ResNet20 and 253 million for ResNet110.

--preset modern: 200 epochs of batch 256 along a cosine with 5 % linear warm-up, weight decay 5e-4
on kernels only, label smoothing 0.1 and mixup 0.2.

The data must have been prepared by TensorFlow Datasets (--data-dir). The same code runs at small
scale with --dataset digits --epochs 10, or on a folder of class folders with --dataset folder
--data-dir DIR --image-size 32.
"""

import keras_resnet_command  # noqa: F401
from keras_resnet.cli import run, train
from keras_resnet.experiment.settings import Data, Experiment, Network, Optimization, Output

PRESETS = {
    "paper": Experiment(
        Network("ResNet20"),
        Data("cifar10"),
        Optimization(
            batch_size=128,
            steps=64_000,
            learning_rate=0.1,
            base_batch=128,
            schedule="steps",
            drops=(0.5, 0.75),
            warmup="auto",
            recompute_bn=True,
        ),
        output=Output("runs/cifar10"),
    ),
    "modern": Experiment(
        Network("ResNet56"),
        Data("cifar10", mixup=0.2),
        Optimization(
            batch_size=256,
            epochs=200,
            learning_rate=0.1,
            base_batch=128,
            schedule="cosine",
            warmup="linear",
            weight_decay=5e-4,
            decay_norm_and_bias=False,
            label_smoothing=0.1,
        ),
        output=Output("runs/cifar10"),
    ),
}


if __name__ == "__main__":
    run(train.main, description=__doc__, presets=PRESETS)
