"""Times this package beside PyTorch, Keras, ONNX Runtime, torchvision and plain TensorFlow.

    python -m benchmarks train-resnet20 infer-resnet50-b1

Each contender runs in a subprocess, and all take turns. Without rows, it lists them.
Prints a table for each row. Peers come with the extra `benchmarks`; one that is not installed is
marked as missing. docs/performance.md says what the rows measure, and how to read them.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import driver, report
from benchmarks.rows import ROWS, Row
from keras_resnet.analysis.machine import processor_features, processor_name
from keras_resnet.utils.files import parse_json, write_json, write_text
from keras_resnet.utils.processes import cores

VERSIONS = (
    *("keras", "tensorflow", "torch", "torchvision", "onnxruntime", "ai-edge-litert"),
    *("pillow", "numpy"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures rows; returns the exit code, 1 where a worker failed."""
    words = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser("benchmarks", description=__doc__.partition("\n\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help="names of rows, or all")
    parser.add_argument("--quick", action="store_true", help="3 turns only, to see that it works")
    parser.add_argument(
        "--json", type=Path, help="file for the figures; rows in it that are not measured stay"
    )
    parser.add_argument(
        "--compare", metavar="COMMIT", help="measure this package at that commit, too, in turns"
    )
    parser.add_argument("--update", type=Path, help="page to write the figures of --json into")
    parser.add_argument("--plot", type=Path, help="PNG of the ratios of --json, with their goals")
    given = parser.parse_args(words)
    rows = list(ROWS) if given.rows == ["all"] else given.rows
    try:
        if wrong := [name for name in rows if name not in ROWS]:
            raise ValueError(f"`rows` must be of {', '.join(ROWS)}. Received: {', '.join(wrong)}")
        if not (rows or given.update or given.plot):
            print(*(f"{row.name:26}{row.about}" for row in ROWS.values()), sep="\n")
            return 0
        stored = {}
        if given.json is not None and given.json.exists():
            stored = parse_json(given.json.read_text(encoding="utf-8"))
        results = _measure([ROWS[name] for name in rows], given, shlex.join(words), stored)
        if given.update is not None:
            page = given.update.read_text(encoding="utf-8")
            write_text(given.update, report.document(page, results.values()))
        if given.plot is not None:
            report.plot(results.values(), given.plot)
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return int(any(results[name]["errors"] for name in rows))


def _measure(
    rows: Sequence[Row], given: argparse.Namespace, words: str, stored: Mapping[str, Any]
) -> dict[str, Any]:
    """Measures rows, and returns the results of all, in the table's order."""
    results, suffix = dict(stored), ""
    with contextlib.ExitStack() as stack:
        trees = {"": driver.ROOT}
        if given.compare is not None and rows:
            suffix = f", {given.compare}"
            trees[suffix] = stack.enter_context(driver.checked_out(given.compare))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        prepare = driver.Preparation(Path(folder))
        for row in rows:
            conditions = _conditions(f"python -m benchmarks {words}")
            if conditions["load"] > cores() / 2:
                print(f"warning: the load is {conditions['load']:.1f} already", file=sys.stderr)
            samples = driver.measure(row.quick() if given.quick else row, trees, prepare)
            result = report.summarize(row, samples, conditions["features"], suffix)
            results[row.name] = {**result, "conditions": conditions}
            print(f"\n{row.name}: {row.about}\n\n{report.table(result)}", flush=True)
            results = {name: results[name] for name in ROWS if name in results}
            if given.json is not None:
                write_json(given.json, results)
    return results


def _conditions(command: str) -> dict[str, Any]:
    versions = {}
    for name in VERSIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "commit": driver.commit(),
        "processor": processor_name(),
        "features": list(processor_features()),
        "cores": cores(),
        "threads": "one for each core, in every worker",
        "load": os.getloadavg()[0],
        "versions": versions,
    }


if __name__ == "__main__":
    sys.exit(main())
