"""Budgets of reproductions: data, length of training, and the networks that are worth it there.

Test images choose nothing, and are looked at once, when training has ended. The paper's schedule is
scaled to the length, and that was fixed before any test figure was seen; but for the digits, whose
schedule is that of the study of the degradation.
"""

from __future__ import annotations

import dataclasses
import os

from keras_resnet.experiment.ledger.paper import TABLES, Table
from keras_resnet.experiment.settings import Data, Experiment, Network, Optimization, Output

# Settings of networks that would not fit in memory.
_OF_NETWORKS = {"ResNet1202": {"recompute": True}}
_SMALL = ("PlainNet20", "ResNet20", "ResNet20_B", "ResNet20_C", "PlainNet56", "ResNet56")
# Of a run only the figures are kept.
_OUTPUT = Output(export=False, keep_best=0)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Budget of a reproduction: its data, and the length of its runs.

    Attributes:
        about: Data and training in a sentence.
        base: Settings of all its runs.
        image_shape: Height, width and channels of its images.
        networks: The networks that it runs.
        of_the_paper: Whether data and length are the paper's, so that values may be compared.
    """

    about: str
    base: Experiment
    image_shape: tuple[int, int, int]
    networks: tuple[str, ...]
    of_the_paper: bool = False

    def experiment(
        self, network: str, seed: int, data_dir: str | os.PathLike | None = None
    ) -> Experiment:
        """Returns the run of a network with a seed."""
        own = {} if data_dir is None else {"data_dir": os.fspath(data_dir)}
        return self.base.replace(model=network, seed=seed, **_OF_NETWORKS.get(network, {}), **own)

    def table(self, name: str) -> Table:
        """Returns a table of the paper, with stand-ins for networks that the images do not suit."""
        table = TABLES[name]
        if not set(self.networks) & set(table.networks):
            table = table.with_stand_ins()
        if not set(self.networks) & set(table.networks):
            able = [k for k, one in BUDGETS.items() if set(one.networks) & set(table.networks)]
            raise ValueError(
                f"`budget` must be one of {', '.join(able)}, which run networks of {name}. "
                f"Received: budget={self.name!r}"
            )
        return table

    @property
    def name(self) -> str:
        """Its name in `BUDGETS`."""
        return next(name for name, budget in BUDGETS.items() if budget is self)


BUDGETS = {
    "digits": Budget(
        "scikit-learn's 1797 handwritten digits (8x8), 27 epochs of batch 128, learning rate 0.1 "
        "after a linear warm-up over a fifth of the steps, divided by 10 after 1/2 and 3/4",
        Experiment(
            data=Data("digits"),
            optimization=Optimization(epochs=27, warmup="linear", warmup_share=0.2),
            output=_OUTPUT,
        ),
        (8, 8, 1),
        _SMALL,
    ),
    "fashion": Budget(
        "Fashion-MNIST (28x28; 54,000 of the 60,000 training images, the last tenth being for "
        "validation), padded by 3 pixels, cropped and mirrored at random; 640 steps of batch 128, "
        "a hundredth of the paper's 64k, learning rate 0.1 divided by 10 after 320 and 480",
        Experiment(
            data=Data(
                *("idx", "/usr/share/datasets/fashion-mnist"),  # Debian's dataset-fashion-mnist
                crop="pad",
                flip=True,
            ),
            optimization=Optimization(steps=640),
            output=dataclasses.replace(_OUTPUT, log_every=40),
        ),
        (28, 28, 1),
        _SMALL,
    ),
    "cifar10": Budget(
        "CIFAR-10 as in section 4.2 of the paper: 45,000 training images, 64k steps of batch 128, "
        "learning rate 0.1 divided by 10 after 32k and 48k; 110 and more layers begin at 0.01",
        Experiment(data=Data("cifar10"), optimization=Optimization(steps=64_000), output=_OUTPUT),
        (32, 32, 3),
        (*_SMALL, "PlainNet32", "PlainNet44", "ResNet32", "ResNet44", "ResNet110", "ResNet1202"),
        of_the_paper=True,
    ),
    "imagenet": Budget(
        "ImageNet as in section 3.4 of the paper: 120 epochs of batch 256, learning rate 0.1 "
        "divided by 10 when the error stops falling; tested on the center crop, one to two points "
        "worse than the 10 crops of the paper",
        Experiment(
            Network("ResNet18"),
            Data("imagenet2012", crop="scale"),
            Optimization(batch_size=256, epochs=120, schedule="plateau", recompute_bn=True),
            output=dataclasses.replace(_OUTPUT, checkpoint_every=1000),
        ),
        (224, 224, 3),
        ("PlainNet18", "PlainNet34", "ResNet18_A", "ResNet34_A", "ResNet34", "ResNet34_C"),
        of_the_paper=True,
    ),
}
