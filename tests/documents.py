"""README.md and the pages of docs/, as text, as one, and by their blocks of code."""

from __future__ import annotations

import functools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@functools.cache
def documents() -> dict[str, str]:
    """Returns the text of README.md and of every page of docs/, by path in the repository."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


@functools.cache
def joined() -> str:
    """Returns the text of all documents, with a space between each two words."""
    return " ".join(" ".join(documents().values()).split())


def blocks(text: str, language: str) -> list[str]:
    """Returns the code blocks of one language in a text."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def command_lines(text: str) -> list[str]:
    """Returns the command lines in a text's blocks of bash, each on one line."""
    lines = "\n".join(blocks(text, "bash")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
