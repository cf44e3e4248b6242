"""Networks as plain SavedModels, and their labels inside. Needs TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

LABELS = "labels.txt"


def write_saved_model(
    serve: Callable, path: Path, *, net: keras.Model, labels: str | None = None, **given
) -> None:
    """Writes a SavedModel with one signature, "serving_default".

    Args:
        serve: `tf.function` with one input signature, which returns a dict.
        path: The directory. Beside it the labels are written, for TensorFlow to copy.
        net: The model that `serve` calls.
        labels: Text of the labels file, or None.
        **given: What other formats need.
    """
    module = tf.Module()
    module.tracked = [variable.value for variable in net.variables]
    if labels is not None:
        asset = path.with_name(LABELS)
        asset.write_text(labels, encoding="utf-8")
        module.labels = tf.saved_model.Asset(str(asset))
    tf.saved_model.save(module, str(path), {"serving_default": serve})
