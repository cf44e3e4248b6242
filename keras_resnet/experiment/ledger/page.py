"""The page of a ledger: own figures beside the paper's, verdicts, and what is left to run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from keras_resnet.analysis import plots, studies
from keras_resnet.architectures import find_architecture
from keras_resnet.experiment.ledger.budgets import Budget
from keras_resnet.experiment.ledger.paper import FIGURES, Cell, Table
from keras_resnet.experiment.ledger.rules import Judgment, Runs, Summary, judge, summarize
from keras_resnet.utils.documents import around
from keras_resnet.utils.files import write_text
from keras_resnet.utils.statistics import wilson_interval
from keras_resnet.utils.tables import markdown_table

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Page:
    """Page of a ledger, on tables of the paper.

    Attributes:
        budget: The budget of its runs.
        tables: The tables by name, those of stand-ins where the budget needs them.
        runs: Its runs, by network and seed.
        left: Number and cost of the runs that it lacks, in words.
    """

    budget: Budget
    tables: Mapping[str, Table]
    runs: Runs
    left: str

    def content(self) -> Row:
        """Returns it as JSON can hold it, errors in [0, 1] and the paper's in percent."""
        tables = {
            name: {
                "title": table.title,
                "cells": [
                    {**dataclasses.asdict(cell), "here": own and dataclasses.asdict(own)}
                    for cell in table.cells
                    for own in [self._summary(cell)]
                ],
                "claims": [dataclasses.asdict(judge(claim, self.runs)) for claim in table.claims],
            }
            for name, table in self.tables.items()
        }
        return {"budget": self.budget.name, "left": self.left, "tables": tables}

    def markdown(self, pictures: Mapping[str, Sequence[str]] = MappingProxyType({})) -> str:
        """Returns it as Markdown, with the `pictures` of tables by the tables' names."""
        budget = self.budget
        parts = [
            f"## Budget {budget.name}",
            f"{budget.about}. {_COMPARABLE if budget.of_the_paper else _RELATIONS}",
        ]
        for name, table in self.tables.items():
            parts += [f"### {name}: {table.title}"]
            if table.stands_for:
                stand_ins = (f"{ours} for {theirs}" for ours, theirs in table.stands_for.items())
                parts += [f"Stand-ins, and whose place they take: {', '.join(stand_ins)}."]
            for picture in pictures.get(name, ()):
                what = "errors by epoch" if "curves" in picture else "here and in the paper"
                parts += [f"![{name}, {what}]({picture})"]
            parts += [markdown_table(self._figures(table))]
            judged = [judge(claim, self.runs) for claim in table.claims]
            able = [one for one in judged if {one.claim.lower, one.claim.higher} <= self._networks]
            if able:
                parts += [markdown_table([_claim_row(one) for one in able])]
            if others := [f"{one.claim}" for one in judged if one not in able]:
                parts += [f"Not in this budget: {'; '.join(others)}."]
        return "\n\n".join([*parts, f"Left to run: {self.left}."])

    def draw(self, folder: Path) -> dict[str, list[Path]]:
        """Writes the pictures of every table that has a run, and returns their paths by name."""
        paths = {}
        for name, table in self.tables.items():
            if not any(one in self.runs for one in table.networks):
                continue
            about = f"{name} of arXiv 1512.03385, budget {self.budget.name}"
            paths[name] = [folder / f"{self.budget.name}-{name}.svg"]
            plots.beside_the_paper(self._drawn(table), paths[name][0], title=about)
            if table.curves:
                paths[name].append(folder / f"{self.budget.name}-{name}-curves.svg")
                curves = self._curves(table)
                plots.error_curves(curves, paths[name][1], title=about)
        return paths

    def _curves(self, table: Table) -> dict[str, list[Row]]:
        """Returns the errors by epoch of plain and of residual networks."""
        found: dict[str, list] = {}
        for network in table.networks:
            for record in self.runs.get(network, {}).values():
                epochs = [
                    {"accuracy": 1 - train, **({} if rest is None else {"val_accuracy": 1 - rest})}
                    for _, train, rest in record.curve
                ]
                found.setdefault(network, []).append(epochs)
        return studies.curves_by_kind(found, "validation")

    @property
    def _networks(self) -> set[str]:
        return {*self.budget.networks, *self.runs}

    def _summary(self, cell: Cell) -> Summary | None:
        return summarize(self.runs.get(cell.network, {}), cell.figure)

    def _figures(self, table: Table) -> list[Row]:
        """Returns a row for each cell of a table, with the errors of runs in percent."""
        rows = []
        for cell in table.cells:
            own = self._summary(cell)
            row: Row = {"network": cell.network, "figure": FIGURES[cell.figure]}
            row["paper"] = "-" if cell.value is None else f"{cell.value:.2f} %"
            row |= {"source": cell.source, "here": "-", "95 % interval": "-", "runs": "-"}
            if own is not None:
                scale, unit = _scale(cell.figure)
                spread = "" if own.deviation is None else f" ± {scale * own.deviation:.2f}"
                row["here"] = f"{scale * own.mean:.2f}{spread}{unit}"
                if own.interval_95:
                    row["95 % interval"] = _interval(own.interval_95, scale, floor=0.0)
                row["runs"] = "; ".join(
                    self._run_text(cell, seed, value, scale) for seed, value in own.values.items()
                )
            rows.append(row)
        return rows

    def _run_text(self, cell: Cell, seed: int, value: float, scale: float) -> str:
        text = f"{scale * value:.2f}"
        if cell.figure != "test_error":
            return text
        images = self.runs[cell.network][seed].images
        return f"{text} ({_interval(wilson_interval(value, images), scale)})"

    def _drawn(self, table: Table) -> list[Row]:
        rows = []
        for cell in table.cells:
            own, (scale, unit) = self._summary(cell), _scale(cell.figure)
            interval = own and own.interval_95
            theirs = table.stands_for.get(cell.network)
            rows.append(
                {
                    "network": cell.network + (f"\n(for {theirs})" if theirs else ""),
                    "plain": find_architecture(cell.network).plain,
                    "figure": f"{FIGURES[cell.figure]}{' (%)' if unit else ''}",
                    "values": [scale * value for value in own.values.values()] if own else [],
                    "mean": scale * own.mean if own else None,
                    "low": scale * interval[0] if interval else None,
                    "high": scale * interval[1] if interval else None,
                    "paper": cell.value,
                }
            )
        return rows


_COMPARABLE = "Data and length are the paper's: values may be compared."
_RELATIONS = (
    "This is not the paper's data, and training is far shorter: its values cannot be reproduced "
    "here, only relations between networks."
)


def updated(document: Path, page: Page) -> str:
    """Returns a document with a page between its comments, and draws its pictures beside it.

    Raises:
        ValueError: If it does not have the two comments.
    """
    start, end = (f"<!-- {word}ledger {page.budget.name} -->" for word in ("", "end of "))
    given = f"update={str(document)!r}"
    text = document.read_text(encoding="utf-8")
    before, after = around(text, start, end, argument="update", given=given)
    paths = page.draw(document.with_suffix(""))
    pictures = {
        name: [f"{document.stem}/{path.name}" for path in own] for name, own in paths.items()
    }
    return "\n\n".join([before, page.markdown(pictures), after])


def update(document: Path, page: Page) -> None:
    """Writes what `updated` returns."""
    write_text(document, updated(document, page))


def _scale(figure: str) -> tuple[float, str]:
    return (1.0, "") if figure == "response" else (100.0, " %")


def _interval(interval: tuple[float, float], scale: float, floor: float | None = None) -> str:
    low, high = interval
    low = low if floor is None else max(floor, low)
    return f"{scale * low:.2f} to {scale * high:.2f}"


def _claim_row(one: Judgment) -> Row:
    scale, _ = _scale(one.claim.figure)
    paired = one.paired
    return {
        "claim": str(one.claim),
        "seeds": f"{one.seeds[0]}, {one.seeds[1]}",
        "difference": "-" if one.difference is None else f"{scale * one.difference:+.2f}",
        "95 % interval": _interval(one.interval_95, scale) if one.interval_95 else "-",
        "verdict": one.verdict,
        "McNemar's p": "-" if paired is None else f"{paired.p_value:.2g}",
    }
