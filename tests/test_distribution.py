"""The distributions: a complete sdist, and a wheel that works without the checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import keras_resnet
from tests.documents import ROOT, documents

FOLDERS = (".ci", "benchmarks", "docs", "keras_resnet", "recipes", "saved_models", "tests")
FILES = (
    *("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "README.md"),
    *("SECURITY.md", "keras_resnet_command.py", "mkdocs.yml", "pyproject.toml", "setup.py"),
)


def run(*command: str | Path) -> None:
    """Runs a module of this Python, and fails with its output if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def files(folder: Path) -> set[str]:
    """Returns the paths of all files of a checkout that are distributed."""
    inside = (path for name in FOLDERS for path in (folder / name).rglob("*") if path.is_file())
    kept = {str(path.relative_to(folder)) for path in inside if path.suffix != ".pyc"}
    return kept | set(FILES)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> tuple[Path, Path]:
    """Returns the sdist of a copy of the checkout, and the wheel built from it."""
    # Building writes into the source tree, which other tests read.
    copy, output = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("dist")
    for name in files(ROOT):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    # With the installed setuptools, so that nothing is downloaded.
    run("build", "--no-isolation", "--outdir", output, copy)
    (sdist,), (wheel,) = output.glob("*.tar.gz"), output.glob("*.whl")
    return sdist, wheel


def test_sdist_is_complete(distributions):
    with tarfile.open(distributions[0]) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert files(ROOT) - packed == set()
    assert not any(name.endswith(".pyc") for name in packed)


def test_wheel_has_the_package_and_the_command_alone(distributions):
    with zipfile.ZipFile(distributions[1]) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        described = archive.read(metadata).decode().splitlines()
    expected = {name for name in files(ROOT) if name.startswith("keras_resnet")}
    assert packed == expected
    assert {"keras_resnet/py.typed", "keras_resnet/models/sizes.csv"} <= packed
    assert f"Version: {keras_resnet.__version__}" in described
    assert "License-Expression: Apache-2.0" in described


def test_wheel_works_outside_the_checkout(distributions, tmp_path, subprocess_python):
    site = tmp_path / "site"
    run("pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, distributions[1])
    script = """
import keras_resnet
print(keras_resnet.__file__)
print(keras_resnet.ResNet20().count_params(), len(keras_resnet.list_models()))
"""
    env = {"PYTHONPATH": str(site)}
    done = subprocess_python(script, env=env)
    file, figures = done.stdout.splitlines()[-2:]
    assert Path(file).is_relative_to(site)
    assert figures == f"{keras_resnet.ResNet20().count_params()} {len(keras_resnet.list_models())}"
    command = subprocess_python(site / "bin" / "keras-resnet", "--version", env=env)
    assert command.stdout == f"keras-resnet {keras_resnet.__version__}\n"


def test_extras_are_consistent_and_described():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    inside = {
        name
        for needs in extras.values()
        for need in needs
        if need.startswith(f"{project['name']}[")
        for name in re.split(r"[\[\],]", need)[1:-1]
    }
    assert inside <= set(extras)
    table = re.findall(r"^\| `(\w+)` \|", documents()["docs/install.md"], re.MULTILINE)
    assert set(extras) == set(table)
    # README's commands install extras that there are.
    named = re.findall(r"pip install (?:-e )?'\.\[([\w,]+)\]'", "\n".join(documents().values()))
    assert {name for names in named for name in names.split(",")} <= set(extras)


def test_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    (version,) = re.findall(r"^version: (.*)$", citation, re.MULTILINE)
    (date,) = re.findall(r"^date-released: (.*)$", citation, re.MULTILINE)
    assert version == keras_resnet.__version__
    assert f"\n## {version} - {date}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
