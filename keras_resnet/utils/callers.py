"""Warnings at the line of the user's code, however deep in this package they arise."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warns at the innermost line of the call that is outside of this package."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and Path(frame.f_code.co_filename).is_relative_to(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
