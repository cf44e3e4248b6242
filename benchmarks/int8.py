"""Measures narrow networks on the digits in float and in 8-bit integers: error, size, latency.

    python benchmarks/int8.py --workdir runs/int8 --update docs/guides/int8.md

Of each width and seed a ResNet-20 is trained as in recipes/digits.py, and written to LiteRT and
ONNX files: in float; in float trained on for as long as integers are; of 8-bit integers by ranges
that are measured after training, on 512 training images of all classes; and of integers trained as
`keras-resnet quantize` does. Errors are on all test images. Latency is the median of calls with one
image by one thread, in which the files of a width and runtime take turns.

Prints a table, and writes int8.md and int8.csv. What a run gave is kept in --workdir and not made
twice; latency is measured anew every time, since it depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.analysis.machine import processor_name
from keras_resnet.analysis.timing import take_turns
from keras_resnet.cli.quantize import PRESETS
from keras_resnet.evaluation import Evaluation, evaluate
from keras_resnet.evaluation.predictor import calibration_batches
from keras_resnet.experiment import Experiment, run
from keras_resnet.experiment.factories import fit_options, load_data, make_trainer, total_steps
from keras_resnet.experiment.quantization import train_quantized
from keras_resnet.export import export, load_exported
from keras_resnet.utils.documents import around
from keras_resnet.utils.files import parse_json, write_json, write_text
from keras_resnet.utils.tables import markdown_table, write_table
from keras_resnet.weights.saving import load_model

RUNTIMES = {"litert": "LiteRT", "onnx": "ONNX Runtime"}
FLOAT, LONGER, AFTER, TRAINED = FORMS = (
    *("float32", "float32, trained on"),
    *("int8, post-training", "int8, trained"),
)
START, END = "<!-- int8 -->", "<!-- end of int8 -->"
_SUFFIXES = {"litert": ".tflite", "onnx": ".onnx"}
_ROUNDS = 1000

Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> None:
    """Trains, exports and measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/int8"))
    parser.add_argument("--widths", type=float, nargs="+", default=[0.25, 0.5, 0.75, 1.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--more-epochs", type=int, default=10)
    parser.add_argument("--update", type=Path, help="page to write the table into")
    given = parser.parse_args(argv)
    if given.update is not None:  # refused before training, not after
        around(given.update.read_text(encoding="utf-8"), START, END, argument="update")
    # Seed by seed, so that runs cut short have all widths.
    rows = [
        row
        for seed in given.seeds
        for width in given.widths
        for row in _made(_folder(given, width, seed), width, seed, given.epochs, given.more_epochs)
    ]
    for width in given.widths:
        for runtime in RUNTIMES:
            folder = _folder(given, width, given.seeds[0])
            found = latencies({form: _file(folder, form, runtime) for form in FORMS}, (1, 8, 8, 1))
            for row in rows:
                if (row["width"], row["runtime"]) == (width, runtime):
                    row["milliseconds"] = found[row["form"]]
    write_table(given.workdir / "int8.csv", rows)
    seeds = ", ".join(map(str, given.seeds))
    text = f"{markdown_table(_table(rows))}\n\nSeeds {seeds}. {conditions()}"
    write_text(given.workdir / "int8.md", text + "\n")
    print(text)
    if given.update is not None:
        rewrite(given.update, START, END, text)


def rewrite(path: Path, start: str, end: str, text: str) -> None:
    """Writes what stands between two comments of a page anew."""
    before, after = around(path.read_text(encoding="utf-8"), start, end, argument="update")
    write_text(path, f"{before}\n\n{text}\n\n{after}")


def _folder(given: argparse.Namespace, width: float, seed: int) -> Path:
    """Returns the folder of one training, another one for each of its settings."""
    return given.workdir / f"{width:g}-{seed}-{given.epochs}-{given.more_epochs}"


def _file(folder: Path, form: str, runtime: str) -> Path:
    return folder / (form.replace(", ", "-").replace(" ", "-") + _SUFFIXES[runtime])


def latencies(files: dict[str, Path], shape: tuple[int, ...]) -> dict[str, float]:
    """Returns the milliseconds of a call of each file, by one thread, the median of their turns."""
    images = np.random.default_rng(0).integers(0, 256, shape).astype("float32")
    steps = {name: _step(path, images) for name, path in files.items()}
    return {
        name: 1e3 * statistics.median(seconds)
        for name, seconds in take_turns(steps, _ROUNDS).items()
    }


def _step(path: Path, images: np.ndarray) -> Callable[[], object]:
    """Returns a call of a file with a batch, by one thread of its runtime."""
    if path.suffix == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        return lambda: session.run(None, {"images": images})
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)
    return interpreter.invoke


def _made(folder: Path, width: float, seed: int, epochs: int, more_epochs: int) -> list[Row]:
    """Returns a row for each form and runtime of one training, which is made if it is not there."""
    results = folder / "rows.json"
    if results.exists():
        return parse_json(results.read_text(encoding="utf-8"))
    base = Experiment.from_flat(
        depth=20,
        widening=width,
        warmup="linear",
        seed=seed,
        epochs=epochs,
        keep_best=0,
        export=False,
        report=False,
        workdir=str(folder / "float"),
    )
    run(base)
    path = folder / "float" / "model.keras"
    later = PRESETS["default"].replace(
        init=str(path), seed=seed, epochs=more_epochs, report=False, workdir=str(folder / "trained")
    )
    train_quantized(later)
    model, integers = load_model(path), load_model(folder / "trained" / "model.keras")
    batches = list(calibration_batches("digits", model))
    forms: dict[str, tuple[keras.Model, dict[str, Any]]] = {
        FLOAT: (model, {}),
        LONGER: (_trained_on(later, folder), {}),
        AFTER: (model, {"quantize": "int8", "calibration": batches}),
        TRAINED: (integers, {"quantize": "int8", "calibration": batches}),
    }
    rows: list[Row] = []
    for form, (net, options) in forms.items():
        for runtime in RUNTIMES:
            file = _file(folder, form, runtime)
            written = export(net, file, runtime, **options, overwrite=True)
            found = cast(Evaluation, evaluate(load_exported(file), load_data(base.data)))
            row = {"width": width, "seed": seed, "form": form, "runtime": runtime}
            rows.append({**row, "error": found.top1_error, "bytes": written.bytes})
    write_json(results, rows)
    return rows


def _trained_on(settings: Experiment, folder: Path) -> keras.Model:
    """Returns the trained network after the epochs of quantization-aware training, in float."""
    model, dataset = load_model(str(settings.network.init)), load_data(settings.data)
    steps = total_steps(settings.optimization, dataset)
    trainer = make_trainer(settings, tf.distribute.get_strategy(), model, dataset, steps)
    trainer.fit(steps=steps, **fit_options(settings, dataset, folder / "longer"))
    return model


def _table(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Returns a line for each width and form, with the figures of both runtimes."""
    lines = []
    for width, form in dict.fromkeys((row["width"], row["form"]) for row in rows):
        line = {"width": f"{width:g}", "form": form}
        for runtime, name in RUNTIMES.items():
            key = (width, form, runtime)
            own = [row for row in rows if (row["width"], row["form"], row["runtime"]) == key]
            errors = [100 * row["error"] for row in own]
            spread = f" ± {statistics.stdev(errors):.2f}" if errors[1:] else ""
            line[f"{name}: error %"] = f"{statistics.fmean(errors):.2f}{spread}"
            line["kB" if runtime == "litert" else "kB "] = f"{own[0]['bytes'] / 1000:.0f}"
            line["ms" if runtime == "litert" else "ms "] = f"{own[0]['milliseconds']:.3f}"
        lines.append(line)
    return lines


def conditions() -> str:
    """Returns when and where latencies were measured, as text."""
    return (
        f"Measured on {datetime.date.today().isoformat()} on {processor_name()}, at a load of "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores."
    )


if __name__ == "__main__":
    main()
