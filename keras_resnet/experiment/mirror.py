"""A run in a folder at an address such as gs://bucket/run, kept in step with a local one.

The run works in a local folder in Keras's cache, `keras_resnet/remote/runs`, always the same one
for an address. When it starts, the folder is filled from the address: a machine that has none of it
gets all of it, and the machine that wrote it last keeps what it has, which may be more. After
every checkpoint, every epoch and at the end, what has changed, by SHA-256, is uploaded: metrics and
other files first, then checkpoints, metrics.json (which says that the run is finished), mirror.json
(which lists the files), and then what was deleted here is deleted there. A run that is killed
anywhere in between resumes from the address on any machine. An upload that fails is a warning, and
tried again with the next one; at the end it is an error, and the same command tries it again.

`.mirror.lock` at the address says which process has it, and is written anew every minute. It is
void when its process ended on this machine, or has not written it for ten minutes; the clocks of
the machines must agree to some minutes. A process that finds it taken ends itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import socket
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_resnet.experiment.workdir import LOCK, in_use, read_object
from keras_resnet.training import TrainingStopped
from keras_resnet.utils import remote
from keras_resnet.utils.checks import first_line
from keras_resnet.utils.files import parse_json, write_json

logger = logging.getLogger(__name__)

# Lists the files at the address, and names the copy that wrote them; here it only has that name.
INDEX, REMOTE_LOCK = "mirror.json", ".mirror.lock"
# Seconds from one writing of the lock to the next, and until it is void.
BEAT, VOID = 60.0, 600.0


@contextlib.contextmanager
def mirrored(address: str) -> Iterator[Mirror]:
    """Yields a `Mirror` that has the lock of its address and is filled, and uploads it at the end.

    Where nothing came into it, nothing is left behind.

    Raises:
        ValueError: If another process has the address, or there is no such file system.
        ImportError: If the package that reads it is not installed.
        OSError: If it cannot be read or, in the end, written.
        TrainingStopped: If another process has taken the address.
    """
    mirror = Mirror(address)
    with in_use(mirror.folder):
        with remote.reaching(address):
            mirror.begin()
        try:
            logger.info(f"{address} is kept in step with {mirror.folder}")
            yield mirror
        except BaseException:
            with contextlib.suppress(TrainingStopped):
                mirror.push()
            raise
        else:
            mirror.push(last=True)
            logger.info(f"{address} has all of it, too")
        finally:
            mirror.end()


class Mirror:
    """A local folder, and the address that its files are uploaded to; `mirrored` makes it.

    Attributes:
        address: The address.
        folder: The local folder.
    """

    def __init__(self, address: str):
        self.address = address
        self.folder = remote.cached("runs", address)
        self._fs, self._root = remote.open_address("workdir", address)
        self._there: dict[str, str] = {}  # SHA-256 of the files at the address
        self._listed: dict[str, str] = {}  # the same, as mirror.json has it
        self._digests: dict[tuple, str] = {}
        self._written = 0.0  # the lock, in seconds
        name = f"process {os.getpid()} on {socket.gethostname()}"
        self._own = {"process": name, "token": uuid.uuid4().hex}
        self._holding, self._ended = threading.Lock(), threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def address_of(self, path: Path) -> str:
        """Returns the address of a file or folder in the local folder, or of that itself."""
        return "/".join([self.address.rstrip("/"), *path.relative_to(self.folder).parts])

    def begin(self) -> None:
        """Takes the lock, and fills the folder from the address."""
        fresh = not (self.folder / INDEX).exists()
        if fresh:
            write_json(self.folder / INDEX, {"copy": uuid.uuid4().hex})
        self._own["copy"] = str(read_object(self.folder / INDEX).get("copy"))
        try:
            self._hold(first=True)
        except BaseException:
            if fresh:
                (self.folder / INDEX).unlink()
            raise
        self._heart.start()
        try:
            self._fill(fresh)
        except BaseException:
            self.end()
            raise

    def push(self, *, last: bool = False) -> None:
        """Uploads what has changed; a failure is a warning, or an OSError if this is the `last`."""
        try:
            self._push()
        except TrainingStopped:
            raise
        except Exception as error:
            what = f"{self.address} could not be brought up to date ({first_line(error)})"
            where = f"everything lies in {self.folder}"
            if last:
                raise OSError(f"{what}; {where}, and the same command tries it again") from error
            warnings.warn(f"{what}; {where}, and it is tried again next time", stacklevel=2)

    def end(self) -> None:
        """Gives the lock back."""
        self._ended.set()
        self._heart.join()
        empty = not (self._there or self._files())
        if empty:
            (self.folder / INDEX).unlink(missing_ok=True)
        # Without it, the lock is void before long.
        with contextlib.suppress(Exception):
            if (self._read(REMOTE_LOCK) or {}).get("token") == self._own["token"]:
                for name in (INDEX, REMOTE_LOCK) if empty else (REMOTE_LOCK,):
                    with contextlib.suppress(FileNotFoundError):
                        self._fs.rm_file(f"{self._root}/{name}")

    def _fill(self, fresh: bool) -> None:
        files = remote.list_files(self._fs, self._root)
        index, here = self._read(INDEX), self._files()
        for name in (INDEX, REMOTE_LOCK):
            files.pop(name, None)
        if index is not None and not {"copy", "files"} <= index.keys():
            index = None  # damaged
        if index is not None:
            self._there = {name: sha for name, sha in index["files"].items() if name in files}
            files = {name: files[name] for name in self._there}
        elif here and not fresh and not files:
            raise ValueError(
                "`workdir` must hold what its local copy was uploaded as; delete the copy to begin "
                f"anew. Received: workdir={self.address!r}, which is empty, with {self.folder}"
            )
        else:  # Put there by other means, so that nothing tells its content.
            self._there = dict.fromkeys(files, "")
        # Here may be more than was uploaded, but what another machine wrote comes after it.
        newest = index is not None and index["copy"] == self._own["copy"]
        if not newest:
            for name in here - files.keys() if files else ():
                (self.folder / name).unlink()
            here = {
                name for name in here & files.keys() if self._digest(name) == self._there.get(name)
            }
        due = {name: file for name, file in files.items() if name not in here}
        for _ in remote.fetch(self._fs, due, self.folder, self.address):
            pass
        if not newest:
            self._write(INDEX, {"copy": self._own["copy"], "files": self._there})
        self._listed = dict(self._there)

    def _push(self) -> None:
        self._hold()
        here = self._files()
        for name in sorted(here, key=lambda name: (_rank(name), name)):
            digest = self._digest(name)
            if self._there.get(name) != digest:
                remote.upload(self._fs, self.folder / name, f"{self._root}/{name}")
                self._there[name] = digest
        files = {name: self._there[name] for name in sorted(here)}
        if files != self._listed:
            self._write(INDEX, {"copy": self._own["copy"], "files": files})
            self._listed = files
        for name in self._there.keys() - here:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(f"{self._root}/{name}")
            del self._there[name]

    def _hold(self, *, first: bool = False) -> None:
        """Writes the lock; raises an error if it is another process's."""
        with self._holding:
            content = {**self._own, "time": time.time()}
            held = self._read(REMOTE_LOCK)
            if held is None and first:
                remote.make_folder(self._fs, self._root)
                data = json.dumps(content).encode()
                with contextlib.suppress(FileExistsError):
                    self._fs.pipe_file(f"{self._root}/{REMOTE_LOCK}", data, mode="create")
                held = self._read(REMOTE_LOCK)
            if held is not None and held.get("token") != self._own["token"]:
                user = held.get("process", "another process")
                if not first:
                    raise TrainingStopped(f"{self.address} was taken by {user}")
                age = time.time() - held.get("time", time.time())
                # The lock of the local folder is this process's.
                if held.get("copy") != self._own["copy"] and age < VOID:
                    raise ValueError(
                        "`workdir` must be an address that no other process uses. Received: "
                        f"workdir={self.address!r}, in use by {user}, which was there {age:.0f} s "
                        f"ago; if it is gone, delete {REMOTE_LOCK} there, or wait {VOID:.0f} s"
                    )
                logger.info(f"{self.address}: taken over from {user}, which is gone")
            elif held is not None and time.time() - self._written < BEAT / 2:
                return  # Stores allow an object so many writings only.
            self._write(REMOTE_LOCK, content)
            self._written = time.time()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            # What is wrong is for `push` to say.
            with contextlib.suppress(Exception):
                self._hold()

    def _files(self) -> set[str]:
        names = (path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())
        return {
            name.as_posix()
            for name in names
            if name.name not in (LOCK, INDEX) and not remote.is_being_written(name.as_posix())
        }

    def _digest(self, name: str) -> str:
        path = self.folder / name
        status = path.stat()
        key = (name, status.st_size, status.st_mtime_ns, status.st_ino)
        if key not in self._digests:
            with path.open("rb") as file:
                self._digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digests[key]

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            value = parse_json(self._fs.cat_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            return None
        except ValueError:
            value = None
        return value if isinstance(value, dict) else {}

    def _write(self, name: str, value: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            write_json(Path(folder) / name, value)
            remote.upload(self._fs, Path(folder) / name, f"{self._root}/{name}")


def _rank(name: str) -> int:
    """Returns the place of a file in the order of uploads."""
    *folders, last = name.split("/")
    return 2 if last == "metrics.json" else int("checkpoints" in folders)
