"""A shallow net trained, deepened and trained on, against the deep net from scratch. TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from keras_resnet import checks
from keras_resnet.analysis import plots
from keras_resnet.architectures import cifar_architecture
from keras_resnet.data import ImageDataset, load_dataset
from keras_resnet.deepen import deepen
from keras_resnet.experiment.settings import Experiment
from keras_resnet.experiment.study import StudyRun, run_study
from keras_resnet.files import write_json
from keras_resnet.saving import load_model, save_model
from keras_resnet.training import Checkpoints, MetricsLogger, Trainer, read_epochs

# Batches of training images that the statistics and the loss in training mode are taken from.
BATCHES = 8


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
    table.json, a row per seed and net; deepening.png, .svg and .csv, the loss by epoch.

    Args:
        base: Settings of the shallow net, with `depth` given.
        depth: Layers of the deep net, 6n+2.
        seeds: Seeds that every net is trained with.
        more_epochs: Epochs that the deepened net trains on for; default: as many as before.
        jobs: As in `run_study`.

    Returns:
        Rows of `seed`, `network`, `epochs` (all that its weights have seen), `train_seconds`,
        `loss_in_training` (cross-entropy in nats on some training batches, with batch statistics),
        `test_loss`, `test_accuracy`, and for the deepened net `answers_differ` (the largest
        difference of a probability on the test images).

    Raises:
        ValueError: If a setting is wrong, or the deep net is not deeper.
        TrainingStopped: If a run cannot go on.
    """
    more = base.epochs if more_epochs is None else checks.integer("more_epochs", more_epochs)
    blocks = cifar_architecture(depth).repeats
    if base.depth is None or depth <= base.depth:
        raise ValueError(
            f"`depth` must be more than that of the shallow net, {base.depth}. "
            f"Received: depth={depth}"
        )
    deep = dataclasses.replace(base, depth=depth, epochs=base.epochs + more)
    plots.require_matplotlib()
    shallow_name, deep_name = base.architecture.name, deep.architecture.name
    runs = run_study({shallow_name: base, deep_name: deep}, seeds, base.workdir, jobs=jobs)
    by_key = {(run.label, run.seed): run for run in runs}

    dataset = load_dataset(base.dataset, base.data_dir, **base.data_options)
    rows, curves = [], []
    for seed in seeds:
        shallow_run, deep_run = by_key[shallow_name, seed], by_key[deep_name, seed]
        grown, grown_curve = _grow(shallow_run, base, deep, blocks, more, dataset)
        scratch = {
            "network": f"{deep_name} from scratch",
            "epochs": deep.epochs,
            "train_seconds": deep_run.metrics["train_seconds"],
            **_measured(_model(deep_run), base, dataset, seed),
        }
        rows += [{"seed": seed, **row} for row in (*grown, scratch)]
        for network, epochs in (
            (shallow_name, shallow_run.epochs),
            (f"{deep_name}, deepened", grown_curve),
            (f"{deep_name} from scratch", deep_run.epochs),
        ):
            first = base.epochs if epochs is grown_curve else 0
            curves += [
                {
                    "network": network,
                    "seed": seed,
                    "epoch": first + row["epoch"],
                    "loss": row["loss"],
                    "val_accuracy": row.get("val_accuracy"),
                }
                for row in epochs
            ]
    workdir = Path(base.workdir)
    plots.deepening(
        curves,
        workdir / "deepening.png",
        title=f"{shallow_name} deepened to {deep_name} on {dataset.name}, "
        f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}",
    )
    plots.write_table(workdir / "table.csv", rows)
    write_json(workdir / "table.json", {"settings": dataclasses.asdict(base), "rows": rows})
    return rows


def _grow(
    run: StudyRun,
    base: Experiment,
    deep: Experiment,
    blocks: Sequence[int],
    epochs: int,
    dataset: ImageDataset,
) -> tuple[list[dict[str, object]], list[Mapping[str, float]]]:
    """Deepens a trained net and trains on; returns rows of before, between and after, and epochs.

    Goes on where it was interrupted, as the runs of the study do.
    """
    seed = run.seed
    shallow = _model(run)
    keras.utils.set_random_seed(seed)
    images = dataset.train_batches(base.batch_size, seed=seed).take(BATCHES)
    model = deepen(shallow, blocks, images=images)
    answers = [_answers(net, dataset, base.batch_size) for net in (shallow, model)]
    begun = {
        "epochs": run.epochs[-1]["epoch"],
        "train_seconds": run.metrics["train_seconds"],
    }
    rows = [
        {"network": base.architecture.name, **begun, **_measured(shallow, base, dataset, seed)},
        {
            "network": f"{deep.architecture.name}, deepened",
            **begun,
            **_measured(model, base, dataset, seed),
            "answers_differ": float(np.abs(answers[0] - answers[1]).max()),
        },
    ]

    folder = Path(base.workdir) / f"{deep.architecture.name}-deepened-{seed}"
    settings = dataclasses.replace(
        deep, epochs=epochs, learning_rate=base.learning_rate / 10, seed=seed, workdir=str(folder)
    )
    trainer = _trainer(model, settings, dataset)
    trainer.fit(
        dataset,
        base.batch_size,
        steps=settings.total_steps(dataset),
        seed=seed,
        callbacks=[MetricsLogger(folder)],
        checkpoints=Checkpoints(folder / "checkpoints", config=settings.of_the_result()),
        validation_split=base.validation_split,
    )
    save_model(model, folder / "model.keras")
    rows.append(
        {
            "network": f"{deep.architecture.name}, deepened and trained on",
            "epochs": begun["epochs"] + epochs,
            "train_seconds": round(begun["train_seconds"] + trainer.seconds, 1),
            **_measured(model, base, dataset, seed),
        }
    )
    return rows, read_epochs(folder / "metrics.jsonl")


def _model(run: StudyRun) -> keras.Model:
    return load_model(run.workdir / "model.keras")


def _trainer(model: keras.Model, settings: Experiment, dataset: ImageDataset) -> Trainer:
    return Trainer(
        model,
        settings.optimizer(settings.total_steps(dataset)),
        settings.loss(),
        [keras.metrics.SparseCategoricalAccuracy("accuracy")],
        transform=settings.mixing(len(dataset.class_names)),
    )


def _measured(
    model: keras.Model, base: Experiment, dataset: ImageDataset, seed: int
) -> dict[str, float]:
    """Loss in training mode, and loss and accuracy on the test images."""
    split = "test" if "test" in dataset.splits else "validation"
    tested = _trainer(model, base, dataset).evaluate(dataset, split, base.batch_size)
    batches = dataset.train_batches(base.batch_size, seed=seed).take(BATCHES)
    return {
        "loss_in_training": _loss_in_training(model, base.loss(), batches),
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
