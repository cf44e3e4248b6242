"""Figures in README.md, made again by their commands and compared with the text.

`python -m pytest -m slow tests/test_documents.py -k degradation` makes one of the slow ones, each
some minutes of training. Those of the model zoo are compared in tests/models/test_zoo.py, the cards
of saved_models/ in tests/experiment/test_publishing.py.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

import keras_resnet
from keras_resnet.analysis.comparison import compare
from keras_resnet.analysis.counting import built_without_values, complexity
from keras_resnet.data import load_dataset
from keras_resnet.export import load_exported
from tests.recipes.running import ROOT, run_recipe

README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
NUMBER = r"(\d[\d,]*(?:\.\d+)?(?:e\d+)?)"


def stated(text: str) -> list[float]:
    """Returns the numbers that README has where `text` has "#"; one place must be like it."""
    (found,) = re.findall(re.escape(text).replace(r"\#", NUMBER), README)
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
    """Figures of README that commands make.

    Attributes:
        text: Where they are, with "#" for each number.
        commands: Recipes with their flags, whose files go to runs/.
        read: Function from runs/ to the numbers.
        tolerance: How far another machine, with other rounding, may be off.
    """

    text: str
    commands: Sequence[str]
    read: Callable[[Path], Sequence[float]]
    tolerance: float


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
FIGURES = {
    "seeds": Made(
        "Seeds 0, 1 and 2 reach #, # and # %: a mean of # % and a standard deviation of #.",
        *(TRAINED, accuracies_by_seed, 0.9),
    ),
    "single-crop": Made(
        "(seed 0): # % error with a single crop",
        *([TRAINED[0], f"evaluate --models {FIRST} --workdir runs/one"], error_of("one"), 0.9),
    ),
    "ten-crop": Made(
        "# % with ten crops",
        [
            TRAINED[0],
            f"evaluate --models {FIRST} --protocol ten-crop --resize 9 --workdir runs/ten",
        ],
        *(error_of("ten"), 2.5),
    ),
    "multi-scale": Made(
        "# % at three scales",
        [
            TRAINED[0],
            f"evaluate --models {FIRST} --protocol multi-scale --scales 8 9 10 --workdir runs/many",
        ],
        *(error_of("many"), 5.0),
    ),
    "ensemble": Made(
        "two seeds averaged: # %",
        [
            *TRAINED[:2],
            f"evaluate --models {FIRST} runs/seed1/model.keras --workdir runs/ensemble",
        ],
        *(error_of("ensemble"), 0.9),
    ),
    "sizes": Made("float32 # MB, float16 # MB and int8 # MB", [TRAINED[0], *EXPORTS], sizes, 0.01),
    **{
        f"degradation-{network}": Made(
            f"| {network} | # ± # | # ± # | ",
            [DEGRADATION],
            errors("degradation", ("training", "test"), network),
            tolerance,
        )
        # The deep plain net hardly trains: its seeds are far apart, and machines too.
        for network, tolerance in (
            *(("PlainNet20", 2.0), ("PlainNet56", 30.0), ("ResNet20", 1.0), ("ResNet56", 1.0)),
        )
    },
    "shortcuts": Made(
        "multiply-adds | training error % | test error % | |---|---|---|---|---| "
        "| A | # | # | # ± # | # ± # | | B | # | # | # ± # | # ± # | | C | # | # | # ± # | # ± # |",
        ["shortcuts --workdir runs/shortcuts"],
        lambda runs: [
            figure
            for row in rows(runs / "shortcuts")
            for figure in (
                *(row["parameters"], row["multiply_adds"]),
                *errors("shortcuts", ("training", "test"), row["network"])(runs),
            )
        ],
        1.0,
    ),
    "very-deep": Made(
        "test errors are # ± # % without, # ± # with dropout and # ± # with stochastic depth",
        ["very_deep --workdir runs/very_deep"],
        errors("very_deep", ("test",)),
        1.5,
    ),
    "search": Made(
        "with # % on the validation images; fully trained it reaches # % on the test images",
        *(["tune --workdir runs/tune"], searched, 1.5),
    ),
    "deepening": Made(
        "ResNet20 reaches # % test accuracy after 12 epochs. Deepened to ResNet56 it has exactly "
        "the same outputs, and # % after 12 more epochs. ResNet56 trained from scratch has # %",
        *(["deepen --workdir runs/deepen"], deepened, 4.0),
    ),
    "transfer": Made(
        "from scratch: # ± # % test error against # ± #",
        *(["transfer --workdir runs/transfer"], errors("transfer", ("test",)), 8.0),
    ),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("documents")


@functools.cache
def make(command: str, runs: Path) -> None:
    """Runs a recipe, once."""
    name, *flags = command.replace("runs/", f"{runs}/").split()
    result = run_recipe(name, *flags, timeout=3600)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_what_their_commands_make(runs, name):
    figure = FIGURES[name]
    for command in figure.commands:
        make(command, runs)
    assert figure.read(runs) == pytest.approx(stated(figure.text), abs=figure.tolerance)


@pytest.mark.parametrize("name", FIGURES)
def test_readme_has_the_figures_and_the_recipes(name):
    figure = FIGURES[name]
    assert len(stated(figure.text)) == figure.text.count("#")
    for command in figure.commands:
        name = command.split()[0]
        assert f"python recipes/{name}.py" in README or f"keras-resnet {name}" in README


@pytest.mark.slow
def test_accuracy_of_the_exported_forms(runs):
    (said,) = re.findall(r"int8 [\d.]+ MB(.*?)\. ", README)
    for command in (TRAINED[0], *EXPORTS):
        make(command, runs)
    ((images, labels, _),) = load_dataset("digits").eval_batches("test", 360)
    for kind in ("float32", "float16", "int8"):
        outputs = load_exported(runs / f"{kind}.tflite")(images)
        accuracy = 100 * np.mean(np.argmax(outputs, axis=1) == labels.numpy())
        for number in re.findall(r"\d\d\.\d\d", said):
            assert accuracy == pytest.approx(float(number), abs=0.9)
