"""The site of docs/: every page is in its navigation, and it is built without a warning."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys

import pytest

from tests.documents import ROOT, documents

HELP = ROOT / "tests" / "snapshot" / "help"


@pytest.fixture(scope="module")
def pages():
    """Returns the module that makes pages of other files."""
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_navigation_once():
    listed = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(f"docs/{page}" for page in listed) == sorted(documents().keys() - {"README.md"})


def test_flags_have_the_help_of_every_verb_and_study(pages):
    made = pages.flags()
    texts = [path.read_text(encoding="utf-8").rstrip() for path in HELP.iterdir()]
    assert all(text in made for text in texts)
    titles = re.findall(r"^## (.*)$", made, re.MULTILINE)
    assert len(titles) == len(set(titles)) == len(texts)
    assert titles.index("study") + 1 == titles.index("study deepen")


def test_changelog_links_to_pages(pages):
    links = re.findall(r"\]\(([\w/]+\.md)\)", pages.changelog())
    assert links and all((ROOT / "docs" / link).is_file() for link in links)


def test_builds_without_a_warning(tmp_path):
    pytest.importorskip("zensical")
    # A copy, since building writes into the folder.
    for name in ("mkdocs.yml", "CHANGELOG.md", "keras_resnet_command.py"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("docs", "keras_resnet", "tests/snapshot/help"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "No issues found" in done.stdout + done.stderr, done
    api = (tmp_path / "site" / "api" / "surgery.html").read_text(encoding="utf-8")
    assert 'id="keras_resnet.surgery.backbone"' in api
    loaded = re.findall(r'(?:src|href)="https?://[^"]+\.(?:js|css|woff2?)"', api)
    assert loaded == []
