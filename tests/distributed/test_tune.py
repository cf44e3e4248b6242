"""Searches that are killed and go on, and searches on several replicas."""

from __future__ import annotations

import json
import signal

import pytest

from tests.distributed.train_processes import finish, start
from tests.experiment.search.fakes import make_search, results


def of(printed: str) -> list:
    (line,) = (line for line in printed.splitlines() if line.startswith("results "))
    return json.loads(line.removeprefix("results "))


def epochs_of(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith("trial_")]


def whole(folder, tuner):
    """What an uninterrupted search in this process comes to, as JSON has it."""
    found = make_search(folder, tuner, trials=None if tuner == "hyperband" else 3)
    found.search()
    return json.loads(json.dumps(results(found)))


@pytest.mark.slow
def test_a_search_on_two_replicas_that_was_killed_goes_on_where_it_was(tmp_path):
    """Killed in its first trial, of which keras-tuner itself would know nothing."""
    folder = tmp_path / "killed"
    first = start("tune.py", folder, "random", 2, "trial_0", 1)
    printed, _ = first.communicate(timeout=300)
    assert first.returncode == -signal.SIGKILL, printed
    assert epochs_of(printed) == ["trial_0 epoch 0", "trial_0 epoch 1"]
    # Its second epoch was not saved yet.
    printed = finish(start("tune.py", folder, "random", 2))
    ran = [f"trial_{trial} epoch {epoch}" for trial in range(3) for epoch in range(2)]
    assert epochs_of(printed) == ran[1:]
    for one, two in zip(whole(tmp_path / "whole", "random"), of(printed), strict=True):
        assert two[:3] == one[:3]
        assert two[4] == pytest.approx(one[4], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tuner", "trial"), [("random", "1"), ("hyperband", "0002"), ("bayesian", "1")]
)
def test_every_oracle_goes_on_bit_for_bit(tmp_path, tuner, trial):
    folder = tmp_path / "killed"
    for epoch in (0, 1):
        process = start("tune.py", folder, tuner, 1, f"trial_{trial}", epoch)
        process.communicate(timeout=300)
    assert of(finish(start("tune.py", folder, tuner, 1))) == whole(tmp_path / "whole", tuner)
