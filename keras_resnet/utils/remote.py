"""Files on remote file systems, at addresses such as gs://bucket/photos, by way of fsspec.

Any scheme that fsspec knows will do; those of https://, http:// and hf:// have other readers.
`local_copy` gives a folder or file at an address a copy under Keras's cache (`KERAS_HOME` or
`~/.keras`), in `keras_resnet/remote/copies`. Each time it is asked for, the files there are listed,
those that are new or changed are copied, and those that are gone are deleted from the copy. A file
gets its name when all of it is there. Credentials and endpoints are those of the file system's own
package (gcsfs, s3fs, adlfs), or of fsspec's configuration: `FSSPEC_S3_ENDPOINT_URL` and the like.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import logging
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import filelock

from keras_resnet.utils.checks import first_line
from keras_resnet.utils.download import keras_cache
from keras_resnet.utils.files import clear_leftovers, parse_json, replacing, write_json

logger = logging.getLogger(__name__)

# Of https, http and hf there are other readers.
_ADDRESS = re.compile(r"(?!(?:https?|hf)://)[a-z][a-z0-9+.-]*://")
# Where a file that is being written cannot be seen.
_OBJECT_STORES = {"gs", "gcs", "s3", "s3a", "az", "abfs", "abfss", "oss"}
# What file systems tell of a file, of which something changes when the file does.
_TELLING = set(
    "size etag md5hash crc32c generation mtime modified lastmodified updated created".split()
)
_WRITING = ".writing-"
# Files that are copied at a time and that wait for it; seconds between two messages, and between
# two notes of what was copied, for the case of a kill.
_AT_A_TIME, _WAITING, _PAUSE, _SAVING = 8, 1000, 5.0, 30.0


class RemoteFile(NamedTuple):
    """A file: its path on its file system, its bytes where known, and what changes with it."""

    path: str
    size: int | None
    stamp: str


def is_remote(path: object) -> bool:
    """Returns whether a path is an address of a remote file system."""
    return isinstance(path, str) and _ADDRESS.match(path) is not None


def local_path(argument: str, path: str | Path) -> Path:
    """Returns a path to write to, of a function that writes to no address.

    Raises:
        ValueError: If it is an address, naming the `argument`.
    """
    if is_remote(path):
        raise ValueError(f"`{argument}` must be a local path. Received: {argument}={path!r}")
    return Path(path)


def cached(kind: str, address: str) -> Path:
    """Returns the place of an address in the cache; the last part of both names is the same."""
    digest = hashlib.sha256(address.rstrip("/").encode()).hexdigest()[:16]
    name = address.rstrip("/").rpartition("/")[2]
    name = "root" if name in ("", ".", "..") else name
    return keras_cache("keras_resnet") / "remote" / kind / digest / name


def open_address(argument: str, address: str) -> tuple[Any, str]:
    """Returns the file system of an address, and the path there.

    Raises:
        ImportError: If the package that reads it is not installed; the message names it.
        ValueError: If there is no such file system, naming the `argument`.
    """
    try:
        import fsspec
    except ImportError as error:
        raise ImportError(f"Addresses such as {address} need fsspec: pip install fsspec") from error
    try:
        fs, root = fsspec.core.url_to_fs(address.rstrip("/"))
    except ImportError as error:
        raise ImportError(f"`{argument}` {address!r}: {first_line(error)}") from error
    except ValueError as error:
        raise ValueError(
            f"`{argument}` must be a local path, or an address that fsspec knows. "
            f"Received: {argument}={address!r} ({first_line(error)})"
        ) from error
    return fs, root


@contextlib.contextmanager
def reaching(address: str, to: str = "read") -> Iterator[None]:
    """Raises whatever a file system raises as an OSError of one line that names the address."""
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        raise OSError(f"{address} cannot be {to}: {first_line(error)}") from error


def list_files(fs: Any, root: str) -> dict[str, RemoteFile]:
    """Returns the files in a folder by their names relative to it; none if there is no folder.

    Raises:
        ValueError: If a name leads out of the folder.
    """
    fs.invalidate_cache()
    found, prefix = {}, root.rstrip("/") + "/"
    for path, info in fs.find(root, detail=True).items():
        name = path.removeprefix(prefix)
        # Stores have objects for folders, and `root` is a file's own path.
        if name == path or name.endswith("/") or is_being_written(name):
            continue
        if {"", ".", ".."} & set(name.split("/")):
            raise ValueError(f"Names must have no empty part and no '..'. Received: {path!r}")
        found[name] = _remote_file(path, info)
    return found


def local_copy(argument: str, address: str, beside: Sequence[str] = ()) -> Path:
    """Returns the local copy of a file or folder at an address, after it was brought up to date.

    Args:
        argument: Name of the argument that has the address, for errors.
        address: That of a file or folder.
        beside: Names of files that are copied with a file, where they are in its folder.

    Raises:
        ImportError: As `open_address`.
        ValueError: If there is nothing at the address.
        OSError: If it cannot be read, or copied.
    """
    fs, root = open_address(argument, address)
    target = cached("copies", address)
    target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(target.parent / ".lock"), reaching(address):
        fs.invalidate_cache()
        folder, state = target, target.parent / ".state.json"
        if fs.isfile(root):
            folder, (parent, _, own) = target.parent, root.rpartition("/")
            paths = {name: f"{parent}/{name}" for name in (own, *beside)}
            files = {n: _remote_file(p, fs.info(p)) for n, p in paths.items() if fs.isfile(p)}
        else:
            files = list_files(fs, root)
        if not files:
            raise ValueError(
                f"`{argument}` must be an existing file or folder. "
                f"Received: {argument}={address!r}, where there is nothing"
            )
        known: dict[str, str] = parse_json(state.read_bytes()) if state.exists() else {}
        for name in known.keys() - files.keys():
            (folder / name).unlink(missing_ok=True)
        known = {n: s for n, s in known.items() if n in files and _is_whole(folder / n, files[n])}
        due = {name: file for name, file in files.items() if known.get(name) != file.stamp}
        saved = time.monotonic()
        try:
            for name in fetch(fs, due, folder, address):
                known[name] = files[name].stamp
                if time.monotonic() - saved > _SAVING:
                    write_json(state, known)
                    saved = time.monotonic()
        finally:
            write_json(state, known)
    return target


def fetch(fs: Any, files: Mapping[str, RemoteFile], folder: Path, address: str) -> Iterator[str]:
    """Copies files to a folder, atomically each, and yields their names as they are there.

    Logs how far it is every few seconds.
    """
    if not files:
        return
    from fsspec.callbacks import Callback

    total, told = sum(file.size or 0 for file in files.values()) / 1e6, time.monotonic()
    logger.info(f"{address}: copying {len(files):,} files, {total:,.1f} MB, to {folder}")

    def tell(size: int | None, value: int, **_: object) -> None:
        nonlocal told
        if time.monotonic() - told >= _PAUSE:
            told = time.monotonic()
            logger.info(f"{address}: {value / 1e6:,.1f} of {total:,.1f} MB copied")

    progress = Callback(hooks={"tell": tell})

    def copy(name: str) -> str:
        with replacing(folder / name) as temporary:
            fs.get_file(files[name].path, str(temporary), callback=progress)
            if not _is_whole(temporary, files[name]):
                raise OSError(f"{name} was cut off, or changed meanwhile")
        return name

    for parent in {(folder / name).parent for name in files}:
        clear_leftovers(parent)
    pool = concurrent.futures.ThreadPoolExecutor(_AT_A_TIME)
    names = list(files)
    try:
        for first in range(0, len(names), _WAITING):
            copies = [pool.submit(copy, name) for name in names[first : first + _WAITING]]
            for done in concurrent.futures.as_completed(copies):
                yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def upload(fs: Any, file: Path, path: str) -> None:
    """Copies a local file to a path of a file system, atomically."""
    if _is_object_store(fs):
        fs.put_file(str(file), path)
        return
    parent, _, name = path.rpartition("/")
    make_folder(fs, parent)
    fs.put_file(str(file), f"{parent}/{_WRITING}{name}")
    fs.mv(f"{parent}/{_WRITING}{name}", path)


def make_folder(fs: Any, path: str) -> None:
    """Creates a folder, where a file system has any."""
    if not _is_object_store(fs):
        fs.makedirs(path, exist_ok=True)


def is_being_written(name: str) -> bool:
    """Returns whether a file, by its relative name, is a part of one, as `upload` leaves it."""
    return any(part.startswith(_WRITING) for part in name.split("/"))


@contextlib.contextmanager
def written(argument: str, path: str | Path, *, overwrite: bool) -> Iterator[Path]:
    """Yields the local path to write a file or folder to, which is copied to an address then.

    That is `path` itself if it is no address. `overwrite` replaces files of the same names only.

    Raises:
        ValueError: If there is something at the address, without `overwrite`.
    """
    if not is_remote(path):
        yield Path(path)
        return
    address = str(path)
    fs, root = open_address(argument, address)
    with reaching(address):
        fs.invalidate_cache()
        taken = fs.isfile(root) or bool(list_files(fs, root))
    if taken and not overwrite:
        raise ValueError(
            f"`{argument}` must be a new address, or `overwrite` be True. "
            f"Received: {argument}={address!r}"
        )
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / cached("copies", address).name
        yield local
        with reaching(address, to="written"):
            files = [file for file in (local, *local.rglob("*")) if file.is_file()]
            # A folder's main files are at its top, and refer to those further down.
            for file in sorted(files, key=lambda file: (-len(file.parts), file)):
                upload(fs, file, f"{root}/{file.relative_to(local).as_posix()}".removesuffix("/."))


def _remote_file(path: str, info: Mapping[str, Any]) -> RemoteFile:
    told = {key.lower().replace("_", ""): str(value) for key, value in info.items()}
    stamp = ", ".join(f"{key} {told[key]}" for key in sorted(_TELLING & told.keys()))
    return RemoteFile(path, info.get("size"), hashlib.sha256(stamp.encode()).hexdigest()[:16])


def _is_object_store(fs: Any) -> bool:
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    return bool(protocols & _OBJECT_STORES)


def _is_whole(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and file.size in (None, path.stat().st_size)
