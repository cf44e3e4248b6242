"""What campaigns have found stays mended, and a campaign of seconds works."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.faults import runner
from tests.faults.files import FORMATS, Files, materialize, tree_of
from tests.faults.mutate import damage, forge
from tests.faults.runner import Campaign, Outcome
from tests.faults.worker import Worker

CASES = sorted((Path(__file__).parent / "cases").glob("*.json"))


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Returns a function from a format to its campaign; all share one worker."""
    folder = tmp_path_factory.mktemp("faults")
    worker = Worker(folder / "worker")
    files = {name: Files(name, folder / runner.slug(name), worker) for name in FORMATS}
    yield files.get
    worker.close()


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_what_was_found_before(opened, path):
    case = json.loads(path.read_text())
    assert opened(case["campaign"]).replay(case).fault is None


def test_every_reader_has_a_campaign(subprocess_python):
    printed = subprocess_python("from tests.faults.readers import READERS; print([*READERS])")
    assert printed.stdout.splitlines()[-1] == str([*FORMATS])


@pytest.mark.parametrize("name", ["a.json", "a.npz", "a.bin"])
def test_a_seed_gives_the_same_file_again(name):
    whole = b'{"a": [1, 2.5, "b"]}'
    for change in (damage, lambda data, rng: forge(data, rng, name)):
        once, again = ([change(whole, random.Random(s)) for s in range(50)] for _ in range(2))
        assert once == again
        assert sum(data != whole for data in once) > 40


def test_a_tree_is_stored_and_made_again(tmp_path):
    tree = [("top/\udcff", "file", b"1"), ("top/in/a", "fifo", b""), ("top/loop", "loop", b"")]
    assert materialize(tree, tmp_path) == tmp_path / "top"
    assert (tmp_path / "top" / "in" / "a").is_fifo()
    assert tree_of(tmp_path / "top") == tree[:1]


class Fakes:
    """Trials that end in every way."""

    def __init__(self, folder):
        pass

    def whole(self):
        finds = [Outcome("found", fault=f"after {n} s", case={"x": "x" * n}) for n in (5, 3, 4)]
        return [Outcome("same", 1.0, 2.0), Outcome("refused", 3.0), *finds]

    def trial(self, seed):
        return Outcome("other")

    replay = None

    def close(self):
        pass


def test_a_run_counts_and_keeps_the_smallest_find_of_a_kind(tmp_path, capsys):
    campaigns = {name: Campaign(Fakes) for name in ("one", "two")}
    table, finds = tmp_path / "table", tmp_path / "finds"
    rows = runner.run(campaigns, tmp_path, minutes=0, seed=3, finds=finds, table=table)
    for row, name in zip(rows, ("one", "two"), strict=True):
        assert list(row.cells().values()) == [name, 6, 1, 1, 1, 3, 1, 3.0, 2]
    cases = [json.loads(path.read_text()) for path in sorted(finds.iterdir())]
    assert [(case["campaign"], case["x"]) for case in cases] == [("one", "xxx"), ("two", "xxx")]
    lines = table.with_suffix(".csv").read_text().splitlines()
    assert lines[0].startswith("campaign,tried,") and len(lines) == 3
    assert len(table.with_suffix(".md").read_text().splitlines()) == 4
    printed = capsys.readouterr().out.splitlines()
    assert [line[:10] for line in printed[:2]] == ["FOUND  one", "FOUND  two"]
