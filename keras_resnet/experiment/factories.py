"""Network, data, optimizer and trainer that the settings of an experiment name. TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_resnet import models, training
from keras_resnet.architectures import (
    Architecture,
    DenseArchitecture,
)
from keras_resnet.data import ImageDataset, load_dataset
from keras_resnet.experiment.networks import architecture_of
from keras_resnet.experiment.pretrained import with_new_classifier
from keras_resnet.experiment.settings import (
    CROPS_BY_NAME,
    OF_THE_NETWORK,
    Data,
    Experiment,
    Optimization,
    expect_defaults,
)
from keras_resnet.experiment.targets import (
    head,
    make_distillation,
    make_loss,
    make_metrics,
    weights_of_classes,
)
from keras_resnet.network import remembered
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.surgery import stage_rates
from keras_resnet.training.augment import AUGMENTS, check_channels
from keras_resnet.training.trackers import make_trackers
from keras_resnet.utils import checks


def load_data(data: Data) -> ImageDataset:
    """Returns the data set; raises a ValueError as `load_dataset` does."""
    crops = CROPS_BY_NAME.get(data.augment or "", {})
    return load_dataset(data.dataset, data.data_dir, **{**data.options, **crops})


def build_model(experiment: Experiment, dataset: ImageDataset) -> keras.Model:
    """Builds an experiment's network with standardization in front of it.

    That is the data set's, or, where training begins from a trained network (`init`), what that one
    was trained with.

    Args:
        experiment: Settings: network, dropout and the like.
        dataset: Data set: its image shape, classes, mean and standard deviation.

    Returns:
        A model from images in [0, 255], `(batch, H, W, C)`, to probabilities as `head` has them.

    Raises:
        ValueError: If the images are too small for the network, or a setting is wrong.
    """
    model = _build(experiment, dataset)
    if network := remembered(model):
        # Evaluation, and all that the model is used for later, prepare images as this run does.
        own = network.preprocessing or Preprocessing.unchanged(dataset.image_shape[-1])
        prepared = dataset.preprocessing(own)
        model.remember(dataclasses.replace(network, preprocessing=prepared))
    return model


def _build(experiment: Experiment, dataset: ImageDataset) -> keras.Model:
    network, ending = experiment.network, head(experiment.optimization, dataset)
    if network.init is not None and network.init_is_model:
        return with_new_classifier(network.init, dataset.image_shape, *ending)
    architecture = architecture_of(network)
    expect_image_size(architecture, dataset)
    return models.build(
        architecture,
        weights=network.init,
        input_shape=dataset.image_shape,
        classes=ending.outputs,
        classifier_activation=ending.activation,
        # Trained weights bring the standardization that they were trained with.
        include_preprocessing=network.init is not None or dataset.preprocessing(),
        # Those that are off are left out, since not every family has them.
        **{name: value for name in OF_THE_NETWORK if (value := getattr(network, name))},
    )


def expect_image_size(
    architecture: Architecture | DenseArchitecture, dataset: ImageDataset
) -> bool:
    """Returns True, or raises a ValueError if the images are too small for a network."""
    smallest = architecture.stem.smallest_image(len(architecture.repeats))
    if min(dataset.image_shape[:2]) < smallest:
        raise ValueError(
            f"`image_size` must be at least {smallest} for {architecture.name}, as smaller "
            "images leave no pixel on the last feature map. "
            f"Received: images of {dataset.name} of shape {dataset.image_shape}"
        )
    return True


def total_steps(optimization: Optimization, dataset: ImageDataset) -> int:
    """Returns the steps of the whole run on `dataset`."""
    if optimization.steps is not None:
        return optimization.steps
    return optimization.epochs * dataset.steps_per_epoch(optimization.batch_size)


def make_optimizer(
    experiment: Experiment, steps: int, rates: Mapping[str, float] | None = None
) -> keras.optimizers.Optimizer:
    """Returns the optimizer with schedule, warm-up and decay; `rates` are as in `training.SGD`."""
    return optimizer_of(experiment, _learning_rate(experiment, steps), rates)


def optimizer_of(
    experiment: Experiment,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    rates: Mapping[str, float] | None = None,
) -> keras.optimizers.Optimizer:
    """Returns the optimizer with another learning rate than that of the settings."""
    settings = experiment.optimization
    names = ("weight_decay", "decay_norm_and_bias", "clip_norm", "ema")
    common: dict[str, Any] = {name: getattr(settings, name) for name in names}
    common["rates"] = rates
    options: dict[str, Any] = dict(settings.optimizer_options)
    if settings.optimizer == "sgd":
        decay, momentum = settings.kind_of_decay, settings.momentum
        return training.sgd(learning_rate, momentum=momentum, decay=decay, **common, **options)
    return training.make_optimizer(settings.optimizer, learning_rate, options=options, **common)


def monitored(experiment: Experiment, dataset: ImageDataset) -> str | None:
    """Returns the figure that tells better epochs from others, or None where there is none.

    That is where no images are held out to choose by.

    Raises:
        ValueError: If a setting needs it and there are no such images, or no such figure.
    """
    optimization = experiment.optimization
    if "validation" in dataset.splits and experiment.data.validation_split == "validation":
        prefixes = ["", "val_"] if optimization.ema is None else ["", "val_", "ema_val_"]
        if optimization.monitor is None:
            return f"{prefixes[-1]}accuracy"
        metrics = ["loss", *(metric.name for metric in make_metrics(optimization, dataset))]
        figures = [prefix + name for prefix in prefixes for name in metrics]
        return checks.one_of("monitor", optimization.monitor, figures)
    names = ("monitor", "patience", "final_weights")
    why = f"requires validation images, and {dataset.name} has none"
    expect_defaults(optimization, names, why)
    return None


def best_keeper(experiment: Experiment, dataset: ImageDataset) -> training.KeepBest | None:
    """Returns the callback that keeps the best epochs' weights, where that is asked for."""
    monitor, count = monitored(experiment, dataset), experiment.output.keep_best
    return training.KeepBest(monitor, count=count) if monitor and count else None


def _learning_rate(
    experiment: Experiment, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    settings, warmup = experiment.optimization, experiment.optimization.warmup
    if settings.schedule == "plateau":
        return settings.peak_rate
    schedule = training.make_schedule(
        settings.schedule,
        settings.peak_rate,
        total_steps=steps,
        boundaries=sorted({max(1, round(drop * steps)) for drop in settings.drops}),
        warmup_steps=round(settings.warmup_share * steps) if warmup == "linear" else 0,
    )
    if warmup == "auto" and experiment.network.init is None:
        architecture = architecture_of(experiment.network)
        # Those that section 4.2 of the paper warms up.
        if architecture.family == "cifar" and architecture.depth >= 110:
            warmup = "error"
    if warmup == "error":
        return training.ErrorWarmup(schedule, rate=settings.peak_rate / 10)
    return schedule


def make_trainer(
    experiment: Experiment,
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    dataset: ImageDataset,
    steps: int,
) -> training.Trainer:
    """Returns the trainer of what is not frozen in `model`, for so many steps."""
    with strategy.scope():
        optimizer = make_optimizer(experiment, steps, rates_of(experiment, model))
        metrics = make_metrics(experiment.optimization, dataset)
    return training.Trainer(
        model,
        optimizer,
        make_loss(experiment.optimization, dataset),
        metrics,
        **trainer_options(experiment, strategy, dataset),
    )


def rates_of(experiment: Experiment, model: keras.Model) -> dict[str, float] | None:
    """Returns the factors of the learning rate of a model's stages, where `rate_decay` has any."""
    decay = experiment.optimization.rate_decay
    return stage_rates(model, decay) if decay < 1.0 else None


def trainer_options(
    experiment: Experiment, strategy: tf.distribute.Strategy, dataset: ImageDataset
) -> dict[str, Any]:
    """Returns the arguments of `Trainer` by keyword: all that does not belong to a model."""
    devices, optimization = experiment.devices, experiment.optimization
    weighted = optimization.class_weights and not dataset.multi_label
    with strategy.scope():
        distillation = make_distillation(optimization, dataset)
    return {
        "strategy": strategy,
        "steps_per_call": devices.steps_per_call,
        "micro_batches": devices.micro_batches,
        "auto_micro_batches": devices.auto_micro_batches,
        "transform": make_transform(experiment.flat(), dataset),
        "class_weights": weights_of_classes(optimization, dataset) if weighted else None,
        "distillation": distillation,
        "multi_label": dataset.multi_label,
        "jit_compile": devices.jit_compile,
    }


def make_transform(settings: Mapping[str, Any], dataset: ImageDataset) -> training.Mixing | None:
    """Returns what the trainer does to batches on the device, by the settings of a run, if any."""
    mixing = {name: settings.get(name) or 0.0 for name in ("mixup", "cutmix", "rand_augment")}
    augment = settings.get("augment")
    if augment not in AUGMENTS:  # which is one of the data set
        augment = None
    else:
        check_channels(augment, dataset.image_shape[-1])
    if augment is None and not any(mixing.values()):
        return None
    classes, seed = len(dataset.class_names), settings.get("seed", 0)
    return training.Mixing(classes, **mixing, augment=augment, seed=seed)


def fit_options(
    experiment: Experiment,
    dataset: ImageDataset,
    folder: Path,
    *,
    chief: bool = True,
    best: training.KeepBest | None = None,
) -> dict[str, Any]:
    """Returns arguments of `Trainer.fit`: all but how long.

    Metrics and checkpoints go to `folder`, where an interrupted run resumes from; the `chief`
    shows and records the run, and `best` keeps its best weights.
    """
    optimization, output = experiment.optimization, experiment.output
    callbacks: list[keras.callbacks.Callback] = []
    if optimization.schedule == "plateau":
        monitor = "val_accuracy" if "validation" in dataset.splits else "accuracy"
        plateau = keras.callbacks.ReduceLROnPlateau(monitor, 0.1, patience=5, mode="max", verbose=1)
        callbacks.append(plateau)
    # In front of those of the chief alone, so that they have the same places in its checkpoints and
    # on all workers.
    if best is not None:
        callbacks.append(best)
    if optimization.patience is not None:
        figure, patience = monitored(experiment, dataset), optimization.patience
        callbacks.append(keras.callbacks.EarlyStopping(figure, patience=patience))
    if chief:
        callbacks += [training.Progress(), training.MetricsLogger(folder)]
        if training.tensorboard_installed():
            callbacks.append(training.TensorBoardScalars(folder / "tensorboard"))
        callbacks += make_trackers(output.trackers, folder, experiment.flat())
    checkpoints = training.Checkpoints(
        folder / "checkpoints",
        every=output.checkpoint_every,
        keep=output.keep_checkpoints,
        config=experiment.of_the_result(),
    )
    return {
        "dataset": dataset,
        "batch_size": optimization.batch_size,
        "seed": optimization.seed,
        "sampling": optimization.sampling,
        "callbacks": callbacks,
        "checkpoints": checkpoints,
        "validation_split": experiment.data.validation_split,
        "log_every": output.log_every,
    }
