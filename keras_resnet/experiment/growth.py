"""A shallow net trained, deepened and trained on, against the deep net from scratch. TensorFlow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.analysis import plots
from keras_resnet.data import ImageDataset
from keras_resnet.experiment.factories import (
    architecture_of,
    fit_options,
    load_data,
    make_loss,
    make_trainer,
    total_steps,
)
from keras_resnet.experiment.runner import settle_statistics
from keras_resnet.experiment.settings import Experiment
from keras_resnet.experiment.study import StoppedRun, Study, StudyRun, attempt_study
from keras_resnet.surgery.deepening import deepen
from keras_resnet.training import Trainer, TrainingStopped, read_epochs
from keras_resnet.utils import checks
from keras_resnet.utils.files import write_json
from keras_resnet.weights.saving import load_model, save_model

# Batches of training images that the statistics and the loss in training mode are taken from.
BATCHES = 8


@contextlib.contextmanager
def _without_warnings_of_tracing() -> Iterator[None]:
    """Leaves out that the same code is traced again: it is, for each of several models."""

    def others(record):
        return "triggered tf.function retracing" not in record.getMessage()

    logger = tf.get_logger()
    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)


@_without_warnings_of_tracing()
def deepening(
    base: Experiment,
    depth: int,
    seeds: Sequence[int],
    *,
    more_epochs: int | None = None,
    jobs: int | None = None,
) -> list[dict[str, object]]:
    """Trains a CIFAR net, deepens it, and trains on; and the deep net from scratch as long.

    The deepened net trains on with the schedule of `base` at a tenth of its rate, since it begins
    where the shallow one ended.

    Writes to `base.workdir`: a folder per run with its metrics and `model.keras`; table.csv and
    table.json, a row per seed and net; deepening.png, .svg and .csv, the loss by epoch. Where runs
    had to stop, the report is of the others.

    Args:
        base: Settings of the shallow net, with `depth` given.
        depth: Layers of the deep net, 6n+2.
        seeds: Seeds that every net is trained with.
        more_epochs: Epochs that the deepened net trains on for; default: as many as before.
        jobs: As in `run_study`.

    Returns:
        Rows of `seed`, `network`, `epochs` (all that its weights have seen), `train_seconds` (wall
        time, with compilation), `loss_in_training` (cross-entropy in nats on some training batches,
        with batch statistics), `split` (what it was tested on: "test", or "validation" where there
        are no test images), `test_loss` and `test_accuracy` (or `validation_...`), and for the
        deepened net `answers_differ` (the largest difference of a probability on those images);
        and of `seed`, `network` and `stopped`, the reason, for runs that came to no end.

    Raises:
        ValueError: If a setting is wrong, or the deep net is not deeper.
        TrainingStopped: If runs could not go on; all of the report is written.
    """
    first = base.optimization.epochs
    more = first if more_epochs is None else checks.integer("more_epochs", more_epochs)
    if base.network.depth is None or depth <= base.network.depth:
        raise ValueError(
            f"`depth` must be more than that of the shallow net, {base.network.depth}. "
            f"Received: depth={depth}"
        )
    deep = base.replace(depth=depth, epochs=first + more)
    shallow_name = architecture_of(base.network).name
    architecture = architecture_of(deep.network)
    deep_name, blocks = architecture.name, architecture.repeats
    if base.devices.deterministic:
        tf.config.experimental.enable_op_determinism()
    plots.require_matplotlib()
    workdir = Path(base.output.workdir)
    study = attempt_study({shallow_name: base, deep_name: deep}, seeds, workdir, jobs=jobs)
    runs = {(run.label, run.seed): run for run in study.finished}
    finished, stopped = list(study.finished), list(study.stopped)
    networks = (shallow_name, f"{deep_name}, deepened", f"{deep_name} from scratch")

    dataset = load_data(base.data)
    rows, curves = [], []

    def add(seed, network, epochs, before=0):
        curves.extend(
            {
                "network": network,
                "seed": seed,
                "epoch": before + row["epoch"],
                "loss": row["loss"],
                "val_accuracy": row.get("val_accuracy"),
            }
            for row in epochs
        )

    for seed in seeds:
        if run := runs.get((shallow_name, seed)):
            model, measured = _deepened(run, base, deep_name, blocks, dataset)
            rows += measured
            add(seed, shallow_name, run.epochs)
            try:
                grown = _train_on(model, deep_name, run, base, deep.replace(epochs=more), dataset)
                finished.append(grown)
                rows.append(grown.metrics)
                add(seed, networks[1], grown.epochs, first)
            except TrainingStopped as error:
                stopped.append(StoppedRun(networks[1], seed, str(error)))
                print(f"{networks[1]}, seed {seed}: {error}", flush=True)
        if run := runs.get((deep_name, seed)):
            measured = _measured(_model(run), base, dataset, seed)
            rows.append(
                _row(networks[2], seed, first + more, run.metrics["train_seconds"], measured)
            )
            add(seed, networks[2], run.epochs)
    if curves:
        plots.deepening(
            curves,
            networks,
            workdir / "deepening.png",
            title=f"{shallow_name} deepened to {deep_name} on {dataset.name}, "
            f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}",
        )
    rows += [{"seed": r.seed, "network": r.label, "stopped": r.reason} for r in stopped]
    plots.write_table(workdir / "table.csv", rows)
    write_json(workdir / "table.json", {"settings": base.flat(), "rows": rows})
    print(_text(rows))
    start = "deepening.png and table.csv" if curves else "table.csv"
    print(f"Everything is in {workdir}: begin with {start}")
    Study(finished, stopped).expect_all_finished()
    return rows


def _row(
    network: str, seed: int, epochs: int, seconds: float, measured: Mapping[str, object]
) -> dict[str, object]:
    return {
        **{"seed": seed, "network": network, "epochs": epochs, "train_seconds": seconds},
        **measured,
    }


def _text(rows: Sequence[Mapping[str, object]]) -> str:
    """Returns a line for each row."""
    lines = []
    for row in rows:
        if "stopped" in row:
            lines.append(f"seed {row['seed']}, {row['network']}: {row['stopped']}")
            continue
        split = row["split"]
        differ = "" if "answers_differ" not in row else f", answers {row['answers_differ']:.1g} off"
        lines.append(
            f"seed {row['seed']}, {row['network']}: loss in training "
            f"{row['loss_in_training']:.4f}, {split} loss {row[f'{split}_loss']:.4f}, {split} "
            f"accuracy {100 * row[f'{split}_accuracy']:.2f} %{differ}"
        )
    return "\n".join(lines)


def _deepened(
    run: StudyRun, base: Experiment, deep_name: str, blocks: Sequence[int], dataset: ImageDataset
) -> tuple[keras.Model, list[dict[str, object]]]:
    """Deepens a trained net; returns the deeper one, and rows of both."""
    shallow = _model(run)
    keras.utils.set_random_seed(run.seed)
    batch_size = base.optimization.batch_size
    images = dataset.train_batches(batch_size, seed=run.seed).take(BATCHES)
    model = deepen(shallow, blocks, images=images)
    answers = [_answers(net, dataset, batch_size) for net in (shallow, model)]
    begun = (run.seed, run.epochs[-1]["epoch"], run.metrics["train_seconds"])
    rows = [
        _row(name, *begun, _measured(net, base, dataset, run.seed))
        for name, net in ((run.label, shallow), (f"{deep_name}, deepened", model))
    ]
    rows[1]["answers_differ"] = float(np.abs(answers[0] - answers[1]).max())
    return model, rows


def _train_on(
    model: keras.Model,
    deep_name: str,
    run: StudyRun,
    base: Experiment,
    settings: Experiment,
    dataset: ImageDataset,
) -> StudyRun:
    """Trains a deepened net on; the metrics of what it returns are a row.

    Goes on where it was interrupted, as the runs of the study do.
    """
    folder = Path(base.output.workdir) / f"{deep_name}-deepened-{run.seed}"
    rate = base.optimization.learning_rate / 10
    settings = settings.replace(learning_rate=rate, seed=run.seed, workdir=str(folder))
    trainer = _trainer(model, settings, dataset)
    steps = total_steps(settings.optimization, dataset)
    trainer.fit(steps=steps, **fit_options(settings, dataset, folder))
    settle_statistics(settings, trainer, dataset)
    save_model(model, folder / "model.keras")
    row = _row(
        f"{deep_name}, deepened and trained on",
        run.seed,
        run.epochs[-1]["epoch"] + settings.optimization.epochs,
        round(run.metrics["train_seconds"] + trainer.seconds, 1),
        _measured(model, base, dataset, run.seed),
    )
    return StudyRun(row["network"], run.seed, folder, row, read_epochs(folder / "metrics.jsonl"))


def _model(run: StudyRun) -> keras.Model:
    return load_model(run.workdir / "model.keras")


def _trainer(model: keras.Model, settings: Experiment, dataset: ImageDataset) -> Trainer:
    steps = total_steps(settings.optimization, dataset)
    return make_trainer(settings, tf.distribute.get_strategy(), model, dataset, steps)


def _measured(
    model: keras.Model, base: Experiment, dataset: ImageDataset, seed: int
) -> dict[str, object]:
    """Loss in training mode, the split that is tested on, and loss and accuracy there."""
    split = "test" if "test" in dataset.splits else "validation"
    batch_size = base.optimization.batch_size
    tested = _trainer(model, base, dataset).evaluate(dataset, split, batch_size)
    batches = dataset.train_batches(batch_size, seed=seed).take(BATCHES)
    return {
        "loss_in_training": _loss_in_training(model, make_loss(base.optimization), batches),
        "split": split,
        **{f"{split}_{name}": value for name, value in tested.items()},
    }


def _loss_in_training(model: keras.Model, loss: keras.losses.Loss, batches: Iterable) -> float:
    """Mean loss with batch statistics, which leaves the moving ones as they are."""
    variables = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    losses = []
    for images, labels in batches:
        predictions, _ = model.stateless_call(variables, others, images, training=True)
        losses.append(float(loss(labels, predictions)))
    return float(np.mean(losses))


def _answers(model: keras.Model, dataset: ImageDataset, batch_size: int) -> np.ndarray:
    batches = dataset.eval_batches(dataset.splits[-1], batch_size)
    return np.concatenate([model.predict_on_batch(images) for images, _, _ in batches])
