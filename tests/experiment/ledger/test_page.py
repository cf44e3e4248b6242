"""The page of a ledger: Markdown, pictures, JSON."""

import json

import pytest

from keras_resnet.experiment.ledger.budgets import BUDGETS
from keras_resnet.experiment.ledger.page import Page, update
from keras_resnet.experiment.ledger.rules import comparable
from tests.experiment.ledger.fabricated import records
from tests.helpers import refused


def page(budget="digits", tables=("table2", "fig1", "fig7"), **wrong):
    own = BUDGETS[budget]
    runs, _ = comparable(records(budget, **wrong), own)
    return Page(own, {name: own.table(name) for name in tables}, runs, "nothing")


RUNS = {"PlainNet20": (20, 22, 24), "PlainNet56": (60, 64, 68), "ResNet20": (10,)}


def test_own_figures_stand_beside_the_papers():
    text = page(**RUNS).markdown()
    # Wilson's interval of 20 of 100 is 13.34 to 28.88; Student's of 22 ± 2 is 22 ± 4.3027 * 2 / √3.
    assert (
        "| PlainNet20 | test error | 27.94 % | table 2, p. 5 | 22.00 ± 2.00 % | 17.03 to 26.97 | "
        "20.00 (13.34 to 28.88); 22.00" in text
    )
    assert "| ResNet20 | test error | 27.88 % | table 2, p. 5 | 10.00 % | - | 10.00 (" in text
    assert "PlainNet56 for PlainNet34" in text
    assert "| PlainNet20 has a lower test error than PlainNet56 | 3, 3 | +42.00 |" in text
    assert text.count("| reproduced |") == 3  # in table 2, and of both errors in figure 1
    assert (
        "| ResNet56 has a lower test error than ResNet20 | 0, 1 | - | - | too few seeds |" in text
    )
    assert "only relations between networks" in text and text.endswith("Left to run: nothing.")


def test_what_a_budget_does_not_run_is_said():
    text = page(tables=["table6"], ResNet20=(10, 11)).markdown()
    assert "ResNet56 has a lower test error than ResNet20 | 0, 2 |" in text
    assert "Not in this budget: ResNet32 has a lower test error than ResNet20; " in text


def test_the_papers_figures_are_there_without_a_run():
    assert (
        "| ResNet20 | test error | 8.75 % | table 6, p. 7 | - | - | - |"
        in page(tables=["table6"]).markdown()
    )


def test_values_may_be_compared_on_the_papers_own_data():
    text = page("cifar10", ["table6"], ResNet20=(9,)).markdown()
    assert "values may be compared" in text and "| ResNet20 | test error | 8.75 % |" in text


def test_content_is_json():
    content = json.loads(json.dumps(page(**RUNS).content()))
    first, *_ = content["tables"]["table2"]["cells"]
    assert (first["network"], first["value"]) == ("PlainNet20", 27.94)
    assert first["here"]["mean"] == pytest.approx(0.22)
    claim = content["tables"]["table2"]["claims"][0]
    assert claim["verdict"] == "reproduced" and claim["paired"]["images"] == 300


def test_a_document_gets_the_page_and_pictures_of_what_was_run(tmp_path):
    document = tmp_path / "ledger.md"
    own = "a\n\n<!-- ledger digits -->\nold\n<!-- end of ledger digits -->\n\nb\n"
    document.write_text(own)
    shown = page(tables=["table2", "table6", "fig1", "fig7", "table3"], PlainNet56=(60, 64))
    update(document, shown)
    text = document.read_text()
    assert text.startswith("a\n\n<!-- ledger digits -->\n\n## Budget digits\n")
    assert text.endswith("\n\n<!-- end of ledger digits -->\n\nb\n") and "old" not in text
    update(document, shown)
    assert document.read_text() == text
    pictures = {path.name for path in (tmp_path / "ledger").glob("*.svg")}
    tables = ("table2", "fig1", "fig1-curves", "fig7")
    assert pictures == {f"digits-{name}.svg" for name in tables}
    assert all(f"(ledger/{name})" in text for name in pictures)
    drawn = (tmp_path / "ledger" / "digits-table2.svg").read_text()
    assert "PlainNet56" in drawn and "paper: test error (%)" in drawn
    assert "(for PlainNet34)" in drawn
    assert "paper:" not in (tmp_path / "ledger" / "digits-fig7.svg").read_text()
    curves = (tmp_path / "ledger" / "digits-fig1-curves.csv").read_text().splitlines()
    assert curves[1:5:2] == [
        "PlainNet56,training,1,0.5,0.5,0.5",
        "PlainNet56,validation,1,0.6,0.6,0.6",
    ]
    document.write_text("without comments")
    with refused("update", "ledger.md"):
        update(document, shown)
