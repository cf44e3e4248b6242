"""The paper's tables and figures that can be reproduced: cells, their values, and what they claim.

On other data, or with shorter training, the values cannot be reproduced, but relations between
cells can. So every table has claims, each of which says that one cell's figure is below another's.
Page numbers are those of arXiv 1512.03385v1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

# What a run is measured by, all of which are better when lower, and as a sentence has it.
FIGURES = {
    "test_error": "test error",
    "train_error": "training error",
    "response": "mean response of its layers",
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A figure that the paper has for a network.

    Attributes:
        network: Name of the network.
        figure: One of `FIGURES`.
        value: The paper's value, an error in percent; None where it is only drawn.
        source: Table or figure, and page.
    """

    network: str
    figure: str
    value: float | None
    source: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """One network's figure is below another's."""

    lower: str
    higher: str
    figure: str

    def __str__(self) -> str:
        return f"{self.lower} has a lower {FIGURES[self.figure]} than {self.higher}"


@dataclasses.dataclass(frozen=True)
class Table:
    """One table or figure of the paper.

    Attributes:
        title: What it shows.
        cells: Its figures.
        claims: What is read from them.
        curves: Whether it shows errors over training.
        stand_ins: Networks for small images in place of its own, for budgets without photographs.
        stands_for: The paper's network that each network stands for, where they are stand-ins.
    """

    title: str
    cells: tuple[Cell, ...]
    claims: tuple[Claim, ...]
    curves: bool = False
    stand_ins: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stands_for: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def networks(self) -> tuple[str, ...]:
        """Its networks, in order."""
        return tuple(dict.fromkeys(cell.network for cell in self.cells))

    def with_stand_ins(self) -> Table:
        """Returns the table of the stand-ins, beside which the paper's own values stay."""
        names = self.stand_ins
        if not names:
            return self
        cells = (dataclasses.replace(cell, network=names[cell.network]) for cell in self.cells)
        claims = (Claim(names[one.lower], names[one.higher], one.figure) for one in self.claims)
        stands_for = {ours: theirs for theirs, ours in names.items()}
        return Table(self.title, tuple(cells), tuple(claims), self.curves, stands_for=stands_for)


def _cells(figure: str, source: str, values: Mapping[str, float | None]) -> tuple[Cell, ...]:
    return tuple(Cell(network, figure, value, source) for network, value in values.items())


def _drawn(*networks: str) -> dict[str, float | None]:
    """Returns no values for networks that a figure only draws."""
    return dict.fromkeys(networks)


def _falling(figure: str, *networks: str) -> tuple[Claim, ...]:
    """Returns the claims that each network has a lower figure than the one before it."""
    return tuple(
        Claim(lower, higher, figure) for higher, lower in zip(networks, networks[1:], strict=False)
    )


_PLAIN = ("PlainNet20", "PlainNet32", "PlainNet44", "PlainNet56")
_RESIDUAL = ("ResNet20", "ResNet32", "ResNet44", "ResNet56", "ResNet110")
_18_34 = MappingProxyType(
    {
        "PlainNet18": "PlainNet20",
        "PlainNet34": "PlainNet56",
        "ResNet18_A": "ResNet20",
        "ResNet34_A": "ResNet56",
    }
)
_BOTH = ("train_error", "test_error")

TABLES: dict[str, Table] = {
    "table2": Table(
        "Plain and residual networks of 18 and 34 layers on ImageNet (top-1 error, 10 crops)",
        _cells(
            *("test_error", "table 2, p. 5"),
            {"PlainNet18": 27.94, "PlainNet34": 28.54, "ResNet18_A": 27.88, "ResNet34_A": 25.03},
        ),
        (
            *_falling("test_error", "PlainNet34", "PlainNet18"),
            *_falling("test_error", "ResNet18_A", "ResNet34_A"),
            *_falling("test_error", "PlainNet34", "ResNet34_A"),
        ),
        stand_ins=_18_34,
    ),
    "table3": Table(
        "Shortcut options of 34 layers on ImageNet (top-1 error, 10 crops)",
        _cells(
            *("test_error", "table 3, p. 6"),
            {"ResNet34_A": 25.03, "ResNet34": 24.52, "ResNet34_C": 24.19},
        ),
        _falling("test_error", "ResNet34_A", "ResNet34", "ResNet34_C"),
        stand_ins=MappingProxyType(
            {"ResNet34_A": "ResNet20", "ResNet34": "ResNet20_B", "ResNet34_C": "ResNet20_C"}
        ),
    ),
    "table6": Table(
        "Residual networks of 20 to 1202 layers on CIFAR-10 (test error)",
        _cells(
            *("test_error", "table 6, p. 7"),
            {
                "ResNet20": 8.75,
                "ResNet32": 7.51,
                "ResNet44": 7.17,
                "ResNet56": 6.97,
                "ResNet110": 6.43,
                "ResNet1202": 7.93,
            },
        ),
        (
            *_falling("test_error", *_RESIDUAL),
            *_falling("test_error", "ResNet20", "ResNet56"),
            *_falling("test_error", "ResNet1202", "ResNet110"),
        ),
    ),
    "fig1": Table(
        "Plain networks of 20 and 56 layers on CIFAR-10 (training and test error)",
        tuple(
            cell
            for figure in _BOTH
            for cell in _cells(figure, "fig. 1, p. 1", _drawn("PlainNet20", "PlainNet56"))
        ),
        tuple(claim for figure in _BOTH for claim in _falling(figure, "PlainNet56", "PlainNet20")),
        curves=True,
    ),
    "fig4": Table(
        "Training of plain and residual networks of 18 and 34 layers on ImageNet",
        _cells("train_error", "fig. 4, p. 5", _drawn(*_18_34)),
        (
            *_falling("train_error", "PlainNet34", "PlainNet18"),
            *_falling("train_error", "ResNet18_A", "ResNet34_A"),
            *_falling("train_error", "PlainNet34", "ResNet34_A"),
        ),
        curves=True,
        stand_ins=_18_34,
    ),
    "fig6": Table(
        "Training of plain and residual networks on CIFAR-10 (training and test error)",
        tuple(
            cell
            for figure in _BOTH
            for cell in _cells(figure, "fig. 6, p. 8", _drawn(*_PLAIN, *_RESIDUAL))
        ),
        tuple(
            claim
            for figure in _BOTH
            for claim in (
                *_falling(figure, *reversed(_PLAIN)),
                *_falling(figure, "PlainNet56", "PlainNet20", "ResNet20", "ResNet56"),
                *_falling(figure, *_RESIDUAL),
                *_falling(figure, "PlainNet56", "ResNet56"),
            )
        ),
        curves=True,
    ),
    "fig7": Table(
        "Standard deviations of layer responses on CIFAR-10, mean over the 3x3 layers",
        _cells(
            *("response", "fig. 7, p. 8"),
            _drawn("PlainNet20", "PlainNet56", "ResNet20", "ResNet56", "ResNet110"),
        ),
        (
            *_falling("response", "PlainNet20", "ResNet20", "ResNet56", "ResNet110"),
            *_falling("response", "PlainNet56", "ResNet56"),
        ),
    ),
    "overfit": Table(
        "1202 layers against 110 on CIFAR-10 (section 4.2)",
        _cells(
            *("test_error", "section 4.2 and table 6, p. 7"),
            {"ResNet110": 6.43, "ResNet1202": 7.93},
        ),
        _falling("test_error", "ResNet1202", "ResNet110"),
    ),
}
# Other names of these tables.
ALIASES = {"sec4.2": "overfit"}
