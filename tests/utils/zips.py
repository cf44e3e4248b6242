"""Hostile zip archives."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence


def zipped(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Returns an archive of contents by name."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def split(data: bytes) -> tuple[bytes, bytes]:
    """Returns what an archive has before its directory, and the directory."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return data[: archive.start_dir], data[archive.start_dir : -22]


def joined(members: bytes, directory: bytes, count: int) -> bytes:
    """Returns the archive of members and a directory of so many entries."""
    sizes = (0, 0, count % 2**16, count % 2**16, len(directory), len(members), 0)
    return members + directory + struct.pack("<4s4H2IH", b"PK\5\6", *sizes)


def overlapping(data: bytes, names: Sequence[str], size: int = 1 << 16) -> bytes:
    """Adds members that hold each other: each the header and content of the next one.

    All have right checksums, and of `size` bytes they make `len(names)` times as many.
    """
    begin, directory = split(data)
    count = len(zipfile.ZipFile(io.BytesIO(data)).infolist()) + len(names)
    content, added = bytes(size), b""
    for i, name in reversed([*enumerate(names)]):
        place = len(begin) + sum(30 + len(before) for before in names[:i])
        content, entry = split(zipped({name: content}))
        added = entry[:42] + struct.pack("<I", place) + entry[46:] + added
    return joined(begin + content, directory + added, count)
