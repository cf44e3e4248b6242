"""Looks for the ways through a reader by coverage, with atheris (`pip install atheris`).

    python -m tests.faults.guided "legacy .pth" --minutes 5 --finds finds

libFuzzer keeps every file that reaches a new line of the package, and damages those further; half
of its changes are the campaign's own. What is found is stored as the campaign stores it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

import atheris

# All that imports the package, so that all of it is watched.
with atheris.instrument_imports(include=["keras_resnet", "pickle", "zipfile"]):
    from tests.faults import readers, runner, worker
    from tests.faults.files import FORMATS, stored
    from tests.faults.mutate import damage, forge
    from tests.faults.runner import Outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader", choices=FORMATS)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--finds", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="guided-"))
    corpus, row = folder / "corpus", runner.Row(options.reader)
    corpus.mkdir()
    readers.READERS[options.reader].make(corpus)
    name = next(corpus.iterdir()).name
    path = folder / "trial" / name
    path.parent.mkdir()

    def one(data: bytes) -> None:
        path.write_bytes(data)
        answer = worker.read(readers, options.reader, str(path))
        if answer.get("fault"):
            fault = f"{answer['fault']} ({answer['raised']}: {answer.get('message', '')[:160]!r})"
            tree = [(name, "file", data)]
            case = {"sample": name, "forged": True, "files": stored(tree)}
            known = len(row.finds)
            row.add(Outcome("found", fault=fault, case=case))
            if len(row.finds) > known:
                print(f"FOUND  {json.dumps(fault)}", flush=True)
                if options.finds:
                    kind = list(row.finds)[-1]
                    runner.store(options.finds, options.reader, kind, row.finds[kind])

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.5:
            return atheris.Mutate(data, most)
        return (forge(data, rng, name) if rng.random() < 0.7 else damage(data, rng))[:most]

    limits = [f"-max_total_time={round(60 * options.minutes)}", "-rss_limit_mb=8000", "-timeout=30"]
    flags = [str(corpus), f"-seed={options.seed}", "-max_len=4000000", *limits]
    atheris.Setup([sys.argv[0], *flags], one, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
