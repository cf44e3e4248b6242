"""Campaigns of full and read-only disks, of processes in each other's way, and of lost data.

Each trial disturbs a small run, whose processes have to end in one line. Then the disturbance is
over, and the same command has to end as if nothing had been.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

from tests.faults.files import class_folders, materialize
from tests.faults.kills import SMALL, STUDY, Runs, Stage, digits, run_result

_EXPORTED = "--checkpoint-every 4"
# A file system of one's own needs root; without it, files have a limit, and folders a mode.
_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


class _Disk(Runs):
    """Runs in a folder that is a small disk of its own, where that can be had."""

    @contextlib.contextmanager
    def around(self, work):
        folder = work / "run"
        folder.mkdir(parents=True)
        if not _ROOT:
            yield
            return
        _mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", folder)
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", folder], check=True)

    def stopped(self, process: subprocess.Popen, work: Path) -> str | None:
        """Expects success, or a refusal of one line that names a file of the run."""
        code = self.wait(process)
        fault = None if code == 0 else self.refusal(code)
        last = (self.output().strip().splitlines() or [""])[-1]
        if code and not fault and not any(told in last for told in (str(work), "checkpoint of")):
            return f"the error names no file: {last[:200]}"
        return fault


class Full(_Disk):
    """The disk is full after some bytes."""

    def disturb(self, work, rng, events):
        size = int(2 ** rng.uniform(12, 22.5))
        events.append(f"a disk of {size} bytes")
        if not _ROOT:
            limited = functools.partial(_limit_files, size)
            return self.stopped(self.start(work, preexec_fn=limited), work)
        _mount("-o", f"remount,size={size}", work / "run")
        fault = self.stopped(self.start(work), work)
        _mount("-o", "remount,size=64m", work / "run")
        return fault


class ReadOnly(_Disk):
    """The disk becomes read-only, before the run or in it."""

    def disturb(self, work, rng, events):
        delay = rng.choice((0.0, rng.uniform(self.started, self.lasted)))
        process = self.start(work) if delay else None
        time.sleep(delay)
        held = _only_read(work / "run", True)
        events.append(f"read-only after {delay:.2f} s: {held}")
        fault = self.stopped(process or self.start(work), work)
        _only_read(work / "run", False)
        return fault


def _limit_files(size: int) -> None:
    """Limits each file, where the disk cannot be."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _only_read(folder: Path, only: bool) -> bool:
    """Makes a folder read-only or no more; False where the system refuses for five seconds."""
    if not _ROOT:
        folder.chmod(0o500 if only else 0o700)
        return True
    end = time.monotonic() + 5  # Files that are open for writing prevent it.
    while not (done := _mount("-o", f"remount,{'ro' if only else 'rw'}", folder)):
        if time.monotonic() > end:
            break
        time.sleep(0.02)
    return done


def _mount(*arguments: object) -> bool:
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode == 0


class Twice(Runs):
    """Two processes run one experiment in one folder."""

    def disturb(self, work, rng, events):
        delay = rng.choice((0.0, rng.uniform(0, self.lasted)))
        events.append(f"the second one {delay:.2f} s after the first")
        first = self.start(work)
        time.sleep(delay)
        printed = self.output_path
        self.output_path = printed.with_name("second.txt")
        second = self.start(work)
        ends = []
        for process, path in ((second, self.output_path), (first, printed)):
            self.output_path = path
            code = self.wait(process)
            ends.append(code)
            if code != 0 and (fault := self.refusal(code)):
                return f"one of two: {fault}"
        if any(ends) and all(ends):
            return "both of two gave up"
        return self.compare(work)


class Vanishing(Runs):
    """The folder of the pictures is away for a while."""

    def disturb(self, work, rng, events):
        delay = rng.uniform(0.5 * self.started, self.lasted)
        events.append(f"away after {delay:.2f} s")
        process = self.start(work)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        os.rename(work / "pictures", work / "away")
        code = self.wait(process)
        os.rename(work / "away", work / "pictures")
        return None if code == 0 else self.refusal(code)


class Dying(Runs):
    """A study loses the processes of its runs, one after the other."""

    def disturb(self, work, rng, events):
        process = self.start(work)
        deaths = 0
        end = time.monotonic() + rng.uniform(self.started, self.lasted)
        while process.poll() is None and deaths < 2:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            if children and time.monotonic() > end:
                os.kill(int(children[-1]), signal.SIGKILL)
                deaths += 1
                end = time.monotonic() + rng.uniform(0, self.lasted)
            time.sleep(0.01)
        events.append(f"{deaths} runs killed")
        code = self.wait(process)
        return None if code == 0 else self.refusal(code)


def _on_pictures(work: Path, _: str) -> list:
    flags = SMALL.replace("--batch-size 128", "--batch-size 8 --image-size 8")
    data = ["--dataset", "folder", "--data-dir", work / "pictures"]
    return ["recipes/digits.py", "--workdir", work / "run", *data, *flags.split(), "--no-export"]


def _study(work: Path, _: str) -> list:
    return ["-c", STUDY.format(folder=str(work / "run"))]


def _pictures(work: Path) -> None:
    materialize(class_folders("pictures", 40), work)


_RUN = Stage(functools.partial(digits, more=_EXPORTED), run_result)
CLASHES = {
    "full disk": functools.partial(Full, _RUN),
    "read-only disk": functools.partial(ReadOnly, _RUN),
    "two runs in a folder": functools.partial(Twice, _RUN),
    "data that vanish": functools.partial(Vanishing, Stage(_on_pictures, run_result, _pictures)),
    "runs of a study die": functools.partial(Dying, Stage(_study, run_result)),
}
