"""A run that is killed at any moment and started again ends with the same weights, bit for bit."""

from __future__ import annotations

import random
import signal
import time

import numpy as np
import pytest

from keras_resnet.training import read_records
from tests.distributed.train_processes import finish, start


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


def check_kills(tmp_path, replicas: int, kills: int, seed: int) -> None:
    moments = random.Random(seed)
    reference = tmp_path / "reference.npz"
    whole = start("train_resume.py", tmp_path / "whole", replicas, reference)
    output, last = tmp_path / "resumed.npz", 0
    for kill in range(kills):
        # Sometimes before the first step of this life, when nothing is gained.
        step = min(last + moments.randint(0, max(1, 40 // kills)), 29)
        process = start("train_resume.py", tmp_path / "killed", replicas, output)
        steps = steps_of(kill_at(process, step, moments.uniform(0, 0.04), signal.SIGKILL))
        assert process.returncode in (-signal.SIGKILL, 0)
        # At most what came after the last checkpoint is done again.
        assert kill == 0 or steps[0] >= last - 2
        last = max(steps, default=last)
    finish(start("train_resume.py", tmp_path / "killed", replicas, output))
    finish(whole)
    with np.load(reference) as expected, np.load(output) as found:
        assert expected.files == found.files
        assert expected["warmup_over"][1] == 1.0
        for name in expected.files:
            np.testing.assert_array_equal(expected[name], found[name])
    for kind in ("interval", "epoch"):
        rows, killed_rows = (
            [
                (row["step"], row["epoch"], row["loss"], row["accuracy"])
                for row in read_records(tmp_path / name / "metrics.jsonl")
                if row["kind"] == kind
            ]
            for name in ("whole", "killed")
        )
        assert [row[:2] for row in rows] == [row[:2] for row in killed_rows]
        np.testing.assert_allclose(rows, killed_rows, rtol=1e-5)


@pytest.mark.parametrize("replicas", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_killed_runs_end_alike(tmp_path, replicas):
    check_kills(tmp_path, replicas, kills=2, seed=replicas)


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2])
def test_twenty_kills(tmp_path, replicas):
    check_kills(tmp_path, replicas, kills=20, seed=10 + replicas)


def test_sigterm_saves_and_exits(tmp_path):
    process = start("train_resume.py", tmp_path / "run", 1, tmp_path / "output.npz")
    lines = kill_at(process, 3, 0.0, signal.SIGTERM)
    assert process.returncode == 143
    assert not any("Traceback" in line for line in lines)
    assert not (tmp_path / "output.npz").exists()
    last = steps_of(lines)[-1]
    newest = sorted((tmp_path / "run").glob("step-*.npz"))[-1]
    assert newest.name == f"step-{last:09d}.npz"
