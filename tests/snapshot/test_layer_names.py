"""Layers have the names, classes and weights of `layer_names.json`: files of weights rely on it."""

from __future__ import annotations

import difflib

import pytest

from tests.snapshot import describe

EXPECTED = describe.read(describe.LAYER_NAMES)


def test_every_network_is_in_the_file():
    assert sorted(EXPECTED) == sorted(describe.NETWORKS)


@pytest.mark.parametrize("name", describe.NETWORKS)
def test_layers_are_as_written(name):
    found, expected = describe.network(name), EXPECTED[name]
    lines = difflib.unified_diff(
        expected.get("layers", []), found.get("layers", []), "written", "found", lineterm="", n=1
    )
    assert found == expected, f"{name} differs from layer_names.json:\n" + "\n".join(lines)
