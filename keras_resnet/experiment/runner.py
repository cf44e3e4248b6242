"""One experiment from settings to finished model: train, evaluate, save, read back, compare.

Needs TensorFlow. The recipes are settings of `Experiment` and a call of `run`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import keras
import tensorflow as tf

from keras_resnet import models
from keras_resnet.analysis.counting import complexity
from keras_resnet.analysis.plots import learning_curve, require_matplotlib
from keras_resnet.data import ImageDataset
from keras_resnet.experiment import finish
from keras_resnet.experiment.card import model_card, network_text, versions
from keras_resnet.experiment.pretrained import with_new_classifier
from keras_resnet.experiment.settings import OF_THE_NETWORK, Experiment
from keras_resnet.experiment.workdir import expect_settings, read_object
from keras_resnet.export import HubLayer
from keras_resnet.surgery.freezing import freeze, stage_rates
from keras_resnet.training import (
    Checkpoints,
    MetricsLogger,
    Progress,
    TensorBoardScalars,
    Trainer,
    is_chief,
    layout,
    make_strategy,
    read_epochs,
    set_precision,
    tensorboard_installed,
)
from keras_resnet.training.strategy import any_worker, others_reachable
from keras_resnet.utils.files import clear_leftovers, write_json
from keras_resnet.weights import copy_weights

# Folder of a run that holds what came before the rest of the network was trained.
HEAD = "head"


def run(experiment: Experiment) -> dict[str, object]:
    """Trains, evaluates, saves, reads back and compares; goes on where it was interrupted.

    Writes to `experiment.workdir`: config.json; metrics.csv and metrics.jsonl, a row per logging
    interval and epoch, and the same in tensorboard/ where TensorBoard is installed; checkpoints;
    learning_curve.png, .svg and .csv; model.keras, which takes images in [0, 255] and gives
    probabilities; saved_model and feature_vector, Hub modules that take images in [0, 1] and give
    logits and features; model_card.md; and last metrics.json, whose presence says that the run is
    finished. Of several machines, the first one writes. Where a new classifier was trained alone
    first (`head_epochs`), head/ has its metrics and checkpoints.

    Returns:
        What metrics.json holds: `test_accuracy` (of a data set without test images,
        `validation_accuracy`) and the rest.

    Raises:
        ValueError: If a setting is wrong, or `workdir` holds another run.
        TrainingStopped: If training cannot go on; the message says why.
    """
    workdir = Path(experiment.workdir)
    finished = _finished_metrics(experiment, workdir)
    if finished is not None:
        print(f"{workdir} holds this run, finished: nothing to do.")
        return finished
    with opened(experiment) as (strategy, dataset):
        return _run(experiment, strategy, dataset)


@contextlib.contextmanager
def opened(experiment: Experiment) -> Iterator[tuple[tf.distribute.Strategy, ImageDataset]]:
    """Makes this process ready for an experiment: devices, precision, determinism, data.

    Yields:
        The strategy, and the data set while it is read.

    Raises:
        ValueError: If a setting is wrong.
        ImportError: If matplotlib is missing, which every report in the end is drawn by.
        TrainingStopped: If another worker ended.
    """
    require_matplotlib()
    strategy = make_strategy(
        experiment.strategy,
        gpus=experiment.gpus,
        virtual_devices=experiment.virtual_devices,
        tpu=experiment.tpu,
    )
    layout(strategy, experiment.batch_size)
    if experiment.deterministic:
        tf.config.experimental.enable_op_determinism()
    set_precision(experiment.precision)
    dataset = experiment.load_data()
    with dataset.reading(), others_reachable(strategy):
        yield strategy, dataset


def _run(
    experiment: Experiment, strategy: tf.distribute.Strategy, dataset: ImageDataset
) -> dict[str, object]:
    workdir = Path(experiment.workdir)
    steps = experiment.total_steps(dataset)
    keras.utils.set_random_seed(experiment.seed)
    with strategy.scope():
        model = build_model(experiment, dataset)
    if experiment.jit_compile and _holds_a_module(model):
        raise ValueError(
            "`jit_compile` must be left out where training begins from a Hub module, which XLA "
            f"would compile anew at every step. Received: jit_compile=True with "
            f"init={experiment.init!r}"
        )
    if experiment.recompute_bn and _holds_a_module(model):
        raise ValueError(
            "`recompute_bn` must be False where training begins from a Hub module, whose "
            f"normalisations are its own. Received: recompute_bn=True with init={experiment.init!r}"
        )
    parameters, multiply_adds = _size(model)
    head_steps = experiment.head_epochs * dataset.steps_per_epoch(experiment.batch_size)
    if head_steps:
        freeze(model)
    else:
        _thaw(experiment, model)
    trainer = make_trainer(experiment, strategy, model, dataset, head_steps or steps)
    shape = trainer.layout(experiment.batch_size)
    name, network = _network(experiment, model)
    chief = is_chief(strategy)
    if chief:
        print(
            f"{name}: {parameters:,} parameters, {_operations_text(multiply_adds)}. "
            f"{dataset.name}: {dataset.num_examples('train'):,} training images, {steps:,} steps.\n"
            f"{shape}; learning rate {_rate_text(experiment)}; {experiment.precision}; writing to "
            f"{workdir}"
        )
        clear_leftovers(workdir)
        write_json(workdir / "config.json", dataclasses.asdict(experiment))

    head_seconds = 0.0
    if head_steps:
        fit(experiment, trainer, dataset, head_steps, workdir / HEAD, chief)
        head_seconds = trainer.seconds
        _thaw(experiment, model)
        trainer = make_trainer(experiment, strategy, model, dataset, steps)
    fit(experiment, trainer, dataset, steps, workdir, chief)
    settle_statistics(experiment, trainer, dataset)
    split = "test" if "test" in dataset.splits else "validation"
    measured = trainer.evaluate(dataset, split, experiment.batch_size)
    if strategy.num_replicas_in_sync > 1:
        # What follows is one process's work, and a distributed model would wait for the others.
        single = build_model(experiment, dataset)
        copy_weights(model, single)
        model = single
    if not chief:
        any_worker(strategy, False)  # waits until the first worker is done
        return {f"{split}_{name}": value for name, value in measured.items()}

    epochs = epochs_of(experiment)
    figures = {
        "split": split,
        **{f"{split}_{name}": value for name, value in measured.items()},
        f"{split}_images": trainer.evaluated_images,
        **_last_epoch(epochs),
        "steps": head_steps + steps,
        "train_seconds": round(head_seconds + trainer.seconds, 1),
        "parameters": parameters,
        "multiply_adds": multiply_adds,
        "jit_compile": trainer.jit_compile,
        "seed": experiment.seed,
        "command": shlex.join(["python", *sys.argv]),
        "versions": versions(),
    }
    print(
        f"{split} accuracy {100 * measured['accuracy']:.2f} %, "
        f"{figures['train_seconds']:.0f} s of training"
    )
    learning_curve(
        epochs,
        workdir / "learning_curve.png",
        title=f"{name} on {dataset.name}, seed {experiment.seed}",
        watched=experiment.validation_split,
        final=(split, 1 - measured["accuracy"]),
    )
    card = model_card(name, network, dataset, dataclasses.asdict(experiment), figures)
    figures["reload_difference"] = finish.save(model, dataset, card, experiment)
    if experiment.fine_tune_epochs:
        figures |= finish.fine_tune(
            workdir / "feature_vector",
            dataset,
            split,
            epochs=experiment.fine_tune_epochs,
            batch_size=experiment.batch_size,
            seed=experiment.seed,
        )
    write_json(workdir / "metrics.json", figures)
    any_worker(strategy, False)
    print(f"Everything is in {workdir}: begin with model_card.md and learning_curve.png")
    return figures


def _thaw(experiment: Experiment, model: keras.Model) -> None:
    """Lets all of a finished network train, but for normalisations that are to stay as they are."""
    if experiment.init is not None:
        freeze(model, 0, bn=experiment.freeze_bn)


def make_trainer(
    experiment: Experiment,
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    dataset: ImageDataset,
    steps: int,
) -> Trainer:
    """Returns the trainer of what is not frozen in `model`, for so many steps."""
    rates = stage_rates(model, experiment.rate_decay) if experiment.rate_decay < 1.0 else None
    with strategy.scope():
        optimizer = experiment.optimizer(steps, rates)
        metrics = _metrics(dataset)
    return Trainer(
        model,
        optimizer,
        experiment.loss(),
        metrics,
        strategy=strategy,
        steps_per_call=experiment.steps_per_call,
        micro_batches=experiment.micro_batches,
        transform=experiment.mixing(len(dataset.class_names)),
        jit_compile=experiment.jit_compile,
    )


def settle_statistics(experiment: Experiment, trainer: Trainer, dataset: ImageDataset) -> None:
    """Recomputes the statistics of batch normalisation after training, where they need it."""
    # Averaged weights have no statistics of their own.
    averaged = experiment.ema is not None and not experiment.freeze_bn
    if experiment.recompute_bn or (averaged and not _holds_a_module(trainer.model)):
        trainer.recompute_bn_statistics(dataset, experiment.batch_size, seed=experiment.seed)


def fit(
    experiment: Experiment,
    trainer: Trainer,
    dataset: ImageDataset,
    steps: int,
    folder: Path,
    chief: bool,
) -> None:
    """Trains, with metrics and checkpoints in `folder`; goes on where it was interrupted."""
    trainer.fit(
        dataset,
        experiment.batch_size,
        steps=steps,
        seed=experiment.seed,
        callbacks=[*experiment.callbacks(dataset), *(observers(folder) if chief else [])],
        checkpoints=Checkpoints(
            folder / "checkpoints",
            every=experiment.checkpoint_every,
            config=experiment.of_the_result(),
        ),
        validation_split=experiment.validation_split,
        log_every=experiment.log_every,
    )


def _network(experiment: Experiment, model: keras.Model) -> tuple[str, str]:
    """Returns the name of the network, and what kind of network it is."""
    if experiment.init_is_model:
        return model.name, f"The network of `{experiment.init}` with a classifier of its own"
    architecture = experiment.architecture
    begun = "" if experiment.init is None else f", begun from the weights `{experiment.init}`"
    return architecture.name, network_text(architecture) + begun


def _size(model: keras.Model) -> tuple[int, int | None]:
    """Returns trainable parameters and multiply-adds; None where a Hub module hides these."""
    if _holds_a_module(model):
        return sum(math.prod(weight.shape) for weight in model.trainable_weights), None
    cost = complexity(model)
    return cost.parameters, cost.multiply_adds


def _holds_a_module(model: keras.Model) -> bool:
    return any(isinstance(layer, HubLayer) for layer in model.layers)


def _operations_text(multiply_adds: int | None) -> str:
    if multiply_adds is None:
        return "multiply-adds not known"
    return f"{multiply_adds / 1e6:.3g} million multiply-adds per image"


def epochs_of(experiment: Experiment) -> list[dict[str, float]]:
    """Returns the figures of every epoch; those of the head come first and are counted too."""
    workdir = Path(experiment.workdir)
    head = read_epochs(workdir / HEAD / "metrics.jsonl") if experiment.head_epochs else []
    rest = read_epochs(workdir / "metrics.jsonl")
    return [*head, *({**row, "epoch": len(head) + row["epoch"]} for row in rest)]


def build_model(experiment: Experiment, dataset: ImageDataset) -> keras.Model:
    """Builds an experiment's network with standardisation in front of it.

    That is the data set's, or, where training begins from `experiment.init`, what the finished
    network was trained with.

    Args:
        experiment: Settings: network, dropout and the like.
        dataset: Data set: its image shape, classes, mean and standard deviation.

    Returns:
        A model from images in [0, 255], `(batch, H, W, C)`, to class probabilities.

    Raises:
        ValueError: If the images are too small for the network, or a setting is wrong.
    """
    classes = len(dataset.class_names)
    if experiment.init_is_model:
        return with_new_classifier(experiment.init, dataset.image_shape, classes)
    architecture = experiment.architecture
    smallest = architecture.stem.smallest_image(len(architecture.repeats))
    if min(dataset.image_shape[:2]) < smallest:
        raise ValueError(
            f"`image_size` must be at least {smallest} for {architecture.name}, which halves its "
            f"maps that often. Received: images of {dataset.name} of shape {dataset.image_shape}"
        )
    if experiment.init is not None:
        images = {
            "input_shape": dataset.image_shape,
            "weights": experiment.init,
            "include_preprocessing": True,
        }
    else:
        standardize = keras.layers.Normalization(
            mean=dataset.mean,
            variance=[std**2 for std in dataset.std],
            dtype="float32",
            name="preprocessing",
        )
        images = {"input_tensor": standardize(keras.Input(dataset.image_shape))}
    # Those that are off are left out, since not every family has them.
    options = {name: getattr(experiment, name) for name in OF_THE_NETWORK}
    options = {name: value for name, value in options.items() if value}
    return models.build(architecture, **images, classes=classes, **options)


def observers(workdir: Path) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that show and record the run."""
    callbacks = [Progress(), MetricsLogger(workdir)]
    if tensorboard_installed():
        callbacks.append(TensorBoardScalars(workdir / "tensorboard"))
    return callbacks


def _metrics(dataset: ImageDataset) -> list[keras.metrics.Metric]:
    metrics = [keras.metrics.SparseCategoricalAccuracy("accuracy")]
    # Among ten classes, being one of the best five says little.
    if len(dataset.class_names) > 10:
        metrics.append(keras.metrics.SparseTopKCategoricalAccuracy(5, "top5_accuracy"))
    return metrics


def _rate_text(experiment: Experiment) -> str:
    rate = experiment.peak_rate()
    if experiment.base_batch in (None, experiment.batch_size):
        return f"{rate:g}"
    factor = f"{experiment.batch_size}/{experiment.base_batch}"
    return f"{experiment.learning_rate:g} x {factor} = {rate:g}"


def _last_epoch(epochs: list[Mapping[str, float]]) -> dict[str, float]:
    last = epochs[-1]
    figures = {"epochs": last["epoch"]}
    for name in ("accuracy", "loss", "top5_accuracy"):
        for key, split in ((name, "train"), (f"val_{name}", "val")):
            if key in last:
                figures[f"{split}_{name}"] = last[key]
    return figures


def _finished_metrics(experiment: Experiment, workdir: Path) -> dict[str, object] | None:
    """Returns the metrics of this very run if `workdir` holds it finished, else None."""
    if not expect_settings(workdir / "config.json", experiment.of_the_result(), of="run"):
        return None
    metrics = workdir / "metrics.json"
    if metrics.exists():
        return read_object(metrics)
    if not experiment.resume:
        raise ValueError(
            "`workdir` holds this run, unfinished; leave out --no-resume to go on, or choose a new "
            f"folder. Received: workdir={str(workdir)!r}"
        )
    return None
