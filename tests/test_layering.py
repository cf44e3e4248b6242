"""The house: which room may know which, and that names say what they are."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "keras_resnet"

# From the ground up: a room imports rooms of the lines above its own, and none of its own line.
STOREYS = (
    ("version", "utils"),
    ("architectures", "naming"),
    ("layers", "preprocessing"),
    ("network",),
    ("weights",),
    ("models",),
    ("surgery", "data", "applications"),
    ("training", "export", "analysis"),
    ("evaluation",),
    ("experiment",),
    ("experiment.search",),
    ("cli",),
    ("",),
)
# Imported where it is called, since its classes derive from those of an optional package.
OPTIONAL = {"experiment.search.tuner"}
STOREY = {room: i for i, rooms in enumerate(STOREYS) for room in rooms}
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    .removesuffix("__init__")
    .strip("."): path
    for path in PACKAGE.rglob("*.py")
}


def room(module: str) -> str:
    """Returns the room of a module: its top-level folder, or itself."""
    return (
        "experiment.search" if module.startswith("experiment.search") else module.partition(".")[0]
    )


def imports(path: Path) -> list[tuple[str, bool]]:
    """Returns the modules of the package that a file imports, and whether inside a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.partition(".")[0] != "keras_resnet":
                continue
            target = name.partition(".")[2]
            while target and target not in MODULES:  # a function or class of a module
                target = target.rpartition(".")[0]
            found.append((target, id(node) in inner))
    return found


ARROWS = {
    (room(module), room(target))
    for module, path in MODULES.items()
    for target, _ in imports(path)
    if room(module) != room(target)
}


def test_few_modules_stand_in_the_hallway():
    # `python -m keras_resnet` looks for __main__ here.
    assert len({path.name for path in PACKAGE.glob("*.py")} - {"__main__.py"}) <= 7


def test_no_arrow_runs_up_or_to_the_side():
    assert {(a, b) for a, b in ARROWS if STOREY[a] <= STOREY[b]} == set()


@pytest.mark.parametrize("module", MODULES)
def test_nothing_of_the_package_is_imported_in_a_function(module):
    hidden = {target for target, inside in imports(MODULES[module]) if inside}
    assert hidden - OPTIONAL == set()


@pytest.mark.parametrize("module", MODULES)
def test_no_name_is_both_a_module_and_a_function(module):
    name = module.rpartition(".")[2]
    if MODULES[module].name == "__init__.py":
        return
    here = importlib.import_module(f"keras_resnet.{module}")
    parent = importlib.import_module(f"keras_resnet.{module}".rpartition(".")[0])
    assert not hasattr(here, name) or inspect.ismodule(getattr(here, name))
    assert inspect.ismodule(getattr(parent, name, parent))
