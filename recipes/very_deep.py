"""Trains a very deep net with and without the regularisation that the paper leaves untried.

    python recipes/very_deep.py --workdir runs/very_deep

The paper's 1202-layer net reaches a training error below 0.1 % on CIFAR-10 and tests at 7.93 %,
worse than the 110-layer one with 6.43 %; the authors suspect overfitting and name maxout or dropout
as the cure they did not try (section 4.2). Here a net without regularisation is compared with
dropout in the branches and with stochastic depth (arXiv 1603.09382), each from the same seeds. The
default is ResNet56 on scikit-learn's handwritten digits for 27 epochs, which are enough for it and
too few for ResNet110 (--model ResNet110 --epochs 100). The digits are nearly solved without any
regularisation, so do not expect it to help there.

The paper's own case, with the memory of one GPU (blocks stacked, activations recomputed):

    python recipes/very_deep.py --preset paper --data-dir DIR --gpus 1

costs 9 x 64k steps (three nets, three seeds) of batch 128 through 2.8e9 multiply-adds an image.
"""

import os

# Before TensorFlow is imported: on some processors it leaves its faster CPU kernels off, and
# everywhere it reports what it did not find.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import dataclasses  # noqa: E402

from keras_resnet import cli  # noqa: E402
from keras_resnet.experiment import Experiment  # noqa: E402
from keras_resnet.experiment.reports import side_by_side  # noqa: E402

PRESETS = {
    "digits": Experiment(
        model="ResNet56",
        dataset="digits",
        workdir="runs/very_deep",
        epochs=27,
        warmup="linear",
        warmup_share=0.2,
        dropout=0.2,
        # At 0.5, as below, 27 epochs do not train it.
        stochastic_depth=0.2,
        validation_split="test",
        export=False,
    ),
    "paper": Experiment(
        model="ResNet1202",
        dataset="cifar10",
        workdir="runs/very_deep-cifar10",
        steps=64_000,
        dropout=0.2,
        stochastic_depth=0.5,
        recompute=True,
        recompute_bn=True,
        validation_split="test",
        checkpoint_every=500,
        export=False,
    ),
}


def main() -> None:
    parser = cli.Parser(__doc__, PRESETS, without=("seed", *cli.OF_A_FINISHED_NETWORK))
    parser.add_study()
    base, own = parser.settings()
    side_by_side(
        {
            "none": dataclasses.replace(base, dropout=0.0, stochastic_depth=0.0),
            "dropout": dataclasses.replace(base, stochastic_depth=0.0),
            "stochastic-depth": dataclasses.replace(base, dropout=0.0),
        },
        base,
        own["seeds"],
        title=f"Regularisation of {base.architecture.name}",
        jobs=own["jobs"],
    )


if __name__ == "__main__":
    cli.run(main)
