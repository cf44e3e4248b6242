"""Test errors of narrow networks on the digits in float and in 8-bit integers, made in two ways.

    python benchmarks/int8.py --workdir runs/int8

Of each width and seed a ResNet-20 is trained. Its integers are rounded after training, by ranges
measured on 512 training images, or trained for some epochs more (`keras-resnet quantize`). A copy
that trains on in float as long shows what these epochs alone do. All integers are LiteRT files.
Prints a table, and writes int8.md and int8.csv. Killed and started again, it resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet.data import ImageDataset
from keras_resnet.evaluation.predictor import calibration_batches
from keras_resnet.experiment import Experiment, run
from keras_resnet.experiment.factories import fit_options, load_data, make_trainer, total_steps
from keras_resnet.experiment.quantization import train_quantized
from keras_resnet.export import export, load_exported
from keras_resnet.utils.files import write_text
from keras_resnet.utils.tables import markdown_table, write_table
from keras_resnet.weights.saving import load_model

FORMS = ("float", "float, trained on", "rounded after training", "rounded in training")


def main() -> None:
    """Trains, rounds and measures, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/int8"))
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--widenings", type=float, nargs="+", default=[0.25, 0.5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--more-epochs", type=int, default=10)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for widening in given.widenings:
        for seed in given.seeds:
            folder = given.workdir / f"{widening}-{seed}"
            base = Experiment.from_flat(
                depth=given.depth,
                widening=widening,
                seed=seed,
                epochs=given.epochs,
                export=False,
                report=False,
                workdir=str(folder / "float"),
            )
            errors = _errors(base, folder, given.more_epochs)
            rows.append({"network": f"ResNet-{given.depth}x{widening}", "seed": seed, **errors})
    given.workdir.mkdir(parents=True, exist_ok=True)
    write_table(given.workdir / "int8.csv", rows)
    table = markdown_table(_means(rows))
    write_text(given.workdir / "int8.md", table + "\n")
    print(table)


def _errors(base: Experiment, folder: Path, more_epochs: int) -> dict[str, float]:
    """Returns the test error in percent of every form of one network."""
    run(base)
    path = folder / "float" / "model.keras"
    dataset, model = load_data(base.data), load_model(path)
    later = base.replace(
        depth=None,
        widening=None,
        init=str(path),
        epochs=more_epochs,
        learning_rate=0.01,
        schedule="cosine",
        keep_best=0,
        workdir=str(folder / "quantized"),
    )
    trained_on = load_model(path)
    steps = total_steps(later.optimization, dataset)
    trainer = make_trainer(later, tf.distribute.get_strategy(), trained_on, dataset, steps)
    trainer.fit(steps=steps, **fit_options(later, dataset, folder / "trained_on"))
    rounded = folder / "rounded.tflite"
    batches = calibration_batches("digits", model)
    export(model, rounded, "litert", quantize="int8", calibration=batches, overwrite=True)
    train_quantized(later)
    forms = (
        *(_predict(model), _predict(trained_on), load_exported(rounded)),
        load_exported(folder / "quantized" / "model.tflite"),
    )
    errors = (_error(form, dataset) for form in forms)
    return dict(zip(FORMS, errors, strict=True))


def _predict(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    return lambda images: model.predict(images, verbose=0)


def _error(form: Callable[[np.ndarray], np.ndarray], dataset: ImageDataset) -> float:
    """Returns the error on all test images in percent."""
    ((images, labels, _),) = dataset.eval_batches("test", dataset.num_examples("test"))
    scores = form(np.asarray(images, "float32"))
    return 100 * float(np.mean(np.argmax(scores, axis=1) != np.asarray(labels)))


def _means(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Returns mean and standard deviation over the seeds, a row for each network."""
    means = []
    for network in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == network]
        values = {form: [row[form] for row in own] for form in FORMS}
        means.append(
            {
                "network": network,
                **{
                    form: f"{np.mean(found):.2f} ± {np.std(found, ddof=min(1, len(found) - 1)):.2f}"
                    for form, found in values.items()
                },
            }
        )
    return means


if __name__ == "__main__":
    main()
