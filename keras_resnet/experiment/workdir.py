"""Folders of results, and whether what was asked for may resume there."""

from __future__ import annotations

import contextlib
import json
import os
import reprlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock

from keras_resnet.experiment.settings import Experiment, flat_settings
from keras_resnet.utils.escapes import is_line
from keras_resnet.utils.files import parse_json
from keras_resnet.utils.remote import is_remote

# Files with the settings of a run, and with what its data are.
CONFIG, DATA = "config.json", "data.json"
# Its content names the process that has, or had, the lock of the folder.
LOCK = ".lock"
# Seconds to wait for the lock: a run that was told to end may be saving its state.
PATIENCE = 3.0


def expect_settings(path: Path, own: dict[str, Any], *, of: str) -> bool:
    """Returns whether a folder holds the run or search asked for, begun or finished.

    Args:
        path: The file of the folder that has the settings.
        own: Those that were asked for. One that is newer than the file had its default then.
        of: "run" or "search".

    Raises:
        ValueError: If the folder is a file, the file is damaged, or the settings are others.
    """
    workdir = expect_folder("workdir", path.parent)
    if not path.exists():
        return False
    # Through JSON, as the file went: tuples become lists.
    held = flat_settings(read_object(path))
    defaults = Experiment().recorded()
    own, defaults = (json.loads(json.dumps(settings)) for settings in (own, defaults))
    different = [key for key in own if own[key] != held.get(key, defaults.get(key))]
    if different:
        raise ValueError(
            f"`workdir` holds a {of} with another {', '.join(different)}; choose a new folder. "
            f"Received: workdir={str(workdir)!r}"
        )
    return True


def expect_folder(name: str, folder: str | Path) -> Path:
    """Returns the path of a folder that is there or can be made; raises a ValueError if not."""
    if not is_line(str(folder)):
        raise ValueError(
            f"`{name}` must be text of one line in UTF-8. Received: {name}={ascii(str(folder))}"
        )
    if is_remote(folder):
        raise ValueError(
            f"`{name}` must be a local folder here; only a single run may be at an address. "
            f"Received: {name}={str(folder)!r}"
        )
    folder = Path(folder)
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise ValueError(
            f"`{name}` must be a folder, or a name that is free. "
            f"Received: {name}={str(folder)!r}, where {str(there)!r} is a file"
        )
    return folder


def expect_data(workdir: Path, identify: Callable[[], dict[str, Any]]) -> None:
    """Raises a ValueError if a folder's run or search was begun on other data.

    `identify` returns the `identity` of the data asked for; it is not called for folders without
    data.json, which hold what was begun before there was that file, or nothing.
    """
    path = workdir / DATA
    if not path.exists():
        return
    held, own = read_object(path), identify()
    different = [
        f"{name.replace('_', ' ')} {reprlib.repr(held.get(name))}, now {reprlib.repr(value)}"
        for name, value in own.items()
        if held.get(name) != value
    ]
    if different:
        raise ValueError(
            f"`workdir` holds what was begun on other data ({'; '.join(different)}); choose a new "
            f"folder. Received: workdir={str(workdir)!r}"
        )


@contextlib.contextmanager
def in_use(workdir: Path) -> Iterator[None]:
    """Makes a folder and keeps other processes from using it meanwhile.

    Where nothing else came into it, nothing is left behind. The system gives a lock back however
    its process ends.

    Raises:
        ValueError: If another process uses the folder.
    """
    fresh = not workdir.exists()
    workdir.mkdir(parents=True, exist_ok=True)
    file = workdir / LOCK
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    # One that this process has can be taken again, as by a study's runs.
    lock = filelock.FileLock(file, is_singleton=True)
    try:
        taken = lock.acquire(timeout=PATIENCE)
    except filelock.Timeout as error:
        user = text.partition("\n")[0].removeprefix("process ")
        user = f"process {user}" if user else "another process"
        raise ValueError(
            "`workdir` must be a folder that no other process uses. Received: "
            f"workdir={str(workdir)!r}, in use by {user}"
        ) from error
    with taken:
        # A full disk is for those to tell who write what is needed.
        with contextlib.suppress(OSError):
            # On file systems without locks the library writes its own text, which is the lock.
            if not file.read_text().startswith(f"{os.getpid()}\n"):
                since = time.strftime("%Y-%m-%d %H:%M:%S")
                file.write_text(f"process {os.getpid()} since {since}\n")
        try:
            yield
        finally:
            # Where it was taken several times, the last one to go tidies up.
            last = lock.lock_counter == 1
            if last and workdir.is_dir() and list(workdir.iterdir()) == [file]:
                file.unlink()
                if fresh:
                    workdir.rmdir()


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
