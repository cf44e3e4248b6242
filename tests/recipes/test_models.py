"""The list of networks, asked for as a user asks."""

import json

import pytest

from keras_resnet.models.zoo import END, START, list_models
from tests.recipes.running import refused, run_here


@pytest.fixture
def printed(monkeypatch, capsys):
    """Runs the recipe in this process and returns what it prints."""

    def run(*flags):
        run_here("models", *flags, monkeypatch=monkeypatch)
        return capsys.readouterr().out

    return run


def test_as_text(printed):
    lines = printed("ResNet50*", "--pretrained").splitlines()
    names = [line.split()[0] for line in lines[2:]]
    assert names == ["ResNet50", "ResNet50_v1.5", "ResNet50D"]
    assert printed("resnet51").splitlines() == ["There is no network 'resnet51' of that kind."]


def test_for_programs(printed):
    (info,) = list_models("ResNet50_v1.5")
    (found,) = json.loads(printed("resnet50_v1.5", "--json"))
    assert (found["parameters"], found["options"]) == (info.parameters, {"version": "v1.5"})
    first = found["weights"][0]
    assert first["name"] == "timm/resnet50.tv_in1k" and first["metrics"]["224"] == [76.13, 92.862]
    assert "github.com/pytorch/vision" in first["recipe"]


def test_a_document_kept_in_step(printed, tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"# Title\n\n{START}\nold\n{END}\n", encoding="utf-8")
    printed("--update", path)
    text = path.read_text(encoding="utf-8")
    assert "old" not in text and "| ResNet110 | 1,727,962 | 252,887,680 |" in text.splitlines()
    assert [entry.name for entry in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize(
    ("flags", "named"),
    [(["--family", "mnist"], "family='mnist'"), (["--update", "missing.md"], "missing.md")],
)
def test_wrong_flag_is_one_line(flags, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (line,) = refused("models", *flags, monkeypatch=monkeypatch, capsys=capsys)
    assert line.startswith("error: ") and named in line
    assert list(tmp_path.iterdir()) == []
