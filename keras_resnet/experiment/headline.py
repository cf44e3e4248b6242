"""The figures at the top of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from keras_resnet.experiment.effort import joules_text
from keras_resnet.utils.statistics import wilson_interval


def accuracy_key(metrics: Mapping[str, Any]) -> str:
    """Returns the name of the share of the images that are right: "accuracy", of most runs.

    Where images have several labels, that is the share of all labels, which are no independent
    draws, and the images that are right in all labels are "subset_accuracy".
    """
    of_all_labels = metrics.get(f"{metrics.get('split')}_subset_accuracy") is not None
    return "subset_accuracy" if of_all_labels else "accuracy"


def loss_text(metrics: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Returns the kind and the unit of the loss in the figures of a run."""
    of_each = settings.get("loss") == "bce" or accuracy_key(metrics) == "subset_accuracy"
    return "binary cross-entropy, mean over outputs, nats" if of_each else "cross-entropy, nats"


def headline_figures(
    metrics: Mapping[str, Any], settings: Mapping[str, Any] = MappingProxyType({})
) -> list[tuple[str, str, str]]:
    """Returns the figures at the top: what each is, its value, and what belongs to it.

    Args:
        metrics: As in metrics.json.
        settings: Settings of the run, such as its loss.
    """
    split, found = metrics.get("split", ""), []
    key = accuracy_key(metrics)
    name = key.replace("_", " ")
    if metrics.get(f"{split}_{key}") is not None:
        accuracy, count = metrics[f"{split}_{key}"], metrics.get(f"{split}_images")
        interval = _percents(wilson_interval(accuracy, count)) if count else ""
        note = f"{interval} at 95 %, {count:,} images" if count else ""
        found.append((f"{split} {name}", f"{100 * accuracy:.2f} %", note))
    for k in (1, 5):
        if (error := metrics.get(f"top{k}_error")) is not None:
            ends = metrics.get(f"top{k}_error_interval_95")
            note = f"{_percents(ends)} at 95 %" if ends else ""
            found.append((f"{split} top-{k} error", f"{100 * error:.2f} %", note))
    if (top5 := metrics.get(f"{split}_top5_accuracy")) is not None:
        found.append((f"{split} top-5 accuracy", f"{100 * top5:.2f} %", ""))
    if split != "train" and f"train_{key}" in metrics:
        found.append((f"training {name}", f"{100 * metrics[f'train_{key}']:.2f} %", ""))
    if f"{split}_loss" in metrics:
        note = loss_text(metrics, settings)
        found.append((f"{split} loss", f"{metrics[f'{split}_loss']:.4f}", note))
    if "calibration_error" in metrics:
        error = f"{100 * metrics['calibration_error']:.2f} %"
        found.append(("calibration error", error, "expected, of 15 intervals"))
    if "images" in metrics:
        left_out = metrics.get("left_out")
        note = f"{left_out:,} could not be read" if left_out else ""
        found.append(("images", f"{metrics['images']:,}", note))
    if "parameters" in metrics:
        found.append(("parameters", f"{metrics['parameters']:,}", "trainable"))
    if metrics.get("multiply_adds"):
        found.append(("multiply-adds", f"{metrics['multiply_adds']:,}", "of one image"))
    if "train_seconds" in metrics:
        note = f"{metrics['epochs']} epochs" if "epochs" in metrics else ""
        found.append(("training time", _duration(metrics["train_seconds"]), note))
    if metrics.get("energy_joules") is not None:
        note = f"counted by {' and '.join(metrics['energy_counters'])}"
        found.append(("energy of training", joules_text(metrics["energy_joules"]), note))
    return found


def _percents(interval: Sequence[float]) -> str:
    low, high = interval
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def _duration(seconds: float) -> str:
    """Returns a time as text: "41 s", "3 min 12 s", "5 h 2 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
