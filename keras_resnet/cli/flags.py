"""Flags of one meaning in every verb and recipe, made of dataclasses; errors in one line.

A verb's arguments are a dataclass whose docstring has an entry under "Attributes:" for every field.
`parse` returns an instance for a command line; `parse_experiment` does for the five groups of
settings, and the verb's own arguments beside them. Both take `--config FILE`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import itertools
import json
import logging
import re
import signal
import sys
import tomllib
import types
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NoReturn,
    TextIO,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)
from typing import get_type_hints as hints_of

import tyro

from keras_resnet.data import Transforms, option_names
from keras_resnet.experiment import Experiment
from keras_resnet.experiment.preflight import check_the_rest
from keras_resnet.experiment.settings import flat_settings
from keras_resnet.export import trust_module
from keras_resnet.export.verification import ExportMismatchError
from keras_resnet.training import Terminated, TrainingStopped
from keras_resnet.utils import checks
from keras_resnet.utils.checks import Problems, first_line, lines_of
from keras_resnet.utils.escapes import visible
from keras_resnet.utils.files import parse_json

T = TypeVar("T")

# Marks a list, of which a flag that is given again adds an item.
REPEATABLE = get_args(tyro.conf.UseAppendAction[tuple[str, ...]])[1]
_POSITIONAL = get_args(tyro.conf.Positional[str])[1]

# Names that people's hands know, beside the long ones.
SHORT_NAMES = {
    "batch_size": "-b",
    "epochs": "-e",
    "jobs": "-j",
    "learning_rate": "--lr",
    "output": "-o",
    "weight_decay": "--wd",
    "workdir": "-o",
}

# Loggers of what is a result of the command: tables of studies and searches, and where all is.
REPORTS = tuple(
    f"keras_resnet.experiment.{name}"
    for name in ("growth", "rate_finding", "reports", "search.searching")
)

# In front of lines, and taken away again.
_MARK = "\0"

# Settings of training that begins from a trained network, for recipes that compare networks.
OF_A_TRAINED_NETWORK = ("init", "head_epochs", "freeze_bn", "rate_decay")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Arguments that every verb has.

    Attributes:
        config: File of values for flags, which overrule them: TOML, YAML or JSON, such as the
            config.json of an earlier run.
        quiet: Whether log and progress are left out; results and warnings stay.
        verbose: Whether the log has details.
        trust_module: Folders of TF Hub modules whose code a .keras file may have run.
    """

    # By keyword, so that the fields of a verb may lack defaults.
    _: dataclasses.KW_ONLY
    config: Path | None = None
    quiet: bool = False
    verbose: bool = False
    trust_module: tuple[str, ...] = ()


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


def own_values(arguments: Arguments) -> dict[str, Any]:
    """Returns the values of a verb's own fields by name, without those that every verb has.

    `json`, which says how the result is printed, is left out too.
    """
    common = {"json", *(field.name for field in dataclasses.fields(Arguments))}
    return {name: value for name, value in vars(arguments).items() if name not in common}


def parse(
    cls: type[T], argv: Sequence[str] | None, description: str | None, prog: str | None = None
) -> T:
    """Returns the arguments of a verb.

    Args:
        cls: A dataclass derived from `Arguments`. Fields that are `tyro.conf.Positional` have no
            flag.
        argv: Words of the command line; those of this process if None.
        description: Text of --help: purpose, command, results.
        prog: Name of the program, by default that of the script.

    Raises:
        ValueError: If `--config` names a file that cannot be read, or has unknown keys.
        SystemExit: With code 2 and one line, if a flag is wrong.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    fields = _fields_of(cls)
    words = [*_config_words(words, fields), *words]
    return cls(**_parse({"": ("", fields)}, words, description, prog))


def parse_experiment(
    argv: Sequence[str] | None,
    description: str | None,
    presets: Mapping[str, Experiment],
    own: type[T],
    without: Collection[str] = (),
    prog: str | None = None,
) -> tuple[Experiment, T]:
    """Returns the experiment that a command line asks for, and a verb's own arguments.

    Args:
        argv: Words of the command line; those of this process if None.
        description: Text of --help: purpose, command, results.
        presets: Settings by name, which config and flags replace single ones of. The first is the
            default.
        own: Dataclass of the verb's own arguments, derived from `Arguments`.
        without: Settings that have no flag, because the verb sets them itself.
        prog: Name of the program, by default that of the script.

    Raises:
        ValueError: If settings are wrong; a line for each.
        SystemExit: With code 2 and one line, if a flag is wrong.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    first = next(iter(presets))
    name = _value_of("--preset", words) or first
    preset = presets.get(name, presets[first])
    groups: dict[str, tuple[str, dict[str, _Flag]]] = {"": ("", _fields_of(own))}
    if len(presets) > 1:
        kind = Literal[tuple(presets)]  # type: ignore[valid-type]
        groups[""][1]["preset"] = _Flag(kind, first, "Settings to begin from.")
    for title, group in vars(preset).items():
        purpose, _, _ = (inspect.getdoc(type(group)) or "").partition("\n")
        groups[title] = (purpose, _fields_of(type(group), group, without))
    flags = {name: flag for _, fields in groups.values() for name, flag in fields.items()}
    from_file = _config_words(words, flags, {k: getattr(preset, k, None) for k in groups}, without)
    values = _parse(groups, [*from_file, *words], description, prog)
    if (given_preset := values.pop("preset", first)) not in presets:
        raise ValueError(
            f"`preset` must be one of {', '.join(presets)}. Received: preset={given_preset!r}"
        )
    mine = {field: values.pop(field) for field in _fields_of(own)}
    given = {name: value for name, value in values.items() if value != flags[name].default}
    for source in (from_file, words):
        named = {word.partition("=")[0] for word in source}
        if named & {"--epochs", "-e"} and "--steps" not in named:
            given["steps"] = None  # which would overrule the epochs

    found = Problems()
    # Options of the preset are for its own data set; another one of photographs takes some of them.
    dataset = given.get("dataset", preset.data.dataset)
    takes = set(found.note(option_names, dataset) or ())
    transforms = {field.name for field in dataclasses.fields(Transforms)}
    if dataset != preset.data.dataset and not transforms <= takes:
        takes = set()
    given = {name: None for name in preset.data.options if name not in takes} | given
    arguments = found.note(own, **mine)
    experiment = found.note(preset.replace, **given)
    if found:
        # What is wrong with the data and the folder is said beside.
        check_the_rest(preset, given, found)
        found.expect_none()
    return cast(Experiment, experiment), cast(T, arguments)


def print_json(value: object) -> None:
    """Prints a value as JSON, for programs."""
    print(json.dumps(value, indent=2, default=str))


def options_of(given: object, *names: str) -> dict[str, Any]:
    """Returns the values of these arguments, without those that are None."""
    return {name: value for name in names if (value := getattr(given, name)) is not None}


@dataclasses.dataclass(frozen=True)
class _Flag:
    """A field of a dataclass, as a flag."""

    kind: Any
    default: Any
    text: str

    @property
    def marks(self) -> tuple:
        """The marks of tyro, such as `tyro.conf.Positional`."""
        return get_args(self.kind)[1:] if get_origin(self.kind) is Annotated else ()

    @property
    def positional(self) -> bool:
        return _POSITIONAL in self.marks

    @property
    def core(self) -> Any:
        """The type without marks and None."""
        kind = get_args(self.kind)[0] if get_origin(self.kind) is Annotated else self.kind
        if get_origin(kind) in (Union, types.UnionType):
            kind = next(one for one in get_args(kind) if one is not type(None))
        return kind

    @property
    def is_mapping(self) -> bool:
        origin = get_origin(self.core)
        return isinstance(origin, type) and issubclass(origin, Mapping)

    @property
    def is_tristate(self) -> bool:
        kind = get_args(self.kind)[0] if self.marks else self.kind
        return self.core is bool and kind is not bool

    def annotation(self, name: str) -> Any:
        """Returns the type that tyro parses.

        Choices are text, which the settings check, so that all that is wrong is said at once.
        """
        core, several = self.core, False
        if get_origin(core) is tuple:
            core, several = get_args(core)[0], True
        elif self.is_mapping:
            core, several = str, True
        metavar: str | None
        metavar = "KEY=VALUE" if self.is_mapping else getattr(core, "__name__", "VALUE").upper()
        if self.positional:
            metavar = name.upper().removesuffix("S") if several else name.upper()
        if get_origin(core) is Literal:
            choices = get_args(core)
            core, metavar = type(choices[0]), "{" + ",".join(map(str, choices)) + "}"
        kind: Any = tuple.__class_getitem__((core, ...)) if several else core
        if self.default is None or self.is_tristate:
            kind = Union[kind, None]  # noqa: UP007
        aliases = [SHORT_NAMES[name]] if name in SHORT_NAMES and not self.positional else []
        if core is bool:
            metavar = "(or --no-...)" if self.is_tristate else None
        elif several:
            metavar = f"{metavar} ..."
        about = tyro.conf.arg(
            help=self.text,
            aliases=aliases,
            metavar=metavar,
        )
        return Annotated.__class_getitem__((kind, about, *self.marks))  # type: ignore[attr-defined]

    def words(self, name: str, value: Any) -> list[str]:
        """Returns the words of a command line that give the flag a value of a file."""
        flag = f"--{name.replace('_', '-')}"
        if self.core is bool and isinstance(value, bool):
            return [flag if value else f"--no-{flag[2:]}"]
        if isinstance(value, Mapping):
            return [flag, *(f"{key}={json.dumps(one)}" for key, one in value.items())]
        if isinstance(value, list):
            return [flag, *map(str, value)]
        return [f"{flag}={value}"]


def _fields_of(
    cls: type, defaults: object = None, without: Collection[str] = ()
) -> dict[str, _Flag]:
    """Returns the flags of a dataclass, with the values of an instance as defaults."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        _, _, attributes = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")
        entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE)
        texts |= {name: " ".join(text.split()) for name, text in entries}
    kinds = hints_of(cls, include_extras=True)
    flags = {}
    for field in sorted(dataclasses.fields(cls), key=lambda field: bool(field.kw_only)):
        if field.name in without:
            continue
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if defaults is not None:
            default = getattr(defaults, field.name)
        flags[field.name] = _Flag(kinds[field.name], default, texts[field.name])
    return flags


def _parse(
    groups: Mapping[str, tuple[str, Mapping[str, _Flag]]],
    words: Sequence[str],
    description: str | None,
    prog: str | None,
) -> dict[str, Any]:
    """Returns the values of flags by name; groups with the title "" are those of the verb."""
    entries: list[Any] = []
    words = _with_values(words, (flags for _, flags in groups.values()))
    for title, (purpose, flags) in groups.items():
        fields = [_entry(name, flag) for name, flag in flags.items()]
        # Those that lack a default stand in front.
        fields.sort(key=lambda entry: len(entry) > 2)
        if title:
            group = dataclasses.make_dataclass(title, fields)
            group.__doc__ = purpose
            entries.append((title, group, dataclasses.field(default_factory=group)))
        else:
            entries += fields
    top = dataclasses.make_dataclass("Flags", entries)
    top.__doc__ = ""
    said, shown = io.StringIO(), io.StringIO()
    # tyro joins lines that begin with a letter.
    lines = inspect.cleandoc(description or "").splitlines()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(shown):
            parsed: Any = tyro.cli(
                top,
                prog=prog or Path(sys.argv[0]).name,
                description="\n".join(f"{_MARK}{line}" for line in lines),
                args=words,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as end:
        if not end.code:
            text = shown.getvalue().replace(_MARK, "")
            print(*map(str.rstrip, text.split("\n")), sep="\n")
            raise
        _end(_message(said.getvalue()))
    values: dict[str, Any] = {}
    for title, (_, flags) in groups.items():
        given = getattr(parsed, title) if title else parsed
        for name, flag in flags.items():
            value = getattr(given, name)
            if value == () and flag.default is dataclasses.MISSING:
                wanted = name.upper().removesuffix("S") if flag.positional else f"--{name}"
                _end(f"{wanted} is required")
            values[name] = _mapping(name, value) if flag.is_mapping else value
    level = logging.WARNING if values["quiet"] else logging.INFO
    logging.getLogger("keras_resnet").setLevel(logging.DEBUG if values["verbose"] else level)
    if values.get("json"):
        _LINES.results = None
    for handle in values["trust_module"]:
        trust_module(handle)
    return values


def _with_values(words: Sequence[str], groups: Iterable[Mapping[str, _Flag]]) -> list[str]:
    """Returns words with --x=True and --x=False for --x and --no-x of a `bool | None`."""
    values: dict[str, str] = {}
    for name in (name for flags in groups for name, flag in flags.items() if flag.is_tristate):
        flag = name.replace("_", "-")
        values |= {f"--{flag}": f"--{flag}=True", f"--no-{flag}": f"--{flag}=False"}
    return [values.get(word, word) for word in words]


def _entry(name: str, flag: _Flag) -> tuple:
    """Returns a field for `make_dataclass`."""
    if flag.default is dataclasses.MISSING:
        return name, flag.annotation(name)
    default = flag.default
    if flag.is_mapping:
        default = tuple(f"{key}={json.dumps(value)}" for key, value in default.items())
    return name, flag.annotation(name), default


def _mapping(name: str, pairs: Iterable[str]) -> dict[str, Any]:
    """Returns the mapping of KEY=VALUE; values are JSON, or else text."""
    mapping: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"`{name}` must be KEY=VALUE. Received: {name}={pair!r}")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        mapping[key] = tuple(value) if isinstance(value, list) else value
    return mapping


def _end(message: str) -> NoReturn:
    """Ends the process with one line."""
    print(f"error: {visible(message)}; --help lists the flags", file=sys.stderr)
    sys.exit(2)


def _message(said: str) -> str:
    """Returns what tyro says in a box."""
    # The title, and rules above and below, which without UTF-8 are of hyphens.
    _, *lines = [line.strip("│ ") for line in said.splitlines()]
    rules = [bool(line) and set(line) <= {*"─-╰╯"} for line in lines]
    lines, rules = (lines[1:], rules[1:]) if rules[:1] == [True] else (lines, rules)
    message = " ".join(lines[: rules.index(True)] if any(rules) else lines)
    # Of a type X | None it says why it is not None, too.
    return message.partition("  Got errors:")[0].replace("{None}|", "")


def _value_of(flag: str, words: Sequence[str]) -> str | None:
    """Returns the last value that words give to a flag."""
    value = None
    for word, after in itertools.zip_longest(words, words[1:]):
        if word == flag:
            value = after
        elif word.startswith(f"{flag}="):
            value = word.partition("=")[2]
    return value


def _config_words(
    words: Sequence[str],
    flags: Mapping[str, _Flag],
    groups: Mapping[str, object] = types.MappingProxyType({}),
    without: Collection[str] = (),
) -> list[str]:
    """Returns the file of `--config` as words of a command line.

    Args:
        words: The command line.
        flags: The flags of the verb.
        groups: Tables that the file may have, with the defaults of their settings.
        without: Settings that the verb sets itself: the file may have them as they are by default,
            as the config.json of a run does.
    """
    name = _value_of("--config", words)
    if name is None:
        return []
    settings: dict[str, Any] = {}
    for key, value in flat_settings(_read_config(Path(name))).items():
        if key in groups and isinstance(value, Mapping):
            settings.update(value)
        else:
            settings[key] = value
    found = []
    given: list[str] = []
    defaults = {
        k: v for group in groups.values() if group is not None for k, v in vars(group).items()
    }
    for key, value in settings.items():
        setting = key.replace("-", "_")
        if setting in flags and not flags[setting].positional and setting != "config":
            given += flags[setting].words(setting, value)
        elif setting not in without or value != defaults.get(setting):
            found.append(key)
    if found:
        raise ValueError(
            f"`config` must have no keys but the names of flags. Received: {', '.join(found)} "
            f"in {name}"
        )
    return given


def _read_config(path: Path) -> dict[str, Any]:
    """Returns the object in a file of TOML, YAML or JSON, by its suffix."""
    data = path.read_bytes()
    try:
        if path.suffix == ".toml":
            config = tomllib.loads(data.decode())
        elif path.suffix in (".yaml", ".yml"):
            yaml = checks.import_extra("yaml", "YAML", "train")
            try:
                config = yaml.safe_load(data) or {}
            except yaml.YAMLError as error:
                raise ValueError(str(error)) from None
        else:
            config = parse_json(data)
    except ValueError as error:
        raise ValueError(
            f"`config` must be a file of TOML, YAML or JSON. Received: config={str(path)!r} "
            f"({' '.join(str(error).split())})"
        ) from None
    if not isinstance(config, dict):
        raise ValueError(f"`config` must have names and values. Received: config={str(path)!r}")
    return config


class _Lines(logging.Handler):
    """Prints messages as plain lines on standard error, and those of `REPORTS` on `results`."""

    results: TextIO | None = None

    def emit(self, record: logging.LogRecord) -> None:
        file = self.results if record.name in REPORTS else None
        lines = map(visible, self.format(record).split("\n"))
        print(*lines, sep="\n", file=file or sys.stderr, flush=True)


_LINES = _Lines()


def run(main: Callable[..., None], *args: Any, **options: Any) -> None:
    """Calls `main` of a verb or a recipe, shows what the package logs, and ends errors in one line.

    Results go to standard output; log, progress, warnings and errors to standard error.

    A wrong value, a missing package and a file that cannot be read or written end the process with
    code 2, training that had to stop and an exported model that differs from its original with 1,
    SIGTERM with 143, Ctrl-C with 130. Other errors are faults of the package and keep their
    traceback. Warnings are one line each. All of it, and characters that the terminal lacks, are
    escaped.
    """
    logger = logging.getLogger("keras_resnet")
    level_before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(_LINES)  # which it has once, however often this is called
    _LINES.results = sys.stdout
    for name in REPORTS:
        logging.getLogger(name).setLevel(logging.INFO)  # with --quiet, too
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
        logger.setLevel(level_before)
        signal.signal(signal.SIGINT, interrupt_before)
