"""A run that is killed at any moment and started again ends with the same weights, bit for bit."""

from __future__ import annotations

import functools
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from keras_resnet.training import read_records
from tests.distributed.train_processes import finish, start

STEPS = 30


def kill_at(process, step: int, delay: float, number: signal.Signals) -> list[str]:
    """Sends a signal some seconds after a step was announced; returns what was printed."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("step ") and int(line.split()[1]) >= step:
            break
    time.sleep(delay)
    process.send_signal(number)
    lines += process.stdout.readlines()
    process.wait()
    return lines


def steps_of(lines: list[str]) -> list[int]:
    return [int(line.split()[1]) for line in lines if line.startswith("step ")]


def check_kills(tmp_path, replicas: int, kills: int, seed: int, sigterm: bool = False) -> None:
    """Kills a run `kills` times, after a SIGTERM if asked to, and compares it with a whole one."""
    moments = random.Random(seed)
    reference, output, last = tmp_path / "reference.npz", tmp_path / "resumed.npz", 0
    whole = start("train_resume.py", tmp_path / "whole", replicas, reference)
    killed = functools.partial(start, "train_resume.py", tmp_path / "killed", replicas, output)
    if sigterm:
        last = check_sigterm(killed(5), 3, tmp_path / "killed")
    # Some lives end before they gain a step. The runs wait two steps further on, so that none can
    # end by itself where the machine is busy and the signal late.
    for step in sorted(moments.randint(last + 1, STEPS - 3) for _ in range(kills)):
        process = killed(step + 2)
        lines = kill_at(process, step, moments.uniform(0, 0.04), signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL, "".join(lines)
        steps = steps_of(lines)
        # At most what came after the last checkpoint is done again.
        assert last - 2 < steps[0] <= last + 1
        last = max(steps)
        assert not output.exists()
    finish(killed())
    finish(whole)
    with np.load(reference) as expected, np.load(output) as found:
        assert expected.files == found.files
        assert expected["warmup_over"][1] < STEPS
        for name in expected.files:
            np.testing.assert_array_equal(expected[name], found[name])
    for kind in ("interval", "epoch"):
        rows, killed_rows = (
            [
                [row[column] for column in ("step", "epoch", "loss", "accuracy")]
                for row in read_records(tmp_path / name / "metrics.jsonl")
                if row["kind"] == kind
            ]
            for name in ("whole", "killed")
        )
        assert [row[:2] for row in rows] == [row[:2] for row in killed_rows]
        np.testing.assert_allclose(rows, killed_rows, rtol=1e-5)


def check_sigterm(process, step: int, directory: Path) -> int:
    """Sends SIGTERM at a step; returns the step that was saved."""
    lines = kill_at(process, step, 0.0, signal.SIGTERM)
    assert process.returncode == 143, "".join(lines)
    assert not any("Traceback" in line for line in lines)
    last = steps_of(lines)[-1]
    newest = sorted(directory.glob("step-*.npz"))[-1]
    assert newest.name == f"step-{last:09d}.npz"
    return last


@pytest.mark.parametrize("replicas", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_runs_that_get_sigterm_and_are_killed_end_alike(tmp_path, replicas):
    check_kills(tmp_path, replicas, kills=1, seed=replicas, sigterm=True)


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2])
def test_twenty_kills(tmp_path, replicas):
    check_kills(tmp_path, replicas, kills=20, seed=10 + replicas)
