"""Networks as LiteRT files (.tflite), of built-in operations only, and their labels inside.

Needs TensorFlow, whose converter writes them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert import ConverterError

from keras_resnet.export.saved_model import LABELS, write_saved_model
from keras_resnet.utils.checks import first_line

QUANTIZATIONS = ("float32", "float16", "int8")


def write_litert(
    serve: Callable,
    path: Path,
    *,
    net: keras.Model,
    labels: str | None,
    quantize: str,
    images: np.ndarray | None,
) -> None:
    """Writes a .tflite file of a traced function.

    Args:
        serve: `tf.function` with one input signature, which returns a dict.
        path: The file. Beside it a SavedModel is written, to be converted.
        net: The model that `serve` calls.
        labels: Text of the labels file, or None.
        quantize: "float32", "float16" or "int8".
        images: Calibration images for "int8".

    Raises:
        ValueError: If the model needs operations that are not LiteRT's own.
    """
    # By way of a SavedModel, which gives inputs and outputs their names.
    folder = path.with_name("saved_model")
    write_saved_model(serve, folder, net=net)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder), signature_keys=["serving_default"]
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantize != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image[None]] for image in images)
    try:
        data = converter.convert()
    except ConverterError as error:
        raise ValueError(
            "`model` must consist of operations that LiteRT has built in. "
            f"Received: model {net.name!r} ({first_line(error)})"
        ) from error
    if custom := custom_operations(data):
        raise RuntimeError(
            "`model` must consist of operations that LiteRT has built in. "
            f"Received: model {net.name!r} ({', '.join(custom)})"
        )
    path.write_bytes(data)
    if labels is not None:
        # TensorFlow Lite's "associated files": an archive behind what readers of the model see.
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(LABELS, labels)


def custom_operations(data: bytes) -> list[str]:
    """Returns the names of a file's operations that are not built in, such as FlexErf."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.Model.GetRootAs(bytearray(data), 0)
    codes = (model.OperatorCodes(i) for i in range(model.OperatorCodesLength()))
    return sorted(code.CustomCode().decode() for code in codes if code.CustomCode())
