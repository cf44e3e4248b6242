"""The metrics of a trainer: which it takes, how they are read, what callbacks know of them.

TensorFlow only.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.training.strategy import check_scope
from keras_resnet.utils import private


def check_metrics(metrics: Sequence, strategy: tf.distribute.Strategy) -> None:
    """Raises a ValueError for what is no Keras metric made under the strategy's scope."""
    for metric in metrics:
        if not isinstance(metric, keras.metrics.Metric):
            raise ValueError(
                "`metrics` must be objects, such as keras.metrics.SparseCategoricalAccuracy(). "
                f"Received: {metric!r}"
            )
        check_scope("metrics", metric.variables, strategy)


def build_metrics(metrics: Sequence[keras.metrics.Metric], model: keras.Model) -> None:
    """Makes the variables of metrics, such as F1Score, that make them at their first update.

    Within a replica, or after a checkpoint was read, it would be too late.
    """
    labels = keras.KerasTensor((None,), "int32")
    predictions = keras.KerasTensor(model.output_shape, "float32")
    for metric in metrics:
        if not metric.variables:
            private.compute_output_spec(metric.update_state, labels, predictions)


def read_metrics(metrics: Sequence[keras.metrics.Metric]) -> dict[str, float]:
    """Reads metrics over all replicas; one whose result is a dict gives all its entries.

    Raises:
        ValueError: A result that is not a single number.
    """
    results = {}
    for metric in metrics:
        result = metric.result()
        results |= result if isinstance(result, dict) else {metric.name: result}
    return {name: _number(name, result) for name, result in results.items()}


def reset_metrics(metrics: Sequence[keras.metrics.Metric]) -> None:
    """Has all metrics begin anew."""
    for metric in metrics:
        metric.reset_state()


def set_directions(
    callbacks: Sequence[keras.callbacks.Callback], metrics: Sequence[keras.metrics.Metric]
) -> None:
    """Tells callbacks whether what they monitor should rise; Keras asks the compiled model."""
    directions = {metric.name: private.direction(metric) for metric in metrics}
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if monitor is not None and getattr(callback, "mode", None) == "auto":
            direction = directions.get(str(monitor).removeprefix("val_"))
            callback.mode = {"up": "max", "down": "min"}.get(direction, "auto")


def _number(name: str, result) -> float:
    # Not by `float`: a variable that lies on several replicas has an array, but no number.
    array = keras.ops.convert_to_numpy(result)
    if np.size(array) != 1:
        raise ValueError(
            "`metrics` must give single numbers, or dicts of them. "
            f"Received: {name!r}, which gives the shape {np.shape(array)}"
        )
    return float(np.reshape(array, ()))
