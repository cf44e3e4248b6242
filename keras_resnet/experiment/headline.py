"""The figures at the top of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_resnet.utils.statistics import wilson_interval


def headline_figures(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Returns the figures at the top: what each is, its value, and what belongs to it."""
    split, found = metrics.get("split", ""), []
    if metrics.get(f"{split}_accuracy") is not None:
        accuracy, count = metrics[f"{split}_accuracy"], metrics.get(f"{split}_images")
        interval = _percents(wilson_interval(accuracy, count)) if count else ""
        note = f"{interval} at 95 %, {count:,} images" if count else ""
        found.append((f"{split} accuracy", f"{100 * accuracy:.2f} %", note))
    for top in ("top1", "top5"):
        if metrics.get(f"{top}_error") is not None:
            ends = metrics.get(f"{top}_error_interval_95")
            note = f"{_percents(ends)} at 95 %" if ends else ""
            name = f"{split} {top.replace('p', 'p-')} error"
            found.append((name, f"{100 * metrics[f'{top}_error']:.2f} %", note))
    for key, name in (("top5_accuracy", "top-5 accuracy"), ("accuracy", "accuracy")):
        own = f"train_{key}" if key == "accuracy" else f"{split}_{key}"
        if own in metrics and own != f"{split}_accuracy":
            where = "training" if key == "accuracy" else split
            found.append((f"{where} {name}", f"{100 * metrics[own]:.2f} %", ""))
    if f"{split}_loss" in metrics:
        found.append((f"{split} loss", f"{metrics[f'{split}_loss']:.4f}", "cross-entropy, nats"))
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
