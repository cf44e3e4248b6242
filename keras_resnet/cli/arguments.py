"""Arguments of verbs and recipes, with flags of one meaning in all of them.

A verb's arguments are a dataclass whose docstring has an entry under "Attributes:" for every field.
`parse` returns an instance for a command line; `parse_experiment` does for the five groups of
settings, and the verb's own arguments beside them. Both take `--config FILE`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar, cast

from keras_resnet import data
from keras_resnet.cli.config import config_settings, config_words, value_of
from keras_resnet.cli.flags import Flag, flags_of, parse_flags
from keras_resnet.cli.session import apply
from keras_resnet.data.names import check_name
from keras_resnet.experiment.networks import architecture_of
from keras_resnet.experiment.settings import Experiment
from keras_resnet.experiment.workdir import expect_folder
from keras_resnet.utils.checks import Problems, one_of
from keras_resnet.utils.remote import is_remote

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Arguments that every verb has.

    Attributes:
        config: File with values of flags, in TOML, YAML or JSON, which flags of the command line
            overrule. Verbs that train take the config.json of an earlier run.
        quiet: Whether log and progress are left out; results and warnings are still printed.
        verbose: Whether the log has details.
        trust_module: Folders of TF Hub modules whose code a .keras file may run.
    """

    # By keyword, so that the fields of a verb may lack defaults.
    _: dataclasses.KW_ONLY
    config: Path | None = None
    quiet: bool = False
    verbose: bool = False
    trust_module: tuple[str, ...] = ()


def own_values(arguments: Arguments) -> dict[str, Any]:
    """Returns the values of a verb's own fields by name, without those that every verb has.

    `json`, which says how the result is printed, is left out too.
    """
    common = {"json", *(field.name for field in dataclasses.fields(Arguments))}
    return {name: value for name, value in vars(arguments).items() if name not in common}


def options_of(given: object, *names: str) -> dict[str, Any]:
    """Returns the values of these arguments, without those that are None."""
    return {name: value for name in names if (value := getattr(given, name)) is not None}


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
    flags = flags_of(cls)
    words = [*config_words(config_settings(words), flags, {}), *words]
    values = parse_flags({"": ("", flags)}, words, description, prog)
    apply(values)
    found = Problems()
    _check_choices(flags, values, found)
    given = found.note(cls, **values)
    found.expect_none()
    return cast(T, given)


def parse_experiment(
    argv: Sequence[str] | None,
    description: str | None,
    presets: Mapping[str, Experiment],
    own: type[T],
    without: Collection[str] = (),
    prog: str | None = None,
    kind: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Experiment, T]:
    """Returns the experiment that a command line asks for, and a verb's own arguments.

    Args:
        argv: As for `parse`.
        description: As for `parse`.
        presets: Settings by name, which config and flags replace single ones of. The first is the
            default.
        own: Dataclass of the verb's own arguments, derived from `Arguments`.
        without: Settings that have no flag, because the verb sets them itself.
        prog: As for `parse`.
        kind: What config.json of the verb's runs has beside the settings.

    Raises:
        ValueError: If settings are wrong; a line for each.
        SystemExit: With code 2 and one line, if a flag is wrong.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    first = next(iter(presets))
    from_config = config_settings(words, vars(presets[first]))
    name = value_of("--preset", words) or str(from_config.get("preset", first))
    preset = presets.get(name, presets[first])
    mine = flags_of(own)
    groups = {"": ("", dict(mine))}
    if len(presets) > 1:
        names = Literal[tuple(presets)]  # type: ignore[valid-type]
        groups[""][1]["preset"] = Flag(names, first, "Settings to begin from.")
    for title, group in vars(preset).items():
        purpose, _, _ = (inspect.getdoc(type(group)) or "").partition("\n")
        groups[title] = (purpose, flags_of(type(group), group, without))
    flags = {name: flag for _, fields in groups.values() for name, flag in fields.items()}
    fixed = {name: value for name, value in preset.flat().items() if name in without} | dict(kind)
    from_file = config_words(from_config, flags, fixed)
    values = parse_flags(groups, [*from_file, *words], description, prog)
    apply(values)
    found = Problems()
    _check_choices(groups[""][1], values, found)
    if values.pop("preset", first) not in presets:
        found.expect_none()
    chosen = {name: values.pop(name) for name in mine}
    given = {name: value for name, value in values.items() if value != flags[name].default}
    for source in (words, from_file):
        named = {word.partition("=")[0] for word in source}
        if "--steps" in named:
            break
        if named & {"--epochs", "-e"}:
            given["steps"] = None  # which would overrule the epochs
            break

    dataset = found.note(check_name, given.get("dataset", preset.data.dataset))
    arguments = found.note(own, **chosen)
    settings = found.note(preset.replace, **given)
    _check_the_rest(preset if settings is None else settings, given, found)
    found.expect_none()
    assert settings is not None and arguments is not None
    if dataset != preset.data.dataset and preset.data.options:
        # They are for the preset's own data; other photographs take some of them.
        takes = set(data.option_names(cast(str, dataset)))
        if not {field.name for field in dataclasses.fields(data.Transforms)} <= takes:
            takes = set()
        left_out = {name: None for name in preset.data.options if name not in takes}
        settings = preset.replace(**left_out | given)
    return settings, arguments


def _check_choices(flags: Mapping[str, Flag], values: Mapping[str, Any], found: Problems) -> None:
    """Notes values that are none of their flag's."""
    for name, flag in flags.items():
        value = values[name]
        for one in value if isinstance(value, tuple) else (value,):
            if flag.choices and one is not None:
                found.note(one_of, name, one, flag.choices)


def _check_the_rest(settings: Experiment, given: Mapping[str, Any], found: Problems) -> None:
    """Notes what is wrong with network and folders, as if settings that are had been left out."""
    for name, value in given.items() if found else ():
        with contextlib.suppress(ValueError):
            settings = settings.replace(**{name: value})
    if not settings.network.init_is_model:
        found.note(architecture_of, settings.network)
    if not is_remote(workdir := settings.output.workdir):
        found.note(expect_folder, "workdir", workdir)
    data_dir = settings.data.data_dir
    found.refuse(
        settings.data.dataset in ("folder", "idx")
        and not (data_dir is None or is_remote(data_dir) or os.path.isdir(data_dir)),
        f"`data_dir` must be an existing folder. Received: data_dir={data_dir!r}",
    )
