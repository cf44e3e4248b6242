"""Flags of one meaning in every verb and recipe, and errors in one line."""

from __future__ import annotations

import argparse
import inspect
import io
import logging
import re
import signal
import sys
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast, get_args, get_origin, get_type_hints

from keras_resnet.data import option_names
from keras_resnet.experiment import Experiment
from keras_resnet.experiment.preflight import check_the_rest
from keras_resnet.export import trust_module
from keras_resnet.export.verification import ExportMismatchError
from keras_resnet.training import Terminated, TrainingStopped
from keras_resnet.utils.checks import Problems, first_line, lines_of
from keras_resnet.utils.escapes import visible

# Options of the data sets that have photographs, gathered in `data_options`.
_DATA_OPTIONS = {
    "image_size": (int, "Side of the training and test images in pixels"),
    "crop": (str, "Random crop of training images: scale (the paper's) or inception"),
    "max_bad_files": (int, "Unreadable images to skip, with a warning each, before it is an error"),
}

# Settings of training that begins from a trained network, for recipes that compare networks.
OF_A_TRAINED_NETWORK = ("init", "head_epochs", "freeze_bn", "rate_decay")


class _Trust(argparse.Action):
    """Trusts the modules that a flag names, and stores nothing."""

    def __call__(self, parser, namespace, values, option_string=None):
        for handle in values:
            trust_module(handle)


class LineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose help keeps its paragraphs."""

    def __init__(self, description: str | None, prog: str | None = None):
        super().__init__(
            prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def add_trust(self) -> None:
        """Adds the flag of modules that `.keras` files may have run."""
        self.add_argument(
            "--trust-module",
            action=_Trust,
            nargs="+",
            default=argparse.SUPPRESS,
            metavar="HANDLE",
            help="Folders of TF Hub modules whose code a .keras file may have run",
        )

    def add_classifier(self) -> None:
        """Adds the flags of a `Classifier`."""
        self.add_trust()
        add = self.add_argument
        add("--top", type=int, default=5, help="Classes to name")
        add("--labels", type=Path, help="File with the name of a class on every line")
        add("--image-size", type=int, help="Side, for a model that takes any")
        add("--resize", type=int, help="Shorter side of which the center is shown")

    def add_models_and_data(self) -> None:
        """Adds the flags of trained models, and of the data set that they are shown."""
        self.add_trust()
        add = self.add_argument
        models = "Trained models, .keras files"
        add("--models", nargs="+", required=True, metavar="PATH", help=models)
        add("--dataset", default="digits", help="Name of the data set")
        add("--data-dir", help="Where its files lie")

    def error(self, message: str) -> NoReturn:
        """Ends the process with one line, where argparse would print all the flags first."""
        self.exit(2, f"error: {visible(message)}; --help lists the flags\n")


class Parser(LineParser):
    """Turns a command line into an `Experiment`: a preset, and a flag for each of its settings.

    Args:
        description: Text of --help: purpose of the recipe, its command and results.
        presets: Settings by name; flags replace single ones of them. The first is the default.
        without: Settings that have no flag, because the recipe sets them itself.
        prog: Name of the program, by default that of the script.
    """

    def __init__(
        self,
        description: str | None,
        presets: Mapping[str, Experiment],
        without: Collection[str] = (),
        prog: str | None = None,
    ):
        super().__init__(description, prog)
        self._presets = dict(presets)
        self._own: set[str] = set()
        first = next(iter(presets))
        if len(presets) > 1:
            self.add_argument(
                "--preset", choices=presets, default=first, help="Settings to begin from"
            )
        else:
            self.set_defaults(preset=first)
        self.add_trust()
        groups = {}
        for name, group in get_type_hints(Experiment).items():
            title, _, _ = (inspect.getdoc(group) or "").partition("\n")
            groups[name] = self.add_argument_group(name, title)
            helps = _field_descriptions(group)
            for setting, kind in get_type_hints(group).items():
                if setting != "data_options" and setting not in without:
                    _add_setting(groups[name], setting, kind, helps[setting])
        for setting, (kind, text) in _DATA_OPTIONS.items():
            _add_setting(groups["data"], setting, kind, text)

    def experiment(self, argv: Sequence[str] | None = None) -> Experiment:
        """Returns the experiment that a command line asks for, as `settings` does."""
        return self.settings(argv)[0]

    def settings(self, argv: Sequence[str] | None = None) -> tuple[Experiment, dict[str, Any]]:
        """Returns the experiment, and the values of the flags that the recipe added by name.

        Args:
            argv: Words of the command line; those of this process where not given.
        """
        given = vars(self.parse_args(argv))
        own = {name: given.pop(name) for name in list(given) if name in self._own}
        preset = self._presets[given.pop("preset")]
        found = Problems()
        # Those of the preset are for its own data set; another one takes some of them.
        takes = found.note(option_names, given.get("dataset", preset.data.dataset)) or ()
        data_options = {k: v for k, v in preset.data.data_options.items() if k in takes}
        data_options |= {name: given.pop(name) for name in _DATA_OPTIONS if name in given}
        if "epochs" in given:
            given.setdefault("steps", None)
        given["data_options"] = data_options
        experiment = found.note(preset.replace, **given)
        if found:
            # What is wrong with the data and the folder is said beside.
            check_the_rest(preset, given, found)
            found.expect_none()
        return cast(Experiment, experiment), own

    def add_own(self, name: str, **options: Any) -> None:
        """Adds a flag of the recipe's own; `options` are those of `add_argument`."""
        self._own.add(self.add_argument(name, **options).dest)

    def add_fields(self, cls: type) -> tuple[str, ...]:
        """Adds a flag of the recipe's own for each field of a dataclass of lists.

        Args:
            cls: The dataclass; its docstring tells what the flags are for.

        Returns:
            The names of the fields; those that the command line leaves out have no value.
        """
        helps = _field_descriptions(cls)
        for name, kind in get_type_hints(cls).items():
            self._own.add(name)
            _add_setting(self, name, kind, helps[name], nargs="+")
        return tuple(helps)

    def add_study(self) -> None:
        """Adds the flags of `run_study`, for recipes of several experiments."""
        self.add_own(
            "--seeds", type=int, nargs="+", default=[0, 1, 2], help="Seeds of every network"
        )
        self.add_own("--jobs", type=int, help="Runs at a time (by default one a core on the CPU)")


def options_of(given: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Returns the values of these flags, without those that were not given."""
    return {name: value for name in names if (value := getattr(given, name)) is not None}


def _add_setting(
    group: argparse._ActionsContainer, name: str, kind: Any, text: str, nargs: str = "*"
) -> None:
    """Adds a flag without a default for a value X, X | None, or tuple[X, ...]."""
    options: dict[str, Any] = {"default": argparse.SUPPRESS, "help": text.replace("%", "%%")}
    of = (get_args(kind) or (kind,))[0]
    if of is bool:
        options["action"] = argparse.BooleanOptionalAction
    else:
        options["type"] = of
    if get_origin(kind) is tuple:
        options["nargs"] = nargs
    group.add_argument(f"--{name.replace('_', '-')}", **options)


def _field_descriptions(cls: type) -> dict[str, str]:
    """Returns the text that the docstring's "Attributes:" has on every field."""
    _, _, attributes = (inspect.getdoc(cls) or "").partition("Attributes:\n")
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


class _Lines(logging.Handler):
    """Prints messages as plain lines on what is standard output at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        print(*map(visible, self.format(record).split("\n")), sep="\n", flush=True)


_LINES = _Lines()


def run(main: Callable[..., None], *args: Any, **options: Any) -> None:
    """Calls `main` of a verb or a recipe, shows what the package logs, and ends errors in one line.

    A wrong value, a missing package and a file that cannot be read or written end the process with
    code 2, training that had to stop and an exported model that differs from its original with 1,
    SIGTERM with 143, Ctrl-C with 130. Other errors are faults of the package and keep their
    traceback. Warnings are one line each. All of it, and characters that the terminal lacks, are
    escaped.
    """
    logger = logging.getLogger("keras_resnet")
    logger.setLevel(logging.INFO)
    logger.addHandler(_LINES)  # which it has once, however often this is called
    format_before, propagate_before = warnings.formatwarning, logger.propagate
    # A library may give the root logger a handler at any time, which would say all again.
    logger.propagate = False
    warnings.formatwarning = lambda message, *_, **__: f"warning: {first_line(message)}\n"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    interrupt_before = signal.getsignal(signal.SIGINT)
    try:
        if interrupt_before is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        main(*args, **options)
    except (TrainingStopped, ExportMismatchError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        sys.exit(1)
    except (ValueError, ImportError, OSError) as error:
        for line in lines_of(error):
            print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
    except Terminated as end:
        print(end, file=sys.stderr)
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        warnings.formatwarning = format_before
        logger.propagate = propagate_before
        signal.signal(signal.SIGINT, interrupt_before)
