"""Searches that are killed and resume, and searches on several replicas."""

from __future__ import annotations

import json
import signal

import pytest

from tests.distributed.train_processes import finish, start
from tests.experiment.search.fakes import dense, results, searched


def of(printed: str) -> list:
    (line,) = (line for line in printed.splitlines() if line.startswith("results "))
    return json.loads(line.removeprefix("results "))


def saved(printed: str) -> list[int]:
    """Returns the steps of the checkpoints that a search wrote: one an epoch of four steps."""
    return [int(line[6:]) for line in printed.splitlines() if line.startswith("saved ")]


@pytest.mark.slow
def test_a_search_on_two_replicas_that_was_killed_resumes_where_it_was(tmp_path):
    """Killed in its first trial, of which keras-tuner itself would know nothing."""
    folder = tmp_path / "killed"
    first = start("tune.py", folder, "random", 2, 1)
    printed, _ = first.communicate(timeout=300)
    assert first.returncode == -signal.SIGKILL, printed
    assert saved(printed) == [4]
    printed = finish(start("tune.py", folder, "random", 2))
    assert saved(printed) == [8, 4, 8, 4, 8]
    whole = results(searched(dense(tmp_path / "whole"), "random"))
    for one, two in zip(whole, of(printed), strict=True):
        assert two[:3] == one[:3]
        assert two[4] == pytest.approx(one[4], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("tuner", ["random", "hyperband"])
def test_a_search_that_was_killed_twice_ends_bit_for_bit_as_if_it_had_not(tmp_path, tuner):
    folder = tmp_path / "killed"
    for checkpoints in (3, 1):
        start("tune.py", folder, tuner, 1, checkpoints).communicate(timeout=300)
    whole = results(searched(dense(tmp_path / "whole"), tuner))
    assert of(finish(start("tune.py", folder, tuner, 1))) == whole
