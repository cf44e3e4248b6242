"""Figures in README.md and docs/, made again by their commands and compared with the text.

`python -m pytest -m slow tests/test_documents.py -k degradation` makes one of the slow ones, each
some minutes of training. Those of the model zoo are compared in tests/models/test_zoo.py, the cards
of saved_models/ in tests/experiment/test_publishing.py.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import keras_resnet
from keras_resnet.analysis.comparison import compare
from keras_resnet.analysis.counting import built_without_values, complexity
from keras_resnet.data import load_dataset
from keras_resnet.export import load_exported
from tests.documents import documents, joined
from tests.recipes.running import ROOT, run_recipe

NUMBER = r"(\d[\d,]*(?:\.\d+)?(?:e\d+)?)"


def stated(text: str) -> list[float]:
    """Returns the numbers that the documents have where `text` has "#"; one place must be like it.

    Where `text` has "...", there may be some other words.
    """
    pattern = re.escape(text).replace(r"\#", NUMBER).replace(r"\.\.\.", ".{,99}?")
    (found,) = re.findall(pattern, joined())
    found = [found] if isinstance(found, str) else found
    return [float(number.replace(",", "")) for number in found]


@pytest.mark.parametrize("option", ["A", "B", "C"])
def test_cost_of_the_shortcuts_on_the_digits(option):
    options = {"shortcut": option, "input_shape": (8, 8, 1), "classes": 10}
    cost = complexity(built_without_values(keras_resnet.ResNet20, **options))
    assert stated(f"| {option} | # | # |") == [cost.parameters, cost.multiply_adds]


def test_cost_of_networks_in_the_comparison():
    made = [entry.complexity for entry in compare(["ResNet50", "VGG16"])]
    own, other = stated("ResNet50 has # parameters and # multiply-adds, VGG16 # and #.")[::2]
    assert [own, other] == [cost.parameters for cost in made]
    operations = stated("ResNet50 has # parameters and # multiply-adds, VGG16 # and #.")[1::2]
    assert operations == pytest.approx([cost.multiply_adds for cost in made], rel=5e-4)


def test_images_of_the_digits():
    digits = load_dataset("digits")
    assert sum(map(digits.num_examples, digits.splits)) == stated("are the # handwritten digits")[0]
    assert digits.num_examples("test") == stated("accuracy on the # test images.")[0]


@dataclasses.dataclass(frozen=True)
class Made:
    """Figures of the documents that commands make.

    Attributes:
        text: Where they are, with "#" for each number.
        commands: Recipes with their flags, whose files go to runs/.
        read: Function from runs/ to the numbers.
        tolerances: How far another machine, with other rounding, may be off in each number; from
            the start again where there are more numbers.
    """

    text: str
    commands: Sequence[str]
    read: Callable[[Path], Sequence[float]]
    tolerances: Sequence[float]


def metrics(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text(encoding="utf-8"))


def rows(study: Path) -> list[dict]:
    return json.loads((study / "table.json").read_text(encoding="utf-8"))["rows"]


def errors(study: str, kinds: Sequence[str], network: str = "") -> Callable[[Path], list[float]]:
    """Returns a reader of errors in percent, each with its deviation, of a study's networks."""
    columns = [f"{kind}_error{figure}" for kind in kinds for figure in ("", "_sd")]

    def read(runs: Path) -> list[float]:
        own = [row for row in rows(runs / study) if network in row["network"]]
        return [100 * row[column] for row in own for column in columns]

    return read


def accuracies_by_seed(runs: Path) -> list[float]:
    found = [100 * metrics(runs / f"seed{seed}")["test_accuracy"] for seed in (0, 1, 2)]
    return [*found, statistics.fmean(found), statistics.stdev(found)]


def sizes(runs: Path) -> list[float]:
    return [
        (runs / f"{kind}.tflite").stat().st_size / 1e6 for kind in ("float32", "float16", "int8")
    ]


def shortcut(position: int, runs: Path) -> list[float]:
    row = rows(runs / "shortcuts")[position]
    figures = errors("shortcuts", ("training", "test"), row["network"])(runs)
    return [row["parameters"], row["multiply_adds"], *figures]


def searched(runs: Path) -> list[float]:
    table = json.loads((runs / "tune" / "table.json").read_text(encoding="utf-8"))
    (best,) = [row for row in table["rows"] if row["trial"] == table["best"]]
    fully = metrics(runs / "tune" / f"best-trial-{table['best']}")
    return [100 * best["val_accuracy"], 100 * fully["test_accuracy"]]


def deepened(runs: Path) -> list[float]:
    shallow, _, grown, scratch = rows(runs / "deepen")
    return [100 * row["test_accuracy"] for row in (shallow, grown, scratch)]


def error_of(run: str) -> Callable[[Path], list[float]]:
    return lambda runs: [100 * metrics(runs / run)["top1_error"]]


TRAINED = [
    f"digits --seed {s} --no-export --fine-tune-epochs 0 --workdir runs/seed{s}" for s in "012"
]
FIRST, DEGRADATION = "runs/seed0/model.keras", "degradation --workdir runs/degradation"
EXPORTS = [
    f"export {FIRST} runs/float32.tflite",
    f"export {FIRST} runs/float16.tflite --quantize float16",
    f"export {FIRST} runs/int8.tflite --quantize int8 --calibration digits",
]
# Tolerances of a mean and of its deviation over three seeds. Those of the deep plain net, which
# hardly trains, are far apart.
PLAIN, DEEP_PLAIN, RESIDUAL = (1.5, 1.0), (25.0, 15.0), (0.8, 0.5)
FIGURES = {
    "seeds": Made(
        "Seeds 0, 1 and 2 reach #, # and # %: a mean of # % and a standard deviation of #.",
        *(TRAINED, accuracies_by_seed, (0.9, 0.9, 0.9, 0.6, 0.4)),
    ),
    "single-crop": Made(
        "(seed 0): # % error with a single crop",
        *([TRAINED[0], f"evaluate --models {FIRST} --workdir runs/one"], error_of("one"), (0.9,)),
    ),
    "ten-crop": Made(
        "# % with ten crops",
        [
            TRAINED[0],
            f"evaluate --models {FIRST} --protocol ten-crop --resize 9 --workdir runs/ten",
        ],
        *(error_of("ten"), (2.5,)),
    ),
    "multi-scale": Made(
        "# % at three scales",
        [
            TRAINED[0],
            f"evaluate --models {FIRST} --protocol multi-scale --scales 8 9 10 --workdir runs/many",
        ],
        *(error_of("many"), (5.0,)),
    ),
    "ensemble": Made(
        "two seeds averaged: # %",
        [
            *TRAINED[:2],
            f"evaluate --models {FIRST} runs/seed1/model.keras --workdir runs/ensemble",
        ],
        *(error_of("ensemble"), (0.6,)),
    ),
    "sizes": Made(
        "float32 # MB, float16 # MB and int8 # MB", [TRAINED[0], *EXPORTS], sizes, (0.01,)
    ),
    **{
        f"degradation-{network}": Made(
            f"| {network} | # ± # | # ± # | ",
            [DEGRADATION],
            errors("degradation", ("training", "test"), network),
            tolerances,
        )
        for network, tolerances in (
            *(("PlainNet20", PLAIN), ("PlainNet56", DEEP_PLAIN)),
            *(("ResNet20", RESIDUAL), ("ResNet56", RESIDUAL)),
        )
    },
    **{
        f"shortcuts-{option}": Made(
            f"| {option} | # | # | # ± # | # ± # |",
            ["shortcuts --workdir runs/shortcuts"],
            functools.partial(shortcut, "ABC".index(option)),
            (0, 0, *RESIDUAL, *RESIDUAL),
        )
        for option in "ABC"
    },
    "very-deep": Made(
        "test errors are # ± # % without, # ± # with dropout and # ± # with stochastic depth",
        ["very_deep --workdir runs/very_deep"],
        *(errors("very_deep", ("test",)), (1.0, 0.6)),
    ),
    "search": Made(
        "with # % on the validation images; ... # % on the test images",
        *(["tune --workdir runs/tune"], searched, (1.5,)),
    ),
    "deepening": Made(
        "ResNet20 reaches # % test accuracy ... and # % after 12 more epochs. ... has # %",
        *(["deepen --workdir runs/deepen"], deepened, (2.5,)),
    ),
    "transfer": Made(
        "from scratch: # ± # % test error against # ± #",
        *(["transfer --workdir runs/transfer"], errors("transfer", ("test",)), (5, 3, 14, 9)),
    ),
}
# What the text says beside the numbers, which other rounding must not change: the first figure, by
# name and position, is larger than the second by at least so much.
LARGER = [
    *(("degradation-PlainNet56", i, "degradation-PlainNet20", i, 10) for i in (0, 2)),
    *(("degradation-PlainNet56", i, "degradation-ResNet56", i, 10) for i in (0, 2)),
    ("transfer", 2, "transfer", 0, 0),  # from scratch, and fine-tuned
    ("ten-crop", 0, "single-crop", 0, 1),
    ("multi-scale", 0, "single-crop", 0, 1),
    ("very-deep", 2, "very-deep", 0, 0),  # the digits need no regularization
    *(("sizes", i, "sizes", i + 1, 0.1) for i in (0, 1)),
    ("deepening", 1, "deepening", 0, 0),  # after 12 more epochs
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("documents")


@functools.cache
def make(command: str, runs: Path) -> None:
    """Runs a recipe, once."""
    name, *flags = command.replace("runs/", f"{runs}/").split()
    result = run_recipe(name, *flags, timeout=3600)
    assert result.returncode == 0, result.stderr


def made(name: str, runs: Path) -> Sequence[float]:
    """Runs the commands of a figure, and returns its numbers."""
    for command in FIGURES[name].commands:
        make(command, runs)
    return FIGURES[name].read(runs)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_what_their_commands_make(runs, name):
    figure = FIGURES[name]
    said, numbers = stated(figure.text), made(name, runs)
    assert len(said) == len(numbers)
    off = [abs(one - other) for one, other in zip(said, numbers, strict=True)]
    limits = itertools.cycle(figure.tolerances)
    # What the text rounds off is half of its last digit.
    assert [o for o, limit in zip(off, limits, strict=False) if o > limit + 0.005] == [], numbers


def order_of(one: tuple) -> str:
    return f"{one[0]}-{one[1]} over {one[2]}-{one[3]}"


@pytest.mark.slow
@pytest.mark.parametrize("order", LARGER, ids=order_of)
def test_commands_make_what_the_text_says(runs, order):
    larger, first, smaller, second, margin = order
    assert made(larger, runs)[first] >= made(smaller, runs)[second] + margin


@pytest.mark.parametrize("order", LARGER, ids=order_of)
def test_documents_have_the_order_that_they_speak_of(order):
    larger, first, smaller, second, margin = order
    said = [stated(FIGURES[name].text) for name in (larger, smaller)]
    assert said[0][first] > said[1][second] + margin


@pytest.mark.parametrize("name", FIGURES)
def test_documents_have_the_figures_and_the_recipes(name):
    figure = FIGURES[name]
    assert len(stated(figure.text)) == figure.text.count("#")
    for command in figure.commands:
        name = command.split()[0]
        assert f"python recipes/{name}.py" in joined() or f"keras-resnet {name}" in joined()


def test_readme_repeats_the_figures_of_the_pages():
    plain, residual = stated("at # % training error and the residual one at # %")
    assert plain == stated(FIGURES["degradation-PlainNet56"].text)[0]
    assert residual == stated(FIGURES["degradation-ResNet56"].text)[0]

    images, floats, integers = stated(
        "of # test images every float format gets # right, ... int8 #"
    )
    rows = re.findall(r"\| ([^|]+) \| (\d+) of (\d+) \|", documents()["docs/images.md"])
    assert {int(right) for form, right, _ in rows if "int8" not in form} == {floats}
    assert {int(right) for form, right, _ in rows if "int8" in form} == {integers}
    assert {int(count) for _, _, count in rows} == {images}


@pytest.mark.slow
def test_accuracy_of_the_exported_forms(runs):
    *said, images = stated("MB, with #, # and # % of the # test images")
    for command in (TRAINED[0], *EXPORTS):
        make(command, runs)
    ((pixels, labels, _),) = load_dataset("digits").eval_batches("test", int(images))
    for kind, expected in zip(("float32", "float16", "int8"), said, strict=True):
        outputs = load_exported(runs / f"{kind}.tflite")(pixels)
        accuracy = 100 * np.mean(np.argmax(outputs, axis=1) == labels.numpy())
        assert accuracy == pytest.approx(expected, abs=0.9), kind


@pytest.mark.slow
def test_accuracy_of_every_form(runs):
    make(TRAINED[0], runs)
    command = [sys.executable, "benchmarks/forms.py", FIRST.replace("runs/", f"{runs}/")]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    text = documents()["docs/images.md"]
    tables = [re.findall(r"\| ([^|]+) \| (\d+) of 360 \|", one) for one in (text, made)]
    said, found = ({form: int(right) for form, right in table} for table in tables)
    assert len(said) == 11 and said.keys() == found.keys()
    # Of the spread of a seed on other processors.
    assert [form for form in said if abs(said[form] - found[form]) > 4] == []
