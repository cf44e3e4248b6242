"""Class names and preprocessing in files beside a model that cannot hold them itself."""

from __future__ import annotations

from pathlib import Path

from keras_resnet.preprocessing import Preprocessing
from keras_resnet.utils import checks
from keras_resnet.utils.remote import is_remote, local_copy

# Names of the files, beside a model and in exported ones.
LABELS = "labels.txt"
PREPROCESSING = "preprocessing.json"


def local_file(path: str | Path) -> Path:
    """Returns the path of a model's file or folder, copied from an address of a remote file system.

    With a file, what lies beside it is copied, too.
    """
    if is_remote(path):
        return local_copy("path", str(path), beside=(LABELS, PREPROCESSING))
    return Path(path)


def labels_beside(path: Path) -> tuple[str, ...] | None:
    """Returns the labels in `labels.txt` in the folder of a file, or None where there is none."""
    file = path.with_name(LABELS)
    return read_labels(file) if file.is_file() else None


def preprocessing_beside(path: Path) -> Preprocessing | None:
    """Returns what `preprocessing.json` in the folder of a file says, or None without one."""
    file = path.with_name(PREPROCESSING)
    if not file.is_file():
        return None
    try:
        return Preprocessing.from_json(file.read_bytes())
    except ValueError as error:
        raise unreadable(file, error) from error


def read_labels(path: Path) -> tuple[str, ...]:
    """Reads a text file with the name of a class on every line."""
    return parse_labels(path.read_bytes(), path)


def parse_labels(data: bytes, path: Path) -> tuple[str, ...]:
    """Returns the labels in the bytes of a file, or of a part of it."""
    try:
        return tuple(data.decode("utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise ValueError(
            f"`labels` must be text with one line per class. Received: {str(path)!r}"
        ) from error


def unreadable(path: Path, error: Exception) -> ValueError:
    """Returns the error for a file, or the directory of a model, that cannot be read."""
    return ValueError(
        "`path` must be an undamaged file or directory. "
        f"Received: {str(path)!r} ({checks.first_line(error)})"
    )
