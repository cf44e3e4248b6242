"""Repeats studies of degradation, shortcuts, depth, responses, transfer and slimming.

    keras-resnet study degradation --workdir runs/degradation
    keras-resnet study NAME --help

They run on scikit-learn's digits by default, and write a table and plots. NAME is one of these:

    degradation  plain and residual nets of several depths (Fig. 1 and 6)
    shortcuts    options A, B and C of the shortcuts (Table 3)
    very-deep    a very deep net without and with regularization (section 4.2)
    deepen       a deeper net made from a trained one by identity blocks (section 1)
    responses    how strongly the layers of trained networks respond (Fig. 7)
    transfer     fine-tuning a trained network, against random values
    small        the smallest file of 8-bit integers within a loss of accuracy
    slimming     a trained net without its least channels, against nets as small from scratch
"""

from collections.abc import Callable, Sequence

from keras_resnet.cli import responses, studies
from keras_resnet.utils import checks

STUDIES: dict[str, Callable[..., None]] = {
    "degradation": studies.degradation,
    "shortcuts": studies.shortcuts,
    "very-deep": studies.regularization,
    "deepen": studies.deepening,
    "responses": responses.main,
    "transfer": studies.transfer,
    "small": studies.small,
    "slimming": studies.slimming,
}


def main(argv: Sequence[str], prog: str = "keras-resnet study") -> None:
    """Runs the study that the first word names, with the words after it."""
    name, *words = argv or [""]
    if name in ("-h", "--help"):
        print(__doc__)
        return
    study = STUDIES[checks.one_of("NAME", name, tuple(STUDIES))]
    study(words, description=study.__doc__, prog=f"{prog} {name}")
