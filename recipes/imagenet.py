"""Trains the paper's ImageNet networks (section 3.4 of arXiv 1512.03385) on any number of GPUs.

    python recipes/imagenet.py --gpus 8 --data-dir DATA --workdir runs/resnet50

The default settings are the paper's: shorter side sampled in [256, 480], a random 224 crop, mirror
images and PCA lighting; batch 256 over all GPUs, SGD with momentum 0.9, weight decay 1e-4 in the
gradient, learning rate 0.1 divided by 10 when the error stops falling, 120 epochs (60e4 steps);
statistics of batch normalization averaged over the training images in the end. Tested on the center
crop.

Top-1 error of 10 crops in the paper: ResNet34 24.52 % (option B), ResNet50 22.85, ResNet101
21.75, ResNet152 21.43. Cost: 120 epochs are 154 million images, forward and backward, of 3.9e9
(ResNet50) to 11.3e9 (ResNet152) multiply-adds forward. Published single-crop top-1 accuracy of 90
epochs: ResNet50 76.1 % (torchvision, v1.5).

--preset modern: version v1.5, Inception crops, 90 epochs along a cosine with 5 epochs of warm-up,
learning rate 0.1 for each 256 images of the batch (arXiv 1706.02677), label smoothing 0.1, branches
that start at zero, no decay of scales and biases, bfloat16.

The batch is global: with 8 GPUs each takes 32 of 256. Killed and started again with the same
command, it resumes. Several machines: start the same command on each with TF_CONFIG set, or
under srun with --strategy multi_worker. The data are those of TensorFlow Datasets (imagenet2012),
or a folder with train/ and val/ of class folders: --dataset folder --data-dir DIR. Try it small:
--dataset folder --data-dir DIR --image-size 64 --model ResNet18 --virtual-devices 2
--batch-size 16 --epochs 2; or without any data of your own: --dataset digits --image-size 32
--model ResNet18 --batch-size 32 --epochs 2.
"""

import keras_resnet_command  # noqa: F401
from keras_resnet.cli import run, train
from keras_resnet.experiment.settings import (
    Data,
    Devices,
    Experiment,
    Network,
    Optimization,
    Output,
)

PRESETS = {
    "paper": Experiment(
        Network("ResNet50"),
        Data("imagenet2012", crop="scale"),
        Optimization(
            batch_size=256,
            epochs=120,
            learning_rate=0.1,
            base_batch=256,
            schedule="plateau",
            recompute_bn=True,
        ),
        output=Output("runs/imagenet", checkpoint_every=1000),
    ),
    "modern": Experiment(
        Network("ResNet50", version="v1.5", zero_init_residual=True),
        Data("imagenet2012", crop="inception", lighting=0.0),
        Optimization(
            batch_size=1024,
            epochs=90,
            learning_rate=0.1,
            base_batch=256,
            schedule="cosine",
            warmup="linear",
            warmup_share=5 / 90,
            decay_norm_and_bias=False,
            label_smoothing=0.1,
        ),
        Devices(precision="mixed_bfloat16"),
        Output("runs/imagenet", checkpoint_every=1000),
    ),
}


if __name__ == "__main__":
    run(train.main, description=__doc__, presets=PRESETS)
