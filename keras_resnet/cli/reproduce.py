"""Sets own runs beside the paper's tables, with a verdict on each of their claims.

    keras-resnet reproduce table6 --budget digits
    keras-resnet reproduce table6 fig6 --budget fashion --run

TABLES are table2, table3, table6, fig1, fig4, fig6, fig7 and overfit (or sec4.2). --run first makes
the runs that the ledger lacks, one at a time; killed and started again, it resumes. --update
docs/ledger.md writes the page between the lines "<!-- ledger BUDGET -->" and
"<!-- end of ledger BUDGET -->" of that file, and pictures beside it.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from keras_resnet.cli.arguments import Arguments, parse
from keras_resnet.cli.session import print_json
from keras_resnet.experiment import ledger
from keras_resnet.experiment.ledger.budgets import BUDGETS
from keras_resnet.experiment.ledger.paper import ALIASES, TABLES
from keras_resnet.utils import checks

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Reproduce(Arguments):
    """Arguments of `keras-resnet reproduce`.

    Attributes:
        tables: Tables and figures of the paper.
        budget: Data and length of training: digits takes seconds to minutes a run, fashion minutes,
            cifar10 and imagenet are the paper's own.
        seeds: Seeds that every network is trained with; a verdict needs three.
        data_dir: Folder of the data; by default the data set's own.
        ledger: File of the records, a line of JSON each.
        run: Whether the runs that the ledger lacks are made.
        only: Networks to run; by default all of the tables that the budget runs.
        workdir: Folder of the runs, which can be deleted once they are in the ledger.
        update: Document to write the page into; by default none.
        json: Print the page as JSON.
    """

    tables: Positional[tuple[str, ...]]
    budget: Literal["digits", "fashion", "cifar10", "imagenet"] = "digits"
    seeds: tuple[int, ...] = (0, 1, 2)
    data_dir: str | None = None
    ledger: Path = Path("runs/reproduce/ledger.jsonl")
    run: bool = False
    only: tuple[str, ...] = ()
    workdir: str = "runs/reproduce"
    update: Path | None = None
    json: bool = False

    def __post_init__(self):
        for table in self.tables:
            checks.one_of("tables", table, (*TABLES, *ALIASES))
        checks.different("seeds", self.seeds, "numbers")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Makes the runs that are asked for, and prints the page."""
    given = parse(Reproduce, argv, __doc__, prog)

    budget = BUDGETS[given.budget]
    names = list(dict.fromkeys(ALIASES.get(name, name) for name in given.tables))
    tables = {name: budget.table(name) for name in names}
    shown = dict.fromkeys(network for table in tables.values() for network in table.networks)
    networks = [network for network in shown if network in budget.networks]
    for network in given.only:
        checks.one_of("only", network, networks)
    runs = ledger.running.runs_of(budget, networks, given.seeds, given.data_dir)
    found, _ = ledger.records.read_ledger(given.ledger)
    if given.run:
        asked = [run for run in runs if not given.only or run.cell in given.only]
        ledger.running.run_missing(
            [run for run in asked if not run.is_in(found)], given.ledger, given.workdir
        )
    found, problems = ledger.records.read_ledger(given.ledger)
    own, left_out = ledger.rules.comparable(found, budget)
    for problem in (*problems, *left_out):
        logger.warning(problem)
    left = ledger.running.cost_text([run for run in runs if not run.is_in(found)], found)
    page = ledger.page.Page(budget, tables, own, left)
    if given.update:
        ledger.page.update(given.update, page)
    if given.json:
        print_json(page.content())
    elif not given.update:
        print(page.markdown())
