"""What the recipes' command lines share: flags of one meaning everywhere, errors in one line."""

from __future__ import annotations

import argparse
import re
import sys
import typing
from collections.abc import Callable, Collection, Mapping, Sequence

from keras_resnet.data import option_names
from keras_resnet.experiment import Experiment
from keras_resnet.training import Terminated, TrainingStopped
from keras_resnet.utils.checks import first_line

# Options of the data sets that have photographs, gathered in `data_options`.
_DATA_OPTIONS = {
    "image_size": (int, "Side of the training and test images in pixels"),
    "crop": (str, "Random crop of training images: scale (the paper's) or inception"),
    "max_bad_files": (int, "Unreadable images to go on after, with a warning each"),
}

# Settings of training that begins from a finished network, for recipes that compare networks.
OF_A_FINISHED_NETWORK = ("init", "head_epochs", "freeze_bn", "rate_decay")


class LineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose help keeps its paragraphs."""

    def __init__(self, description: str):
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> typing.NoReturn:
        """Ends the process with one line, where argparse would print all the flags first."""
        self.exit(2, f"error: {message}; --help lists the flags\n")


class Parser(LineParser):
    """Turns a command line into an `Experiment`: a preset, and a flag for each of its settings.

    Args:
        description: What the recipe does, its command and what to expect.
        presets: Settings by name; flags replace single ones of them. The first is the default.
        without: Settings that have no flag, because the recipe sets them itself.
    """

    def __init__(
        self,
        description: str,
        presets: Mapping[str, Experiment],
        without: Collection[str] = (),
    ):
        super().__init__(description)
        self._presets = dict(presets)
        self._own: set[str] = set()
        first = next(iter(presets))
        if len(presets) > 1:
            self.add_argument(
                "--preset", choices=presets, default=first, help="Settings to begin from"
            )
        else:
            self.set_defaults(preset=first)
        groups = {}
        for name, kind in typing.get_type_hints(Experiment).items():
            groups[name] = self.add_argument_group(name, kind.__doc__.partition("\n")[0])
            helps = _field_descriptions(kind)
            for setting, its_kind in typing.get_type_hints(kind).items():
                if setting != "data_options" and setting not in without:
                    self._add(groups[name], setting, its_kind, helps[setting])
        for setting, (kind, text) in _DATA_OPTIONS.items():
            self._add(groups["data"], setting, kind, text)

    def _add(self, group: argparse._ArgumentGroup, name: str, kind: object, text: str) -> None:
        options = {"default": argparse.SUPPRESS, "help": text.replace("%", "%%")}
        # X, X | None, or tuple[X, ...]
        options["type"] = (typing.get_args(kind) or (kind,))[0]
        if typing.get_origin(kind) is tuple:
            options["nargs"] = "*"
        elif options["type"] is bool:
            del options["type"]
            options["action"] = argparse.BooleanOptionalAction
        group.add_argument(f"--{name.replace('_', '-')}", **options)

    def experiment(self, argv: Sequence[str] | None = None) -> Experiment:
        """Returns the experiment that a command line asks for.

        Args:
            argv: Words of the command line; those of this process where not given.
        """
        return self.settings(argv)[0]

    def settings(
        self, argv: Sequence[str] | None = None
    ) -> tuple[Experiment, dict[str, typing.Any]]:
        """Returns the experiment, and the values of the flags that the recipe added by name.

        Args:
            argv: Words of the command line; those of this process where not given.
        """
        given = vars(self.parse_args(argv))
        own = {name: given.pop(name) for name in list(given) if name in self._own}
        preset = self._presets[given.pop("preset")]
        # Those of the preset are for its own data set; another one takes some of them.
        takes = option_names(given.get("dataset", preset.data.dataset))
        data_options = {k: v for k, v in preset.data.data_options.items() if k in takes}
        data_options |= {name: given.pop(name) for name in _DATA_OPTIONS if name in given}
        if "epochs" in given:
            given.setdefault("steps", None)
        return preset.replace(**given, data_options=data_options), own

    def add_own(self, name: str, **options: typing.Any) -> None:
        """Adds a flag of the recipe's own; `options` are those of `add_argument`."""
        self._own.add(self.add_argument(name, **options).dest)

    def add_fields(self, cls: type) -> tuple[str, ...]:
        """Adds a flag of the recipe's own for each field of a dataclass of lists.

        Args:
            cls: The dataclass; its docstring tells what the flags are for.

        Returns:
            The names of the fields; those that the command line leaves out have no value.
        """
        types, helps = typing.get_type_hints(cls), _field_descriptions(cls)
        for name, kind in types.items():
            self.add_own(
                f"--{name.replace('_', '-')}",
                type=typing.get_args(kind)[0],
                nargs="+",
                default=argparse.SUPPRESS,
                help=helps[name].replace("%", "%%"),
            )
        return tuple(types)

    def add_study(self) -> None:
        """Adds the flags of `run_study`, for recipes of several experiments."""
        self.add_own(
            "--seeds", type=int, nargs="+", default=[0, 1, 2], help="Seeds that every net has"
        )
        self.add_own("--jobs", type=int, help="Runs at a time (by default one a core on the CPU)")


def _field_descriptions(cls: type) -> dict[str, str]:
    """Returns the text that the docstring's "Attributes:" has on every field."""
    attributes = cls.__doc__.split("Attributes:\n", 1)[1]
    entries = re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", attributes, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def run(main: Callable[[], None]) -> None:
    """Runs a recipe's `main`, and ends it with one line where it cannot go on.

    A wrong value, a missing package and a file that cannot be read or written end it with code 2,
    training that had to stop with 1, SIGTERM with 143, Ctrl-C with 130. Other errors are ours and
    keep their traceback.
    """
    try:
        main()
    except (ValueError, ImportError, OSError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        sys.exit(2)
    except TrainingStopped as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        sys.exit(1)
    except Terminated as end:
        print(end, file=sys.stderr)
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
