"""Studies of several networks, each with flags of its own.

A study takes the words of a command line, the description and the program's name of its help, and
presets beside its own on the digits, which recipes add.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from keras_resnet import experiment
from keras_resnet.cli import quantize
from keras_resnet.cli.arguments import Arguments, own_values, parse_experiment
from keras_resnet.cli.flags import OF_A_TRAINED_NETWORK
from keras_resnet.cli.session import print_json
from keras_resnet.experiment.settings import Data, Experiment, Network, Optimization, Output
from keras_resnet.experiment.workdir import read_object
from keras_resnet.utils import checks

Presets = Mapping[str, Experiment]
NONE: Presets = MappingProxyType({})

# On scikit-learn's digits, a few minutes each. The test images choose nothing.
DEGRADATION = Experiment(
    data=Data("digits", validation_split="test"),
    optimization=Optimization(epochs=27, warmup="linear", warmup_share=0.2),
    output=Output("runs/degradation", export=False),
)
SHORTCUTS = Experiment(
    Network("ResNet20"),
    Data("digits", validation_split="test"),
    Optimization(epochs=30, warmup="linear"),
    output=Output("runs/shortcuts", export=False),
)
VERY_DEEP = Experiment(
    # At a stochastic depth of 0.5, as the paper's preset has, 27 epochs do not train it.
    Network("ResNet56", dropout=0.2, stochastic_depth=0.2),
    Data("digits", validation_split="test"),
    Optimization(epochs=27, warmup="linear", warmup_share=0.2),
    output=Output("runs/very_deep", export=False),
)
DEEPEN = Experiment(
    Network(depth=20),
    Data("digits", validation_split="test"),
    Optimization(epochs=12, warmup="linear", warmup_share=0.2),
    output=Output("runs/deepen", export=False),
)
SMALL = quantize.PRESETS["default"].replace(workdir="runs/small")
SLIMMING = Experiment(
    Network(depth=20),
    Data("digits", validation_split="test"),
    Optimization(epochs=30, warmup="linear", warmup_share=0.2),
    output=Output("runs/slimming", export=False),
)
TRANSFER = Experiment(
    Network(init="runs/transfer/pretrained-0/model.keras", freeze_bn=True),
    Data("digits", validation_split="test", classes=(7, 8, 9), per_class=5),
    Optimization(batch_size=15, head_epochs=20, epochs=40, learning_rate=0.05, schedule="cosine"),
    output=Output("runs/transfer", export=False),
)

# Settings of studies that train networks by epochs in this process, on one device.
_NOT_IN_TURN = ("steps", "strategy", "gpus", "virtual_devices", "tpu")
# Settings of studies that train changed networks on.
_NOT_WHERE_CHANGED = (
    *("model", "seed", "export", "fine_tune_epochs"),
    *_NOT_IN_TURN,
    *OF_A_TRAINED_NETWORK,
)


@dataclasses.dataclass(frozen=True)
class StudyArguments(Arguments):
    """Arguments of a study of several networks.

    Attributes:
        seeds: Seeds that every network is trained with.
        jobs: Runs at a time; by default one per core on the CPU, and one on GPUs.
        json: Print the content of table.json, as JSON.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    jobs: int | None = None
    json: bool = False


def _print(base: Experiment, given: Any) -> None:
    """Prints the result of a study for programs; for readers it is in what was logged."""
    if given.json:
        print_json(read_object(Path(base.output.workdir) / "table.json"))


@dataclasses.dataclass(frozen=True)
class Degradation(StudyArguments):
    """Arguments of the study of the degradation.

    Attributes:
        models: Names of networks; `keras-resnet models` lists them.
        reach: Training errors, in [0, 1], of which the table has the epoch that first reached them.
    """

    models: tuple[str, ...] = ("PlainNet20", "PlainNet56", "ResNet20", "ResNet56")
    reach: tuple[float, ...] = (0.5, 0.1)


def degradation(
    argv: Sequence[str] | None = None,
    description: str | None = None,
    prog: str | None = None,
    presets: Presets = NONE,
) -> None:
    """Trains plain and residual networks of several depths in the same way (Fig. 1 and 6).

        keras-resnet study degradation --models PlainNet20 ResNet20 --workdir runs/degradation

    Writes the error curves (degradation.png, .svg, .csv), table.csv, table.json, report.html and a
    folder per run to --workdir. Killed and started again with the same command, it resumes.
    """
    without = ("model", "depth", "shortcut", "seed", *OF_A_TRAINED_NETWORK)
    base, given = parse_experiment(
        argv, description, {"digits": DEGRADATION, **presets}, Degradation, without, prog
    )
    own = own_values(given)
    experiment.reports.degradation(own.pop("models"), base, own.pop("seeds"), **own)
    _print(base, given)


@dataclasses.dataclass(frozen=True)
class Shortcuts(StudyArguments):
    """Arguments of the study of the shortcuts.

    Attributes:
        shortcuts: Options to compare: "A", "B", "C" or "none".
    """

    shortcuts: tuple[str, ...] = ("A", "B", "C")

    def __post_init__(self):
        for shortcut in self.shortcuts:
            checks.one_of("shortcuts", shortcut, ("A", "B", "C", "none"))
        checks.different("shortcuts", self.shortcuts, "options")


def shortcuts(
    argv: Sequence[str] | None = None,
    description: str | None = None,
    prog: str | None = None,
    presets: Presets = NONE,
) -> None:
    """Compares the shortcut options of a network (Table 3).

        keras-resnet study shortcuts --model ResNet20 --shortcuts A B --workdir runs/shortcuts

    Writes the final errors (comparison.png, .svg, .csv), error curves (curves), table.csv,
    table.json, report.html and a folder per run to --workdir. Killed and started again with the
    same command, it resumes.
    """
    without = ("shortcut", "seed", *OF_A_TRAINED_NETWORK)
    base, given = parse_experiment(
        argv, description, {"digits": SHORTCUTS, **presets}, Shortcuts, without, prog
    )
    own = own_values(given)
    variants = {f"option {s}": base.replace(shortcut=s) for s in own.pop("shortcuts")}
    title = f"Shortcut options of {experiment.factories.architecture_of(base.network).name}"
    experiment.reports.side_by_side(variants, base, own.pop("seeds"), title=title, **own)
    _print(base, given)


def regularization(
    argv: Sequence[str] | None = None,
    description: str | None = None,
    prog: str | None = None,
    presets: Presets = NONE,
) -> None:
    """Trains a very deep network without regularization, with dropout, and with stochastic depth.

        keras-resnet study very-deep --model ResNet56 --workdir runs/very_deep

    Writes the final errors (comparison.png, .svg, .csv), error curves (curves), table.csv,
    table.json, report.html and a folder per run to --workdir. Killed and started again with the
    same command, it resumes.
    """
    without = ("seed", *OF_A_TRAINED_NETWORK)
    base, given = parse_experiment(
        argv, description, {"digits": VERY_DEEP, **presets}, StudyArguments, without, prog
    )
    own = own_values(given)
    variants = {
        "none": base.replace(dropout=0.0, stochastic_depth=0.0),
        "dropout": base.replace(stochastic_depth=0.0),
        "stochastic-depth": base.replace(dropout=0.0),
    }
    title = f"Regularization of {experiment.factories.architecture_of(base.network).name}"
    experiment.reports.side_by_side(variants, base, own.pop("seeds"), title=title, **own)
    _print(base, given)


@dataclasses.dataclass(frozen=True)
class Deepening(StudyArguments):
    """Arguments of the study of deepening.

    Attributes:
        seeds: Seeds that every network is trained with.
        to: Depth of the deepened network, 6n+2.
        more_epochs: Epochs after deepening; by default as many as before.
    """

    seeds: tuple[int, ...] = (0,)
    to: int = 56
    more_epochs: int | None = None


def deepening(
    argv: Sequence[str] | None = None,
    description: str | None = None,
    prog: str | None = None,
    presets: Presets = NONE,
) -> None:
    """Trains a CIFAR network, deepens it and trains on, and trains the deep one from scratch.

        keras-resnet study deepen --depth 20 --to 56 --workdir runs/deepen

    Writes the loss by epoch (deepening.png, .svg, .csv), table.csv, table.json, report.html and a
    folder per run to --workdir. Killed and started again with the same command, it resumes.
    """
    base, given = parse_experiment(
        argv, description, {"digits": DEEPEN, **presets}, Deepening, _NOT_WHERE_CHANGED, prog
    )
    own = own_values(given)
    experiment.growth.deepening(base, own.pop("to"), own.pop("seeds"), **own)
    _print(base, given)


@dataclasses.dataclass(frozen=True)
class Slimming(StudyArguments):
    """Arguments of the study of slimming.

    Attributes:
        shares: Shares of the multiply-adds that are left, in (0, 1).
        more_epochs: Epochs after slimming.
    """

    shares: tuple[float, ...] = (0.75, 0.5, 0.25)
    more_epochs: int = 10


def slimming(
    argv: Sequence[str] | None = None,
    description: str | None = None,
    prog: str | None = None,
    presets: Presets = NONE,
) -> None:
    """Trains a CIFAR network, slims it and trains on, and trains as small ones from scratch.

        keras-resnet study slimming --depth 20 --shares 0.5 0.25 --workdir runs/slimming

    Writes errors against multiply-adds (slimming.png, .svg, .csv), table.csv, table.json,
    report.html and a folder per run to --workdir. Killed and started again with the same command,
    it resumes.
    """
    base, given = parse_experiment(
        argv, description, {"digits": SLIMMING, **presets}, Slimming, _NOT_WHERE_CHANGED, prog
    )
    own = own_values(given)
    experiment.slimming.compare_slimmed(base, own.pop("shares"), own.pop("seeds"), **own)
    _print(base, given)


@dataclasses.dataclass(frozen=True)
class Small(Arguments):
    """Arguments of the search for the smallest file.

    Attributes:
        init: Trained network, a .keras file; it keeps its classifier.
        max_loss: Largest loss of accuracy on the validation images, in [0, 1).
        shares: Shares of the multiply-adds to try, in (0, 1).
        slim_epochs: Epochs after each slimming.
        slim_learning_rate: Highest learning rate of these epochs.
        json: Print the content of table.json, as JSON.
    """

    init: str
    max_loss: float = 0.005
    shares: tuple[float, ...] = (0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05)
    slim_epochs: int = 10
    slim_learning_rate: float = 0.1
    json: bool = False


def small(
    argv: Sequence[str] | None = None,
    description: str | None = None,
    prog: str | None = None,
    presets: Presets = NONE,
) -> None:
    """Slims a trained network as far as its accuracy allows, and writes it in 8-bit integers.

        keras-resnet study small --init runs/digits/model.keras --workdir runs/small

    Writes small.tflite, the errors of all that was tried (shrinking.png, .svg, .csv),
    table.csv, table.json, report.html and a folder per share to --workdir. Killed and started again
    with the same command, it resumes.
    """
    without = (*quantize.WITHOUT, *_NOT_IN_TURN, "report")
    base, given = parse_experiment(
        argv, description, {"digits": SMALL, **presets}, Small, without, prog
    )
    own = own_values(given)
    experiment.shrinking.shrink(base.replace(init=own.pop("init")), **own)
    _print(base, given)


@dataclasses.dataclass(frozen=True)
class Transfer(StudyArguments):
    """Arguments of the study of transfer.

    Attributes:
        init: Trained network: a .keras file, a TF Hub module, or weights. By default one is
            trained first.
        scratch: Whether the same network is also trained from random values.
    """

    init: str | None = None
    scratch: bool = True


def transfer(
    argv: Sequence[str] | None = None,
    description: str | None = None,
    prog: str | None = None,
    presets: Presets = NONE,
) -> None:
    """Fine-tunes a trained network, and trains the same network from random values.

        keras-resnet study transfer --init model.keras --dataset folder --data-dir DIR

    Writes the final errors (comparison.png, .svg, .csv), error curves (curves), table.csv,
    table.json, report.html and a folder per run to --workdir. Killed and started again with the
    same command, it resumes.
    """
    without = ("seed", "init", "steps")
    settings, given = parse_experiment(
        argv, description, {"digits": TRANSFER, **presets}, Transfer, without, prog
    )
    own = own_values(given)
    settings = settings.replace(
        init=own.pop("init") or experiment.reports.pretrain(settings, own["jobs"])
    )
    import tensorflow as tf

    # Once here, so that what does not fit is said before anything is written; not on a GPU, whose
    # memory the runs will want.
    tf.config.set_visible_devices([], "GPU")
    experiment.build_model(settings, experiment.factories.load_data(settings.data))
    experiment.reports.transfer(settings, own.pop("seeds"), **own)
    _print(settings, given)
