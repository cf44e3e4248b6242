"""Studies of several networks, each with flags of its own. Their presets are in recipes.

Each function parses the command line of a recipe with that description and those presets.
"""

import argparse
from collections.abc import Mapping

import tensorflow as tf

from keras_resnet.cli.flags import OF_A_TRAINED_NETWORK, Parser
from keras_resnet.experiment import Experiment, growth, reports
from keras_resnet.experiment.factories import architecture_of, build_model, load_data
from keras_resnet.utils import checks


def degradation(description: str | None, presets: Mapping[str, Experiment]) -> None:
    """Trains plain and residual nets of several depths alike."""
    without = ("model", "depth", "shortcut", "seed", *OF_A_TRAINED_NETWORK)
    parser = Parser(description, presets, without)
    models = ["PlainNet20", "PlainNet56", "ResNet20", "ResNet56"]
    parser.add_own("--models", nargs="+", default=models, help="Networks of the table")
    reach = "Training errors in [0, 1] whose epoch the table tells"
    parser.add_own("--reach", type=float, nargs="+", default=[0.5, 0.1], help=reach)
    parser.add_study()
    base, own = parser.settings()
    reports.degradation(own.pop("models"), base, own.pop("seeds"), **own)


def shortcuts(description: str | None, presets: Mapping[str, Experiment]) -> None:
    """Compares shortcut options of a network."""
    parser = Parser(description, presets, ("shortcut", "seed", *OF_A_TRAINED_NETWORK))
    options = ["A", "B", "C", "none"]
    text = "Options to compare"
    parser.add_own("--shortcuts", nargs="+", default=options[:3], choices=options, help=text)
    parser.add_study()
    base, own = parser.settings()
    checks.different("shortcuts", own["shortcuts"], "options")
    variants = {f"option {s}": base.replace(shortcut=s) for s in own.pop("shortcuts")}
    title = f"Shortcut options of {architecture_of(base.network).name}"
    reports.side_by_side(variants, base, own.pop("seeds"), title=title, **own)


def regularization(description: str | None, presets: Mapping[str, Experiment]) -> None:
    """Trains a network without regularization, with dropout, and with stochastic depth."""
    parser = Parser(description, presets, ("seed", *OF_A_TRAINED_NETWORK))
    parser.add_study()
    base, own = parser.settings()
    variants = {
        "none": base.replace(dropout=0.0, stochastic_depth=0.0),
        "dropout": base.replace(stochastic_depth=0.0),
        "stochastic-depth": base.replace(dropout=0.0),
    }
    title = f"Regularization of {architecture_of(base.network).name}"
    reports.side_by_side(variants, base, own.pop("seeds"), title=title, **own)


def deepening(description: str | None, presets: Mapping[str, Experiment]) -> None:
    """Deepens a trained CIFAR network, and trains on."""
    # Set here, or meant for runs on several devices.
    without = (
        *("model", "seed", "steps", "export", "fine_tune_epochs"),
        *("strategy", "gpus", "virtual_devices", "tpu"),
    )
    parser = Parser(description, presets, (*without, *OF_A_TRAINED_NETWORK))
    parser.add_own("--to", type=int, default=56, help="Layers, 6n+2, of the deep net")
    parser.add_own("--more-epochs", type=int, help="Epochs after deepening (by default --epochs)")
    parser.add_study()
    parser.set_defaults(seeds=[0])
    base, own = parser.settings()
    growth.deepening(base, own.pop("to"), own.pop("seeds"), **own)


def transfer(description: str | None, presets: Mapping[str, Experiment]) -> None:
    """Fine-tunes a trained network, against the same network from random values."""
    parser = Parser(description, presets, ("seed", "init", "steps"))
    init = "Trained network: a .keras file, a TF Hub module, or weights"
    parser.add_own("--init", help=init)
    action = argparse.BooleanOptionalAction
    scratch = "Train the same network from random values too"
    parser.add_own("--scratch", action=action, default=True, help=scratch)
    parser.add_study()
    settings, own = parser.settings()
    settings = settings.replace(init=own.pop("init") or reports.pretrain(settings, own["jobs"]))
    # Once here, so that what does not fit is said before anything is written; not on a GPU, whose
    # memory the runs will want.
    tf.config.set_visible_devices([], "GPU")
    build_model(settings, load_data(settings.data))
    reports.transfer(settings, own.pop("seeds"), **own)
