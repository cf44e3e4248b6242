"""Folders of results, and whether what was asked for may resume there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from keras_resnet.experiment.settings import Experiment
from keras_resnet.utils.files import parse_json


def expect_settings(path: Path, own: dict[str, Any], *, of: str) -> bool:
    """Returns whether a folder holds the run or search asked for, begun or finished.

    Args:
        path: The file of the folder that has the settings.
        own: Those that were asked for. One that is newer than the file had its default then.
        of: "run" or "search".

    Raises:
        ValueError: If the folder is a file, the file is damaged, or the settings are others.
    """
    workdir = path.parent
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(
            "`workdir` must be a folder, or a name that is free. "
            f"Received: workdir={str(workdir)!r}, which is a file"
        )
    if not path.exists():
        return False
    # Through JSON, as the file went: tuples become lists.
    held = read_object(path)
    defaults = Experiment().flat()
    own, defaults = (json.loads(json.dumps(settings)) for settings in (own, defaults))
    different = [key for key in own if own[key] != held.get(key, defaults.get(key))]
    if different:
        raise ValueError(
            f"`workdir` holds a {of} with another {', '.join(different)}; choose a new folder. "
            f"Received: workdir={str(workdir)!r}"
        )
    return True


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON file of such a folder; raises a ValueError if it is damaged."""
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("it holds no object")
    except ValueError as error:
        raise ValueError(
            f"`workdir` must hold a whole {path.name}, or none: choose a new folder, or move the "
            f"file away. Received: {str(path)!r} ({error})"
        ) from error
    return value
