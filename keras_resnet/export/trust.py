"""Modules that a file may have run: those that this process has loaded, or its caller trusts.

A SavedModel's resource initializers run while it is loaded, so a file that names a module would run
the graph of any folder on the machine. Modules are told by their content, not by their place.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from keras_resnet.export.verification import sha256_of_file

# More than any module has.
MOST_FILES = 10_000
_trusted: set[str] = set()


def trust_checksum(checksum: str) -> None:
    """Notes that this process may load modules of that checksum because a file names them."""
    _trusted.add(checksum)


def is_trusted(checksum: str) -> bool:
    """Returns whether a module of that checksum may be loaded because a file names it."""
    return checksum in _trusted


def module_checksum(directory: Path) -> str:
    """Returns the SHA-256 of the names and contents of all files in a module's directory.

    Raises:
        ValueError: If it holds something other than files and directories, or too many.
    """
    content = hashlib.sha256()
    files: list[Path] = []
    for place, folders, names in os.walk(directory, followlinks=True):
        folders.sort()
        files += [Path(place, name) for name in names]
        if len(files) > MOST_FILES or len(Path(place).parts) > len(directory.parts) + 50:
            raise ValueError(
                f"`handle` must be the directory of a module, of at most {MOST_FILES:,} files. "
                f"Received: handle={str(directory)!r}"
            )
    for path in sorted(files):
        if not path.is_file():  # A pipe may block for good when it is opened.
            raise ValueError(
                "`handle` must be the directory of a module, of files and directories only. "
                f"Received: handle={str(directory)!r}, with {str(path)!r}"
            )
        name = os.fsencode(path.relative_to(directory).as_posix())
        content.update(f"{sha256_of_file(path)} {len(name)} ".encode() + name)
    return content.hexdigest()
