"""Tables as aligned text, as Markdown, and as files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.utils.escapes import markdown
from keras_resnet.utils.files import replacing

Rows = Sequence[Mapping[str, Any]]


def text_table(rows: Rows) -> str:
    """Returns rows as text below a line of headings, words aligned left and numbers right.

    All rows have the same keys, in the order of the columns. Integers are grouped by thousands,
    other numbers have four significant digits, None is "unavailable". A column of numbers may
    contain "-".
    """
    if not rows:
        return ""
    columns = list(rows[0])
    cells = [[cell_text(row[column]) for column in columns] for row in rows]
    headings = list(map(heading_text, columns))
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    words = [
        any(isinstance(row[column], str) and row[column] not in ("", "-") for row in rows)
        for column in columns
    ]
    lines = []
    for line in (headings, ["-" * width for width in widths], *cells):
        padded = zip(line, widths, words, strict=True)
        texts = [f"{text:<{w}}" if left else f"{text:>{w}}" for text, w, left in padded]
        lines.append("  ".join(texts).rstrip())
    return "\n".join(lines)


def cell_text(value: object) -> str:
    """Returns a value as a table shows it."""
    if value is None:
        return "unavailable"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def markdown_table(rows: Rows) -> str:
    """Returns rows as a table in Markdown, with cells as in `text_table`, of plain text."""
    if not rows:
        return ""
    cells = [[markdown(cell_text(value)) for value in row.values()] for row in rows]
    lines = [[heading_text(column) for column in rows[0]], ["---"] * len(rows[0]), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_table(path: str | Path, rows: Rows, columns: Sequence[str] = ()) -> None:
    """Writes rows atomically, with a column for every key that any of them has.

    Args:
        path: A file that ends in .csv, .json (a list of objects) or .parquet, which needs pyarrow.
        rows: The rows. A value that a row lacks is empty, or null.
        columns: Names of columns that come first, and are there without rows too.

    Raises:
        ValueError: If the path ends otherwise.
        ImportError: If pyarrow is needed and missing.
    """
    suffix = Path(path).suffix
    if suffix not in _WRITERS:
        raise ValueError(f"`path` must end in {', '.join(_WRITERS)}. Received: path={str(path)!r}")
    with replacing(path) as temporary:
        _WRITERS[suffix](temporary, rows, list(dict.fromkeys([*columns, *_keys(rows)])))


def require_pyarrow() -> tuple[Any, Any]:
    """Returns the modules `pyarrow` and `pyarrow.parquet`, or raises an ImportError."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("Tables in Parquet need pyarrow: pip install pyarrow.") from error
    return pyarrow, pyarrow.parquet


def _keys(rows: Rows) -> Iterator[str]:
    return (key for row in rows for key in row)


def _write_csv(path: Path, rows: Rows, columns: list[str]) -> None:
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _write_json(path: Path, rows: Rows, columns: list[str]) -> None:
    path.write_text(json.dumps(list(map(dict, rows)), indent=1), "utf-8")


def _write_parquet(path: Path, rows: Rows, columns: list[str]) -> None:
    pyarrow, parquet = require_pyarrow()
    parquet.write_table(
        pyarrow.table({name: [row.get(name) for row in rows] for name in columns}), path
    )


_WRITERS = {".csv": _write_csv, ".json": _write_json, ".parquet": _write_parquet}


def heading_text(column: str) -> str:
    """Returns the heading of a column from its key."""
    return column.replace("_", " ").replace("multiply adds", "multiply-adds")
