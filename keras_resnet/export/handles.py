"""Handles of TF Hub modules: paths, or addresses whose modules are downloaded once and kept.

The cache is TensorFlow Hub's own, `TFHUB_CACHE_DIR`: that library finds what is stored here, and
the other way round.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import re
import stat
import tarfile
import tempfile
import urllib.parse
import zlib
from pathlib import Path

import filelock

from keras_resnet.export.trust import is_trusted, module_checksum, trust_checksum
from keras_resnet.export.verification import SAVED_MODEL, sha256_of_file
from keras_resnet.utils.archives import leads_outside
from keras_resnet.utils.checks import first_line
from keras_resnet.utils.download import fetch
from keras_resnet.utils.files import clear_leftovers, replacing, write_text

# Limits of one module, unpacked. The largest published ones have a few gigabytes.
UNPACKED_BYTES = 8 << 30
UNPACKED_FILES = 10_000

# Errors of tarfile and gzip for damaged archives, and of the system for entries that clash.
_DAMAGE = (
    *(tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError),
    *(FileExistsError, NotADirectoryError, IsADirectoryError),
)

# Query that asks a server for a module's archive.
_FORMAT = ("tf-hub-format", "compressed")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CHUNK = 1 << 20
# Lines of a descriptor beside the handle.
_ARCHIVE, _CONTENT = "Archive SHA-256: ", "Content SHA-256: "
# Letters of an entry's path; those of modules have some 50.
_LONGEST_NAME = 255


def module_directory(handle: str, sha256: str | None = None, *, download: bool = True) -> Path:
    """Returns the directory of a module, and downloads the module if need be.

    An address is that of an archive (.tar.gz), or of a module on a server that gives its archive
    when asked with `tf-hub-format=compressed`, as tfhub.dev does. A module in the cache is verified
    each time, and downloaded again if it is not what was unpacked there, or was not verified
    against `sha256`. Modules that TensorFlow Hub's library put there have no checksum.

    Raises:
        ValueError: If the handle is neither a path nor an address, the module may not be
            downloaded, or its archive or the cache is unsafe.
        OSError: If it cannot be downloaded.
    """
    if sha256 is not None and not re.fullmatch("[0-9a-f]{64}", str(sha256)):
        raise ValueError(f"`sha256` must be 64 hexadecimal digits. Received: sha256={sha256!r}")
    if "://" not in handle:
        if sha256 is not None:
            raise ValueError(
                "`sha256` is that of a downloaded archive; leave it out for a directory. "
                f"Received: sha256={sha256!r} with handle={handle!r}"
            )
        return Path(handle)
    try:
        url = urllib.parse.urlsplit(handle)
        _ = url.port  # It is parsed only now.
    except ValueError as error:
        raise ValueError(
            f"`handle` must be a whole address. Received: handle={handle!r} ({error})"
        ) from error
    if url.scheme != "https" and not (url.scheme == "http" and url.hostname in _LOOPBACK):
        raise ValueError(
            "`handle` must be the path of a module on this machine, or begin with 'https://'. "
            f"Received: handle={handle!r}"
        )
    if "#" in handle:
        raise ValueError(
            "`handle` must be an address without '#', which no server is asked for; one in a name "
            f"is written %23. Received: handle={handle!r}"
        )
    # As TensorFlow Hub names it.
    place = cache_directory() / hashlib.sha1(handle.encode()).hexdigest()
    if not _is_kept(place, sha256):
        if not download:
            raise ValueError(
                "A file may not have its module downloaded by being loaded; if you trust the "
                f"address, call keras_resnet.export.HubLayer({handle!r}, sha256={sha256!r}) first. "
                f"Received: handle={handle!r}, which is not in {place.parent}"
            )
        if not url.path.endswith((".tar.gz", ".tgz")):
            query = [pair for pair in urllib.parse.parse_qsl(url.query) if pair[0] != _FORMAT[0]]
            url = url._replace(query=urllib.parse.urlencode([*query, _FORMAT]))
        _keep(handle, url.geturl(), place, sha256)
    return place


def trusted_directory(handle: str, sha256: str | None = None) -> Path:
    """Returns the directory of a module that a file names, if the file may have it run.

    That is a module in the cache that was verified now, one that this process has loaded, or one of
    `trust_module`.

    Raises:
        ValueError: If it is none of these, or as `module_directory` raises. Nothing is downloaded.
    """
    directory = module_directory(handle, sha256, download=False)
    if "://" in handle and _recorded(directory):
        return directory
    if (directory / SAVED_MODEL).is_file() and not is_trusted(module_checksum(directory)):
        raise ValueError(
            "A file may not have a module run that this process has not loaded, and that has no "
            "checksum in the cache, since loading it runs the code in its graph; if you trust it, "
            f"call keras_resnet.export.trust_module({handle!r}) first. Received: handle={handle!r}"
        )
    return directory


def trust_module(handle: str | Path, sha256: str | None = None) -> None:
    """Allows files that are loaded by this process to run a module, as it is now.

    The module of a `HubLayer` in a `.keras` file is run only if it is in TensorFlow Hub's cache
    with its checksum, where calling `HubLayer` with an address puts it, if this process has called
    `HubLayer` with it, or after this. Loading it runs the code in its graph.

    Args:
        handle: Path of its directory, or its address, which is downloaded if need be.
        sha256: Checksum of the archive that an address leads to.

    Raises:
        ValueError: If there is no module.
        OSError: If it cannot be downloaded.
    """
    directory = module_directory(str(handle), sha256)
    if not (directory / SAVED_MODEL).is_file():
        raise ValueError(
            "`handle` must be the directory of a SavedModel, with a file saved_model.pb. "
            f"Received: handle={str(handle)!r}"
        )
    trust_checksum(module_checksum(directory))


def cache_directory() -> Path:
    """Returns TensorFlow Hub's cache: `TFHUB_CACHE_DIR`, or its folder among temporary files.

    That folder must be this user's own, since others could put any module there.
    """
    if chosen := os.environ.get("TFHUB_CACHE_DIR"):
        return Path(chosen)
    default = Path(tempfile.gettempdir()) / "tfhub_modules"
    with contextlib.suppress(FileExistsError):  # Checked below.
        default.mkdir(mode=0o700)
    found = default.lstat()
    if hasattr(os, "getuid") and (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid not in (os.getuid(), 0)
        or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        raise ValueError(
            "TFHUB_CACHE_DIR must name a folder of your own, since the one by default can be "
            f"written by others. Received: TFHUB_CACHE_DIR={chosen!r} with {str(default)!r}"
        )
    return default


def _is_kept(place: Path, sha256: str | None) -> bool:
    """Returns whether the cache has a module, undamaged as far as it has a checksum there."""
    if not (place / SAVED_MODEL).is_file():
        return False
    recorded = _recorded(place)
    if recorded and recorded != module_checksum(place):
        return False
    return sha256 is None or bool(recorded and f"{_ARCHIVE}{sha256}" in _description(place))


def _recorded(place: Path) -> str | None:
    """Returns the checksum that a module in the cache had when it was unpacked, None if unknown."""
    found = (line for line in _description(place) if line.startswith(_CONTENT))
    return next((line.removeprefix(_CONTENT) for line in found), None)


def _description(place: Path) -> list[str]:
    file = _descriptor(place)
    return file.read_text("utf-8", "replace").splitlines() if file.is_file() else []


def _descriptor(place: Path) -> Path:
    """Returns the file in which TensorFlow Hub too says what a directory of the cache holds."""
    return place.with_name(f"{place.name}.descriptor.txt")


def _keep(handle: str, url: str, place: Path, sha256: str | None) -> None:
    """Downloads and unpacks a module, while other processes that want it wait."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{place}.locked"):
        if _is_kept(place, sha256):
            return
        clear_leftovers(place.parent, place.name)
        try:
            with replacing(place) as temporary:
                archive = fetch(url, temporary.with_name("module.tar.gz"), sha256)
                _unpack(archive, temporary)
                digest = sha256_of_file(archive)
                archive.unlink()  # A process killed after the renaming would leave it for good.
                content = module_checksum(temporary)
                # So that no module stands under the checksum of another, whenever this ends.
                _descriptor(place).unlink(missing_ok=True)
            lines = f"Module: {handle}", f"{_ARCHIVE}{digest}", f"{_CONTENT}{content}"
            write_text(_descriptor(place), "".join(f"{line}\n" for line in lines))
        except ValueError as error:
            raise ValueError(f"{error}. Received: handle={handle!r}") from error


def _unpack(archive: Path, directory: Path) -> None:
    """Unpacks a .tar.gz into a new directory, which holds a part of it after an error."""
    try:
        with _Chunks(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # From Python 3.11.4 on.
            tar.extractall(directory, members=map(_checked, tar, range(UNPACKED_FILES + 1)))
            while stream.read(_CHUNK):  # gzip's checksum is behind what tarfile reads.
                pass
    except _DAMAGE as error:
        raise ValueError(
            f"An archive of a module must be a safe, whole .tar.gz: {first_line(error)}"
        ) from error
    if not (directory / SAVED_MODEL).is_file():
        raise ValueError(f"An archive of a module must hold {SAVED_MODEL}; this has none")


class _Chunks(gzip.GzipFile):
    """A file that limits what tarfile reads, long names of whatever length they claim included."""

    total = 0

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _CHUNK:
            raise tarfile.ReadError(f"a header of it claims {size:,} bytes")
        content = super().read(size)
        self.total += len(content)
        if self.total > UNPACKED_BYTES:
            raise tarfile.ReadError(f"it has more than {UNPACKED_BYTES:,} bytes")
        return content


def _checked(member: tarfile.TarInfo, index: int) -> tarfile.TarInfo:
    if len(member.name) > _LONGEST_NAME:
        raise ValueError(f"its entry {member.name[:40]!r}... has a name that is too long")
    if leads_outside(member.name) or ":" in member.name:  # a stream of a file, on Windows
        raise ValueError(f"its entry {member.name!r} leads outside of the module")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise ValueError(f"its entry {member.name!r} is neither a file nor a directory")
    if index == UNPACKED_FILES:
        raise ValueError(f"it has more than {UNPACKED_FILES:,} entries")
    return member
