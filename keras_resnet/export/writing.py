"""What every export checks before it writes: where to, and under which labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from keras_resnet.utils.files import clear_leftovers

SAVED_MODEL = "saved_model.pb"

# Seconds after which nobody is still writing an artefact.
_LONGEST_WRITING = 24 * 3600


def check_path(path: Path, overwrite: bool, suffix: str = "") -> None:
    """Raises a ValueError unless `path` is free, or holds what may be replaced.

    What an export to `path` that was killed has left behind is deleted, a day later.

    Args:
        path: What is to be written.
        overwrite: Whether it may exist already, as what it is to be.
        suffix: Suffix of the file; the directory of a SavedModel where not given.
    """
    if suffix and path.suffix != suffix:
        raise ValueError(f"`path` must end in {suffix!r}. Received: path={str(path)!r}")
    clear_leftovers(path.parent, path.name, _LONGEST_WRITING)
    if not os.path.lexists(path):
        return
    what = f"{suffix} file" if suffix else "SavedModel"
    if not overwrite:
        raise ValueError(
            f"`path` must not exist yet, or pass overwrite=True to replace the {what} there. "
            f"Received: path={str(path)!r}"
        )
    if path.is_symlink() or not (path.is_file() if suffix else (path / SAVED_MODEL).is_file()):
        what = f"a {what}" if suffix else "a SavedModel's directory"
        raise ValueError(
            f"`path` must be new or {what}; overwrite=True replaces nothing else. "
            f"Received: path={str(path)!r}"
        )


def label_lines(labels: Sequence[str], classes: int | None) -> str:
    """Returns the text of a labels file, a line for every class.

    Args:
        labels: Name of every class.
        classes: How many there are; None for a model without a classifier.

    Raises:
        ValueError: If there is not a line of text for every class.
    """
    labels = [labels] if isinstance(labels, str) else list(labels)
    lines = [name for name in labels if isinstance(name, str) and name.splitlines() == [name]]
    if classes is None or len(labels) != classes or len(lines) != classes:
        wanted = "none, as `model` has no classifier" if classes is None else f"{classes} lines"
        raise ValueError(
            f"`labels` must be a line of text for every class ({wanted}). "
            f"Received: {len(labels)} labels, {len(lines)} of them lines of text"
        )
    return "".join(f"{name}\n" for name in labels)
