"""`keras-resnet models`, asked as a user asks."""

import json

import pytest

from keras_resnet.models.zoo import END, START, list_models
from tests.recipes.running import refused, run_here


def test_as_text():
    lines = run_here("models", "ResNet50*", "--pretrained").splitlines()
    names = [line.split()[0] for line in lines[2:]]
    assert names == ["ResNet50", "ResNet50_v1.5", "ResNet50V2_first-pool", "ResNet50D"]
    assert run_here("models", "resnet51") == "There is no network 'resnet51' of that kind.\n"


def test_for_programs():
    (info,) = list_models("ResNet50_v1.5")
    (found,) = json.loads(run_here("models", "resnet50_v1.5", "--json"))
    assert (found["parameters"], found["options"]) == (info.parameters, {"version": "v1.5"})
    first = found["weights"][0]
    assert first["name"] == "timm/resnet50.tv_in1k" and first["metrics"]["224"] == [76.13, 92.862]
    assert "github.com/pytorch/vision" in first["recipe"]


def test_a_document_kept_in_step(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"# Title\n\n{START}\nold\n{END}\n", encoding="utf-8")
    run_here("models", "--update", path)
    text = path.read_text(encoding="utf-8")
    assert "old" not in text and "| ResNet110 | 1,727,962 | 252,887,680 |" in text.splitlines()
    assert [entry.name for entry in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize(
    ("flags", "named"),
    [(["--family", "mnist"], "family='mnist'"), (["--update", "missing.md"], "missing.md")],
)
def test_wrong_flag_is_one_line(flags, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(named, "models", *flags)
    assert list(tmp_path.iterdir()) == []
