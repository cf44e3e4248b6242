"""Finds all that is wrong with an experiment before anything is built or written. TensorFlow.

Settings are checked where they are made, and the rest where it is used. Here the checks that need
no network are called together, so that one start names all that has to be changed.
"""

from __future__ import annotations

import math
import os
from typing import Any

import keras
import tensorflow as tf

from keras_resnet import training
from keras_resnet.architectures import Architecture, DenseArchitecture, find_architecture
from keras_resnet.data import ImageDataset
from keras_resnet.data.npy import IMAGE_CHANNELS
from keras_resnet.experiment.factories import (
    architecture_of,
    expect_image_size,
    load_data,
    monitored,
)
from keras_resnet.experiment.settings import Data, Experiment
from keras_resnet.experiment.targets import expect_targets
from keras_resnet.experiment.workdir import expect_data, expect_folder
from keras_resnet.training.augment import AUGMENTS, check_channels
from keras_resnet.training.strategy import Layout
from keras_resnet.training.trackers import expect_installed
from keras_resnet.utils import checks
from keras_resnet.utils.escapes import is_line
from keras_resnet.utils.remote import is_remote, local_copy


def prepare(
    experiment: Experiment, found: checks.Problems
) -> tuple[tf.distribute.Strategy, ImageDataset]:
    """Returns strategy and data of an experiment in which nothing is wrong that can be known yet.

    Args:
        experiment: The settings.
        found: What is known to be wrong with them already.

    Raises:
        ValueError: If something is wrong; a line for each problem.
    """
    devices = experiment.devices
    named = {name: getattr(devices, name) for name in ("gpus", "virtual_devices", "tpu")}
    strategy = found.note(training.make_strategy, devices.strategy, **named)
    if strategy is None:  # Files and packages are to be those of a machine that has the devices.
        found.expect_none()
    assert strategy is not None
    batch_size = experiment.optimization.batch_size
    layout = found.note(training.layout, strategy, batch_size, devices.micro_batches)
    found.note(_expect_file, experiment.network.init or "")
    dataset = check(experiment, found, layout)
    found.expect_none()
    assert dataset is not None
    return strategy, dataset


def check(
    experiment: Experiment, found: checks.Problems, layout: Layout | None = None
) -> ImageDataset | None:
    """Notes what is wrong with network, data and folder, on the devices of `layout`.

    Returns:
        The data, or None if they cannot be read.
    """
    network, optimization = experiment.network, experiment.optimization
    architecture = None
    if not network.init_is_model:
        architecture = found.note(architecture_of, network)
        if architecture is not None:  # of `depth`, which replaces a `model` that there has to be
            found.note(find_architecture, network.model)
    workdir = found.note(expect_folder, "workdir", experiment.output.workdir)
    dataset = found.note(load_data, experiment.data)
    if dataset is None:
        return None
    found.note(expect_classes, dataset)
    found.note(_expect_split, experiment.data, dataset)
    found.note(_expect_colors, experiment.data, dataset)
    found.note(expect_installed, experiment.output.trackers)
    found.note(expect_targets, optimization, dataset)
    found.note(monitored, experiment, dataset)
    found.note(dataset.steps_per_epoch, optimization.batch_size)
    if workdir is not None:
        found.note(expect_data, workdir, dataset.identity)
    if architecture is not None:
        fits = found.note(expect_image_size, architecture, dataset)
        if fits and layout is not None and not network.freeze_bn:
            found.note(_expect_statistics, experiment, architecture, dataset, layout)
    return dataset


def _expect_file(init: str) -> None:
    if is_remote(init):
        local_copy("init", init)
    elif init.endswith(".keras") and not os.path.isfile(init):
        raise ValueError(f"`init` must be an existing .keras file. Received: init={init!r}")


def expect_classes(dataset: ImageDataset) -> None:
    """Raises a ValueError unless there are two classes, each with a name of one line."""
    names = dataset.class_names
    if len(names) < 2:
        raise ValueError(
            f"`dataset` must have at least two classes. Received: {dataset.name} with {names}"
        )
    wrong = [name for name in names if not is_line(name)]
    if wrong:
        raise ValueError(
            "`class_names` must be text of one line in UTF-8, without control characters. "
            f"Received: {', '.join(map(ascii, wrong[:5]))}"
        )


def _expect_split(data: Data, dataset: ImageDataset) -> None:
    """Raises a ValueError if the test images are asked for and there are none."""
    if data.validation_split == "test" and "test" not in dataset.splits:
        raise ValueError(
            f"`validation_split` must be a split of the data, {', '.join(dataset.splits)}. "
            "Received: validation_split='test'"
        )


def _expect_colors(data: Data, dataset: ImageDataset) -> None:
    """Raises a ValueError if an augmentation of levels or colors is none for these images."""
    channels = dataset.image_shape[-1]
    named: dict[str, Any] = {"rand_augment": data.rand_augment}
    if data.augment in AUGMENTS:
        named["augment"] = data.augment
    for name, value in named.items():
        if value and channels not in IMAGE_CHANNELS:
            raise ValueError(
                f"`{name}` must be left out for images of {channels} channels, whose levels need "
                f"not be in [0, 255]. Received: {name}={value!r}"
            )
        if name == "augment":
            check_channels(value, channels)
        elif value and channels != 3:
            raise ValueError(
                f"`rand_augment` must be 0 for images of {channels} channels: it changes colors. "
                f"Received: rand_augment={value!r}"
            )


def _expect_statistics(
    experiment: Experiment,
    architecture: Architecture | DenseArchitecture,
    dataset: ImageDataset,
    layout: Layout,
) -> None:
    """Raises a ValueError if batch normalization would see one value of a channel at a time.

    Its mean is that value then, and the output is the same for every image.
    """
    reduction = architecture.stem.smallest_image(len(architecture.repeats))
    height, width = (-(-side // reduction) for side in dataset.image_shape[:2])
    _expect_values(experiment, layout, height * width, architecture.name, dataset)


def expect_statistics_of(
    model: keras.Model,
    experiment: Experiment,
    strategy: tf.distribute.Strategy,
    dataset: ImageDataset,
) -> None:
    """Does the same for a model that is not built from the settings alone."""
    if not experiment.network.init_is_model or experiment.network.freeze_bn:
        return
    batch_size, micro_batches = experiment.optimization.batch_size, experiment.devices.micro_batches
    layout = training.layout(strategy, batch_size, micro_batches)
    maps = [
        layer.output.shape[1:-1]
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    smallest = min((math.prod(sides) for sides in maps if None not in sides), default=2)
    _expect_values(experiment, layout, smallest, model.name, dataset)


def _expect_values(
    experiment: Experiment, layout: Layout, pixels: int, network: str, dataset: ImageDataset
) -> None:
    images = layout.replica_batch // experiment.devices.micro_batches
    if experiment.network.synchronized_bn:
        images *= layout.replicas
    if images * pixels == 1:
        raise ValueError(
            "`batch_size` must give each device, and each of its micro-batches, at least two "
            f"images where the last feature map has one pixel, as that of {network} for "
            f"images of {dataset.image_shape}: batch normalization would give every image the same "
            f"output. Received: batch_size={layout.global_batch}"
        )
