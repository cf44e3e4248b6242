"""The smallest file of 8-bit integers that a trained network becomes within a loss of accuracy.

Needs TensorFlow and the extra `export`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import keras

from keras_resnet.analysis import complexity, plots
from keras_resnet.data import ImageDataset
from keras_resnet.evaluation import Evaluation, evaluate
from keras_resnet.experiment.card import origin
from keras_resnet.experiment.factories import load_data
from keras_resnet.experiment.growth import BATCHES, MODEL, quiet_retracing, train_changed
from keras_resnet.experiment.page import REPORT, require_jinja, write_report
from keras_resnet.experiment.quantization import train_quantized, trained_network
from keras_resnet.experiment.quantized_forms import FILES
from keras_resnet.experiment.reports import counted, write_rows
from keras_resnet.experiment.settings import Experiment
from keras_resnet.experiment.targets import make_loss
from keras_resnet.experiment.workdir import CONFIG, expect_folder, expect_settings, in_use
from keras_resnet.export import ExportedModel, load_exported
from keras_resnet.surgery import slim
from keras_resnet.training import TrainingStopped
from keras_resnet.utils import checks
from keras_resnet.utils.files import replacing, write_json
from keras_resnet.utils.terminal import RESULTS

SMALL = "small.tflite"
FLOAT, INTEGERS = "float", "8-bit integers"
# Shares in a row that lose too much, after which smaller ones are not tried.
_MISSES = 2

Row = dict[str, Any]


def shrink(
    experiment: Experiment,
    *,
    max_loss: float = 0.005,
    shares: Sequence[float] = (0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05),
    slim_epochs: int = 10,
    slim_learning_rate: float = 0.1,
) -> list[Row]:
    """Slims a trained network step by step, trains each as integers, and keeps the smallest file.

    For the whole network and then for falling shares of its multiply-adds: the network of the step
    before is slimmed and trained for `slim_epochs`, then fine-tuned as one of 8-bit integers
    (`train_quantized`). The smallest LiteRT file whose accuracy on the validation images is at most
    `max_loss` below that of the trained network is kept as small.tflite; the last split, such as
    the test images, chooses nothing. After two shares in a row that lose more, none is tried.

    Writes to `workdir` also: a folder for each share; table.csv and table.json, what was tried;
    shrinking.png, .svg and .csv; and report.html. Resumes where it was interrupted, also with
    another `max_loss` or further shares below the others. A share whose training had to stop counts
    as one that loses more; a TrainingStopped is raised in the end.

    Args:
        experiment: Settings of the fine-tuning in 8 bits; `init` is the trained network.
        max_loss: Largest loss of accuracy on the validation images, in [0, 1).
        shares: Shares of the multiply-adds, in (0, 1), tried in falling order.
        slim_epochs: Epochs after each slimming.
        slim_learning_rate: Learning rate of these, which falls as the experiment's schedule has it.

    Returns:
        A row for each share: `share`, `multiply_adds`, `parameters`, `bytes`, `validation_accuracy`
        of the file and `float_validation_accuracy` of the slimmed network, `test_accuracy` of the
        file (or that of the last split, if it is another), and `chosen`. Table.json also has rows
        of `share`, `stopped`, the reason, and `chosen`, for those that came to no end.

    Raises:
        ValueError: If an argument is wrong, the data have no validation images or several labels an
            image, `workdir` holds networks of other settings, or no file is within the loss.
        TrainingStopped: If trainings had to stop; what is left is written.
    """
    checks.fraction("max_loss", max_loss)
    slimming = {
        "epochs": checks.integer("slim_epochs", slim_epochs),
        "learning_rate": checks.positive("slim_learning_rate", slim_learning_rate),
        # The channels that are left change much at first.
        **{"warmup": "linear", "warmup_share": 0.2},
    }
    for share in shares:
        if not checks.fraction("shares", share) > 0:
            raise ValueError(f"`shares` must be above 0. Received: shares={share}")
    plots.require_matplotlib()
    require_jinja()
    workdir = expect_folder("workdir", experiment.output.workdir)
    init = experiment.network.init
    dataset = load_data(experiment.data)
    if "validation" not in dataset.splits or init is None:
        raise ValueError(
            "`init` must be a trained network, and the data must have validation images to choose "
            f"by. Received: init={init!r} and {dataset.name} with {', '.join(dataset.splits)}"
        )
    if dataset.multi_label:
        raise ValueError(
            "`dataset` must have one label for each image, whose accuracy is compared. Received: "
            f"{dataset.name}, whose images can have several"
        )
    rows: list[Row] = []
    stopped: list[Row] = []
    # Each network comes of those before it, so that these are settings of its run.
    falling = sorted(set(shares), reverse=True)
    recorded = {
        share: {
            **experiment.replace(**slimming).of_the_result(),
            "shares": [one for one in falling if one >= share],
        }
        for share in falling
    }
    with quiet_retracing(), in_use(workdir):
        for share, own_settings in recorded.items():
            expect_settings(workdir / f"{share:g}" / "float" / CONFIG, own_settings, of="run")
        model = trained_network(init, experiment, dataset)
        whole = complexity(model).multiply_adds
        accuracy = whole_accuracy = _accuracy(model, dataset, "validation")
        # What is computed from shares of images can be off by rounding.
        wanted = accuracy - max_loss - 1e-9
        misses = 0
        for share in (1.0, *falling):
            folder = workdir / f"{share:g}"
            path = Path(init)
            try:
                if share < 1:
                    own = folder / "float"
                    settings = experiment.replace(**slimming, workdir=str(own))
                    write_json(own / CONFIG, recorded[share])
                    model = _slimmed(model, int(share * whole), settings, dataset)
                    path = own / MODEL
                    accuracy = _accuracy(model, dataset, "validation")
                tried = _tried(share, model, accuracy, path, experiment, folder / "int8", dataset)
                rows.append(tried)
                missed = tried["validation_accuracy"] < wanted
            except TrainingStopped as error:
                RESULTS.info(f"{share:g} of the multiply-adds: {error}")
                stopped.append({"share": share, "stopped": str(error), "chosen": False})
                missed = True
            misses = misses + 1 if missed else 0
            if misses == _MISSES:
                break
        chosen = min(
            (row for row in rows if row["validation_accuracy"] >= wanted),
            key=lambda row: row["bytes"],
            default=None,
        )
        for row in rows:
            row["chosen"] = row is chosen
        _report(experiment, rows, stopped, workdir, dataset, max_loss)
        if chosen is not None:
            with replacing(workdir / SMALL) as temporary:
                shutil.copy(workdir / f"{chosen['share']:g}" / "int8" / FILES["litert"], temporary)
            RESULTS.info(
                f"{workdir / SMALL}: {chosen['bytes']:,} bytes, {chosen['share']:g} of the "
                f"multiply-adds. Begin with {REPORT}"
            )
        elif not stopped:
            # Of an earlier search that allowed for more.
            (workdir / SMALL).unlink(missing_ok=True)
        if stopped:
            names = ", ".join(f"{row['share']:g}" for row in stopped)
            raise TrainingStopped(
                f"Of {counted(len(rows) + len(stopped), 'share')}, {len(stopped)} stopped "
                f"({names}); the reasons are above, and the same command tries them again"
            )
        if chosen is None:
            raise ValueError(
                "`max_loss` must allow for a file of integers; the best one loses "
                f"{whole_accuracy - max(row['validation_accuracy'] for row in rows):.4f}. "
                f"Received: max_loss={max_loss}"
            )
    return rows


def _slimmed(
    model: keras.Model, limit: int, settings: Experiment, dataset: ImageDataset
) -> keras.Model:
    """Returns a network slimmed to so many multiply-adds and trained."""
    optimization = settings.optimization
    keras.utils.set_random_seed(optimization.seed)
    batches = dataset.train_batches(optimization.batch_size, seed=optimization.seed).take(BATCHES)
    small = slim(
        model,
        max_multiply_adds=limit,
        batches=list(batches),
        loss=make_loss(optimization, dataset),
        name=model.name,
    )
    train_changed(small, settings, dataset)
    return small


def _tried(
    share: float,
    model: keras.Model,
    accuracy: float,
    path: Path,
    experiment: Experiment,
    folder: Path,
    dataset: ImageDataset,
) -> Row:
    """Trains a network of this accuracy as one of integers, and returns its row."""
    own = experiment.replace(init=str(path), workdir=str(folder), report=False)
    figures = train_quantized(own)
    file = load_exported(folder / FILES["litert"])
    splits = dict.fromkeys(("validation", dataset.splits[-1]))
    cost = complexity(model)
    row = {
        "share": share,
        "multiply_adds": cost.multiply_adds,
        "parameters": cost.parameters,
        "bytes": figures["litert_bytes"],
        "float_validation_accuracy": accuracy,
        **{f"{split}_accuracy": _accuracy(file, dataset, split) for split in splits},
    }
    RESULTS.info(
        f"{share:g} of the multiply-adds: {row['bytes']:,} bytes, validation accuracy "
        f"{100 * row['validation_accuracy']:.2f} %, in float "
        f"{100 * row['float_validation_accuracy']:.2f} %"
    )
    return row


def _accuracy(model: keras.Model | ExportedModel, dataset: ImageDataset, split: str) -> float:
    """Returns the share of a split's images that a form of a network classifies correctly."""
    return 1 - cast(Evaluation, evaluate(model, dataset, split=split)).top1_error


def _report(
    experiment: Experiment,
    rows: list[Row],
    stopped: list[Row],
    workdir: Path,
    dataset: ImageDataset,
    max_loss: float,
) -> None:
    """Writes table, figure and page of what was tried."""
    title = f"{Path(str(experiment.network.init)).name} in 8-bit integers on {dataset.name}"
    points = [
        {**row, "seed": 0, "method": method, "validation_accuracy": row[figure]}
        for row in rows
        for method, figure in (
            (FLOAT, "float_validation_accuracy"),
            (INTEGERS, "validation_accuracy"),
        )
    ]
    path = workdir / "shrinking.png"
    if points:
        plots.error_against_operations(points, path, title=title, split="validation", full=FLOAT)
    write_rows(workdir, [*rows, *stopped], settings={**experiment.flat(), "max_loss": max_loss})
    write_report(workdir, title=title, metrics=origin())
