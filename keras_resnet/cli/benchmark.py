"""Times a network on this machine, in every form that it can be run in.

    keras-resnet benchmark ResNet50 --batch-size 1 32 -o runs/benchmark

MODEL is the name of a network, which gets random weights, a .keras file, hf://owner/name, or an
exported model. Its forms are a TensorFlow graph of Keras's model and the formats of `keras-resnet
export`; each runs as `keras-resnet predict` runs it, on images in memory. They take turns, one
batch each per round, so that variations in the machine's speed affect all of them. Prints the
median time of a batch, its quartiles, images per second, and the ratio to the first form in the
same round. An exported model is timed as it is. `keras-resnet compare` measures the memory and
energy of networks.
"""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from keras_resnet import analysis, evaluation, experiment, export, surgery, weights
from keras_resnet.analysis.defaults import FORMS, ROUNDS
from keras_resnet.analysis.machine import processor_features, processor_name
from keras_resnet.cli import Arguments, parse, print_json
from keras_resnet.experiment.workdir import expect_folder
from keras_resnet.utils.checks import Size
from keras_resnet.utils.files import write_json
from keras_resnet.utils.processes import command_line, cores
from keras_resnet.utils.tables import text_table


@dataclasses.dataclass(frozen=True)
class Benchmark(Arguments):
    """Arguments of `keras-resnet benchmark`.

    Attributes:
        model: Name of a network, a .keras file, hf://owner/name, or an exported model.
        batch_size: Images of a batch; several sizes are timed one after the other.
        forms: Forms to time: keras, saved_model, tflite, onnx. Ratios are to the first.
        train: Whether a training step of Keras, with SGD and momentum, is timed too.
        rounds: Batches of each form, at least 3.
        image_size: Side of the images in pixels, or HEIGHTxWIDTH, for a model that takes any size;
            by default the network's own.
        output: Folder for benchmark.png, .svg, .csv and .json; by default none is written.
        json: Print the content of benchmark.json, as JSON.
    """

    model: Positional[str]
    batch_size: tuple[int, ...] = (1, 32)
    forms: tuple[str, ...] = FORMS
    train: bool = False
    rounds: int = ROUNDS
    image_size: str | None = None
    output: Path | None = None
    json: bool = False


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Times the forms of a network, and prints a table."""
    given = parse(Benchmark, argv, __doc__, prog)
    if given.output is not None:
        expect_folder("output", given.output)
        analysis.plots.require_matplotlib()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        forms, options = _open(given, folder)
        for of_a_size in experiment.forms.time_forms(
            forms, given.batch_size, rounds=given.rounds, **options
        ):
            rows += of_a_size
            if not given.json:
                print(text_table([_shown(row) for row in of_a_size]), end="\n\n", flush=True)
    machine = _machine()
    content = {
        "command": command_line(),
        "model": given.model,
        "machine": machine,
        "versions": experiment.card.versions(),
        "rows": rows,
    }
    told = ", ".join(f"{name} {version}" for name, version in experiment.card.versions().items())
    features = " ".join(machine["features"]) or "no features known"
    about = f"{machine['device']}, {machine['cores']} cores, {features}; {told}"
    if given.output is not None:
        title = f"{given.model} on {machine['device']}, {machine['cores']} cores"
        analysis.plots.forms.timings(rows, given.output / "benchmark.png", title=title)
        write_json(given.output / "benchmark.json", content)
    if given.json:
        print_json(content)
        return
    print(about)
    if given.output is not None:
        print(f"Everything is in {given.output}")


def _open(given: Benchmark, folder: str) -> tuple[dict, dict[str, Any]]:
    """Returns the forms of a model, and options of `time_forms`."""
    size: Size | str
    if Path(given.model).exists() or weights.hugging_face.is_address(given.model):
        model, size = evaluation.open_model(given.model), given.image_size or 224
        if isinstance(model, export.ExportedModel):
            if given.train or given.forms != FORMS:
                raise ValueError(
                    "`forms` and `train` are for networks by name and .keras files. Received: "
                    f"model={given.model!r}"
                )
            return {model.path.name: model}, {"image_size": size}
    else:
        named = analysis.networks.find_network(given.model)
        model, size = named.build(given.image_size), named.size(given.image_size)
    forms = experiment.forms.open_forms(
        model,
        folder,
        given.forms,
        # A network that nothing is known of is timed as it is.
        preprocessing="none" if surgery.preprocessing_of(model) is None else "inside",
        image_size=size if None in model.input_shape[1:] else None,
    )
    return forms, {"image_size": size, "trained": model if given.train else None}


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Returns the columns shown on the terminal."""
    low, high = (f"{1000 * row[name]:.4g}" for name in ("first_quartile", "third_quartile"))
    return {
        "form": row["form"],
        "batch size": row["batch_size"],
        "ms": 1000 * row["seconds"],
        "quartiles": f"{low} to {high}",
        "images/s": row["images_per_second"],
        "ratio": row["ratio"],
    }


def _machine() -> dict[str, Any]:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus[:1]]
    return {
        "device": details[0].get("device_name", "GPU") if details else processor_name(),
        "features": list(processor_features()),
        "cores": cores(),
    }
