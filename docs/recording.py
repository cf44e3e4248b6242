"""Records a run that is killed and resumes, as a picture of a terminal: `python docs/recording.py`.

Writes figures/resume.svg, and figures/resume.cast for `asciinema play`.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

FOLDER = Path(__file__).resolve().parent / "figures"
COMMAND = "keras-resnet train --model ResNet20 --epochs 6 --workdir runs/demo --no-export"
WIDTH = 118
# The run is killed when it has told of this.
LAST = "epoch 3/6"


def record(workdir: str) -> list[tuple[float, str]]:
    """Runs the command twice, the first time killed, and returns lines with their seconds."""
    lines, start = [], time.monotonic()
    for kill in (True, False):
        lines.append((time.monotonic() - start, f"$ {COMMAND}"))
        words = COMMAND.replace("runs/demo", workdir).split()[1:]
        process = subprocess.Popen(
            [sys.executable, "-m", "keras_resnet", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            lines.append((time.monotonic() - start, line.rstrip().replace(workdir, "runs/demo")))
            if kill and line.startswith(LAST):
                process.kill()
                break
        process.wait()
        if kill:
            lines.append((time.monotonic() - start, "Killed"))
        elif process.returncode:
            raise RuntimeError("\n".join(line for _, line in lines))
    return lines


def main() -> None:
    """Writes the recording."""
    with tempfile.TemporaryDirectory() as folder:
        lines = record(f"{folder}/demo")
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
    for _, line in lines:
        style = "bold green" if line.startswith("$") else "bold red" if line == "Killed" else None
        console.print(line, style=style, markup=False)
    picture = console.export_svg(title="Killed, and started again")
    # Without the fonts, which would be downloaded.
    picture = re.sub(r"@font-face {.*?}", "", picture, flags=re.DOTALL)
    (FOLDER / "resume.svg").write_text(picture, encoding="utf-8")
    header = {"version": 2, "width": WIDTH, "height": 40, "title": "Killed, and started again"}
    events = [json.dumps([round(seconds, 2), "o", f"{line}\r\n"]) for seconds, line in lines]
    (FOLDER / "resume.cast").write_text(
        "\n".join([json.dumps(header), *events]) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
