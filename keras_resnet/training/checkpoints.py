"""Checkpoints: all that a run needs to resume, in one file each.

A file is an npz archive of plain arrays (never pickles) plus `details`, a JSON text that holds
the run's settings and a SHA-256 of everything else; the archive has a CRC-32 of every array too.
Arrays of bfloat16 and other types that are not NumPy's own are stored as whole numbers of the same
bytes, with the names of their types in the details. A file is written atomically; the newest few
are kept. A damaged file is reported, and the one before it is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from keras_resnet.training.stopping import TrainingStopped
from keras_resnet.utils import checks
from keras_resnet.utils.archives import open_archive, read_array
from keras_resnet.utils.files import clear_leftovers, parse_json, replacing


class DamagedCheckpointError(Exception):
    """The file is not a whole checkpoint."""


class Checkpoint(NamedTuple):
    """Content of a file: the state by name, and what else the run has to know as JSON."""

    arrays: dict[str, np.ndarray]
    details: dict


class Checkpoints:
    """The checkpoints of one run in a directory of their own.

    Args:
        directory: Where the files lie; made when the first one is written.
        every: Steps from one checkpoint to the next; None for one per epoch.
        keep: Number of files to keep; more than one, so that a damaged one costs little.
        config: The run's settings, as JSON can hold them. A run with others is refused; a setting
            that only one of the two has is no difference, so that settings can be added.

    Attributes:
        on_save: Called after each one is saved, and old ones are deleted.

    Raises:
        ValueError: `every` or `keep` below 1.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        *,
        every: int | None = None,
        keep: int = 2,
        config: Mapping | None = None,
    ):
        self.directory = Path(directory)
        self.every = None if every is None else checks.integer("every", every)
        self.keep = checks.integer("keep", keep)
        self.config = dict(config or {})
        self.on_save: Callable[[], object] = lambda: None
        self._damaged: set[Path] = set()

    def save(
        self,
        step: int,
        arrays: Mapping[str, np.ndarray],
        settings: Mapping,
        details: Mapping | None = None,
    ) -> Path:
        """Writes the checkpoint of a step, then deletes those that are too old; returns its path.

        Damaged ones that `newest` passed over are renamed to `.npz.damaged` and kept.

        Args:
            step: Steps done.
            arrays: The state, by name.
            settings: What a run that resumes from here must have in common with this one.
            details: What else the run has to know, as JSON can hold it.

        Raises:
            TrainingStopped: The file could not be written; older ones are unchanged.
        """
        path = self.directory / f"step-{step:09d}.npz"
        checkpoint = Checkpoint(dict(arrays), {**(details or {}), "settings": self._all(settings)})
        try:
            clear_leftovers(self.directory)
            for damaged in self._damaged:
                # The user may have deleted what was reported.
                with contextlib.suppress(FileNotFoundError):
                    damaged.rename(f"{damaged}.damaged")
            self._damaged.clear()
            with replacing(path) as temporary:
                write_checkpoint(temporary, checkpoint)
            for old in self.paths()[: -self.keep]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise TrainingStopped(
                f"The checkpoint of step {step} could not be written: {error.strerror or error}: "
                f"{str(path)!r}; {self.last_good()}"
            ) from error
        self.on_save()
        return path

    def newest(self, settings: Mapping) -> Checkpoint | None:
        """Returns the newest checkpoint that is whole, or None; warns of every damaged file.

        Args:
            settings: Must equal the `settings` in the checkpoint's details.

        Raises:
            ValueError: The checkpoint belongs to a run with other settings.
            OSError: A file that may be good cannot be read.
        """
        for path in reversed(self.paths()):
            try:
                checkpoint = read_checkpoint(path)
            except DamagedCheckpointError as error:
                warnings.warn(f"Passed over a damaged checkpoint: {path}: {error}", stacklevel=2)
                self._damaged.add(path)
                continue
            saved = checkpoint.details["settings"]
            for key, value in self._all(settings).items():
                if key in saved and value != saved[key]:
                    raise ValueError(
                        f"`checkpoints` must be those of a run with the same {key}; use a new "
                        f"directory. Received: {key}={value!r}, where "
                        f"{str(self.directory)!r} has {saved[key]!r}"
                    )
            return checkpoint
        return None

    def paths(self) -> list[Path]:
        """Returns the files that are not known to be damaged, oldest first."""
        files = set(self.directory.glob("step-*.npz")) - self._damaged
        named = (file for file in files if re.fullmatch(r"step-\d{9,}\.npz", file.name))
        return sorted(named, key=lambda file: int(file.stem[5:]))

    def last_good(self) -> str:
        """Returns half a sentence that names the newest checkpoint, for messages."""
        paths = self.paths()
        return f"the last good checkpoint is {paths[-1]}" if paths else "there is no checkpoint yet"

    def _all(self, settings: Mapping) -> dict:
        # Through JSON, as the file's went: tuples become lists.
        return json.loads(json.dumps({**self.config, **settings}))


def write_checkpoint(path: str | os.PathLike, checkpoint: Checkpoint) -> None:
    """Writes one checkpoint file; `Checkpoints.save` does it atomically."""
    arrays = {name: np.asarray(array) for name, array in checkpoint.arrays.items()}
    others = {name: array for name, array in arrays.items() if array.dtype.isbuiltin == 2}
    details = dict(checkpoint.details)
    if others:
        # NumPy writes them as bytes without a type.
        details["dtypes"] = {name: array.dtype.name for name, array in others.items()}
        arrays |= {name: array.view(f"u{array.itemsize}") for name, array in others.items()}
    details["sha256"] = _digest(Checkpoint(arrays, details))
    members: dict = {"details": np.frombuffer(json.dumps(details).encode(), np.uint8), **arrays}
    with open(path, "wb") as file:
        np.savez(file, **members)


def read_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Reads one checkpoint file and verifies it against its checksum.

    Raises:
        DamagedCheckpointError: The file is cut off, altered, or no checkpoint at all.
        OSError: The file may be good, but cannot be read.
    """
    try:
        with open(path, "rb") as file, open_archive(file) as archive:
            names = archive.namelist()
            arrays = {name.removesuffix(".npy"): read_array(archive.read(name)) for name in names}
        details = parse_json(arrays.pop("details").tobytes())
        expected = details.pop("sha256")
        if _digest(Checkpoint(arrays, details)) != expected:
            raise ValueError("its content does not have the SHA-256 that it names")
        for name, dtype in details.pop("dtypes", {}).items():
            arrays[name] = arrays[name].view(getattr(ml_dtypes, dtype))
        return Checkpoint(arrays, {**details, "settings": dict(details["settings"])})
    except (OSError, MemoryError):
        raise
    except Exception as error:
        # A damaged archive can fail in any way that zipfile, numpy and json know.
        reason = f"{type(error).__name__}: {checks.first_line(error)}"
        raise DamagedCheckpointError(reason) from error


def _digest(checkpoint: Checkpoint) -> str:
    digest = hashlib.sha256(json.dumps(checkpoint.details, sort_keys=True).encode())
    for name, array in sorted(checkpoint.arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
