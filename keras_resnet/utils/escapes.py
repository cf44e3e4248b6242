"""Text of others (names of classes, files and models), escaped where it is shown."""

from __future__ import annotations

import html
import re
import unicodedata

# Control and formatting characters, line and paragraph ends, and what stands for bytes of a file's
# name that are not UTF-8. Of the formatting characters, joiners belong to the spelling of Persian
# and Hindi.
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"

# An underscore inside of a word means nothing in Markdown.
_MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")


def is_line(text: str) -> bool:
    """Returns whether text is one line in UTF-8, without control characters."""
    return bool(text) and not {"Cc", "Cs", "Zl", "Zp"} & set(map(unicodedata.category, text))


def visible(text: object) -> str:
    """Returns text for one line of a terminal or plot, with nothing that acts on the rest of it.

    Control characters, line ends and bidirectional marks become escapes as in `repr`.
    """
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in _INVISIBLE and char not in _JOINERS
        else char
        for char in str(text)
    )


def markdown(text: object) -> str:
    """Returns text for one line or cell of Markdown, which shows as `visible` gives it."""
    return _MARKUP.sub(r"\\\g<0>", html.escape(visible(text), quote=False))


def code_block(text: object, language: str = "") -> str:
    """Returns text as a code block of one line in Markdown."""
    text = visible(text)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"
