"""Effort of training a model: images, multiply-adds, and energy where it is counted. TensorFlow."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_resnet.analysis.energy import Meter, nvml_meter, rapl_meter
from keras_resnet.training.strategy import is_only_worker

logger = logging.getLogger(__name__)

# Counters start again at zero after minutes, and may be read in milliseconds.
READ_EVERY = 1.0
_DEVICES = {"RAPL": "processors and their memory", "NVML": "GPUs"}


class CountEnergy(keras.callbacks.Callback):
    """Adds up what the machine's counters of energy count while `Trainer.fit` runs.

    A run that resumes has what it had counted at its checkpoint.

    Args:
        meters: The counters, such as `meters_of` returns.

    Attributes:
        joules: Energy by name of the counter.
        seconds: Time for which it was counted.
    """

    # Held by checkpoints.
    saved_counters = ("joules", "seconds")

    def __init__(self, meters: Sequence[Meter]):
        super().__init__()
        self._meters = list(meters)
        self.joules: dict[str, float] = {}
        self.seconds = 0.0

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        self._read: dict[str, list[int]] = {}
        self._time = time.perf_counter()
        self._count()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self._count_in_between()

    def on_test_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self._count_in_between()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._count()

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        self._count()

    def _count_in_between(self) -> None:
        if time.perf_counter() - self._time >= READ_EVERY:
            self._count()

    def _count(self) -> None:
        now = time.perf_counter()
        for meter in list(self._meters):
            try:
                read = meter.read()
            except Exception as error:  # Whatever NVML raises; a part of the energy is no figure.
                logger.info(f"The energy that {meter.name} counts can no longer be read: {error}")
                self._meters.remove(meter)
                self.joules.pop(meter.name, None)
                continue
            counted = meter.joules(self._read.get(meter.name, read), read) or 0.0
            self.joules[meter.name] = self.joules.get(meter.name, 0.0) + counted
            self._read[meter.name] = read
        if self._meters:
            self.seconds += now - self._time
        self._time = now


def meters_of(strategy: tf.distribute.Strategy) -> list[Meter]:
    """Returns the counters of energy of what a strategy trains on, none for several machines."""
    if not is_only_worker(strategy):
        return []
    gpus = min(strategy.num_replicas_in_sync, len(tf.config.list_logical_devices("GPU")))
    found = (rapl_meter(), nvml_meter(gpus) if gpus else None)
    return [meter for meter in found if meter is not None]


def effort_figures(
    steps: int, batch_size: int, multiply_adds: int | None, counted: Sequence[CountEnergy]
) -> dict[str, Any]:
    """Returns what training took, for metrics.json.

    Args:
        steps: Steps of training.
        batch_size: Images of a step.
        multiply_adds: Those of a forward pass of one image; None where they are not known.
        counted: The energy of every part of training.

    Returns:
        `images_seen`; `trained_multiply_adds`, of the forward passes of these; `energy_joules`,
        which is None where nothing was counted, and then `energy_counters`, the names of the
        counters, and `energy_seconds`, the time for which they counted.
    """
    images = steps * batch_size
    joules: dict[str, float] = {}
    for part in counted:
        for name, value in part.joules.items():
            joules[name] = joules.get(name, 0.0) + value
    moved = sorted(name for name, value in joules.items() if value)
    figures: dict[str, Any] = {
        "images_seen": images,
        "trained_multiply_adds": None if multiply_adds is None else multiply_adds * images,
        "energy_joules": round(sum(joules.values()), 1) if moved else None,
    }
    if moved:
        figures["energy_counters"] = moved
        figures["energy_seconds"] = round(sum(part.seconds for part in counted), 1)
    return figures


def energy_text(metrics: Mapping[str, Any]) -> str:
    """Returns the energy of training in words, from metrics.json; "" where nothing is said of it.

    For example "1.23 kJ in 75 s, counted by RAPL (processors and their memory)".
    """
    if "energy_joules" not in metrics:
        return ""
    joules = metrics["energy_joules"]
    if joules is None:
        return "not measurable, as no counter (RAPL, NVML) can be read, or several machines trained"
    names = metrics["energy_counters"]
    counters = " and ".join(f"{name} ({_DEVICES.get(name, 'devices')})" for name in names)
    return f"{joules_text(joules)} in {metrics['energy_seconds']:.0f} s, counted by {counters}"


def joules_text(joules: float) -> str:
    """Returns an energy with its unit, such as "1.23 kJ"."""
    size, unit = next(pair for pair in ((1e6, "MJ"), (1e3, "kJ"), (0, "J")) if joules >= pair[0])
    return f"{joules / (size or 1):.4g} {unit}"
