"""The networks, objects and training run behind the stored files. Imports public paths only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np

import keras_resnet
from keras_resnet.data import ArrayDataset
from keras_resnet.training import Checkpoints, CrossEntropy, ErrorWarmup, LinearWarmup, Trainer, sgd
from tests import helpers

STORED = Path(__file__).parent / "stored"
CLASSES = 3
LABELS = ("one", "two", "three")
BATCH = 8
# Steps of the stored checkpoint, and of the run that goes on from it.
SAVED_STEP, LAST_STEP = 3, 5
# Blocks and widths of the stacked network.
UNROLLED = (3, 2), (4, 8)


def resnet8(**options) -> keras.Model:
    """The smallest of the paper's CIFAR networks."""
    return keras_resnet.CifarResNet(8, input_shape=(8, 8, 1), classes=CLASSES, **options)


def narrow(blocks=(1, 1, 1), widths=(4, 8, 16), **options) -> keras.Model:
    """A CIFAR network of a quarter of the paper's widths, for small files."""
    if "input_tensor" not in options:
        options = {"input_shape": (8, 8, 1), **options}
    return keras_resnet.ResNet(
        blocks,
        widths=widths,
        classes=CLASSES,
        **{"block": "basic", "shortcut": "A", "stem": "cifar", **options},
    )


def stacked() -> keras.Model:
    """Loops over blocks, with a penalty on their kernels."""
    penalty = keras.regularizers.L2(1e-4)
    return narrow(*UNROLLED, stack_blocks=True, kernel_regularizer=penalty)


def with_options() -> keras.Model:
    """Every layer of ours that `resnet8` and `stacked` lack."""
    return narrow(
        (1, 1),
        (8, 16),
        block="bottleneck",
        shortcut="B",
        input_shape=(8, 8, 3),
        squeeze_excitation=4,
        deep_stem=True,
        shortcut_pool=True,
        activation="silu",
        normalization="group",
        dropout=0.1,
        stochastic_depth=0.2,
        include_preprocessing=True,
    )


def dilated_maps() -> keras.Model:
    """A `Backbone` with dilated convolutions and pools."""
    net = keras_resnet.DenseNet(
        (1, 1), input_shape=(8, 8, 3), classes=CLASSES, growth_rate=4, stem="cifar"
    )
    return keras_resnet.backbone(net, output_stride=1)


def standardizing() -> keras.Model:
    """Takes images in [0, 255], as a module's network has to."""
    images = keras.Input((8, 8, 1))
    standardized = keras.layers.Rescaling(1 / 127.5, -1.0, name="standardize")(images)
    return narrow(input_tensor=standardized)


def tuned() -> keras.Model:
    """One of ours with layers of the caller's behind it, Keras's own normalization among them."""
    sizes = {"include_top": False, "pooling": "avg", "input_shape": (8, 8, 1)}
    base = keras_resnet.ResNet((1,), block="basic", widths=(2,), stem="cifar", **sizes)
    x = keras.layers.BatchNormalization(name="head_bn")(base.output)
    return keras.Model(base.input, keras.layers.Dense(CLASSES, name="head")(x), name="tuned")


# Files that a whole model is read from.
MODELS: dict[str, Callable[[], keras.Model]] = {
    "model": resnet8,
    "stacked": stacked,
    "options": with_options,
    "maps": dilated_maps,
    "tuned": tuned,
}


def randomize(model: keras.Model) -> keras.Model:
    """Gives scales, offsets and statistics values that show when one is lost; returns the model."""
    helpers.randomize(model, seed=1, gamma=(0.8, 1.6))
    return model


def outputs(model: Callable, images: np.ndarray) -> np.ndarray:
    """Returns what a model gives in inference; several maps are put one behind the other."""
    given = model(images, training=False)
    if isinstance(given, Mapping):
        maps = [np.asarray(given[name]) for name in sorted(given)]
        return np.concatenate([part.reshape(len(images), -1) for part in maps], axis=1)
    return np.asarray(given)


def draw_images(channels: int) -> np.ndarray:
    """Draws noise in [-1, 1] of rising brightness and falling contrast, so that outputs differ."""
    noise = np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, channels))
    brightness, contrast = np.array([(-0.7, 0.3), (0.0, 1.0), (0.3, 0.5), (0.8, 0.2)]).T
    images = noise * contrast[:, None, None, None] + brightness[:, None, None, None]
    return images.astype("float32")


def images_for(model: keras.Model, expected: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the stored images as the model takes them."""
    images = expected["rgb" if model.inputs[0].shape[-1] == 3 else "grey"]
    inside = any(layer.name == "preprocessing" for layer in model.layers)
    return (images + 1) * 127.5 if inside else images


def dataset(images: np.ndarray, labels: np.ndarray) -> ArrayDataset:
    """A training split alone, of four batches."""
    return ArrayDataset("snapshot", {"train": (images, labels)}, LABELS)


def train(data: ArrayDataset, steps: int, folder: Path, callbacks=()) -> Trainer:
    """Trains the narrow network to a step, going on from the checkpoint in `folder`."""
    keras.utils.set_random_seed(0)
    trainer = Trainer(
        narrow(),
        sgd(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(),
        [keras.metrics.SparseCategoricalAccuracy("accuracy")],
    )
    checkpoints = Checkpoints(folder, every=SAVED_STEP, config={"model": "narrow"})
    trainer.fit(data, BATCH, steps=steps, checkpoints=checkpoints, callbacks=list(callbacks))
    return trainer


def _schedule() -> keras.optimizers.schedules.LearningRateSchedule:
    return keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)


# What Keras finds by its registered name in files of compiled models.
REGISTERED: dict[str, Callable[[], object]] = {
    "SGD": lambda: sgd(0.05, nesterov=True),
    "LinearWarmup": lambda: LinearWarmup(_schedule(), 5),
    "ErrorWarmup": lambda: ErrorWarmup(_schedule(), 0.01),
    "CrossEntropy": lambda: CrossEntropy(label_smoothing=0.1),
}
