"""Subjects of this package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_resnet
from benchmarks.common import LEARNING_RATE, batch, classes_of, noise
from benchmarks.stepwise import Stepwise
from keras_resnet.data import load_dataset
from keras_resnet.data.dataset import ArrayDataset
from keras_resnet.evaluation.predictor import Classifier
from keras_resnet.export import export, export_hub, load_exported
from keras_resnet.training import Trainer, sgd

LOSS = "sparse_categorical_crossentropy"
# File or folder of a form, and how `export` writes it.
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "keras": ("model.keras", {}),
    "hub": ("hub", {}),
    "saved_model": ("saved_model", {"format": "saved_model"}),
    "onnx": ("model.onnx", {"format": "onnx"}),
    "tflite": ("model.tflite", {"format": "litert"}),
    "int8.tflite": ("int8.tflite", {"format": "litert", "quantize": "int8"}),
}


def train(
    network: str,
    batch_size: int,
    image_size: int,
    *,
    bfloat16: bool = False,
    fit: bool = False,
    **options: Any,
) -> Stepwise:
    """Returns a training step of `Trainer`, or with `fit` of Keras's `fit`."""
    if bfloat16:
        keras.config.set_dtype_policy("mixed_bfloat16")
    options |= {"classes": classes_of(image_size), "input_shape": (image_size, image_size, 3)}
    model = getattr(keras_resnet, network)(weights=None, **options)
    names = [str(number) for number in range(options["classes"])]
    dataset = ArrayDataset("noise", {"train": noise(batch_size, image_size)}, names)
    metric = keras.metrics.SparseCategoricalAccuracy("accuracy")
    optimizer, endless = sgd(LEARNING_RATE), 10**6
    if fit:
        model.compile(optimizer, LOSS, metrics=[metric], jit_compile=False)
        batches = dataset.train_batches(batch_size)
        return Stepwise(
            lambda own: model.fit(batches, steps_per_epoch=endless, callbacks=own, verbose=0)
        )
    trainer = Trainer(model, optimizer, LOSS, [metric])
    return Stepwise(
        lambda own: trainer.fit(
            dataset, batch_size, epochs=1, steps_per_epoch=endless, callbacks=own
        )
    )


def build(network: str) -> Callable[[], object]:
    """Returns a step that builds a network."""

    def step() -> None:
        keras.utils.clear_session()
        getattr(keras_resnet, network)(weights=None)

    return step


def write(folder: str, network: str, forms: Sequence[str]) -> None:
    """Writes a network with random weights in several forms."""
    model = getattr(keras_resnet, network)(weights=None, version="v1.5", include_preprocessing=True)
    for form in forms:
        name, options = FORMS[form]
        path = Path(folder, name)
        if form == "keras":
            model.save(path)
        elif form == "hub":
            export_hub(model, path, "classification")
        else:
            calibration = [batch(16)] if "quantize" in options else None
            export(model, path, calibration=calibration, **options)


def infer(folder: str, form: str, batch_size: int = 1, **options: Any) -> Callable[[], object]:
    """Returns a step that gives a batch to a form of a network that `write` has written."""
    model, images = load_exported(Path(folder, FORMS[form][0]), **options), batch(batch_size)
    return lambda: model(images)


def predict(folder: str, batch_size: int) -> Callable[[], object]:
    """Returns a step of what `keras-resnet predict` does with the pixels of a batch."""
    labels = [str(number) for number in range(1000)]
    classifier = Classifier(Path(folder, FORMS["keras"][0]), labels=labels)
    images = batch(batch_size).astype(np.uint8)
    return lambda: classifier.classify(images)


def read(folder: str, batch_size: int) -> Callable[[], object]:
    """Returns a step that reads as many photographs as a folder has, for training."""
    dataset = load_dataset("folder", folder, crop="inception", lighting=0.0, val_split=0.0)
    count = dataset.num_examples("train")
    batches = iter(dataset.train_batches(batch_size))

    def step() -> None:
        for _ in range(count // batch_size):
            next(batches)

    return step
