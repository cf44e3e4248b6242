"""What the settings of an experiment stand for: network, data, optimizer, trainer. TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import keras
import tensorflow as tf

from keras_resnet import models
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
from keras_resnet.surgery.freezing import stage_rates
from keras_resnet.training import (
    Checkpoints,
    CrossEntropy,
    ErrorWarmup,
    MetricsLogger,
    Mixing,
    Progress,
    TensorBoardScalars,
    Trainer,
    make_schedule,
    sgd,
    tensorboard_installed,
)
from keras_resnet.utils import checks


def architecture_of(network: Network) -> Architecture | DenseArchitecture:
    """Returns the network's line of the table, with those options replaced that were asked for.

    Raises:
        ValueError: If there is no such network.
    """
    own = {"block": network.block, "widening": network.widening}
    own = {name: value for name, value in own.items() if value is not None}
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
    shortcut, version = architecture.shortcut, architecture.version
    gates = architecture.squeeze_excitation
    if network.shortcut is not None:
        checks.one_of("shortcut", network.shortcut, ("A", "B", "C", "none"))
        shortcut = None if network.shortcut == "none" else network.shortcut
    if network.version is not None:
        version = checks.one_of("version", network.version, VERSIONS)
    if network.squeeze_excitation is not None:
        reduction = checks.integer("squeeze_excitation", network.squeeze_excitation, minimum=0)
        gates = reduction or None
    return architecture.variant(shortcut, version, squeeze_excitation=gates)


def load_data(data: Data) -> ImageDataset:
    """Returns the data set.

    Raises:
        ValueError: If there is none of that name, or its files or options are wrong.
    """
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
    if network.init_is_model:
        return with_new_classifier(network.init, dataset.image_shape, classes)
    architecture = architecture_of(network)
    smallest = architecture.stem.smallest_image(len(architecture.repeats))
    if min(dataset.image_shape[:2]) < smallest:
        raise ValueError(
            f"`image_size` must be at least {smallest} for {architecture.name}, which halves its "
            f"maps that often. Received: images of {dataset.name} of shape {dataset.image_shape}"
        )
    # Trained weights bring the standardization that they were trained with.
    own = Preprocessing(tuple(dataset.mean), tuple(dataset.std), dataset.image_shape[0])
    # Those that are off are left out, since not every family has them.
    options = {name: getattr(network, name) for name in OF_THE_NETWORK}
    options = {name: value for name, value in options.items() if value}
    return models.build(
        architecture,
        weights=network.init,
        input_shape=dataset.image_shape,
        classes=classes,
        include_preprocessing=own if network.init is None else True,
        **options,
    )


def total_steps(optimization: Optimization, dataset: ImageDataset) -> int:
    """Returns the steps of the whole run on `dataset`."""
    if optimization.steps is not None:
        return optimization.steps
    return optimization.epochs * dataset.steps_per_epoch(optimization.batch_size)


def make_optimizer(
    experiment: Experiment, steps: int, rates: Mapping[str, float] | None = None
) -> keras.optimizers.Optimizer:
    """Returns SGD with schedule, warm-up and decay for a run of `steps` steps.

    Args:
        experiment: Settings: optimization, and the network, which an "auto" warm-up looks at.
        steps: Steps of the run.
        rates: Factors of the learning rate by layer, as in `training.SGD`.
    """
    settings = experiment.optimization
    if settings.warmup == "auto":
        deep = experiment.network.init is None and _is_deep(architecture_of(experiment.network))
        settings = dataclasses.replace(settings, warmup="error" if deep else "none")
    return sgd(
        _learning_rate(settings, steps),
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        decay=settings.decay,
        decay_norm_and_bias=settings.decay_norm_and_bias,
        clip_norm=settings.clip_norm,
        ema=settings.ema,
        rates=rates,
    )


def make_loss(optimization: Optimization) -> keras.losses.Loss:
    """Returns cross-entropy on the model's probabilities, smoothed as set."""
    return CrossEntropy(label_smoothing=optimization.label_smoothing)


def make_callbacks(experiment: Experiment, dataset: ImageDataset) -> list[keras.callbacks.Callback]:
    """Returns the Keras callbacks that belong to the settings."""
    if experiment.optimization.schedule != "plateau":
        return []
    monitor = "val_accuracy" if "validation" in dataset.splits else "accuracy"
    return [keras.callbacks.ReduceLROnPlateau(monitor, 0.1, patience=5, mode="max", verbose=1)]


def make_trainer(
    experiment: Experiment,
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    dataset: ImageDataset,
    steps: int,
) -> Trainer:
    """Returns the trainer of what is not frozen in `model`, for so many steps."""
    data, devices = experiment.data, experiment.devices
    decay, classes = experiment.optimization.rate_decay, len(dataset.class_names)
    with strategy.scope():
        optimizer = make_optimizer(
            experiment, steps, stage_rates(model, decay) if decay < 1.0 else None
        )
        metrics = [keras.metrics.SparseCategoricalAccuracy("accuracy")]
        # Among ten classes, being one of the best five says little.
        if classes > 10:
            metrics.append(keras.metrics.SparseTopKCategoricalAccuracy(5, "top5_accuracy"))
    transform = None
    if data.mixup or data.cutmix or data.rand_augment:
        transform = Mixing(
            classes,
            mixup=data.mixup,
            cutmix=data.cutmix,
            rand_augment=data.rand_augment,
            seed=experiment.optimization.seed,
        )
    return Trainer(
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
) -> dict[str, object]:
    """Returns arguments of `Trainer.fit`: all but how long.

    Args:
        experiment: The settings.
        dataset: The data.
        folder: Where metrics and checkpoints go, and where an interrupted run resumes from.
        chief: Whether this process shows and records the run.
    """
    return {
        "dataset": dataset,
        "batch_size": experiment.optimization.batch_size,
        "seed": experiment.optimization.seed,
        "callbacks": [
            *make_callbacks(experiment, dataset),
            *(make_observers(folder) if chief else ()),
        ],
        "checkpoints": Checkpoints(
            folder / "checkpoints",
            every=experiment.output.checkpoint_every,
            config=experiment.of_the_result(),
        ),
        "validation_split": experiment.data.validation_split,
        "log_every": experiment.output.log_every,
    }


def make_observers(folder: Path) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that show and record a run."""
    callbacks = [Progress(), MetricsLogger(folder)]
    if tensorboard_installed():
        callbacks.append(TensorBoardScalars(folder / "tensorboard"))
    return callbacks


def _is_deep(architecture: Architecture | DenseArchitecture) -> bool:
    """Whether it is one of those that section 4.2 of the paper warms up."""
    return architecture.family == "cifar" and architecture.depth >= 110


def _learning_rate(
    settings: Optimization, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    if settings.schedule == "plateau":
        return settings.peak_rate
    schedule = make_schedule(
        settings.schedule,
        settings.peak_rate,
        total_steps=steps,
        boundaries=sorted({max(1, round(drop * steps)) for drop in settings.drops}),
        warmup_steps=round(settings.warmup_share * steps) if settings.warmup == "linear" else 0,
    )
    if settings.warmup == "error":
        return ErrorWarmup(schedule, rate=settings.peak_rate / 10)
    return schedule
