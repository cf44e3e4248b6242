"""Files of an evaluation, of each class and image. Needs TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path

from keras_resnet.analysis import plots
from keras_resnet.evaluation import (
    Evaluation,
    MultiLabelEvaluation,
    calibration_error,
    reliability,
)
from keras_resnet.utils.tables import write_table


def write_evaluation(
    result: Evaluation | MultiLabelEvaluation,
    workdir: str | os.PathLike,
    title: str,
    table: str = "csv",
) -> dict[str, float]:
    """Writes what an evaluation tells of each class and image, as tables and plots.

    These are per_class, confusion and reliability, of which the latter needs probabilities, and
    predictions. Labels that do not exclude each other have the tables only.

    Args:
        result: The evaluation.
        workdir: Folder to write to.
        title: Title of the plots.
        table: Format of predictions: "csv", "json" or "parquet".

    Returns:
        `calibration_error`, in [0, 1], where there are probabilities.
    """
    workdir = Path(workdir)
    write_table(workdir / f"predictions.{table}", result.predictions())
    if not isinstance(result, Evaluation):
        write_table(workdir / "per_class.csv", result.per_class())
        return {}
    names = result.class_names
    plots.confusion_matrix(result.confusion, names, workdir / "confusion.png", title=title)
    plots.class_errors(result.per_class(), workdir / "per_class.png", title=title)
    if result.average != "softmax":
        return {}
    hits = result.ranking[:, 0] == result.labels
    error = calibration_error(result.scores, hits)
    rows = reliability(result.scores, hits)
    curves = {" + ".join(Path(name).name for name in result.models): rows}
    title += f", expected calibration error {100 * error:.2f} %"
    plots.reliability_diagram(curves, workdir / "reliability.png", title=title)
    return {"calibration_error": error}
