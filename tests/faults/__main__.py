"""Attacks the package and prints what held and what did not.

    python -m tests.faults --minutes 30 --finds finds --table faults

Damages files of every kind that the package reads, kills every stage of its work at random moments,
fills disks, and has processes get into each other's way. Every number comes from --seed, and every
find is a file that `--replay FILE` repeats. The exit code is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from pathlib import Path

from tests.faults import clashes, kills, runner
from tests.faults.files import FORMATS, Files

# Readers whose trials take seconds.
_SLOW = ("images", ".keras", "class folders", "Hub archives", "SavedModel")
CAMPAIGNS = {
    **{n: runner.Campaign(functools.partial(Files, n), 1 + (n in _SLOW)) for n in FORMATS},
    **{f"kill: {name}": runner.Campaign(stage, share=4) for name, stage in kills.STAGES.items()},
    **{name: runner.Campaign(clash, share=3) for name, clash in clashes.CLASHES.items()},
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--minutes", type=float, default=10.0, help="Time for all campaigns together")
    add("--seed", type=int, default=0, help="Seed of all that is drawn")
    add("--only", nargs="+", choices=CAMPAIGNS, metavar="NAME", help="Names as --list has them")
    add("--list", action="store_true", help="Prints the names of the campaigns")
    add("--finds", type=Path, metavar="DIR", help="Folder for what is found")
    add("--table", type=Path, metavar="PATH", help="Writes PATH.csv and PATH.md")
    add("--replay", type=Path, metavar="FILE", help="Repeats a find")
    options = parser.parse_args()
    if options.list:
        print("\n".join(CAMPAIGNS))
        return 0
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        if options.replay:
            return runner.show(runner.replay(CAMPAIGNS, options.replay, Path(folder)))
        chosen = {n: c for n, c in CAMPAIGNS.items() if not options.only or n in options.only}
        rows = runner.run(
            chosen,
            Path(folder),
            minutes=options.minutes,
            seed=options.seed,
            finds=options.finds,
            table=options.table,
        )
    return int(any(row.finds for row in rows))


if __name__ == "__main__":
    sys.exit(main())
