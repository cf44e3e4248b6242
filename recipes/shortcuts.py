r"""Compares the shortcut options A, B and C (section 4.1 of arXiv 1512.03385, Table 3).

    python recipes/shortcuts.py --workdir runs/shortcuts

ResNet20 on scikit-learn's handwritten digits with each option, three seeds each: accuracy,
parameters, multiply-adds and training time side by side. In the paper, on ImageNet with ResNet34
and 10 crops, the top-1 error is 25.03 % with A, 24.52 with B and 24.19 with C: small differences,
so projections are not what cures the degradation. That comparison:

    python recipes/shortcuts.py --dataset imagenet2012 --data-dir DIR --model ResNet34 --gpus 8 \
        --schedule plateau --warmup none --validation-split validation --batch-size 256 --epochs 120
"""

import environment  # noqa: F401

from keras_resnet import cli
from keras_resnet.experiment import Data, Experiment, Network, Optimization, Output
from keras_resnet.experiment.factories import architecture_of
from keras_resnet.experiment.reports import side_by_side
from keras_resnet.utils import checks

DIGITS = Experiment(
    Network("ResNet20"),
    Data("digits", validation_split="test"),
    Optimization(epochs=30, warmup="linear"),
    output=Output("runs/shortcuts", export=False),
)

WITHOUT = ("shortcut", "seed", *cli.OF_A_TRAINED_NETWORK)


def main() -> None:
    parser = cli.Parser(__doc__, {"digits": DIGITS}, without=WITHOUT)
    parser.add_own(
        "--shortcuts",
        nargs="+",
        default=["A", "B", "C"],
        choices=["A", "B", "C", "none"],
        help="Options to compare",
    )
    parser.add_study()
    base, own = parser.settings()
    checks.different("shortcuts", own["shortcuts"], "options")
    side_by_side(
        {f"option {s}": base.replace(shortcut=s) for s in own["shortcuts"]},
        base,
        own["seeds"],
        title=f"Shortcut options of {architecture_of(base.network).name}",
        jobs=own["jobs"],
    )


if __name__ == "__main__":
    cli.run(main)
