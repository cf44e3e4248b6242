"""Named networks, their sizes, and the published weights of each."""

from __future__ import annotations

import csv
import dataclasses
import fnmatch
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras

from keras_resnet.architectures import (
    ARCHITECTURES,
    FAMILIES,
    RESIDUAL_NETWORKS,
    Architecture,
    DenseArchitecture,
    find_architecture,
)
from keras_resnet.models.builders import build
from keras_resnet.utils import checks
from keras_resnet.utils.documents import around
from keras_resnet.utils.tables import markdown_table, text_table
from keras_resnet.weights.registry import PRETRAINED, PretrainedWeights

# Parameters and multiply-adds of every network, as `analysis.count_models` found them.
SIZES = Path(__file__).with_name("sizes.csv")

# Between them stands the list of networks in docs/zoo.md.
START, END = "<!-- model zoo -->", "<!-- end of model zoo -->"


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """A named network as its builder makes it by default.

    Attributes:
        name: Its name: that of its builder, with suffixes for other options.
        builder: Name of its builder.
        options: Options to give to the builder.
        family: "imagenet" or "cifar".
        depth: Weighted layers, as they are counted in the name.
        input_shape: Shape of one image: height, width, channels.
        classes: Classes.
        parameters: Trainable parameters.
        multiply_adds: Multiply-adds for one image, the paper's "FLOPs".
        weights: The published weights, each with its single-crop accuracies and where they and the
            training are described. "imagenet" stands for the first.
        source: Where the network is described.
    """

    name: str
    builder: str
    options: Mapping[str, object]
    family: str
    depth: int
    input_shape: tuple[int, int, int]
    classes: int
    parameters: int
    multiply_adds: int
    weights: tuple[PretrainedWeights, ...]
    source: str

    def build(self, *args, **kwargs) -> keras.Model:
        """Builds it, with the arguments of its builder."""
        return build(self.builder, *args, **{**self.options, **kwargs})

    def row(self) -> dict[str, object]:
        """Returns its row of a table, weights with the top-1 accuracy in percent at 224 pixels."""
        return {
            "model": self.name,
            "input": "x".join(map(str, self.input_shape)),
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "weights (top-1 %)": ", ".join(
                f"{weights.name} ({weights.metrics[224][0]:.1f})" for weights in self.weights
            ),
        }


def list_models(
    pattern: str = "*", *, family: str | None = None, pretrained: bool | None = None
) -> list[ModelInfo]:
    """Returns the named networks, and the variants of them that there are published weights for.

    Nothing is built: the figures were counted before (`analysis.count_models`).

    Args:
        pattern: Shell-style pattern of names, case-insensitive: "resnet50*", "*v2", "*1[05]*".
        family: "imagenet" or "cifar", or None for both.
        pretrained: Whether there are to be published weights, or None where it does not matter.

    Raises:
        ValueError: If an argument is of the wrong kind. That there is no such network is no error.
    """
    if not isinstance(pattern, str):
        raise ValueError(
            f"`pattern` must be a pattern of names such as 'ResNet50*'. Received: pattern={pattern}"
        )
    checks.one_of("family", family, (None, *FAMILIES))
    checks.one_of("pretrained", pretrained, (None, True, False))
    return [
        info
        for info in map(_info, entries())
        if fnmatch.fnmatchcase(info.name.lower(), pattern.lower())
        and family in (None, info.family)
        and pretrained in (None, bool(info.weights))
    ]


def models_table(models: Sequence[ModelInfo] | None = None) -> str:
    """Returns networks as a table in text, all where none are given."""
    return text_table([info.row() for info in (list_models() if models is None else models)])


def with_models(document: str) -> str:
    """Returns a document in Markdown with the list of all networks between `START` and `END`.

    Raises:
        ValueError: If it does not have these two comments.
    """
    before, after = around(document, START, END, argument="document")
    tables = []
    for family, about in FAMILIES.items():
        rows = [info.row() for info in list_models(family=family)]
        # All have the same input; and where none has weights, there is no column of them.
        columns = [key for key in rows[0] if key != "input" and any(row[key] for row in rows)]
        side = about.image_size
        tables.append(f"For {side}x{side} RGB images and {about.classes} classes:")
        tables.append(markdown_table([{key: row[key] for key in columns} for row in rows]))
    return "\n\n".join([before, *tables, after])


@functools.cache
def _sizes() -> dict[str, tuple[int, int]]:
    with open(SIZES, newline="", encoding="utf-8") as file:
        return {
            row["name"]: (int(row["parameters"]), int(row["multiply_adds"]))
            for row in csv.DictReader(file)
        }


def entries() -> list[Architecture | DenseArchitecture]:
    """Returns the entries of the table, each followed by its variants with published weights."""
    published = (find_architecture(weights.network) for weights in PRETRAINED.values())
    networks, order = dict.fromkeys([*ARCHITECTURES.values(), *published]), list(ARCHITECTURES)
    return sorted(networks, key=lambda network: order.index(_builder_of(network)[0]))


@functools.cache
def _builder_of(network: Architecture | DenseArchitecture) -> tuple[str, dict[str, object]]:
    """Returns the name of a network's builder, and the options that it needs."""
    if network.name in ARCHITECTURES or isinstance(network, DenseArchitecture):
        return network.name, {}
    changes = {
        entry.name: {k: v for k, v in network.options.items() if v != entry.options[k]}
        for entry in RESIDUAL_NETWORKS.values()
        if entry.variant(**network.options) == network
    }
    return min(changes.items(), key=lambda item: len(item[1]))


def _info(entry: Architecture | DenseArchitecture) -> ModelInfo:
    family = FAMILIES[entry.family]
    if entry.name not in _sizes():
        raise ValueError(
            f"{entry.name} has not been counted: run `python recipes/models.py --count`."
        )
    parameters, multiply_adds = _sizes()[entry.name]
    builder, options = _builder_of(entry)
    return ModelInfo(
        name=entry.name,
        builder=builder,
        options=dict(options),
        family=entry.family,
        depth=entry.depth,
        input_shape=(family.image_size, family.image_size, 3),
        classes=family.classes,
        parameters=parameters,
        multiply_adds=multiply_adds,
        weights=tuple(w for w in PRETRAINED.values() if w.network == entry.name.lower()),
        source=entry.source,
    )
