"""Pages of the site that are made from other files, as macros: {{ flags() }}, {{ changelog() }}."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def flags() -> str:
    """Returns what every verb of `keras-resnet` prints for --help, with a heading for each."""
    folder = ROOT / "tests" / "snapshot" / "help"
    command = (ROOT / "keras_resnet_command.py").read_text(encoding="utf-8")
    sections = []
    for verb in re.findall(r'^    "([\w-]+)": "', command, re.MULTILINE):
        # The studies have a text each, behind that of `study`.
        for path in (folder / f"{verb}.txt", *sorted(folder.glob(f"{verb}-*.txt"))):
            title = path.stem.replace(f"{verb}-", f"{verb} ")
            text = path.read_text(encoding="utf-8").rstrip()
            sections.append(f"## {title}\n\n```{{ .text .flags }}\n{text}\n```")
    return "\n\n".join(sections)


def changelog() -> str:
    """Returns CHANGELOG.md without its title, its links as seen from docs/."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return re.sub(r"\]\(docs/", "](", text.partition("\n")[2])


def define_env(env: Any) -> None:
    """Gives the functions to the pages; Zensical calls it."""
    for function in (flags, changelog):
        env.macro(function)
