"""Flags made of the fields of dataclasses, by tyro; what is wrong with them in one line."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import json
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin
from typing import get_type_hints as hints_of

import tyro

from keras_resnet.architectures import ARCHITECTURES
from keras_resnet.experiment.settings import CHOICES
from keras_resnet.utils.escapes import visible

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

# Settings by those of the short names that are words, as a file may have them.
LONG_NAMES = {"lr": "learning_rate", "wd": "weight_decay"}

# In front of lines, and taken away again.
_MARK = "\0"

# In place of words, prints every flag with the values that it can have, for completion.
PRINT_FLAGS = "--print-flags"

# Settings of training that begins from a trained network, for recipes that compare networks.
OF_A_TRAINED_NETWORK = ("init", "head_epochs", "freeze_bn", "rate_decay")


@dataclasses.dataclass(frozen=True)
class Flag:
    """A field of a dataclass, as a flag."""

    kind: Any  # without None and marks
    default: Any
    text: str
    optional: bool = False  # whether its type has None
    marks: tuple = ()  # of tyro, such as `tyro.conf.Positional`

    @property
    def positional(self) -> bool:
        return _POSITIONAL in self.marks

    @property
    def is_mapping(self) -> bool:
        origin = get_origin(self.kind)
        return isinstance(origin, type) and issubclass(origin, Mapping)

    @property
    def is_tristate(self) -> bool:
        return self.kind is bool and self.optional

    @property
    def choices(self) -> tuple:
        """The values that the type has, or each of several."""
        kind = get_args(self.kind)[0] if get_origin(self.kind) is tuple else self.kind
        return get_args(kind) if get_origin(kind) is Literal else ()

    def word(self, name: str) -> str:
        """Returns the flag as one types it; "" for an argument that has none."""
        return "" if self.positional else f"--{name.replace('_', '-')}"

    def values(self, name: str) -> list[str]:
        """Returns the values that complete it, of a setting those that it can have."""
        choices = self.choices or CHOICES.get(name, ())
        return list(map(str, choices or (ARCHITECTURES if name in ("model", "models") else ())))

    def entry(self, name: str) -> tuple:
        """Returns a field for `make_dataclass`, of the type that tyro parses.

        Choices are text, which the settings check, so that all that is wrong is said at once.
        """
        kind, default = self.kind, self.default
        metavar: str | None = "KEY=VALUE"
        several = self.is_mapping or get_origin(kind) is tuple
        if self.is_mapping:
            kind = str
            default = tuple(f"{key}={json.dumps(value)}" for key, value in default.items())
        else:
            kind = get_args(kind)[0] if several else kind
            metavar = getattr(kind, "__name__", "VALUE").upper()
        if self.positional:
            metavar = name.upper().removesuffix("S") if several else name.upper()
        if get_origin(kind) is Literal:
            choices = get_args(kind)
            kind, metavar = type(choices[0]), "{" + ",".join(map(str, choices)) + "}"
        if kind is bool:
            metavar = "(or --no-...)" if self.is_tristate else None
        elif several:
            kind, metavar = tuple.__class_getitem__((kind, ...)), f"{metavar} ..."
        if default is None or self.optional:
            kind = Union[kind, None]  # noqa: UP007
        aliases = [SHORT_NAMES[name]] if name in SHORT_NAMES and not self.positional else []
        about = tyro.conf.arg(
            help=self.text, help_behavior_hint=self.hint, aliases=aliases, metavar=metavar
        )
        annotation = Annotated.__class_getitem__((kind, about, *self.marks))  # type: ignore[attr-defined]
        return (name, annotation, *([] if default is dataclasses.MISSING else [default]))

    def hint(self, default: str) -> str:
        """Returns what stands behind the text in the help, for the default as tyro shows it."""
        if self.default is dataclasses.MISSING:
            return "(required)"
        told = self.default is None and "by default" in self.text
        return "" if told else f"(default: {default or 'none'})"

    def words(self, name: str, value: Any) -> list[str]:
        """Returns the words of a command line that give the flag a value of a file."""
        flag = self.word(name)
        if self.kind is bool and isinstance(value, bool):
            return [flag if value else f"--no-{flag[2:]}"]
        if isinstance(value, Mapping):
            value = [f"{key}={json.dumps(one)}" for key, one in value.items()]
        return [flag, *map(str, value)] if isinstance(value, list) else [f"{flag}={value}"]


def flags_of(cls: type, defaults: object = None, without: Collection[str] = ()) -> dict[str, Flag]:
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
        kind, *marks = [kinds[field.name]]
        if get_origin(kind) is Annotated:
            kind, *marks = get_args(kind)
        union = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        kind, optional = next(one for one in union if one is not NoneType), NoneType in union
        default = field.default
        if defaults is not None:
            default = getattr(defaults, field.name)
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        flags[field.name] = Flag(kind, default, texts[field.name], optional, tuple(marks))
    return flags


def parse_flags(
    groups: Mapping[str, tuple[str, Mapping[str, Flag]]],
    words: Sequence[str],
    description: str | None,
    prog: str | None,
) -> dict[str, Any]:
    """Returns the values of flags by name; groups with the title "" are those of the verb.

    Raises:
        ValueError: If a mapping has an item that is not KEY=VALUE.
        SystemExit: With code 2 and one line, if a flag is wrong.
    """
    flags = {name: flag for _, own in groups.values() for name, flag in own.items()}
    if list(words) == [PRINT_FLAGS]:
        print(json.dumps({"--help": []} | {f.word(n): f.values(n) for n, f in flags.items()}))
        sys.exit()
    entries: list[Any] = []
    for title, (purpose, own) in groups.items():
        told = {n: dataclasses.replace(f, text=_with_flags(f.text, flags)) for n, f in own.items()}
        # Those that lack a default stand in front.
        fields = sorted((flag.entry(name) for name, flag in told.items()), key=lambda e: len(e) > 2)
        if title:
            group = dataclasses.make_dataclass(title, fields)
            group.__doc__ = purpose
            fields = [(title, group, dataclasses.field(default_factory=group))]
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
                args=_with_values(words, flags),
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as end:
        if not end.code:
            text = shown.getvalue().replace(_MARK, "")
            print(*map(str.rstrip, text.split("\n")), sep="\n")
            raise
        _end(_message(said.getvalue()))
    found: dict[str, Any] = {}
    for title in groups:
        found |= vars(getattr(parsed, title) if title else parsed)
    for name, flag in flags.items():
        if found[name] == () and flag.default is dataclasses.MISSING:
            wanted = name.upper().removesuffix("S") if flag.positional else f"--{name}"
            _end(f"{wanted} is required")
    return {n: _mapping(n, found[n]) if flag.is_mapping else found[n] for n, flag in flags.items()}


def _with_flags(text: str, flags: Collection[str]) -> str:
    """Returns a text with --image-size for `image_size`, and --crop pad for crop="pad"."""

    def flag(found: re.Match) -> str:
        name, value = found[1] or found[2], found[3]
        if name not in flags:
            return found[0]
        return f"--{name.replace('_', '-')}{f' {value}' if value else ''}"

    return re.sub(r'`(\w+)`|\b(\w+)="(\w+)"', flag, text)


def _with_values(words: Sequence[str], flags: Mapping[str, Flag]) -> list[str]:
    """Returns words with --x=True and --x=False for --x and --no-x of a `bool | None`."""
    values: dict[str, str] = {}
    for flag in (name.replace("_", "-") for name, flag in flags.items() if flag.is_tristate):
        values |= {f"--{flag}": f"--{flag}=True", f"--no-{flag}": f"--{flag}=False"}
    return [values.get(word, word) for word in words]


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
