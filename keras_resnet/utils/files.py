"""Atomic writing of files and folders."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# Prefix of what is being written, and suffix of a folder that is being replaced.
_WRITING = ".writing-"
_OLD = ".old"


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, and renames what was written there to `path`.

    On an error, `path` is unchanged and nothing is left behind. The temporary name keeps the
    suffixes, since some writers choose their format by them. Parents are created. A folder replaces
    an old file or folder by two renames; between them there is neither, but never a half-written
    one.
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
            os.utime(old)  # `clear_leftovers` goes by the time it was set aside.
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


@contextlib.contextmanager
def without_patterns(path: str | Path) -> Iterator[Path]:
    """Yields a path that leads to `path`, without characters that TensorFlow reads as a pattern.

    That is a link in a temporary folder, or `path` itself if it has none of them.
    """
    path = Path(path)
    if not re.search(r"[][*?\\]", str(path.absolute())):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "link"
        link.symlink_to(path.absolute(), target_is_directory=path.is_dir())
        yield link


def clear_leftovers(folder: str | Path, of: str | None = None, age: float = 0.0) -> None:
    """Deletes what killed processes left in a folder while they were writing with `replacing`.

    A replaced folder whose replacement was not yet renamed gets its name back. Leftovers are those
    of the name `of`, None for any, created or set aside `age` seconds ago or before; no process may
    still be writing one of them. The folder may be missing.
    """
    folder = Path(folder)
    latest = time.time() - age
    leftovers = folder.glob(f"{_WRITING}*") if folder.is_dir() else ()
    # Replaced folders come first: the half-written folder of the same writer has the same name.
    for leftover in sorted(leftovers, key=lambda path: not path.name.endswith(_OLD)):
        name = leftover.name.removeprefix(_WRITING).removesuffix(_OLD).rpartition("-")[0]
        try:
            young = leftover.stat().st_mtime > latest
        except FileNotFoundError:  # Its writer has just finished.
            continue
        if of not in (None, name) or young:
            continue
        if leftover.name.endswith(_OLD) and not (folder / name).exists():
            os.replace(leftover, folder / name)
        else:
            shutil.rmtree(leftover, ignore_errors=True)


def _sync(path: Path) -> None:
    """Waits until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str | Path, value: object) -> None:
    """Writes `value` as indented JSON."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
