"""Tables of a page: rows as cells that are shown and sorted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from keras_resnet.utils.tables import cell_text, heading_text

# Characters of a cell that are not wrapped.
SHORT = 20


class Cell(NamedTuple):
    """A cell of a table: the text that is shown, and a number to sort by, if it has one."""

    text: str
    number: float | None = None


class Table(NamedTuple):
    """A table whose columns can be sorted; a folded one opens when it is asked for.

    Columns are `numeric`, or `short` where they have little text, or have text that is wrapped.
    """

    caption: str
    headings: Sequence[str]
    numeric: Sequence[bool]
    short: Sequence[bool]
    rows: Sequence[Sequence[Cell]]
    folded: bool = False


class Percent(float):
    """A number that is shown with two decimals."""


def table_of(caption: str, rows: Iterable[Mapping[str, Any]], folded: bool = False) -> Table | None:
    """Returns rows as a table with a column for every key that any of them has."""
    rows = list(rows)
    if not rows:
        return None
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[cell_of(row.get(column)) for column in columns] for row in rows]
    numeric = [
        any(cell.number is not None for cell in column)
        and all(cell.number is not None or cell.text in ("", "unavailable") for cell in column)
        for column in zip(*cells, strict=True)
    ]
    short = [max(len(cell.text) for cell in column) <= SHORT for column in zip(*cells, strict=True)]
    return Table(caption, list(map(heading_text, columns)), numeric, short, cells, folded)


def present(*tables: Table | None) -> list[Table]:
    """Returns the tables that have rows."""
    return [table for table in tables if table is not None]


def cell_of(value: Any) -> Cell:
    """Returns a value as a cell, numbers as `text_table` shows them."""
    if value is None:
        return Cell("")
    if isinstance(value, Percent):
        return Cell(f"{value:.2f}", value)
    if is_number(value):
        return Cell(cell_text(value), float(value))
    return Cell(plain(value))


def is_number(value: Any) -> bool:
    """Returns whether a value is a number, which a bool is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def plain(value: Any) -> str:
    """Returns a setting as text."""
    if value is None or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(own)}" for key, own in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value))
    return str(value)
