"""Zip archives read without trust in what they claim.

Keras, NumPy, PyTorch and this package compress nothing and write one member behind the other. An
archive whose members are compressed or share bytes is refused before any is read, so that no member
takes more memory, and all together no more disk, than the file itself.
"""

from __future__ import annotations

import contextlib
import errno
import io
import math
import struct
import zipfile
from collections.abc import Iterator
from pathlib import PureWindowsPath
from typing import BinaryIO

import numpy as np

from keras_resnet.utils import private

# Bytes of the directory, whose entries take more in memory: some 50,000 members.
_LONGEST_DIRECTORY = 1 << 22
# Bytes in front of a member, beside its name.
_LOCAL_HEADER = 30
# Characters; the header is parsed as Python, and those of numbers have about a hundred.
_LONGEST_HEADER = 1000
_DAMAGE = (zipfile.BadZipFile, struct.error, NotImplementedError, EOFError)


@contextlib.contextmanager
def open_archive(file: BinaryIO) -> Iterator[zipfile.ZipFile]:
    """Opens an archive; `read` of it verifies the checksum (CRC-32) of a member.

    Raises:
        ValueError: If it is no archive, or damaged; if a member is compressed, encrypted, overlaps
            another or has its name, or would be unpacked outside of a folder; or if there are too
            many. Also within the block.
        OSError: If the file cannot be read.
    """
    try:
        entries, size = private.zip_directory(file)
        if size > _LONGEST_DIRECTORY:
            raise ValueError(f"its directory has more than {_LONGEST_DIRECTORY:,} bytes")
        with zipfile.ZipFile(file) as archive:
            if len(archive.infolist()) != entries:
                raise ValueError("its directory has not the entries that it claims")
            _check(archive)
            yield archive
    except _DAMAGE as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise ValueError(str(error)) from error  # a place in the file that cannot be


def _check(archive: zipfile.ZipFile) -> None:
    names, end = set(), archive.start_dir
    for member in sorted(archive.infolist(), key=lambda m: m.header_offset, reverse=True):
        name, size = member.filename, member.file_size
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise ValueError(f"{name!r} in it is compressed or encrypted")
        if name in names or leads_outside(name):
            raise ValueError(f"{name!r} in it leads outside of a folder, or is there twice")
        last = member.header_offset + _LOCAL_HEADER + size
        if member.header_offset < 0 or member.compress_size != size or last > end:
            raise ValueError(f"{name!r} in it has other bytes than it claims")
        names.add(name)
        end = member.header_offset


def leads_outside(name: str) -> bool:
    """Returns whether a member of an archive has a name that some system unpacks elsewhere."""
    path = PureWindowsPath(name)  # which has the separators of all systems
    return bool(path.anchor) or ".." in path.parts


def read_array(content: bytes) -> np.ndarray:
    """Returns the array of a `.npy` file.

    Raises:
        ValueError: If it is no array of numbers, or claims other bytes than it has. For a damaged
            header, whatever NumPy raises.
    """
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("it has an array of another version of NumPy's format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file, _LONGEST_HEADER)
    begin = file.tell()
    if dtype.kind not in "biufc":
        raise ValueError(f"it has an array of {dtype}, which are no numbers")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(content) - begin:
        raise ValueError("it has an array of another size than its header claims")
    return np.ndarray(shape, dtype, content, begin, order="F" if fortran else "C").copy("K")
