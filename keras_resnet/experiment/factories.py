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
    VERSIONS,
    Architecture,
    DenseArchitecture,
    cifar_architecture,
    find_architecture,
)
from keras_resnet.data import ImageDataset, load_dataset
from keras_resnet.experiment.pretrained import with_new_classifier
from keras_resnet.experiment.settings import (
    OF_THE_NETWORK,
    Data,
    Experiment,
    Network,
    Optimization,
    expect_defaults,
)
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.surgery import stage_rates
from keras_resnet.utils import checks


def architecture_of(network: Network) -> Architecture | DenseArchitecture:
    """Returns the network's entry of the table, with those options replaced that were asked for."""
    own: dict[str, Any] = {"block": network.block, "widening": network.widening}
    own = {name: value for name, value in own.items() if value is not None}
    architecture: Architecture | DenseArchitecture
    if network.depth is not None:
        architecture = cifar_architecture(network.depth, **own)
    else:
        expect_defaults(network, tuple(own), "goes with `depth`; a named network has its own")
        architecture = find_architecture(network.model)
    if isinstance(architecture, DenseArchitecture):
        expect_defaults(
            network,
            (
                *("shortcut", "version", "squeeze_excitation"),
                *("stochastic_depth", "zero_init_residual"),
            ),
            f"must be left out for {architecture.name}, which has no residual blocks",
        )
        return architecture
    options: dict[str, Any] = {"shortcut": architecture.shortcut, "version": architecture.version}
    if network.shortcut is not None:
        checks.one_of("shortcut", network.shortcut, ("A", "B", "C", "none"))
        options["shortcut"] = None if network.shortcut == "none" else network.shortcut
    if network.version is not None:
        options["version"] = checks.one_of("version", network.version, VERSIONS)
    if network.squeeze_excitation is not None:
        reduction = checks.integer("squeeze_excitation", network.squeeze_excitation, minimum=0)
        options["squeeze_excitation"] = reduction or None
    return architecture.variant(**options)


def load_data(data: Data) -> ImageDataset:
    """Returns the data set; raises a ValueError as `load_dataset` does."""
    return load_dataset(data.dataset, data.data_dir, **data.data_options)


def build_model(experiment: Experiment, dataset: ImageDataset) -> keras.Model:
    """Builds an experiment's network with standardization in front of it.

    That is the data set's, or, where training begins from a trained network (`init`), what that one
    was trained with.

    Args:
        experiment: Settings: network, dropout and the like.
        dataset: Data set: its image shape, classes, mean and standard deviation.

    Returns:
        A model from images in [0, 255], `(batch, H, W, C)`, to class probabilities.

    Raises:
        ValueError: If the images are too small for the network, or a setting is wrong.
    """
    network, classes = experiment.network, len(dataset.class_names)
    if network.init is not None and network.init_is_model:
        return with_new_classifier(network.init, dataset.image_shape, classes)
    architecture = architecture_of(network)
    smallest = architecture.stem.smallest_image(len(architecture.repeats))
    if min(dataset.image_shape[:2]) < smallest:
        raise ValueError(
            f"`image_size` must be at least {smallest} for {architecture.name}, as smaller "
            "images leave no pixel on the last feature map. "
            f"Received: images of {dataset.name} of shape {dataset.image_shape}"
        )
    # One number for each channel, however many there are.
    mean: Any = tuple(dataset.mean)
    std: Any = tuple(dataset.std)
    # Those that are off are left out, since not every family has them.
    options = {name: getattr(network, name) for name in OF_THE_NETWORK}
    return models.build(
        architecture,
        weights=network.init,
        input_shape=dataset.image_shape,
        classes=classes,
        # Trained weights bring the standardization that they were trained with.
        include_preprocessing=network.init is not None
        or Preprocessing(mean, std, dataset.image_shape[0]),
        **{name: value for name, value in options.items() if value},
    )


def total_steps(optimization: Optimization, dataset: ImageDataset) -> int:
    """Returns the steps of the whole run on `dataset`."""
    if optimization.steps is not None:
        return optimization.steps
    return optimization.epochs * dataset.steps_per_epoch(optimization.batch_size)


def make_optimizer(
    experiment: Experiment, steps: int, rates: Mapping[str, float] | None = None
) -> keras.optimizers.Optimizer:
    """Returns SGD with schedule, warm-up and decay; `rates` are as in `training.SGD`."""
    settings = experiment.optimization
    if settings.warmup == "auto":
        deep = False
        if experiment.network.init is None:
            architecture = architecture_of(experiment.network)
            # Those that section 4.2 of the paper warms up.
            deep = architecture.family == "cifar" and architecture.depth >= 110
        settings = dataclasses.replace(settings, warmup="error" if deep else "none")
    return training.sgd(
        _learning_rate(settings, steps),
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        decay=settings.decay,
        decay_norm_and_bias=settings.decay_norm_and_bias,
        clip_norm=settings.clip_norm,
        ema=settings.ema,
        rates=rates,
    )


def _learning_rate(
    settings: Optimization, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    if settings.schedule == "plateau":
        return settings.peak_rate
    schedule = training.make_schedule(
        settings.schedule,
        settings.peak_rate,
        total_steps=steps,
        boundaries=sorted({max(1, round(drop * steps)) for drop in settings.drops}),
        warmup_steps=round(settings.warmup_share * steps) if settings.warmup == "linear" else 0,
    )
    if settings.warmup == "error":
        return training.ErrorWarmup(schedule, rate=settings.peak_rate / 10)
    return schedule


def make_loss(optimization: Optimization) -> keras.losses.Loss:
    """Returns cross-entropy on the model's probabilities, smoothed as set."""
    return training.CrossEntropy(label_smoothing=optimization.label_smoothing)


def make_trainer(
    experiment: Experiment,
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    dataset: ImageDataset,
    steps: int,
) -> training.Trainer:
    """Returns the trainer of what is not frozen in `model`, for so many steps."""
    data, devices = experiment.data, experiment.devices
    decay, classes = experiment.optimization.rate_decay, len(dataset.class_names)
    with strategy.scope():
        rates = stage_rates(model, decay) if decay < 1.0 else None
        optimizer = make_optimizer(experiment, steps, rates)
        metrics = [keras.metrics.SparseCategoricalAccuracy("accuracy")]
        # Among ten classes, being one of the best five says little.
        if classes > 10:
            metrics.append(keras.metrics.SparseTopKCategoricalAccuracy(5, "top5_accuracy"))
    transform = None
    if data.mixup or data.cutmix or data.rand_augment:
        transform = training.Mixing(
            classes,
            mixup=data.mixup,
            cutmix=data.cutmix,
            rand_augment=data.rand_augment,
            seed=experiment.optimization.seed,
        )
    return training.Trainer(
        model,
        optimizer,
        make_loss(experiment.optimization),
        metrics,
        strategy=strategy,
        steps_per_call=devices.steps_per_call,
        micro_batches=devices.micro_batches,
        transform=transform,
        jit_compile=devices.jit_compile,
    )


def fit_options(
    experiment: Experiment, dataset: ImageDataset, folder: Path, *, chief: bool = True
) -> dict[str, Any]:
    """Returns arguments of `Trainer.fit`: all but how long.

    Metrics and checkpoints go to `folder`, where an interrupted run resumes from; the `chief`
    shows and records the run.
    """
    callbacks = make_observers(folder) if chief else []
    if experiment.optimization.schedule == "plateau":
        monitor = "val_accuracy" if "validation" in dataset.splits else "accuracy"
        plateau = keras.callbacks.ReduceLROnPlateau(monitor, 0.1, patience=5, mode="max", verbose=1)
        callbacks.insert(0, plateau)
    return {
        "dataset": dataset,
        "batch_size": experiment.optimization.batch_size,
        "seed": experiment.optimization.seed,
        "callbacks": callbacks,
        "checkpoints": training.Checkpoints(
            folder / "checkpoints",
            every=experiment.output.checkpoint_every,
            config=experiment.of_the_result(),
        ),
        "validation_split": experiment.data.validation_split,
        "log_every": experiment.output.log_every,
    }


def make_observers(folder: Path) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that show and record a run."""
    callbacks = [training.Progress(), training.MetricsLogger(folder)]
    if training.tensorboard_installed():
        callbacks.append(training.TensorBoardScalars(folder / "tensorboard"))
    return callbacks
