"""Compares what networks cost, and how accurate they are.

    keras-resnet compare --models ResNet50 VGG16 model.keras --workdir runs/compare

Counts parameters, multiply-adds, activations and memory of each network for one image, layer by
layer, and measures time, memory and, where the machine counts it, energy of a forward pass and a
training step, each network and batch size in a subprocess. Nothing is downloaded.

Names: ResNet50, ResNet50_v1.5, ResNet34_A, PlainNet34, ... (this package), VGG16, MobileNetV2, ...
(keras.applications), keras.applications.ResNet50 where both have one, and paths of .keras files.
"""

import argparse
from collections.abc import Sequence

from keras_resnet.analysis import comparison
from keras_resnet.analysis.cost import Cost, measure_all
from keras_resnet.analysis.plots import (
    accuracy_against_operations,
    cost_against_batch,
    require_matplotlib,
    write_table,
)
from keras_resnet.cli.flags import LineParser
from keras_resnet.experiment.page import REPORT, require_jinja, write_report
from keras_resnet.experiment.workdir import expect_folder
from keras_resnet.training.precision import set_precision
from keras_resnet.utils.files import write_json
from keras_resnet.utils.processes import command_line
from keras_resnet.utils.tables import text_table


def main(
    argv: Sequence[str] | None = None, description: str | None = __doc__, prog: str | None = None
) -> None:
    """Counts, measures and draws, and keeps what there is after each network."""
    parser = LineParser(description, prog)
    add = parser.add_argument
    add("--models", nargs="+", metavar="NAME", default=comparison.DEFAULT_MODELS)
    add("--image-size", type=int, help="Side of the images; each network's own by default")
    add("--batch-sizes", nargs="+", type=int, metavar="N", default=[1, 8])
    add("--measure", action=argparse.BooleanOptionalAction, default=True)
    add("--repeats", type=int, default=10, help="Most steps to measure, at least 3")
    add("--seconds", type=float, default=5.0, help="After so many seconds 3 steps are enough")
    add("--accuracy", nargs="+", metavar="NAME=VALUE", default=[], help="Measured accuracies")
    add("--precision", default="float32", help="float32, mixed_bfloat16 or mixed_float16")
    add("--workdir", default="runs/compare", help="Where everything is written")
    given = parser.parse_args(argv)

    workdir = expect_folder("workdir", given.workdir)
    require_matplotlib()
    require_jinja()
    set_precision(given.precision)
    counted = comparison.compare(
        given.models,
        image_size=given.image_size,
        accuracies=dict(map(comparison.read_accuracy, given.accuracy)),
    )
    measured = measure_all(
        given.models if given.measure else (),
        given.batch_sizes,
        image_size=given.image_size,
        precision=given.precision,
        repeats=given.repeats,
        seconds=given.seconds,
    )
    entries: list[comparison.Entry] = []
    costs: list[Cost] = []
    failures: list[str] = []

    def record(finished: bool) -> None:
        write_json(
            workdir / "comparison.json",
            {
                "command": command_line(),
                "finished": finished,
                "models": [entry.row() for entry in entries],
                "costs": [cost.row() for cost in costs],
                "failures": failures,
            },
        )

    # After every network and every measurement, so that an interruption loses none.
    for entry in counted:
        entries.append(entry)
        write_table(workdir / "layers" / f"{entry.network.file_name}.csv", entry.complexity.rows())
        record(finished=False)
    print(text_table([entry.summary() for entry in entries]), flush=True)
    if not accuracy_against_operations(entries, workdir / "comparison.png"):
        print("No figure of accuracy: none is published for this image size; give --accuracy.")
    for outcome in measured:
        print(outcome, flush=True)
        if isinstance(outcome, Cost):
            costs.append(outcome)
        else:
            failures.append(str(outcome))
        cost_against_batch(costs, workdir / "cost.png")
        record(finished=False)
    record(finished=True)
    write_report(workdir, title=f"Comparison of {len(entries)} networks")
    print(f"Everything is in {workdir}: begin with {REPORT}")
