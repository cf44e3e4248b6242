"""The model card: what a finished model is, how it was made, and what was measured."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from keras_resnet.architectures import Architecture, DenseArchitecture
from keras_resnet.utils.statistics import wilson_interval
from keras_resnet.version import __version__

if TYPE_CHECKING:
    from keras_resnet.data import ImageDataset

SHORTCUTS = {
    "A": "option A (identity, zero-padded where channels are added)",
    "B": "option B (projection where the shape changes)",
    "C": "option C (projection everywhere)",
    None: "none (a plain net)",
}


_CHOICE = {
    "test": "Nothing was chosen by these images.",
    "validation": "These images may have steered the learning rate; there was no test split.",
}


_MODULES = """ `saved_model` and `feature_vector` are TF Hub modules (Reusable SavedModels): they
take the same images as float32 in [0, 1] and give logits and features."""


def network_text(architecture: Architecture | DenseArchitecture) -> str:
    """Returns what kind of network a line of the table is, in a few words."""
    if isinstance(architecture, DenseArchitecture):
        return (
            f"A densely connected network of {architecture.depth} weighted layers, blocks "
            f"{'-'.join(map(str, architecture.repeats))}, growth rate {architecture.growth_rate} "
            f"({architecture.source})"
        )
    return (
        f"A network of {architecture.depth} weighted layers, {architecture.block} blocks "
        f"{'-'.join(map(str, architecture.repeats))}, shortcuts {SHORTCUTS[architecture.shortcut]} "
        f"({architecture.source})"
    )


def model_card(
    name: str,
    network: str,
    dataset: ImageDataset,
    settings: Mapping[str, object],
    metrics: Mapping[str, object],
) -> str:
    """Returns the card as Markdown.

    Args:
        name: Name of the network.
        network: What kind of network it is, in a few words.
        dataset: What it was trained and tested on.
        settings: Settings of the run, as in its config.json.
        metrics: Measured figures, as in its metrics.json.
    """
    height, width, channels = dataset.image_shape
    colour = {1: "grey", 3: "RGB"}.get(channels, f"{channels}-channel")
    operations = metrics["multiply_adds"]
    operations = "an unknown number of" if operations is None else f"{operations:,}"
    split = metrics["split"]
    accuracy, count = metrics[f"{split}_accuracy"], metrics[f"{split}_images"]
    versions = ", ".join(f"{name} {version}" for name, version in metrics["versions"].items())
    set_values = ", ".join(
        f"{key} {value}" for key, value in settings.items() if value not in (None, {})
    )
    return f"""# {name} trained on {dataset.name}

{network}:
{metrics["parameters"]:,} trainable parameters, {operations} multiply-adds per image.

## Measured

| figure | value |
|---|---|
| {split} accuracy (single view, {count:,} images) | {100 * accuracy:.2f} % |
| {split} accuracy, 95 % interval (Wilson) | {_interval(accuracy, count)} |
| {split} loss (cross-entropy, nats) | {metrics[f"{split}_loss"]:.4f} |
| training accuracy, last epoch | {100 * metrics["train_accuracy"]:.2f} % |
| training time | {metrics["train_seconds"]:.0f} s for {metrics["steps"]} steps |

These are figures after the last step of one run with seed {metrics["seed"]}. {_CHOICE[split]}

## Data

{dataset.about or dataset.name}

## Use

`model.keras` takes {colour} images of {height}x{width} pixels in [0, 255], shape
(batch, {height}, {width}, {channels}), and gives probabilities of {len(dataset.class_names)}
classes.{_MODULES if settings["export"] else ""} Standardisation is inside.

Classes: {", ".join(dataset.class_names)}.

## Limits

It knows the images it was trained on and no others: expect nothing from pictures of another kind,
size or contrast, and no warning from it either; its probabilities are not calibrated.

## How it was made

```bash
{metrics["command"]}
```

Settings: {set_values}.

Versions: {versions}.
"""


def _interval(share: float, count: int) -> str:
    low, high = wilson_interval(share, count)
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def versions() -> dict[str, str]:
    """Returns the versions that a result depends on."""
    return {
        "keras_resnet": __version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
    }
