r"""Fine-tunes a trained network on other images, against the same network from scratch.

    python recipes/transfer.py --workdir runs/transfer

Trains ResNet20 on 0 to 6 of scikit-learn's handwritten digits, and carries it over to 7, 8 and 9,
of which it sees five images each: first a new classifier alone, then all of the network, its
normalizations frozen (--no-freeze-bn thaws them, --rate-decay 0.5 lets the stages nearer to the
images learn more slowly). Beside it the network of --model from random values, on the same images
for as many epochs. Three seeds each, a few minutes on 2 cores.

From a network of your own (a .keras file or a TF Hub module), or from published weights, on a
folder of class folders or a data set of TensorFlow Datasets:

    python recipes/transfer.py --init runs/imagenet/model.keras --dataset folder --data-dir DIR
    python recipes/transfer.py --init imagenet --model ResNet50 --version v1.5 \
        --dataset tfds:oxford_flowers102 --data-dir DIR --image-size 224 --gpus 1

--no-scratch leaves the comparison out.
"""

import keras_resnet_command  # noqa: F401
from keras_resnet.cli import run, studies

if __name__ == "__main__":
    run(studies.transfer, description=__doc__)
