"""`keras-resnet reproduce`, run as a user runs it."""

import dataclasses
import json

import pytest

from keras_resnet.experiment.ledger.budgets import BUDGETS
from keras_resnet.experiment.ledger.records import append
from tests.experiment.ledger.fabricated import record, records
from tests.recipes.running import refused, run_here, streams_here


@pytest.fixture
def ledger(tmp_path):
    path = tmp_path / "ledger.jsonl"
    for one in records(ResNet20=(10, 11, 12), PlainNet20=(20, 21, 22)):
        append(path, one)
    return path


@pytest.fixture(autouse=True)
def untimed(monkeypatch):
    monkeypatch.setattr("keras_resnet.experiment.ledger.running._timed", lambda runs: 1e9)


def test_the_example_runs_and_resumes(tmp_path, monkeypatch):
    short = dataclasses.replace(BUDGETS["digits"], base=BUDGETS["digits"].base.replace(steps=2))
    monkeypatch.setitem(BUDGETS, "digits", short)
    document = tmp_path / "page.md"
    document.write_text("<!-- ledger digits -->\n<!-- end of ledger digits -->\n")
    words = ["reproduce", "table6", "--budget", "digits", "--run", "--seeds", 0]
    words += ["--only", "ResNet20", "--ledger", tmp_path / "l.jsonl", "--workdir", tmp_path]
    printed = json.loads(run_here(*words, "--update", document, "--json"))
    assert "| ResNet20 | test error | 8.75 % |" in document.read_text()
    cell = printed["tables"]["table6"]["cells"][0]
    assert 0 <= cell["here"]["mean"] <= 1 and list(cell["here"]["values"]) == ["0"]
    assert printed["left"].startswith("1 run, ")  # ResNet56
    (folder,) = (path for path in tmp_path.iterdir() if path.name.startswith("ResNet20-"))
    before = (tmp_path / "l.jsonl").read_bytes()
    (folder / "model.keras").unlink()  # which a second run would write
    run_here(*words)
    assert (tmp_path / "l.jsonl").read_bytes() == before
    assert not (folder / "model.keras").exists()


def test_without_run_the_page_is_printed(ledger):
    words = ("reproduce", "fig6", "fig4", "fig6", "--ledger", ledger)
    page = run_here(*words)
    assert "| ResNet20 has a lower test error than PlainNet20 | 3, 3 | +10.00 |" in page
    assert page.count("### fig6: ") == page.count("### fig4: ") == 1
    # The fabricated ones were made with other versions than are installed.
    assert "Left to run: 12 runs, about " in page


def test_a_section_is_a_table_too(monkeypatch):
    monkeypatch.setattr(
        "keras_resnet.experiment.ledger.running.cost_text", lambda runs, _: f"{len(runs)} runs"
    )
    page = run_here("reproduce", "sec4.2", "--budget", "cifar10", "--seeds", 0, 1, 2, 3, 4)
    assert "### overfit: " in page and page.endswith("Left to run: 10 runs.\n")


def test_what_is_not_used_of_a_ledger_is_said(ledger):
    append(ledger, record("ResNet20", 3, 5, data="others"))
    with open(ledger, "a") as file:
        file.write('{"hash": "12')
    _, said = streams_here("reproduce", "table6", "--ledger", ledger)
    assert "line 8 is no record" in said and "its data are others" in said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["table9"], "`tables`"),
        ([], "TABLE"),
        (["table6", "--budget", "mnist"], "`budget`"),
        (["table6", "--seeds", "1", "1"], "`seeds`"),
        (["table6", "--only", "ResNet110"], "`only`"),
        (["overfit", "--budget", "fashion"], "`budget`"),
        (["table6", "--update", "none.md"], "none.md"),
    ],
)
def test_wrong_words_are_one_line(words, named):
    refused(named, "reproduce", *words)


def test_missing_data_are_one_line(tmp_path):
    where = ("--data-dir", tmp_path / "none", "--ledger", tmp_path / "l", "--workdir", tmp_path)
    words = ("reproduce", "table6", "--budget", "fashion", "--run", "--seeds", 0)
    refused("`data_dir`", *words, *where)
