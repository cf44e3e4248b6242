"""docs/ledger.md, made again of the ledger beside it."""

import re

import pytest

from keras_resnet.experiment.ledger.budgets import BUDGETS
from keras_resnet.experiment.ledger.page import Page
from keras_resnet.experiment.ledger.records import read_ledger
from keras_resnet.experiment.ledger.rules import comparable
from tests.documents import ROOT

DOCUMENT = ROOT / "docs" / "ledger.md"


@pytest.mark.parametrize("name", ["digits", "fashion"])
def test_the_page_is_that_of_the_ledger(name):
    records, problems = read_ledger(DOCUMENT.with_suffix("") / "ledger.jsonl")
    budget = BUDGETS[name]
    runs, left_out = comparable(records, budget)
    assert not problems and not left_out
    assert runs or name != "digits"
    text = DOCUMENT.read_text(encoding="utf-8")
    _, _, rest = text.partition(f"<!-- ledger {name} -->\n\n")
    page, end, _ = rest.partition(f"\n\n<!-- end of ledger {name} -->")
    tables = {table: budget.table(table) for table in re.findall(r"^### (\w+):", page, re.M)}
    drawn = re.findall(rf"\((ledger/{name}-(\w+)(?:-curves)?\.svg)\)", page)
    pictures = {table: [path for path, of in drawn if of == table] for table in tables}
    made = Page(budget, tables, runs, "").markdown(pictures)
    # What is left, and its cost, is that of the machine that wrote it.
    assert end and page.rpartition("\n\n")[0] == made.rpartition("\n\n")[0]
    for path, _ in drawn:
        assert "<svg" in (DOCUMENT.parent / path).read_text(encoding="utf-8")
