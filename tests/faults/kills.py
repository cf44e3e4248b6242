"""Campaigns that kill a process at random moments and compare what comes of it in the end.

A trial starts the same command again and again, killing it each time, and lets the last one end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

from tests.conftest import ROOT
from tests.faults.runner import Outcome
from tests.faults.worker import environment
from tests.servers import serving

TIMEOUT = 240.0
# What differs from one run to the next: times, and where it was started.
_TIMES = {"train_seconds", "seconds", "images_per_second", "input_wait", "command", "versions"}
_TIMES |= {"fine_tune_seconds"}


@dataclasses.dataclass(frozen=True)
class Stage:
    """A command, started in an empty folder or one that `prepare` has filled.

    Attributes:
        command: From the folder `work` and the address of a server to the arguments of Python.
        result: From the folder to what must be equal in the end.
        prepare: Fills the folder.
        serves: Content of the server.
        writing: Part of the kills that wait for a file to be written.
    """

    command: Callable[[Path, str], list]
    result: Callable[[Path], dict]
    prepare: Callable[[Path], object] = lambda work: None
    serves: Callable[[], bytes] = lambda: b""
    writing: float = 0.4


class Runs:
    """Trials of one stage: a folder each, a disturbance, and in the end a run to the end."""

    stage: Stage

    def __init__(self, stage: Stage, folder: Path):
        self.stage, self._folder = stage, folder
        folder.mkdir(parents=True, exist_ok=True)
        self._stack = contextlib.ExitStack()
        self.expected: dict = {}
        self.started = self.lasted = 0.0
        self.output_path = folder / "output.txt"

    def whole(self) -> list[Outcome]:
        """Runs once without disturbance; what it gives is expected of all others."""
        self._server = self._stack.enter_context(serving(self.stage.serves()))
        self._template = self._folder / "template"
        self._template.mkdir()
        self.stage.prepare(self._template)
        with self._fresh() as work:
            before, begin = _state(work), time.monotonic()
            process = self.start(work)
            while process.poll() is None and _state(work) == before:
                time.sleep(0.01)
            self.started = time.monotonic() - begin
            if fault := self.end(process):
                raise RuntimeError(f"without any disturbance: {fault}")
            self.lasted = time.monotonic() - begin
            self.expected = self.stage.result(work)
        return []

    def trial(self, seed: int) -> Outcome:
        """Disturbs a run, drawn from a seed, then lets it end and compares."""
        if not self.expected:
            self.whole()
        begin = time.monotonic()
        with self._fresh() as work, self.around(work):
            events: list[str] = []
            fault = self.disturb(work, random.Random(seed), events)
            fault = fault or self.end(self.start(work)) or self.compare(work)
        seconds = time.monotonic() - begin
        if fault is None:
            return Outcome("same", seconds)
        return Outcome("found", seconds, fault=fault, case={"seed": seed, "events": events})

    def replay(self, case: dict) -> Outcome:
        return self.trial(case["seed"])

    def close(self) -> None:
        self._stack.close()

    def around(self, work: Path) -> contextlib.AbstractContextManager:
        """Returns what a trial happens in."""
        return contextlib.nullcontext()

    def disturb(self, work: Path, rng: random.Random, events: list[str]) -> str | None:
        """Starts and disturbs runs in a folder; returns a fault, or None."""
        raise NotImplementedError

    def start(self, work: Path, **options) -> subprocess.Popen:
        """Starts the command in a process group of its own."""
        # Into a file: a pipe that nobody reads fills up.
        with open(self.output_path, "wb") as output:
            return subprocess.Popen(
                [sys.executable, *map(str, self.stage.command(work, self._server.url))],
                cwd=ROOT,
                env=environment(TFHUB_CACHE_DIR=str(work / "cache")),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )

    def output(self) -> str:
        return self.output_path.read_text(errors="replace")

    def end(self, process: subprocess.Popen) -> str | None:
        """Waits for a process, and returns what is wrong if it did not succeed."""
        code = self.wait(process)
        if code == 0:
            return None
        last = (self.output().strip().splitlines() or [""])[-1]
        return f"started again, it ended with {code}: {last[:200]}"

    def wait(self, process: subprocess.Popen) -> int | None:
        """Waits for a process; None if it had to be killed."""
        try:
            return process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            kill(process)
            return None

    def refusal(self, code: int | None) -> str | None:
        """Returns what is wrong with how a process gave up by itself."""
        lines = self.output().strip().splitlines() or [""]
        if code is None:
            return f"no end after {TIMEOUT:g} s"
        if any("Traceback" in line for line in lines):
            return f"a traceback: {lines[-1][:200]}"
        if code not in (1, 2) or not lines[-1].startswith("error: "):
            return f"it ended with {code}: {lines[-1][:200]}"
        return None

    def compare(self, work: Path) -> str | None:
        """Returns what is not as in the run without disturbance."""
        found = self.stage.result(work)
        if found != self.expected:
            return f"another result: {_difference(self.expected, found)}"
        left = [str(p.relative_to(work)) for p in work.rglob(".writing-*")]
        return f"left behind: {left[0]}" if left else None

    @contextlib.contextmanager
    def _fresh(self) -> Iterator[Path]:
        work = self._folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self._template, work)
        yield work
        shutil.rmtree(work, ignore_errors=True)


class Kills(Runs):
    """Runs that are killed."""

    def disturb(self, work, rng, events):
        for _ in range(rng.choice((1, 1, 2, 3))):
            before, process = _state(work), self.start(work)
            kind = rng.random()
            if kind < self.stage.writing:
                count, delay = rng.randint(1, 6), rng.choice((0, rng.uniform(0, 0.01)))
                events.append(f"when the file number {count} was written")
                seen: set[str] = set()
                while process.poll() is None and len(seen) < count:
                    seen |= _writing(work)
                    time.sleep(0.001)
            elif kind < self.stage.writing + 0.1:
                delay = rng.uniform(0, self.started)
                events.append(f"after {delay:.2f} s")
            else:
                delay = rng.uniform(0, max(0.05, self.lasted - self.started))
                events.append(f"{delay:.2f} s after it began to write")
                while process.poll() is None and _state(work) == before:
                    time.sleep(0.005)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(delay)
            kill(process)
            if process.returncode == 0:
                events[-1] += ", where it had ended"
                break


def kill(process: subprocess.Popen) -> None:
    """Kills a process and those that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _state(work: Path) -> list:
    entries = []
    for folder, _, names in os.walk(work):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(os.path.join(folder, name))
                entries.append((folder, name, status.st_size, status.st_mtime_ns))
    return entries


def _writing(work: Path) -> set[str]:
    return {
        os.path.join(folder, name)
        for folder, names, _ in os.walk(work)
        for name in names
        if name.startswith(".writing-")
    }


def _difference(expected: object, found: object) -> str:
    """Returns the first place where two values of JSON differ."""
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return f"{len(found)} rows for {len(expected)}"
        expected, found = (dict(enumerate(value)) for value in (expected, found))
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in {**expected, **found}:
            if expected.get(key) != found.get(key):
                return f"{key}: {_difference(expected.get(key), found.get(key))}"
    return f"{str(found)[:80]} for {str(expected)[:80]}"


# What stages give.


def _figures(value: object) -> object:
    """Returns JSON without times."""
    if isinstance(value, dict):
        return {k: _figures(v) for k, v in value.items() if k not in _TIMES}
    return [_figures(v) for v in value] if isinstance(value, list) else value


def weights(path: Path) -> str:
    """Returns a checksum of all arrays of a .keras file."""
    total = hashlib.sha256()

    def add(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            total.update(name.encode() + np.asarray(item).tobytes())

    with zipfile.ZipFile(path) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content) as h5:
        h5.visititems(add)
    return total.hexdigest()


def run_result(work: Path) -> dict:
    """Returns weights, figures and rows of every run in a folder."""
    found: dict = {}
    for path in sorted(work.rglob("*")):
        name = str(path.relative_to(work))
        if path.suffix == ".keras":
            found[name] = weights(path)
        elif path.name in ("metrics.json", "trial.json"):
            found[name] = _figures(json.loads(path.read_text()))
        elif path.name == "metrics.jsonl":
            found[name] = [_figures(json.loads(row)) for row in path.read_text().splitlines()]
        elif path.name in ("saved_model.pb", "labels.txt", "learning_curve.csv"):
            found[name] = "present"
    return found


def _tree_result(work: Path) -> dict:
    return {
        str(path.relative_to(work)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(work.rglob("*"))
        if path.is_file()
        and not path.name.endswith((".lock", ".locked", ".descriptor.txt"))
        and ".writing-" not in str(path)  # told by `compare`
    }


# The stages.

SMALL = "--depth 8 --epochs 3 --batch-size 128 --deterministic --log-every 3 --fine-tune-epochs 0"


def digits(work: Path, _: str = "", more: str = "--no-export --checkpoint-every 4") -> list:
    """Returns the command of a run of seconds."""
    return ["recipes/digits.py", "--workdir", work / "run", *f"{SMALL} {more}".split()]


def _trained(work: Path, more: str = "--no-export") -> None:
    command = [sys.executable, *map(str, digits(work, more=more))]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True)


def _before_the_head(work: Path) -> None:
    _trained(work)
    os.replace(work / "run" / "model.keras", work / "begin.keras")
    shutil.rmtree(work / "run")


def _head(work: Path, _: str) -> list:
    flags = "--no-export --head-epochs 2 --epochs 1 --freeze-bn --checkpoint-every 4"
    flags = f"--batch-size 128 --deterministic --fine-tune-epochs 0 --log-every 3 {flags}"
    begin = ["--init", work / "begin.keras"]
    return ["recipes/digits.py", "--workdir", work / "run", *begin, *flags.split()]


def _before_the_export(work: Path) -> None:
    _trained(work, more="")
    run = work / "run"
    for name in ("metrics.json", "model.keras", "model_card.md", "labels.txt"):
        (run / name).unlink()
    for name in ("saved_model", "feature_vector"):
        shutil.rmtree(run / name)


def _search(work: Path, _: str) -> list:
    flags = "--trials 2 --epochs 1 --final-epochs 1 --repeats 1 --widenings 1 --deterministic"
    return ["recipes/tune.py", "--workdir", work / "run", *flags.split()]


STUDY = """
from keras_resnet import cli
from keras_resnet.experiment import Experiment
from keras_resnet.experiment.study import run_study
one = Experiment.from_flat(depth=8, epochs=2, checkpoint_every=4, export=False, deterministic=True)
both = {{"a": one, "b": one.replace(shortcut="none")}}
cli.run(lambda: run_study(both, [0], {folder!r}, jobs=1))
"""
_FETCH = "from keras_resnet.utils.download import fetch; fetch({url!r}, {path!r}, {sha256!r})"
_MODULE = "from keras_resnet.export.handles import module_directory; module_directory({url!r})"


@functools.cache
def content() -> bytes:
    return np.random.default_rng(0).bytes(48 << 20)


@functools.cache
def archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar:
        for name in ("variables/a", "variables/b", "saved_model.pb"):
            entry = tarfile.TarInfo(name)
            entry.size = 8 << 20
            tar.addfile(entry, io.BytesIO(content()[: entry.size]))
    return out.getvalue()


def _fetch(work: Path, url: str) -> list:
    sha256 = hashlib.sha256(content()).hexdigest()
    return ["-c", _FETCH.format(url=f"{url}/w.h5", path=str(work / "w.h5"), sha256=sha256)]


_STAGES = {
    "training": Stage(digits, run_result, writing=0.2),
    "head phase": Stage(_head, run_result, _before_the_head, writing=0.2),
    "checkpoints": Stage(
        functools.partial(digits, more="--no-export --checkpoint-every 1"), run_result, writing=0.9
    ),
    "export": Stage(
        functools.partial(digits, more=""), run_result, _before_the_export, writing=0.5
    ),
    "search": Stage(_search, run_result),
    "study": Stage(
        lambda work, _: ["-c", STUDY.format(folder=str(work / "run"))], run_result, writing=0.3
    ),
    "download": Stage(_fetch, _tree_result, serves=content, writing=0.0),
    "Hub download": Stage(
        lambda work, url: ["-c", _MODULE.format(url=f"{url}/m.tar.gz")],
        _tree_result,
        serves=archive,
    ),
}
STAGES = {name: functools.partial(Kills, stage) for name, stage in _STAGES.items()}
