"""A trained network fine-tuned as one of 8-bit integers, and its files. Needs TensorFlow."""

from __future__ import annotations

import dataclasses
import functools
import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet import training
from keras_resnet.data import ImageDataset
from keras_resnet.data.order import spread
from keras_resnet.experiment.card import origin
from keras_resnet.experiment.factories import fit_options, make_trainer, total_steps
from keras_resnet.experiment.quantized_forms import FILES, report_forms
from keras_resnet.experiment.runner import (
    begin,
    conclude,
    data_identity,
    finished,
    of_one_process,
    working,
)
from keras_resnet.experiment.settings import QUANTIZED, Experiment
from keras_resnet.experiment.targets import head
from keras_resnet.experiment.workdir import CONFIG, expect_settings
from keras_resnet.export import export
from keras_resnet.export.copies import missing_standardization
from keras_resnet.export.inference import CALIBRATION_IMAGES
from keras_resnet.export.reading import labels_of
from keras_resnet.network import Network, remembered
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.surgery import quantize_aware, rebuild, round_biases
from keras_resnet.surgery.graphs import functional_config, output_activation
from keras_resnet.utils import checks
from keras_resnet.utils.files import write_text
from keras_resnet.utils.terminal import RESULTS
from keras_resnet.weights.beside import LABELS, PREPROCESSING
from keras_resnet.weights.saving import load_model, save_model

logger = logging.getLogger(__name__)

_BATCH = 64


def train_quantized(experiment: Experiment) -> dict[str, Any]:
    """Fine-tunes a trained network with its numbers rounded to 8 bits, and exports it.

    The ranges start from 512 training images. Writes to the experiment's `workdir`: model.keras,
    the network of `surgery.quantize_aware`; model.tflite and model.onnx, integers within; labels,
    metrics and checkpoints as `run` does; with the experiment's `report` also report.html, and in
    table.csv and table.json error and size of the network in float, quantized after its training
    and as trained here; and last metrics.json. Resumes where it was interrupted.

    Args:
        experiment: Settings; `init` is the trained network, a .keras file whose classifier stays.

    Returns:
        The content of metrics.json: `test_accuracy` of the fine-tuned network (or that of the last
        split there is), `float_test_accuracy` of `init`, and for each file its bytes and
        `litert_agreement`, the share of up to 512 test images that it gives the same best class.

    Raises:
        ValueError: If settings or data are wrong, `init` cannot be quantized or is of other
            classes, or `workdir` holds another run.
        ImportError: If a package of the extra `export` is missing.
    """
    workdir, optimization = Path(experiment.output.workdir), experiment.optimization
    own = {**experiment.of_the_result(), **QUANTIZED}
    init = experiment.network.init
    if init is None or not init.endswith(".keras"):
        raise ValueError(
            f"`init` must be the .keras file of a trained network. Received: init={init!r}"
        )
    for module in ("tf2onnx", "onnxruntime", "ai_edge_litert.interpreter"):
        checks.import_extra(module, "files of 8-bit integers", "export")
    expect_own = functools.partial(expect_settings, workdir / CONFIG, own, of="run")
    if expect_own() and (workdir / "metrics.json").exists():
        return finished(experiment, data_identity)
    with working(experiment, expect_own) as (strategy, dataset):
        chief = training.is_chief(strategy)
        steps, split = total_steps(optimization, dataset), dataset.splits[-1]
        with strategy.scope():
            trained = trained_network(init, experiment, dataset)
            model = _quantized(trained, dataset)
        before = make_trainer(experiment, strategy, trained, dataset, steps)
        accuracy = before.evaluate(dataset, split, optimization.batch_size)["accuracy"]
        trainer = make_trainer(experiment, strategy, model, dataset, steps)
        if chief:
            logger.info(f"{trained.name}: {split} accuracy {100 * accuracy:.2f} % before")
            begin(experiment, dataset, QUANTIZED)
        options = fit_options(experiment, dataset, workdir, chief=chief)
        trainer.fit(steps=steps, **options)
        round_biases(model)
        measured = trainer.evaluate(dataset, split, optimization.batch_size)
        figures: dict[str, Any] = {
            "split": split,
            f"float_{split}_accuracy": accuracy,
            **{f"{split}_{name}": value for name, value in measured.items()},
            f"{split}_images": trainer.evaluated_images,
            "steps": trainer.step,
            "train_seconds": round(trainer.seconds, 1),
            "seed": optimization.seed,
            **origin(),
        }
        if chief:
            read = functools.partial(trained_network, init, experiment, dataset)
            model = of_one_process(strategy, model, lambda: _quantized(read(), dataset))
            figures |= _save(model, dataset, workdir, split)
            if experiment.output.report:
                report_forms(workdir, read(), dataset, _some_images(dataset, "train"), figures)
            conclude(workdir, figures, options["callbacks"])
            RESULTS.info(
                f"{split} accuracy {100 * figures[f'{split}_accuracy']:.2f} % in 8 bits. "
                f"Everything is in {workdir}: model.keras, {' and '.join(FILES.values())}"
            )
        return figures


def trained_network(init: str, experiment: Experiment, dataset: ImageDataset) -> keras.Model:
    """Returns the trained network for the images of the data set, which it standardizes itself."""
    model = load_model(init)
    prepared = missing_standardization(model, "init", init)
    if isinstance(model, Network):
        changes: dict[str, Any] = {} if prepared is None else {"include_preprocessing": prepared}
        if model.input_shape[1:] != dataset.image_shape:
            changes["input_shape"] = dataset.image_shape
        model = rebuild(model, **changes) if changes else model
    ending = head(experiment.optimization, dataset)
    names = labels_of(model, Path(init)) or dataset.class_names
    own = (model.input_shape[1:], model.output_shape, output_activation(functional_config(model)))
    if own != (dataset.image_shape, (None, ending.outputs), ending.activation) or (
        tuple(names) != tuple(dataset.class_names)
    ):
        raise ValueError(
            "`init` must be trained on the images and classes of the data set: "
            f"{dataset.image_shape} to {ending.outputs} outputs of {ending.activation}. Received: "
            f"init={init!r}, of {own[0]} to {own[1][1:]} of {own[2]}"
            + ("" if tuple(names) == tuple(dataset.class_names) else ", with other class names")
        )
    return model


def _quantized(trained: keras.Model, dataset: ImageDataset) -> keras.Model:
    """Returns the network to fine-tune, which prepares images as the data set does."""
    network, numbers = remembered(trained), Preprocessing.unchanged(dataset.image_shape[-1])
    prepared = dataset.preprocessing(network and network.preprocessing or numbers)
    if prepared.bits != 8:
        raise ValueError(
            "`bits` must be 8, of image files that are no .npy files, since pixels become integers "
            f"in [0, 255]. Received: the images of {dataset.name!r}, whose levels have fractions"
        )
    model = quantize_aware(trained, _some_images(dataset, "train"))
    if network:
        network = dataclasses.replace(network, preprocessing=prepared)
        model.remember(network.with_class_names(list(dataset.class_names)))
    return model


def _some_images(dataset: ImageDataset, split: str) -> list[np.ndarray]:
    """Returns batches of images spread over a split, 512 of them where there are so many."""
    # Splits are often sorted by class: the first images would be those of the first classes.
    places = spread(dataset.num_examples(split), CALIBRATION_IMAGES)
    images, readable = dataset.images_at(split, places)
    images = images[readable].astype("float32")
    return [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]


def _save(
    model: keras.Model, dataset: ImageDataset, workdir: Path, split: str
) -> dict[str, float | int]:
    """Writes model.keras, labels, and the files of integers; returns what there is to tell."""
    labels = list(dataset.class_names)
    prepared = None
    if not remembered(model):  # which cannot hold it
        prepared = dataset.preprocessing(Preprocessing.unchanged(dataset.image_shape[-1]))
        write_text(workdir / PREPROCESSING, prepared.to_json())
    write_text(workdir / LABELS, "".join(f"{label}\n" for label in labels))
    save_model(model, workdir / "model.keras")
    figures: dict[str, float | int] = {}
    images = _some_images(dataset, split)
    for format, name in FILES.items():
        written = export(
            model,
            workdir / name,
            format,
            quantize="int8",
            calibration=images,
            preprocessing=prepared or "inside",
            labels=labels,
            overwrite=True,
        )
        figures[f"{format}_agreement"] = written.agreement
        figures[f"{format}_bytes"] = written.bytes
    return figures
