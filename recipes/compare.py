"""Compares what networks cost, and how accurate they are: ours, Keras's, and saved models.

    python recipes/compare.py --workdir runs/compare

Counts parameters, multiply-adds, activations and memory of each network for one image, layer by
layer, and measures time, memory and, where the machine counts it, energy of a forward pass and a
training step, each network and batch size in a subprocess: a minute or two each on 2 cores.
--no-measure leaves the measuring out and takes a minute in all. Weights are random; nothing is
downloaded.

Written are the figures comparison.png (accuracy against operations) and cost.png (time, memory and
energy against the batch size) with SVG and CSV beside them, comparison.json with all figures, and
layers/ with a CSV for each network. Accuracies are published ones, with their source in the table.
One's own: --accuracy ResNet50=0.75, or ResNet50=FILE with the metrics.json of a run.

Names: ResNet50, ResNet50_v1.5, ResNet34_A, PlainNet34, ... (this package), VGG16, MobileNetV2, ...
(keras.applications), keras.applications.ResNet50 where both have one, and paths of .keras files.
"""

import argparse
import shlex
import sys
from pathlib import Path

import environment  # noqa: F401

from keras_resnet import cli
from keras_resnet.analysis.comparison import DEFAULT_MODELS, compare, read_accuracy
from keras_resnet.analysis.cost import MeasurementError, measure_all
from keras_resnet.analysis.plots import (
    accuracy_against_operations,
    cost_against_batch,
    require_matplotlib,
    write_table,
)
from keras_resnet.training.precision import set_precision
from keras_resnet.utils.files import write_json
from keras_resnet.utils.tables import text_table


def main() -> None:
    options = parse()
    require_matplotlib()
    set_precision(options.precision)
    counted = compare(
        options.models,
        image_size=options.image_size,
        accuracies=dict(map(read_accuracy, options.accuracy)),
    )
    measured = measure_all(
        options.models if options.measure else (),
        options.batch_sizes,
        image_size=options.image_size,
        precision=options.precision,
        repeats=options.repeats,
        seconds=options.seconds,
    )
    workdir = Path(options.workdir)
    entries, costs, failures = [], [], []

    def record(finished: bool) -> None:
        write_json(
            workdir / "comparison.json",
            {
                "command": shlex.join(["python", *sys.argv]),
                "finished": finished,
                "models": [entry.row() for entry in entries],
                "costs": [cost.row() for cost in costs],
                "failures": list(map(str, failures)),
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
        (failures if isinstance(outcome, MeasurementError) else costs).append(outcome)
        cost_against_batch(costs, workdir / "cost.png")
        record(finished=False)
    record(finished=True)
    print(f"Everything is in {workdir}")


def parse() -> argparse.Namespace:
    parser = cli.LineParser(__doc__)
    add = parser.add_argument
    add("--models", nargs="+", metavar="NAME", default=DEFAULT_MODELS)
    add("--image-size", type=int, help="Side of the images; each network's own by default")
    add("--batch-sizes", nargs="+", type=int, metavar="N", default=[1, 8])
    add("--measure", action=argparse.BooleanOptionalAction, default=True)
    add("--repeats", type=int, default=10, help="Most steps to measure, at least 3")
    add("--seconds", type=float, default=5.0, help="After so many seconds 3 steps are enough")
    add("--accuracy", nargs="+", metavar="NAME=VALUE", default=[], help="Measured accuracies")
    add("--precision", default="float32", help="float32, mixed_bfloat16 or mixed_float16")
    add("--workdir", default="runs/compare", help="Where everything is written")
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
