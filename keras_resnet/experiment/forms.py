"""A network in every form that it runs in: written, opened, and timed side by side. TensorFlow."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.analysis.defaults import FORMS, ROUNDS
from keras_resnet.analysis.networks import closed_shape
from keras_resnet.analysis.timing import summarize, take_turns
from keras_resnet.export import ExportedModel, export, load_exported
from keras_resnet.export.copies import image_network
from keras_resnet.export.reading import open_network, output_name
from keras_resnet.preprocessing import Preprocessing, Size, checked_size
from keras_resnet.utils import checks

logger = logging.getLogger(__name__)

# Name of the file or folder, and the format of `export`.
EXPORTED = {
    "saved_model": ("saved_model", "saved_model"),
    "tflite": ("model.tflite", "litert"),
    "onnx": ("model.onnx", "onnx"),
}


def open_forms(
    model: keras.Model,
    folder: str | Path,
    forms: Sequence[str] = FORMS,
    *,
    preprocessing: str | Preprocessing = "inside",
    image_size: Size | str | None = None,
) -> dict[str, ExportedModel]:
    """Returns a network in several forms, all of which take images in [0, 255].

    Args:
        model: A network of images, as for `export`.
        folder: Where those that are files are written.
        forms: Some of "keras", which is the network in this process, "saved_model", "tflite" and
            "onnx".
        preprocessing: As for `export`.
        image_size: Size of the images, which "tflite" needs of a model of any size.

    Raises:
        ValueError: If an argument is wrong, or the network cannot be exported.
        ImportError: If a package of the extra `export` is missing.
    """
    for form in forms:
        checks.one_of("forms", form, FORMS)
    checks.different("forms", forms, "forms")
    opened = {}
    for form in forms:
        if form == "keras":
            network, _ = image_network(model, preprocessing)
            path = Path(f"{model.name}.keras")
            opened[form] = open_network(network, path, output_name(network), None, None)
            continue
        name, kind = EXPORTED[form]
        path = Path(folder, name)
        export(model, path, kind, preprocessing=preprocessing, image_size=image_size)
        opened[form] = load_exported(path)
        logger.info(f"{form}: written and verified")
    return opened


def time_forms(
    forms: Mapping[str, ExportedModel],
    batch_sizes: Sequence[int],
    *,
    image_size: Size | str = 224,
    trained: keras.Model | None = None,
    rounds: int = ROUNDS,
) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows of `analysis.timing.summarize` for each batch size.

    Args:
        forms: Networks by name, which take turns; ratios are to the first.
        batch_sizes: Images of a step.
        image_size: Size of the images where a network takes any.
        trained: A classifier whose training step by Keras, with SGD and momentum, takes turns too.
            It is compiled and trained on noise.
        rounds: Steps of each, at least 3.

    Raises:
        ValueError: If an argument is wrong.
    """
    size = checked_size("image_size", image_size)
    for batch_size in batch_sizes:
        checks.integer("batch_size", batch_size)
    checks.different("batch_size", batch_sizes, "sizes")
    if trained is not None:
        if len(trained.output_shape) != 2:
            raise ValueError(
                "`train` is for a model that ends in class scores. "
                f"Received: a model with outputs {trained.output_shape}"
            )
        # A learning rate that leaves the weights finite: other numbers could take other times.
        optimizer = keras.optimizers.SGD(1e-6, momentum=0.9)
        trained.compile(optimizer, "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    for batch_size in batch_sizes:
        steps: dict[str, Callable[[], object]] = {}
        for name, form in forms.items():
            shape = closed_shape(form.image_shape, size)
            images = rng.uniform(0, 255, (batch_size, *shape)).astype("float32")
            steps[name] = functools.partial(form, images)
        if trained is not None:
            labels = rng.integers(0, trained.output_shape[-1], batch_size)
            steps["keras, training step"] = functools.partial(
                trained.train_on_batch, images, labels
            )
        yield summarize(take_turns(steps, rounds), batch_size)
