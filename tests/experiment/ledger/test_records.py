"""Ledgers: identity, no run twice, damaged lines, merging."""

import concurrent.futures
import json

import numpy as np
import pytest

from keras_resnet.experiment.ledger.budgets import BUDGETS
from keras_resnet.experiment.ledger.records import (
    append,
    identity,
    identity_of,
    own_settings,
    read_ledger,
)
from tests.experiment.ledger.fabricated import IMAGES, VERSIONS, record, records


def test_a_hash_is_that_of_settings_and_versions():
    experiment = BUDGETS["digits"].experiment("ResNet20", 0)
    settings = own_settings(experiment)
    assert "weight_decay" not in settings and settings["model"] == "ResNet20"
    known = identity(settings, VERSIONS)
    assert known == identity(dict(reversed(settings.items())), VERSIONS)
    assert known == "2d1004101d83eaf3"  # on any machine, and from one version to the next
    for change in ({"seed": 1}, {"model": "PlainNet20"}, {"steps": 9}):
        assert identity(own_settings(experiment.replace(**change)), VERSIONS) != known
    for name in VERSIONS:
        assert identity(settings, {**VERSIONS, name: "other"}) != known
    # How and where it is run is not a part of it.
    assert identity(settings, {**VERSIONS, "python": "3.14"}) == known
    moved = experiment.replace(workdir="elsewhere", log_every=7, report=False, gpus=1)
    assert identity_of(moved) == identity_of(experiment)


def test_records_come_back_as_they_were(tmp_path):
    path, own = tmp_path / "new" / "ledger.jsonl", records(ResNet20=(10, 11), PlainNet20=(30,))
    assert read_ledger(path) == ([], [])
    assert [append(path, one) for one in own] == [True] * 3
    found, problems = read_ledger(path)
    assert found == own and not problems
    np.testing.assert_array_equal(found[0].hits(), np.arange(IMAGES) >= 10)
    assert found[0].test_error == pytest.approx(0.1)


def test_none_is_recorded_twice(tmp_path):
    path, one = tmp_path / "ledger.jsonl", record("ResNet20", 0, 10)
    assert append(path, one)
    assert not append(path, one)
    assert len(path.read_text().splitlines()) == 1


def test_several_writers_lose_nothing(tmp_path):
    path, own = tmp_path / "ledger.jsonl", records(ResNet20=range(10), PlainNet20=range(10))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda one: append(path, one), [*own, *own]))
    assert sum(added) == len(own)
    found, problems = read_ledger(path)
    assert {one.hash for one in found} == {one.hash for one in own} and not problems


def test_a_broken_last_line_is_reported_and_the_next_record_stands_alone(tmp_path):
    path, own = tmp_path / "ledger.jsonl", records(ResNet20=(10, 11, 12))
    append(path, own[0])
    append(path, own[1])
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    found, (problem,) = read_ledger(path)
    assert found == own[:1]
    assert str(path) in problem and "line 2" in problem
    assert append(path, own[2])
    found, problems = read_ledger(path)
    assert found == [own[0], own[2]] and problems == [problem]


def test_two_ledgers_are_merged_by_writing_one_behind_the_other(tmp_path):
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    own = records(ResNet20=(10, 11, 12))
    for one in own[:2]:
        append(here, one)
    for one in own[1:]:
        append(there, one)
    merged = tmp_path / "merged.jsonl"
    merged.write_bytes(here.read_bytes() + there.read_bytes())
    assert read_ledger(merged) == (own, [])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"wrong": 11}, "other bits"),
        ({"images": 10**9}, "bytes of bits"),
        ({"correct": "%"}, "base64"),
        ({"hash": "0" * 16}, "hash"),
        ({"settings": {}}, "hash"),
        ({"seed": None}, "seed"),
        ({"extra": 1}, "extra"),
        ({"images": None}, "None"),
        ({"images": 0, "wrong": 0, "correct": ""}, "images=0"),
        ({"train_error": "none"}, "train_error"),
        ({"seconds": 0}, "seconds"),
        ({"machine": 7}, "machine"),
        ({"curve": [[1, 0.5]]}, "unpack"),
        ({"curve": [[1, 5.0, None]]}, "curve"),
        ({"responses": [None]}, "responses"),
        ({"settings": 7}, "hash"),
        ({"versions": {}}, "keras_resnet"),
    ],
)
def test_what_is_no_record_is_skipped(tmp_path, change, said):
    path = tmp_path / "ledger.jsonl"
    append(path, record("ResNet20", 0, 10))
    append(path, record("ResNet20", 1, 10))
    first, second = path.read_text().splitlines()
    path.write_text(f"{json.dumps(json.loads(first) | change)}\n{second}\n")
    found, (problem,) = read_ledger(path)
    assert [one.seed for one in found] == [1]
    assert "line 1" in problem and said in problem


@pytest.mark.parametrize("line", [b"[]", b"{}", b"7", b"\xff", b'{"hash": 1', b"[" * 100_000])
def test_lines_of_other_things_are_skipped(tmp_path, line):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(line + b"\n")
    found, problems = read_ledger(path)
    assert found == [] and len(problems) == 1
