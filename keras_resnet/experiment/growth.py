"""A shallow net trained, deepened and trained on, against the deep net from scratch. TensorFlow."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.analysis import plots
from keras_resnet.data import ImageDataset
from keras_resnet.experiment.card import origin
from keras_resnet.experiment.factories import (
    architecture_of,
    fit_options,
    load_data,
    make_trainer,
    total_steps,
)
from keras_resnet.experiment.page import REPORT, require_jinja, write_report
from keras_resnet.experiment.reports import counted, threads_of, write_rows
from keras_resnet.experiment.runner import settle_statistics
from keras_resnet.experiment.settings import Experiment
from keras_resnet.experiment.study import StoppedRun, Study, StudyRun, attempt_study
from keras_resnet.experiment.targets import make_loss
from keras_resnet.experiment.workdir import expect_folder, in_use
from keras_resnet.surgery import deepen
from keras_resnet.training import Trainer, TrainingStopped, read_epochs
from keras_resnet.training.strategy import make_deterministic
from keras_resnet.utils import checks
from keras_resnet.utils.terminal import RESULTS
from keras_resnet.weights.saving import load_model, save_model

MODEL = "model.keras"
# Batches of training images that statistics, the loss in training mode and the ranks of channels
# are taken from.
BATCHES = 8

Row = dict[str, Any]


def deepening(
    base: Experiment,
    depth: int,
    seeds: Sequence[int],
    *,
    more_epochs: int | None = None,
    jobs: int | None = None,
) -> list[Row]:
    """Trains a CIFAR net, deepens it, and trains on; and the deep net from scratch as long.

    The deepened net trains on for `more_epochs`, by default as many as before, with the schedule of
    `base` at a tenth of its learning rate, since it begins where the shallow one ended.

    Writes to `base.workdir`: a folder per run with its metrics and `model.keras`; table.csv and
    table.json, a row per seed and net; deepening.png, .svg and .csv, the loss by epoch; and
    report.html. Where runs had to stop, the report is of the others, and a TrainingStopped is
    raised in the end.

    Returns:
        Rows of `seed`, `network`, `epochs` (all that its weights have seen), `train_seconds` (wall
        time, with compilation), `threads` (of an operation in the run it began with),
        `loss_in_training` (in nats, on some training batches, with batch statistics),
        `split` (the split it was tested on: "test", or "validation" where there are no test
        images), `test_loss` and `test_accuracy` (or `validation_...`), and for the deepened net
        `outputs_differ` (the largest difference of a probability on those images);
        and of `seed`, `network` and `stopped`, the reason, for runs that came to no end.
    """
    first = base.optimization.epochs
    more = first if more_epochs is None else checks.integer("more_epochs", more_epochs)
    if base.network.depth is None or depth <= base.network.depth:
        raise ValueError(
            f"`depth` must be more than that of the shallow net, {base.network.depth}. "
            f"Received: depth={depth}"
        )
    deep = base.replace(depth=depth, epochs=first + more)
    names = [architecture_of(one.network).name for one in (base, deep)]
    if base.devices.deterministic:
        make_deterministic()
    plots.require_matplotlib()
    require_jinja()
    experiments = dict(zip(names, (base, deep), strict=True))

    # The deepened nets are trained here.
    with quiet_retracing(), in_use(expect_folder("workdir", base.output.workdir)):
        study = attempt_study(experiments, seeds, base.output.workdir, jobs=jobs)
        return _report(study, base, deep, names, seeds, more)


@contextlib.contextmanager
def quiet_retracing() -> Iterator[None]:
    """Leaves out TensorFlow's warning of code that is traced again, as for each of many models."""

    def other_warnings(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    tf.get_logger().addFilter(other_warnings)
    try:
        yield
    finally:
        tf.get_logger().removeFilter(other_warnings)


def _report(
    study: Study,
    base: Experiment,
    deep: Experiment,
    names: Sequence[str],
    seeds: Sequence[int],
    more: int,
) -> list[Row]:
    """Deepens the shallow nets and trains them on, and writes table and figure."""
    workdir = Path(base.output.workdir)
    shallow_name, deep_name = names
    networks = (shallow_name, f"{deep_name}, deepened", f"{deep_name} from scratch")
    runs = {(run.label, run.seed): run for run in study.finished}
    finished, stopped = list(study.finished), list(study.stopped)
    dataset = load_data(base.data)
    rows: list[Row] = []
    curves: list[Row] = []

    def draw(network: str, run: StudyRun, before: int = 0) -> None:
        curves.extend(
            {
                "network": network,
                "seed": run.seed,
                "epoch": before + row["epoch"],
                "loss": row["loss"],
                "val_accuracy": row.get("val_accuracy"),
            }
            for row in run.epochs
        )

    for seed in seeds:
        if run := runs.get((shallow_name, seed)):
            model, measured = _deepened(run, base, deep, networks[1], dataset)
            rows += measured
            draw(shallow_name, run)
            try:
                longer = deep.replace(
                    epochs=more,
                    learning_rate=base.optimization.learning_rate / 10,
                    workdir=str(workdir / f"{deep_name}-deepened-{seed}"),
                )
                label = f"{deep_name}, deepened and trained on"
                grown = train_on(model, label, run, base, longer, dataset)
                finished.append(grown)
                rows.append(dict(grown.metrics))
                draw(networks[1], grown, base.optimization.epochs)
            except TrainingStopped as error:
                stopped.append(StoppedRun(networks[1], seed, str(error)))
                RESULTS.info(f"{networks[1]}, seed {seed}: {error}")
        if run := runs.get((deep_name, seed)):
            rows.append(measure(networks[2], run, load_model(run.workdir / MODEL), base, dataset))
            draw(networks[2], run)
    title = f"{shallow_name} deepened to {deep_name} on {dataset.name}"
    title += f", {counted(len(seeds), 'seed')}"
    if curves:
        plots.deepening(curves, networks, workdir / "deepening.png", title=title)
    rows += [{"seed": r.seed, "network": r.label, "stopped": r.reason} for r in stopped]
    settings = {**base.flat(), "to": deep.network.depth, "more_epochs": more}
    write_rows(workdir, rows, settings=settings)
    write_report(workdir, title=title, metrics=origin())
    RESULTS.info("\n".join(map(_line, rows)))
    RESULTS.info(f"Everything is in {workdir}: begin with {REPORT}")
    Study(finished, stopped).expect_all_finished()
    return rows


def _line(row: Row) -> str:
    """Returns a row as text."""
    start = f"seed {row['seed']}, {row['network']}: "
    if "stopped" in row:
        return start + row["stopped"]
    split = row["split"]
    differ = f", outputs {row['outputs_differ']:.1g} off" if "outputs_differ" in row else ""
    return (
        f"{start}loss in training {row['loss_in_training']:.4f}, {split} loss "
        f"{row[f'{split}_loss']:.4f}, {split} accuracy {100 * row[f'{split}_accuracy']:.2f} %"
        f"{differ}"
    )


def _deepened(
    run: StudyRun, base: Experiment, deep: Experiment, name: str, dataset: ImageDataset
) -> tuple[keras.Model, list[Row]]:
    """Deepens a trained net; returns the deeper one, and rows of both."""
    shallow, batch_size = load_model(run.workdir / MODEL), base.optimization.batch_size
    keras.utils.set_random_seed(run.seed)
    images = dataset.train_batches(batch_size, seed=run.seed).take(BATCHES)
    model = deepen(shallow, architecture_of(deep.network).repeats, images=images)
    differences = [
        np.abs(shallow.predict_on_batch(images) - model.predict_on_batch(images)).max()
        for images, _, _ in dataset.eval_batches(dataset.splits[-1], batch_size)
    ]
    before = measure(run.label, run, shallow, base, dataset)
    after = measure(name, run, model, base, dataset)
    return model, [before, {**after, "outputs_differ": float(max(differences))}]


def train_on(
    model: keras.Model,
    label: str,
    run: StudyRun,
    base: Experiment,
    settings: Experiment,
    dataset: ImageDataset,
) -> StudyRun:
    """Trains a net made from that of `run`, or resumes that, by settings that name a folder.

    The metrics of the run returned are a row as `measure` returns it.
    """
    trainer = train_changed(model, settings.replace(seed=run.seed), dataset)
    epochs, folder = settings.optimization.epochs, Path(settings.output.workdir)
    row = measure(label, run, model, base, dataset, epochs=epochs, seconds=trainer.seconds)
    return StudyRun(label, run.seed, folder, row, read_epochs(folder / "metrics.jsonl"))


def train_changed(model: keras.Model, settings: Experiment, dataset: ImageDataset) -> Trainer:
    """Trains a changed net, or resumes that, by settings that name the folder it is saved in."""
    folder, steps = Path(settings.output.workdir), total_steps(settings.optimization, dataset)
    trainer = make_trainer(settings, tf.distribute.get_strategy(), model, dataset, steps)
    trainer.fit(steps=steps, **fit_options(settings, dataset, folder))
    settle_statistics(settings, trainer, dataset)
    save_model(model, folder / MODEL)
    return trainer


def measure(
    network: str,
    run: StudyRun,
    model: keras.Model,
    base: Experiment,
    dataset: ImageDataset,
    *,
    epochs: int = 0,
    seconds: float = 0.0,
) -> Row:
    """Measures a model after a run, and after so many epochs and seconds more."""
    split = dataset.splits[-1]
    batch_size, steps = base.optimization.batch_size, total_steps(base.optimization, dataset)
    trainer = make_trainer(base, tf.distribute.get_strategy(), model, dataset, steps)
    tested = trainer.evaluate(dataset, split, batch_size)
    loss = make_loss(base.optimization, dataset)
    losses = []
    # With batch statistics, which leaves the moving ones as they are.
    variables = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    for images, labels in dataset.train_batches(batch_size, seed=run.seed).take(BATCHES):
        predictions, _ = model.stateless_call(variables, others, images, training=True)
        losses.append(float(loss(labels, predictions)))
    return {
        "seed": run.seed,
        "network": network,
        "epochs": run.metrics["epochs"] + epochs,
        "train_seconds": round(run.metrics["train_seconds"] + seconds, 1),
        "threads": threads_of([run.metrics]),
        "loss_in_training": float(np.mean(losses)),
        "split": split,
        **{f"{split}_{name}": value for name, value in tested.items()},
    }
