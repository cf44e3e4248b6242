"""Compares what networks cost, and how accurate they are.

    keras-resnet compare --models ResNet50 VGG16 model.keras --workdir runs/compare

Counts parameters, multiply-adds, activations and memory of each network for one image, layer by
layer, and measures time, memory and, where the machine counts it, energy of a forward pass and a
training step, each network and batch size in a subprocess. Nothing is downloaded.

Names: ResNet50, ResNet50_v1.5, ResNet34_A, PlainNet34, ... (this package), VGG16, MobileNetV2, ...
(keras.applications), keras.applications.ResNet50 where both have one, and paths of .keras files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from keras_resnet import analysis, experiment, training
from keras_resnet.analysis.defaults import DEFAULT_MODELS
from keras_resnet.cli import Arguments, parse, print_json
from keras_resnet.experiment.workdir import expect_folder
from keras_resnet.utils.files import write_json
from keras_resnet.utils.processes import command_line
from keras_resnet.utils.tables import text_table, write_table
from keras_resnet.utils.terminal import RESULTS


@dataclasses.dataclass(frozen=True)
class Compare(Arguments):
    """Arguments of `keras-resnet compare`.

    Attributes:
        models: Networks by name, and .keras files.
        image_size: Side of the images in pixels, or HEIGHTxWIDTH; by default each network's own.
        batch_sizes: Images of a step, for each of the steps to measure.
        measure: Whether time, memory and energy are measured; else everything is only counted.
        repeats: Largest number of steps to measure, at least 3.
        seconds: Seconds of measurement after which 3 steps are enough.
        accuracy: Top-1 accuracies to show, as NAME=VALUE with a value in [0, 1], or NAME=FILE with
            the metrics.json of a run or an evaluation.
        precision: Precision of the networks.
        workdir: Folder that everything is written to.
        json: Print the content of comparison.json, as JSON.
    """

    models: tuple[str, ...] = DEFAULT_MODELS
    image_size: str | None = None
    batch_sizes: tuple[int, ...] = (1, 8)
    measure: bool = True
    repeats: int = 10
    seconds: float = 5.0
    accuracy: tuple[str, ...] = ()
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    workdir: str = "runs/compare"
    json: bool = False


def main(
    argv: Sequence[str] | None = None, description: str | None = __doc__, prog: str | None = None
) -> None:
    """Counts, measures and draws, and keeps what there is after each network."""
    given = parse(Compare, argv, description, prog)

    workdir = expect_folder("workdir", given.workdir)
    analysis.plots.require_matplotlib()
    experiment.page.require_jinja()
    training.set_precision(given.precision)
    counted = analysis.comparison.compare(
        given.models,
        image_size=given.image_size,
        accuracies=dict(map(analysis.comparison.read_accuracy, given.accuracy)),
    )
    measured = analysis.cost.measure_all(
        given.models if given.measure else (),
        given.batch_sizes,
        image_size=given.image_size,
        precision=given.precision,
        repeats=given.repeats,
        seconds=given.seconds,
    )
    entries: list[analysis.comparison.Entry] = []
    costs: list[analysis.Cost] = []
    failures: list[str] = []

    def record(finished: bool) -> dict:
        content = {
            "command": command_line(),
            "finished": finished,
            "models": [entry.row() for entry in entries],
            "costs": [cost.row() for cost in costs],
            "failures": failures,
        }
        write_json(workdir / "comparison.json", content)
        return content

    # After every network and every measurement, so that an interruption loses none.
    for entry in counted:
        entries.append(entry)
        write_table(workdir / "layers" / f"{entry.network.file_name}.csv", entry.complexity.rows())
        record(finished=False)
    RESULTS.info(text_table([entry.summary() for entry in entries]))
    if not analysis.plots.accuracy_against_operations(entries, workdir / "comparison.png"):
        text = "No figure of accuracy: none is published for this image size; give --accuracy."
        RESULTS.info(text)
    for outcome in measured:
        RESULTS.info(str(outcome))
        if isinstance(outcome, analysis.Cost):
            costs.append(outcome)
        else:
            failures.append(str(outcome))
        analysis.plots.cost_against_batch(costs, workdir / "cost.png")
        record(finished=False)
    content = record(finished=True)
    experiment.page.write_report(workdir, title=f"Comparison of {len(entries)} networks")
    if given.json:
        print_json(content)
    RESULTS.info(f"Everything is in {workdir}: begin with {experiment.page.REPORT}")
