"""Atomic writing of files and folders; JSON of files."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_resnet.utils.escapes import visible

# Bytes of a name that leave room for what is put around it, of the 255 that file systems allow.
_LONGEST_NAME = 230
# Prefix of what is being written, and suffix of a folder that is being replaced.
_WRITING = ".writing-"
_OLD = ".old"
# Disk or quota full, file too large, disk broken, read-only, not permitted.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, and renames what was written there to `path`.

    On an error, `path` is unchanged and nothing is left behind. The temporary name keeps the
    suffixes, since some writers choose their format by them. Parents are created. A folder replaces
    an old file or folder by two renames; between them there is neither, but never a half-written
    one. Errors of the system that name no file, such as that of a full disk, name `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f"{_WRITING}{_cut(path.name)}-", dir=path.parent))
    old = None
    try:
        temporary = holder / path.name
        with naming(path):
            yield temporary
        # No name leads to what is not on the disk yet.
        for part in (temporary, *temporary.rglob("*")):
            if not part.is_symlink() and (part.is_file() or part.is_dir()):
                _sync(part)
        if path.exists() and temporary.is_dir():
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
def naming(path: str | Path) -> Iterator[None]:
    """Raises the system's errors in writing a file or folder as an OSError that names it.

    Python names a file only where it cannot be opened. TensorFlow and other libraries in C++ and
    Rust raise errors of classes of their own, with the system's message in theirs.
    """
    try:
        yield
    except Exception as error:
        said = [number for number in _UNWRITABLE if os.strerror(number) in str(error)]
        if not said or getattr(error, "filename", None) is not None:
            raise
        # The library's own line may name another file.
        reason = os.strerror(said[0])
        line = next(line for line in str(error).splitlines() if reason in line)
        line = reason if isinstance(error, OSError) else visible(line.strip())
        raise OSError(said[0], line, str(path)) from error


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
        if (of is not None and _cut(of) != name) or young:
            continue
        name = of or name  # the whole of one that was cut
        if leftover.name.endswith(_OLD) and not (folder / name).exists():
            os.replace(leftover, folder / name)
        else:
            shutil.rmtree(leftover, ignore_errors=True)


def _cut(name: str) -> str:
    """Returns a name of a file, or the beginning of a long one."""
    encoded = os.fsencode(name)
    return encoded[:_LONGEST_NAME].decode("utf-8", "ignore") if encoded[_LONGEST_NAME:] else name


def _sync(path: Path) -> None:
    """Waits until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def parse_json(text: str | bytes, **options: Any) -> Any:
    """Returns the value of a JSON text from a file; `options` are those of `json.loads`.

    Raises:
        ValueError: If it is no JSON, or nested more deeply than Python can follow.
    """
    try:
        return json.loads(text, **options)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def write_json(path: str | Path, value: object) -> None:
    """Writes `value` as indented JSON."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_text(path: str | Path, text: str) -> None:
    """Adds `text` in UTF-8 at the end of a file, of which a failure may leave a part."""
    path = Path(path)
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.write(text)
