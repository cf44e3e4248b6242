"""The file of `--config`, as words of a command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.cli.flags import LONG_NAMES, Flag
from keras_resnet.experiment.settings import flat_settings
from keras_resnet.utils import checks
from keras_resnet.utils.files import parse_json


def value_of(flag: str, words: Sequence[str]) -> str | None:
    """Returns the last value that words give to a flag."""
    line = "\0".join(["", *words, ""])  # which no word has in it
    found = re.findall(rf"\0{flag}[=\0]([^\0]*)(?=\0)", line)
    return found[-1] if found else None


def config_settings(words: Sequence[str], groups: Collection[str] = ()) -> dict[str, Any]:
    """Returns the values in the file that `words` name by `--config`; `groups` may be tables."""
    name = value_of("--config", words)
    settings: dict[str, Any] = {}
    for key, value in flat_settings({} if name is None else _read(Path(name))).items():
        settings.update(value if key in groups and isinstance(value, Mapping) else {key: value})
    return settings


def config_words(
    settings: Mapping[str, Any], flags: Mapping[str, Flag], fixed: Mapping[str, Any]
) -> list[str]:
    """Returns the values of a file as words for `flags`.

    There may be what has no flag, as in the config.json of a run, with its value in `fixed`.
    """
    given, unknown = [], []
    for key, value in settings.items():
        setting = LONG_NAMES.get(key, key.replace("-", "_"))
        flag = flags.get(setting)
        if flag and not flag.positional and setting != "config":
            if value is not None or flag.optional:  # A null is else no value, as if left out.
                given += flag.words(setting, value)
        elif setting not in fixed or value != fixed[setting]:
            unknown.append(key)
    if unknown:
        raise ValueError(
            "`config` must have no keys but the names of flags. Received: " + ", ".join(unknown)
        )
    return given


def _read(path: Path) -> dict[str, Any]:
    """Returns the object in a file of TOML, YAML or JSON, by its suffix."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise ValueError(
            "`config` must be an existing file of TOML, YAML or JSON. "
            f"Received: config={str(path)!r}"
        ) from None
    try:
        if path.suffix == ".toml":
            config: Any = tomllib.loads(data.decode())
        elif path.suffix in (".yaml", ".yml"):
            config = _from_yaml(data)
        else:
            config = parse_json(data)
        if not isinstance(config, dict):
            raise ValueError("it has no names and values")
    except ValueError as error:
        raise ValueError(
            f"`config` must be a file of TOML, YAML or JSON. Received: config={str(path)!r} "
            f"({' '.join(str(error).split())})"
        ) from None
    return config


def _from_yaml(data: bytes) -> Any:
    yaml = checks.import_extra("yaml", "YAML", "train")
    try:
        return yaml.safe_load(data) or {}
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
