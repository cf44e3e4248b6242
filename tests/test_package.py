"""The package as installed and documented: light to import, with true documents."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
from pathlib import Path

import pytest

import keras_resnet

ROOT = Path(__file__).resolve().parents[1]

# Folders that commands and tools create in a checkout.
OUTPUTS = ("build", "dist", "runs")
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for path in ROOT.rglob("*.md")
    if not path.relative_to(ROOT).parts[0].startswith((".", *OUTPUTS))
)
COMMANDED = [name for name in DOCUMENTS if "```bash" in (ROOT / name).read_text(encoding="utf-8")]

# Packages of the extras, and pandas, a dependency of some of them.
HEAVY = {
    "PIL",
    "ai_edge_litert",
    "huggingface_hub",
    "keras_tuner",
    "matplotlib",
    "onnx",
    "pandas",
    "rich",
    "safetensors",
    "simplejpeg",
    "sklearn",
    "tensorboard",
    "tensorflow_datasets",
    "tensorflow_hub",
    "tf2onnx",
    "tf_keras",
}


def fenced(name: Path, language: str) -> str:
    """Returns all code blocks of one language in a document, joined."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def test_import_is_light(subprocess_python):
    # Keras imports some of these itself; only what the package adds counts.
    script = """
import json, sys
import keras
with_keras = set(sys.modules)
import keras_resnet
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - with_keras})))
"""
    added = set(json.loads(subprocess_python(script).stdout.splitlines()[-1]))
    assert "keras_resnet" in added
    assert not added & HEAVY


def test_version_is_that_of_the_distribution():
    try:
        installed = importlib.metadata.version("keras-deep-residual")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the checkout is not installed")
    assert installed == keras_resnet.__version__


def test_every_room_is_packaged():
    # `find_packages` skips a directory without __init__.py, so the wheel would lack it.
    modules = (ROOT / "keras_resnet").rglob("*.py")
    bare = {str(path.parent) for path in modules if not (path.parent / "__init__.py").exists()}
    assert bare == set()


@pytest.mark.parametrize("name", DOCUMENTS, ids=str)
def test_relative_links_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = {target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)", text)}
    local = {t for t in targets if t and not t.startswith(("http://", "https://", "mailto:"))}
    assert {t for t in local if not (ROOT / name).parent.joinpath(t).exists()} == set()


@pytest.mark.parametrize("name", COMMANDED, ids=str)
def test_commands_name_existing_files(name):
    words = shlex.split(fenced(name, "bash"), comments=True)
    paths = {word for word in words if re.fullmatch(r"(?:[\w.-]+/)+[\w.-]+", word)}
    ours = {path for path in paths if not path.startswith((".venv/", "runs/", "photographs/"))}
    assert {path for path in ours if not (ROOT / path).exists()} == set()


def test_readme_code_runs(subprocess_python):
    code = fenced(Path("README.md"), "python")
    assert "import keras_resnet" in code
    subprocess_python(code)
