"""Files that are either wholly there or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# Names of what is being written, and of a folder that is being replaced.
_WRITING = ".writing-"
_OLD = ".old"


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`; what was written there becomes `path`.

    On an error nothing changes at `path` and nothing is left behind. The temporary name keeps the
    suffixes, since some writers choose their format by them. A folder written there replaces an
    old file or folder; between the two there is a moment without either, since folders cannot be
    exchanged in one step everywhere, but never a half-written one.

    Args:
        path: File or folder to write; its parents are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f"{_WRITING}{path.name}-", dir=path.parent))
    old = None
    try:
        temporary = holder / path.name
        yield temporary
        if temporary.is_file():
            _sync(temporary)
        elif path.exists():
            # Outside of `holder`, which is deleted whatever happens.
            old = holder.with_name(f"{holder.name}{_OLD}")
            os.replace(path, old)
            os.utime(old)  # When it was set aside counts, not when it was made.
        os.replace(temporary, path)
        _sync(path.parent)
    except BaseException:
        if old is not None and not path.exists():
            os.replace(old, path)
        raise
    finally:
        shutil.rmtree(holder, ignore_errors=True)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def clear_leftovers(folder: str | Path, of: str | None = None, age: float = 0.0) -> None:
    """Deletes what processes that were killed were writing with `replacing` in a folder.

    A folder that was on its way out when its successor had not yet its name gets its name back.
    Only where nobody else is writing, or what they write is younger.

    Args:
        folder: Folder whose own entries are looked at; it may be missing.
        of: Name of the file or folder that was being written; any where not given.
        age: Seconds since what is deleted was made, or set aside.
    """
    folder = Path(folder)
    latest = time.time() - age
    leftovers = folder.glob(f"{_WRITING}*") if folder.is_dir() else ()
    # What is old comes first: its own writer's half-written folder goes by the same name.
    for leftover in sorted(leftovers, key=lambda path: not path.name.endswith(_OLD)):
        name = leftover.name.removeprefix(_WRITING).removesuffix(_OLD).rpartition("-")[0]
        try:
            young = leftover.stat().st_mtime > latest
        except FileNotFoundError:  # Its owner has come to an end with it.
            continue
        if of not in (None, name) or young:
            continue
        if leftover.name.endswith(_OLD) and not (folder / name).exists():
            os.replace(leftover, folder / name)
        else:
            shutil.rmtree(leftover, ignore_errors=True)


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str | Path, value: object) -> None:
    """Writes `value` as indented JSON."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
