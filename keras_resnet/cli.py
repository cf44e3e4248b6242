"""What the recipes' command lines share: flags of one meaning everywhere, errors in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from keras_resnet.experiment import Experiment


def experiment_parser(description: str, defaults: Experiment) -> argparse.ArgumentParser:
    """Returns a parser of the flags that every recipe understands.

    Args:
        description: What the recipe does, its command and what to expect.
        defaults: The recipe's settings, shown as the flags' defaults.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def flag(name: str, help: str, **options) -> None:
        default = getattr(defaults, name.replace("-", "_"))
        shown = "" if default in (None, False) else f" (default: {default})"
        parser.add_argument(f"--{name}", default=default, help=help + shown, **options)

    flag("model", "named network of the table, such as ResNet20")
    flag("shortcut", "A, B or C; none for the plain net (default: the network's own)")
    flag("dataset", "data set by name")
    flag("data-dir", "where the data lie, for data that are not embedded")
    flag("workdir", "folder to write to, and to nowhere else")
    flag("gpus", "GPUs to train on", type=int)
    flag("virtual-devices", "logical CPU devices to train on, to try distribution", type=int)
    flag("precision", "float32, mixed_bfloat16 or mixed_float16")
    flag("batch-size", "images per step over all devices", type=int)
    flag("epochs", "passes over the training images", type=int)
    flag("steps", "steps in place of epochs", type=int)
    flag("learning-rate", "highest learning rate", type=float)
    flag("seed", "of initial values, order and augmentation", type=int)
    flag("deterministic", "repeat bit for bit, slower", action="store_true")
    return parser


def run(main: Callable[[], None]) -> None:
    """Runs a recipe's `main`, and ends it with one line where it cannot go on.

    A wrong value, a missing package and a file that cannot be read or written end it with code 2,
    Ctrl-C with code 130. Other errors are ours and keep their traceback.
    """
    try:
        main()
    except (ValueError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
