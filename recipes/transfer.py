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

import argparse

import environment  # noqa: F401
import tensorflow as tf

from keras_resnet import cli
from keras_resnet.experiment import Data, Experiment, Network, Optimization, Output
from keras_resnet.experiment.factories import build_model, load_data
from keras_resnet.experiment.reports import pretrain, transfer

FINE_TUNING = Experiment(
    Network(init="runs/transfer/pretrained-0/model.keras", freeze_bn=True),
    Data(
        "digits",
        data_options={"classes": (7, 8, 9), "per_class": 5},
        validation_split="test",
    ),
    Optimization(batch_size=15, head_epochs=20, epochs=40, learning_rate=0.05, schedule="cosine"),
    output=Output("runs/transfer", export=False),
)


def main() -> None:
    parser = cli.Parser(__doc__, {"digits": FINE_TUNING}, without=("seed", "init", "steps"))
    parser.add_own("--init", help="Trained network: a .keras file, a TF Hub module, or weights")
    parser.add_own(
        "--scratch",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="Train the same network from random values too",
    )
    parser.add_study()
    settings, own = parser.settings()
    init = own["init"] or pretrain(settings, own["jobs"])
    settings = settings.replace(init=init)
    # Once here, so that what does not fit is said before anything is written; not on a GPU, whose
    # memory the runs will want.
    tf.config.set_visible_devices([], "GPU")
    build_model(settings, load_data(settings.data))
    transfer(settings, own["seeds"], scratch=own["scratch"], jobs=own["jobs"])


if __name__ == "__main__":
    cli.run(main)
