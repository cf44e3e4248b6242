"""Checks of arguments and of packages, which return the value or raise an error of one line."""

from __future__ import annotations

import importlib
import numbers
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

from keras_resnet.utils.escapes import visible

T = TypeVar("T")
# Side of a square in pixels, or height and width of another rectangle.
Size: TypeAlias = int | tuple[int, int]
# Letters of a message.
_LONGEST_LINE = 1010


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or the name of its class if it has none.

    Control characters are escaped, and of a long one the middle is left out, since libraries quote
    whole files.
    """
    lines = (line.strip() for line in str(error).splitlines())
    line = visible(next(filter(None, lines), type(error).__name__))
    return line if len(line) <= _LONGEST_LINE else f"{line[:500]} ... {line[-500:]}"


class ProblemsError(ValueError):
    """Several problems at once, one in each line of the message and of `lines`.

    The lines are as `first_line` returns them.
    """

    def __init__(self, lines: Iterable[str]):
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


def lines_of(error: BaseException) -> tuple[str, ...]:
    """Returns the line of an error's message for each of the problems that it names."""
    return error.lines if isinstance(error, ProblemsError) else (first_line(error),)


class Problems:
    """Collects the errors of several checks, so that all of them are named at once."""

    def __init__(self) -> None:
        self._errors: list[Exception] = []

    def __bool__(self) -> bool:
        return bool(self._errors)

    def note(self, check: Callable[..., T], *args: Any, **options: Any) -> T | None:
        """Returns what `check` does, or None where it raised an error of a user."""
        try:
            return check(*args, **options)
        except (ValueError, ImportError, OSError) as error:
            self._errors.append(error)
            return None

    def refuse(self, wrong: object, line: str) -> None:
        """Notes a problem of one line, if it is one."""
        if wrong:
            self._errors.append(ValueError(line))

    def expect_none(self) -> None:
        """Raises the error that was noted, or a `ProblemsError` where there are several."""
        lines = dict.fromkeys(line for error in self._errors for line in lines_of(error))
        if len(lines) > 1:
            raise ProblemsError(lines) from self._errors[0]
        if lines:
            raise self._errors[0]


def import_extra(name: str, use: str, extra: str) -> Any:
    """Imports a module, or raises an ImportError that names the extra which installs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ImportError(
            f"{use} need {package}: pip install 'keras-deep-residual[{extra}]'."
        ) from error


def one_of(name: str, value: Any, allowed: Collection[Any]) -> Any:
    """Returns `value` if it is one of `allowed`, of the same type."""
    if not any(
        value is option or (type(value) is type(option) and value == option) for option in allowed
    ):
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, allowed))}. Received: {name}={value!r}"
        )
    return value


def is_whole(value: Any) -> bool:
    """Returns whether `value` is a whole number, of Python's or another type."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def integer(name: str, value: Any, minimum: int = 1) -> int:
    """Returns `value` as an int if it is a whole number of at least `minimum` that fits 64 bits."""
    if not is_whole(value) or not minimum <= value < 2**63:
        raise ValueError(
            f"`{name}` must be a whole number of at least {minimum}. Received: {name}={value!r}"
        )
    return int(value)


def integers(name: str, values: Any) -> tuple[int, ...]:
    """Returns `values` as a tuple of ints if it is a sequence of whole numbers of at least 1."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise ValueError(
            f"`{name}` must be a sequence with one whole number per stage, such as (3, 4, 6, 3). "
            f"Received: {name}={values!r}"
        )
    return tuple(integer(name, value) for value in values)


def different(name: str, values: Collection[Any], what: str) -> list[Any]:
    """Returns `values` as a list if there is at least one and all are different."""
    if not values or len(set(values)) < len(values):
        raise ValueError(
            f"`{name}` must be different {what}, at least one. Received: {name}={list(values)}"
        )
    return list(values)


def boolean(name: str, value: Any) -> bool:
    """Returns `value` if it is True or False."""
    return one_of(name, value, (True, False))


def checked_size(name: str, value: Any) -> Size:
    """Returns a size in pixels: one number for a square, height and width for another rectangle.

    Args:
        name: Name of the argument.
        value: A whole number, height and width, or either as text, such as "224" or "224x192".

    Raises:
        ValueError: If it is none of these, or not 1 or more.
    """
    sides = value
    if isinstance(value, str):
        match = re.fullmatch("([0-9]+)(?:x([0-9]+))?", value.strip())
        sides = tuple(int(side) for side in match.groups() if side) if match else None
        sides = sides[0] if sides and len(sides) == 1 else sides
    if is_whole(sides):
        return integer(name, sides)
    if not isinstance(sides, (tuple, list)) or len(sides) != 2:
        raise ValueError(
            f"`{name}` must be a whole number of pixels, or height and width, such as 224x192. "
            f"Received: {name}={value!r}"
        )
    height, width = (integer(name, side) for side in sides)
    return height if height == width else (height, width)


def sides_of(size: Size) -> tuple[int, int]:
    """Returns height and width of a size."""
    return size if isinstance(size, tuple) else (size, size)


def data_format(value: Any) -> str:
    """Returns Keras's data format by name, its default for None."""
    import keras

    value = keras.config.image_data_format() if value is None else value
    return one_of("data_format", value, ("channels_last", "channels_first"))


def fraction(name: str, value: Any, *, one_allowed: bool = False) -> float:
    """Returns `value` as a float if it is in [0, 1), or in [0, 1] if `one_allowed`."""
    if not _is_number(value) or not (0 <= value < 1 or (one_allowed and value == 1)):
        interval = "[0, 1]" if one_allowed else "[0, 1)"
        raise ValueError(f"`{name}` must be a number in {interval}. Received: {name}={value!r}")
    return float(value)


def positive(name: str, value: Any) -> float:
    """Returns `value` as a float if it is a finite number above zero."""
    if not _is_number(value) or not 0 < value < float("inf"):
        raise ValueError(f"`{name}` must be a number above 0. Received: {name}={value!r}")
    return float(value)


def known(
    name: str, value: Any, look_up: Callable[[Any], Any], *, none_allowed: bool = True
) -> Any:
    """Returns `look_up(value)`, where `look_up` is a function of Keras such as `losses.get`."""
    try:
        if value is None and not none_allowed:
            raise ValueError("there is no default")
        return look_up(value)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"`{name}` must be {'None, or ' * none_allowed}a name or an object that Keras knows. "
            f"Received: {name}={value!r}"
        ) from error


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
