"""Tables as aligned text and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keras_resnet.utils.escapes import markdown


def text_table(rows: Sequence[Mapping[str, object]]) -> str:
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


def markdown_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Returns rows as a table in Markdown, with cells as in `text_table`, of plain text."""
    if not rows:
        return ""
    cells = [[markdown(cell_text(value)) for value in row.values()] for row in rows]
    lines = [[heading_text(column) for column in rows[0]], ["---"] * len(rows[0]), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def heading_text(column: str) -> str:
    """Returns the heading of a column from its key."""
    return column.replace("_", " ").replace("multiply adds", "multiply-adds")
