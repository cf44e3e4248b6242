"""Starts a worker for each contender, and lets them take turns, so that all see the same noise."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.rows import Contender, Row

ROOT = Path(__file__).resolve().parents[1]
# Between two turns, in which the threads of the last worker go to sleep.
PAUSE = 0.02
# Workers use all cores and no GPU, whatever is set here.
_LEFT_OUT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
_SET = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "KERAS_BACKEND": "tensorflow",
}


# What a contender needs is only built.
_ONCE = Row("", "", {}, first=False, turns=0)


@dataclasses.dataclass
class Samples:
    """What was measured of one contender, in the order of rounds and turns.

    Attributes:
        build: Seconds to build the subject, one a process.
        first: Seconds of the first step, one a process.
        step: Seconds of later steps, one a turn.
        memory: Peak memory in bytes, one a process.
        missing: The package that is not installed, or "".
        error: Why a worker ended, or "".
    """

    build: list[float] = dataclasses.field(default_factory=list)
    first: list[float] = dataclasses.field(default_factory=list)
    step: list[float] = dataclasses.field(default_factory=list)
    memory: list[float] = dataclasses.field(default_factory=list)
    missing: str = ""
    error: str = ""

    def failed(self) -> bool:
        return bool(self.missing or self.error)


class Worker:
    """A worker's process; `ask` sends it a request, and returns its answer."""

    def __init__(self, contender: Contender, options: Mapping[str, Any], root: Path = ROOT):
        environment = {key: value for key, value in os.environ.items() if key not in _LEFT_OUT}
        words = [contender.subject, json.dumps({**contender.options, **options})]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", *words],
            cwd=root,  # the first place where Python looks for the package
            env={**environment, **_SET},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, request: str = "") -> dict[str, Any]:
        """Sends a request; without one, waits until the libraries are imported."""
        try:
            if request:
                print(request, file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            return json.loads(line)
        return {"error": f"the worker ended with code {self._process.wait()}"}

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):  # of a request that nobody read
            self._process.stdin.close()
        self._process.stdout.close()


def take_turns(
    openers: Mapping[str, Callable[[], Any]],
    row: Row,
    pause: Callable[[], object] = lambda: time.sleep(PAUSE),
) -> dict[str, Samples]:
    """Measures contenders, each by workers of its own.

    In each of `row.rounds` every contender gets a new worker. All import their libraries at once;
    then they build, run the first step and `row.turns` more in turns. A turn begins with the
    contender after the one that the last began with. With `row.alone` a contender has all of its
    turns of a round at once.

    Args:
        openers: Function by contender that starts a worker.
        row: Gives rounds, turns and steps of a turn.
        pause: Called between two requests.
    """
    samples = {name: Samples() for name in openers}
    requests = ["build", *row.first * ["step"], *row.turns * [f"step {row.calls}"]]
    for number in range(row.rounds):
        with contextlib.ExitStack() as stack:
            workers = {}
            for name in (name for name in openers if not samples[name].failed()):
                workers[name] = openers[name]()
                stack.callback(workers[name].close)
            for name, worker in workers.items():
                _ask(worker, "", samples[name])
            for turn, name in _order(list(workers), len(requests), row.alone, number):
                own = samples[name]
                if own.failed():
                    continue
                received = _ask(workers[name], requests[turn], own)
                if received is not None:
                    kind = ("build", "first", "step")[min(turn, 2)]
                    getattr(own, kind).append(received["seconds"])
                    if turn == len(requests) - 1:
                        own.memory.append(received["memory"])
                pause()
    return samples


def _order(names: Sequence[str], turns: int, alone: bool, number: int) -> list[tuple[int, str]]:
    """Returns turns and names, of each turn from another name on; `alone`, name by name."""
    pairs = []
    for turn in range(turns):
        first = (number if alone else turn) % max(len(names), 1)
        pairs += [(turn, name) for name in (*names[first:], *names[:first])]
    if alone:
        order = [name for _, name in pairs]
        pairs.sort(key=lambda pair: order.index(pair[1]))
    return pairs


def _ask(worker: Any, request: str, samples: Samples) -> dict[str, Any] | None:
    """Returns the answer, or notes why there is none."""
    received = worker.ask(request)
    samples.missing, samples.error = received.get("missing", ""), received.get("error", "")
    return None if samples.failed() else received


class Preparation:
    """Writes what contenders need, once for all rows, each in a folder of its own.

    Args:
        folder: Where these folders are made.
        open_worker: Starts a worker of a contender with options, in a tree.
        pause: As for `take_turns`.
    """

    def __init__(
        self,
        folder: Path,
        open_worker: Callable[..., Any] = Worker,
        pause: Callable[[], object] = lambda: time.sleep(PAUSE),
    ):
        self.folder, self.open_worker, self.pause = folder, open_worker, pause
        self._done: dict[tuple[Contender, Path], tuple[Path, Samples]] = {}

    def __call__(self, contender: Contender, tree: Path) -> tuple[Path, Samples]:
        """Returns the folder of what is written by the sources in a tree, and how that went."""
        if (contender, tree) not in self._done:
            folder = self.folder / str(len(self._done))
            folder.mkdir()
            opener = functools.partial(self.open_worker, contender, {"folder": str(folder)}, tree)
            samples = take_turns({"": opener}, _ONCE, self.pause)[""]
            self._done[contender, tree] = folder, samples
        return self._done[contender, tree]


def measure(row: Row, trees: Mapping[str, Path], prepare: Preparation) -> dict[str, Samples]:
    """Measures the contenders of a row; this package's in every tree.

    Args:
        row: The row.
        trees: Folder of the sources by what is added to the names of this package's contenders:
            "" for those here.
        prepare: Writes what they need.
    """
    openers: dict[str, Callable[[], Any]] = {}
    failures: dict[str, Samples] = {}
    for number, (suffix, tree) in enumerate(trees.items()):
        for name, contender in row.contenders.items():
            if number and not contender.ours:
                continue
            options = {}
            if contender.needs is not None:
                folder, samples = prepare(contender.needs, tree)
                if samples.failed():
                    failures[name + suffix] = samples
                    continue
                options = {"folder": str(folder)}
            openers[name + suffix] = functools.partial(
                prepare.open_worker, contender, options, tree
            )
    return {**take_turns(openers, row, prepare.pause), **failures}


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Yields the sources of another commit, with the benchmarks of this one.

    Raises:
        ValueError: If there is no such commit.
    """
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary, "tree")
        done = _git("worktree", "add", "--detach", str(tree), commit)
        if done.returncode:
            raise ValueError(
                f"`compare` must be a commit of this repository. Received: compare={commit!r}"
            )
        try:
            shutil.rmtree(tree / "benchmarks", ignore_errors=True)
            shutil.copytree(ROOT / "benchmarks", tree / "benchmarks")
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def commit() -> str:
    """Returns the commit of the sources, with a "+" where they have changed since."""
    found = _git("rev-parse", "--short", "HEAD").stdout.strip()
    changed = _git("status", "--porcelain", "--untracked-files=no").stdout.strip()
    return f"{found}+" if changed else found


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
