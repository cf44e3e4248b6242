"""A network in float and in 8-bit integers side by side, on a page. Needs TensorFlow, `export`."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.data import ImageDataset
from keras_resnet.evaluation import (
    Evaluation,
    MultiLabelEvaluation,
    compare_on_images,
    evaluate,
)
from keras_resnet.experiment.page import write_report
from keras_resnet.experiment.reports import write_rows
from keras_resnet.export import export, load_exported
from keras_resnet.export.mismatch import ExportMismatchError
from keras_resnet.utils.statistics import wilson_interval

# What is written of the network of integers, by format.
FILES = {"litert": "model.tflite", "onnx": "model.onnx"}

Row = dict[str, Any]

logger = logging.getLogger(__name__)


def report_forms(
    workdir: Path,
    trained: keras.Model,
    dataset: ImageDataset,
    calibration: Sequence[np.ndarray],
    figures: Mapping[str, Any],
) -> list[Row]:
    """Writes table.csv, table.json and report.html, which compare three LiteRT files.

    All three are evaluated on the last split: the trained network in float, the same with its
    numbers rounded after training, and `model.tflite` of `workdir`, trained with rounded numbers.

    Args:
        workdir: Folder of a run of `train_quantized`.
        trained: The network that the run began from.
        dataset: Its data.
        calibration: Batches of images that the ranges of the second file are measured on.
        figures: Content of metrics.json.

    Returns:
        A row for each file, but the second one where its outputs are none of the network's. It has
        `form`, `error`, `difference` from the error in float, `bytes`, the 95 % intervals
        `error_low`, `error_high`, `difference_low` and `difference_high`, and `p_value`. With
        several labels an image is an error unless all are right, and the difference has no
        interval.
    """
    rows: list[Row] = []
    results: list[Evaluation | MultiLabelEvaluation] = []
    with tempfile.TemporaryDirectory() as folder:
        single, rounded = Path(folder, "float.tflite"), Path(folder, "integers.tflite")
        export(trained, single, "litert")
        forms = {"float": single, "int8, post-training": rounded}
        forms["int8, trained"] = workdir / FILES["litert"]
        try:
            export(trained, rounded, "litert", quantize="int8", calibration=calibration)
        except ExportMismatchError as error:  # which training with rounded numbers is to mend
            logger.warning(f"report.html is without int8, post-training: {error}")
            del forms["int8, post-training"]
        for form, path in forms.items():
            model = load_exported(path)
            results.append(evaluate(model, dataset, split=figures["split"], names=[form]))
            rows.append(_row(form, path.stat().st_size, results[-1], results[0]))
    count = results[0].count
    caption = f"LiteRT files of the network, on the same {count:,} {figures['split']} images"
    text = (
        "Error: share of the images that are classified wrongly. Difference: from the error in "
        "float, so that a negative one is a gain. Low and high are the ends of 95 % intervals; the "
        "p-value is that of McNemar's exact test."
    )
    write_rows(workdir, rows, caption=caption, text=text)
    title = f"{trained.name} in 8-bit integers on {dataset.name}"
    write_report(workdir, title=title, metrics=figures, dataset=dataset, result=results[-1])
    return rows


def _row(
    form: str,
    size: int,
    result: Evaluation | MultiLabelEvaluation,
    first: Evaluation | MultiLabelEvaluation,
) -> Row:
    error = _error(result)
    row: Row = {"form": form, "error": error, "difference": None, "bytes": size}
    row["error_low"], row["error_high"] = wilson_interval(error, result.count)
    if result is first:
        return row
    row["difference"] = error - _error(first)
    if isinstance(result, Evaluation) and isinstance(first, Evaluation):
        pair = compare_on_images(result, first)
        row["difference_low"], row["difference_high"] = pair.interval_95
        row["p_value"] = pair.p_value
    return row


def _error(result: Evaluation | MultiLabelEvaluation) -> float:
    """Returns the share of the images of which not all is right."""
    return result.top1_error if isinstance(result, Evaluation) else 1 - result.subset_accuracy
