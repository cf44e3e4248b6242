"""The paper's cells and claims, and the budgets that run them."""

import pytest

from keras_resnet.analysis.published import PAPER
from keras_resnet.architectures import find_architecture
from keras_resnet.experiment.ledger.budgets import BUDGETS
from keras_resnet.experiment.ledger.paper import FIGURES, TABLES
from tests.helpers import refused

CELLS = [cell for table in TABLES.values() for cell in table.cells]


def test_values_are_those_of_the_published_accuracies():
    values = {cell.network: cell.value for cell in CELLS if cell.value is not None}
    known = {name: 100 * (1 - one.top1) for name, one in PAPER.items() if name in values}
    assert {name: values[name] for name in known} == pytest.approx(known)
    assert values["ResNet34"] == 24.52  # option B, of which there are weights too
    assert set(values) - set(known) == {"ResNet34"}


@pytest.mark.parametrize("name", TABLES)
def test_claims_are_of_cells_and_agree_with_the_papers_values(name):
    for table in (TABLES[name], TABLES[name].with_stand_ins()):
        values = {(cell.network, cell.figure): cell.value for cell in table.cells}
        assert set(table.networks) == {find_architecture(n).name for n in table.networks}
        for claim in table.claims:
            lower, higher = (values[n, claim.figure] for n in (claim.lower, claim.higher))
            assert lower is None or lower < higher
            assert claim.figure in FIGURES
    assert all(cell.source for cell in TABLES[name].cells)


@pytest.mark.parametrize("name", BUDGETS)
def test_budgets_run_networks_by_the_papers_schedule(name):
    budget = BUDGETS[name]
    assert budget.name == name
    optimization = budget.base.optimization
    assert optimization.drops == (0.5, 0.75)  # 32k and 48k of 64k
    assert (optimization.learning_rate, optimization.weight_decay) == (0.1, 1e-4)
    # What is chosen is not chosen by test images.
    assert budget.base.data.validation_split == "validation"
    assert optimization.final_weights == "last"
    for network in budget.networks:
        assert budget.experiment(network, 3).optimization.seed == 3


def test_networks_for_photographs_have_stand_ins():
    table = BUDGETS["fashion"].table("table2")
    assert table.stands_for["PlainNet56"] == "PlainNet34"
    assert [str(claim) for claim in table.claims] == [
        "PlainNet20 has a lower test error than PlainNet56",
        "ResNet56 has a lower test error than ResNet20",
        "ResNet56 has a lower test error than PlainNet56",
    ]
    assert BUDGETS["imagenet"].table("table2") is TABLES["table2"]
    with refused("budget", "cifar10", "'digits'"):
        BUDGETS["digits"].table("overfit")
