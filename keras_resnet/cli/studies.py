"""Studies of several networks, each with flags of its own.

A study takes the words of a command line, the description and the program's name of its help, and
presets beside its own on the digits, which recipes add.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import tensorflow as tf

from keras_resnet.cli.arguments import Arguments, own_values, parse_experiment
from keras_resnet.cli.flags import OF_A_TRAINED_NETWORK
from keras_resnet.cli.session import print_json
from keras_resnet.experiment import (
    Data,
    Experiment,
    Network,
    Optimization,
    Output,
    growth,
    reports,
)
from keras_resnet.experiment.factories import architecture_of, build_model, load_data
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
TRANSFER = Experiment(
    Network(init="runs/transfer/pretrained-0/model.keras", freeze_bn=True),
    Data("digits", validation_split="test", classes=(7, 8, 9), per_class=5),
    Optimization(batch_size=15, head_epochs=20, epochs=40, learning_rate=0.05, schedule="cosine"),
    output=Output("runs/transfer", export=False),
)


@dataclasses.dataclass(frozen=True)
class StudyArguments(Arguments):
    """Arguments of a study of several networks.

    Attributes:
        seeds: Seeds of every network.
        jobs: Runs at a time; None for one a core on the CPU.
        json: Print the content of table.json, as JSON.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    jobs: int | None = None
    json: bool = False


def _print(base: Experiment, given: StudyArguments) -> None:
    """Prints the result of a study for programs; for readers it is in what was logged."""
    if given.json:
        print_json(read_object(Path(base.output.workdir) / "table.json"))


@dataclasses.dataclass(frozen=True)
class Degradation(StudyArguments):
    """Arguments of the study of the degradation.

    Attributes:
        models: Networks of the table.
        reach: Training errors in [0, 1] whose epoch the table tells.
    """

    models: tuple[str, ...] = ("PlainNet20", "PlainNet56", "ResNet20", "ResNet56")
    reach: tuple[float, ...] = (0.5, 0.1)


def degradation(
    argv: Sequence[str] | None = None,
    description: str | None = None,
    prog: str | None = None,
    presets: Presets = NONE,
) -> None:
    """Trains plain and residual nets of several depths alike."""
    without = ("model", "depth", "shortcut", "seed", *OF_A_TRAINED_NETWORK)
    base, given = parse_experiment(
        argv, description, {"digits": DEGRADATION, **presets}, Degradation, without, prog
    )
    own = own_values(given)
    reports.degradation(own.pop("models"), base, own.pop("seeds"), **own)
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
    """Compares shortcut options of a network."""
    without = ("shortcut", "seed", *OF_A_TRAINED_NETWORK)
    base, given = parse_experiment(
        argv, description, {"digits": SHORTCUTS, **presets}, Shortcuts, without, prog
    )
    own = own_values(given)
    variants = {f"option {s}": base.replace(shortcut=s) for s in own.pop("shortcuts")}
    title = f"Shortcut options of {architecture_of(base.network).name}"
    reports.side_by_side(variants, base, own.pop("seeds"), title=title, **own)
    _print(base, given)


def regularization(
    argv: Sequence[str] | None = None,
    description: str | None = None,
    prog: str | None = None,
    presets: Presets = NONE,
) -> None:
    """Trains a network without regularization, with dropout, and with stochastic depth."""
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
    title = f"Regularization of {architecture_of(base.network).name}"
    reports.side_by_side(variants, base, own.pop("seeds"), title=title, **own)
    _print(base, given)


@dataclasses.dataclass(frozen=True)
class Deepening(StudyArguments):
    """Arguments of the study of deepening.

    Attributes:
        seeds: Seeds of every network.
        to: Layers, 6n+2, of the deep net.
        more_epochs: Epochs after deepening; those of `epochs` by default.
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
    """Deepens a trained CIFAR network, and trains on."""
    # Set here, or meant for runs on several devices.
    without = (
        *("model", "seed", "steps", "export", "fine_tune_epochs"),
        *("strategy", "gpus", "virtual_devices", "tpu"),
        *OF_A_TRAINED_NETWORK,
    )
    base, given = parse_experiment(
        argv, description, {"digits": DEEPEN, **presets}, Deepening, without, prog
    )
    own = own_values(given)
    growth.deepening(base, own.pop("to"), own.pop("seeds"), **own)
    _print(base, given)


@dataclasses.dataclass(frozen=True)
class Transfer(StudyArguments):
    """Arguments of the study of transfer.

    Attributes:
        init: Trained network: a .keras file, a TF Hub module, or weights. By default one is
            trained first.
        scratch: Whether the same network is trained from random values too.
    """

    init: str | None = None
    scratch: bool = True


def transfer(
    argv: Sequence[str] | None = None,
    description: str | None = None,
    prog: str | None = None,
    presets: Presets = NONE,
) -> None:
    """Fine-tunes a trained network, against the same network from random values."""
    without = ("seed", "init", "steps")
    settings, given = parse_experiment(
        argv, description, {"digits": TRANSFER, **presets}, Transfer, without, prog
    )
    own = own_values(given)
    settings = settings.replace(init=own.pop("init") or reports.pretrain(settings, own["jobs"]))
    # Once here, so that what does not fit is said before anything is written; not on a GPU, whose
    # memory the runs will want.
    tf.config.set_visible_devices([], "GPU")
    build_model(settings, load_data(settings.data))
    reports.transfer(settings, own.pop("seeds"), **own)
    _print(settings, given)
