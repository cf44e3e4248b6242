"""The list of networks: its figures against built ones, its filters, its copy in docs/zoo.md."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import keras_resnet
from keras_resnet.analysis import complexity, counting
from keras_resnet.analysis.counting import count_models
from keras_resnet.architectures import ARCHITECTURES
from keras_resnet.models import zoo
from keras_resnet.models.zoo import END, START, list_models, models_table, with_models
from keras_resnet.weights.registry import PRETRAINED
from tests.helpers import refused, trainable_parameters

ROOT = Path(__file__).resolve().parents[2]


def find(name):
    (info,) = list_models(name)
    return info


def test_every_network_and_all_published_weights_are_listed_once():
    models = list_models()
    names = [info.name for info in models]
    assert len(set(names)) == len(names)
    assert set(ARCHITECTURES) < set(names)
    weights = [weights.name for info in models for weights in info.weights]
    assert sorted(weights) == sorted(PRETRAINED)
    for info in models:
        assert info.builder in keras_resnet.__all__
        assert all(line.network == info.name.lower() for line in info.weights)
        assert info.input_shape == ((224, 224, 3) if info.family == "imagenet" else (32, 32, 3))
        assert info.source.startswith("arXiv ")


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    # From the papers' tables, torchvision and timm; multiply-adds in units of 1e9.
    [
        ("ResNet18", 11_689_512, 1.814),
        ("ResNet50", 25_557_032, 3.858),
        ("ResNet50_v1.5", 25_557_032, 4.089),
        ("ResNet152", 60_192_808, 11.282),
        ("PlainNet34", 21_623_848, 3.644),
        ("ResNet1202", 19_421_274, 2.829),
        ("ResNeXt101_32x8d", 88_791_336, 16.414),
        ("SEResNet50_v1.5", 28_088_024, 4.092),
        ("DenseNet121", 7_978_856, 2.834),
        ("DenseNet201", 20_013_928, 4.291),
    ],
)
def test_published_figures(name, parameters, multiply_adds):
    info = find(name)
    assert (info.parameters, round(info.multiply_adds / 1e9, 3)) == (parameters, multiply_adds)


@pytest.mark.parametrize(
    "name",
    [
        # One of each option and kind; `test_all_as_built` has all.
        *("ResNet20", "PlainNet20", "ResNet50_v1.5", "ResNet18V2", "ResNet18D", "SEResNet18"),
        *("ResNeXt29_8x64d", "WideResNet16_8", "DenseNetBC100_12"),
    ],
)
def test_counted_as_built(name, monkeypatch):
    info = find(name)
    lines = [line for line in zoo.entries() if line.name == name]
    monkeypatch.setattr(counting, "entries", lambda: lines)
    counted = {"parameters": info.parameters, "multiply_adds": info.multiply_adds}
    assert list(count_models()) == [{"name": name, **counted}]


def test_what_has_not_been_counted_is_said(monkeypatch):
    line = dataclasses.replace(ARCHITECTURES["ResNet20"], name="ResNet20Mine")
    monkeypatch.setitem(ARCHITECTURES, line.name, line)
    with pytest.raises(ValueError, match="ResNet20Mine"):
        list_models("resnet20")


@pytest.mark.slow
@pytest.mark.parametrize("name", [info.name for info in list_models()])
def test_all_as_built(name):
    info = find(name)
    model = info.build(stack_blocks=True)
    assert model.name == name.lower()
    assert (model.input_shape[1:], model.output_shape[1]) == (info.input_shape, info.classes)
    assert info.parameters == trainable_parameters(model)
    assert info.multiply_adds == complexity(model).multiply_adds


def test_options_of_one_are_its_own():
    find("ResNet50_v1.5").options["version"] = "wrong"
    assert find("ResNet50_v1.5").options == {"version": "v1.5"}


def test_building_one():
    model = find("WideResNet16_8").build(include_top=False, stack_blocks=True)
    assert model.name == "wideresnet16_8"
    with refused("`classes`", "classes=0"):
        find("ResNet50_v1.5").build(classes=0)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (
            {"pattern": "resnet50*"},
            ["ResNet50", "ResNet50_v1.5", "ResNet50V2", "ResNet50V2_first-pool", "ResNet50D"],
        ),
        ({"pattern": "*net121"}, ["DenseNet121"]),
        ({"pattern": "SEResNet*", "pretrained": True}, ["SEResNet50_v1.5"]),
        ({"pattern": "resne?t50*", "pretrained": False}, []),
        ({"pattern": "*18?*", "pretrained": False}, ["ResNet18V2", "ResNet18D"]),
        ({"pattern": "*V2", "family": "cifar"}, ["ResNet110V2", "ResNet164V2", "ResNet1001V2"]),
        ({"pattern": "resnet51"}, []),
        ({"pattern": ""}, []),
    ],
)
def test_filters(arguments, names):
    assert [info.name for info in list_models(**arguments)] == names


@pytest.mark.parametrize(
    "arguments", [{"pattern": None}, {"family": "mnist"}, {"pretrained": "yes"}], ids=str
)
def test_wrong_arguments(arguments):
    ((name, value),) = arguments.items()
    with refused(f"`{name}`", f"{name}={value!r}"):
        list_models(**arguments)


def test_as_text():
    lines = models_table(list_models("ResNet50*")).splitlines()
    assert lines[0].split("  ")[0] == "model" and "multiply-adds" in lines[0]
    (line,) = [line for line in lines if line.startswith("ResNet50_v1.5 ")]
    for part in ("224x224x3", "25,557,032", "4,089,184,256", "timm/resnet50.tv2_in1k (80.9)"):
        assert part in line
    assert len(models_table().splitlines()) == 2 + len(list_models())
    assert models_table([]) == ""


def test_page_is_in_step():
    """Otherwise run `python recipes/models.py --update docs/zoo.md`."""
    document = (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8")
    assert with_models(document) == document


def test_documents_without_a_place():
    made = with_models(f"before\n{START}\n{END}\nafter\n")
    assert made.startswith(f"before\n{START}\n\nFor 224x224")
    assert made.endswith(f"|\n\n{END}\nafter\n")
    for document in ("", START, f"{END}\n{START}\n"):
        with refused("`document`", START, END):
            with_models(document)
