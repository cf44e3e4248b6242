"""The model card: what a trained model is, how it was made, and what was measured."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_resnet.architectures import Architecture, DenseArchitecture
from keras_resnet.data import ImageDataset
from keras_resnet.experiment.effort import energy_text
from keras_resnet.experiment.headline import accuracy_key, loss_text
from keras_resnet.preprocessing import COLORS, Preprocessing
from keras_resnet.utils import checks
from keras_resnet.utils.escapes import code_block, markdown
from keras_resnet.utils.processes import command_line
from keras_resnet.utils.statistics import wilson_interval
from keras_resnet.version import __version__

SHORTCUTS = {
    "A": "option A (identity, zero-padded where channels are added)",
    "B": "option B (projection where the shape changes)",
    "C": "option C (projection everywhere)",
    None: "none (a plain net)",
}

_CHOICE = {
    "test": "Nothing was chosen by these images.",
    "train": "These images were trained on: how it does on others was not measured.",
    "validation": "These images may have steered the learning rate; there was no test split.",
}
_CHOSEN = """These images chose the epoch, so that figures of other images are likely worse; there
was no test split."""

_MODULES = """ `saved_model` and `feature_vector` are TF Hub modules (Reusable SavedModels): they
take the same images as float32 in [0, 1] and give logits and features."""


def network_text(architecture: Architecture | DenseArchitecture) -> str:
    """Describes the kind of a network in a few words."""
    repeats = "-".join(map(str, architecture.repeats))
    if isinstance(architecture, DenseArchitecture):
        return (
            f"A densely connected network of {architecture.depth} weighted layers, blocks "
            f"{repeats}, growth rate {architecture.growth_rate} ({architecture.source})"
        )
    return (
        f"A network of {architecture.depth} weighted layers, {architecture.block} blocks "
        f"{repeats}, shortcuts {SHORTCUTS[architecture.shortcut]} ({architecture.source})"
    )


def model_card(
    name: str,
    network: str,
    dataset: ImageDataset,
    settings: Mapping[str, Any],
    metrics: Mapping[str, Any],
    prepared: Preprocessing | None = None,
) -> str:
    """Returns the card as Markdown.

    `settings` and `metrics` are as in the run's JSON files; `prepared` is what the model remembers.
    """
    height, width, channels = dataset.image_shape
    color = COLORS.get(channels, f"{channels}-channel")
    operations = metrics["multiply_adds"]
    operations = "an unknown number of" if operations is None else f"{operations:,}"
    split = metrics["split"]
    key = accuracy_key(metrics)
    shown = key.replace("_", " ")
    accuracy, count = metrics[f"{split}_{key}"], metrics[f"{split}_images"]
    low, high = wilson_interval(accuracy, count)
    training = ""
    if split != "train" and f"train_{key}" in metrics:
        share = f"{100 * metrics[f'train_{key}']:.2f} %"
        training = f"| training {shown}, last epoch | {share} |\n"
    values = ", ".join(f"{k} {value}" for k, value in settings.items() if value not in (None, {}))
    return f"""# {markdown(name)} trained on {markdown(dataset.name)}

{network}:
{metrics["parameters"]:,} trainable parameters, {operations} multiply-adds per image.

## Measured

| figure | value |
|---|---|
| {split} {shown} (single crop, {count:,} images) | {100 * accuracy:.2f} % |
| {split} {shown}, 95 % interval (Wilson) | {100 * low:.1f} to {100 * high:.1f} % |
| {split} loss ({loss_text(metrics, settings)}) | {metrics[f"{split}_loss"]:.4f} |
{training}{_other_weights(metrics)}| training time | {metrics["train_seconds"]:.0f} s for \
{metrics["steps"]} steps |
{_effort(metrics)}
These are figures {_moment(metrics)} of one run with seed {metrics["seed"]}. \
{_choice(metrics, settings)}

## Data

{dataset.about or markdown(dataset.name)}

## Use

`model.keras` takes {color} images of {height}x{width} pixels in [0, 255], shape
(batch, {height}, {width}, {channels}), and gives probabilities of {len(dataset.class_names)}
classes.{_MODULES if settings["export"] else ""} The model standardizes the images itself.
{_prepared(prepared)}

Classes: {", ".join(map(markdown, dataset.class_names))}.

## Limits

It knows images like those it was trained on. Expect nothing from pictures of another kind, size or
contrast: it gives no warning for them, and its probabilities are not calibrated.

## How it was made

{code_block(metrics["command"], "bash")}

Settings: {markdown(values)}.

Versions: {versions_text(metrics)}.
"""


def _choice(metrics: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Says what was chosen by the images that the figures are of."""
    by_epoch = metrics.get("final_weights") == "best" or settings.get("patience") is not None
    return _CHOSEN if metrics["split"] == "validation" and by_epoch else _CHOICE[metrics["split"]]


def _moment(metrics: Mapping[str, Any]) -> str:
    """Says when the weights of `model.keras` were those of the run."""
    if metrics.get("final_weights") == "best":
        return f"after the best epoch, {metrics['best_epoch']} by {metrics['monitor']},"
    return "after the last step"


def _other_weights(metrics: Mapping[str, Any]) -> str:
    """Returns the row of the weights beside the model's: the best epoch's, or the last ones."""
    which = "last" if metrics.get("final_weights") == "best" else "best"
    key = accuracy_key(metrics)
    accuracy = metrics.get(f"{which}_{metrics['split']}_{key}")
    if accuracy is None:
        return ""
    epoch = ""
    if which == "best":
        epoch = f", epoch {metrics['best_epoch']} by {metrics['monitor']}"
    share = f"{100 * accuracy:.2f} %"
    shown = f"{metrics['split']} {key.replace('_', ' ')}"
    return f"| {shown} of `{which}.keras`{epoch} | {share} |\n"


def _effort(metrics: Mapping[str, Any]) -> str:
    """Returns the rows of what training took; none for a run of an earlier version."""
    operations = metrics.get("trained_multiply_adds")
    rows = {
        "images seen in training": f"{metrics.get('images_seen', 0):,}",
        "multiply-adds of their forward passes": operations and f"{operations:.3g}",
        "energy of training": energy_text(metrics),
    }
    if "images_seen" not in metrics:
        return ""
    return "".join(f"| {name} | {value} |\n" for name, value in rows.items() if value)


def _prepared(prepared: Preprocessing | None) -> str:
    if prepared is None:
        return ""
    return f"""
What is done to an image file in front of it, by `keras-resnet` and by the signatures of files of
the exported models, and what the model then subtracts and divides by:

{code_block(str(prepared))}
"""


def front_matter(
    name: str, dataset: str, metrics: Mapping[str, Any], *, license: str, tags: Sequence[str] = ()
) -> str:
    """Returns what the Hugging Face hub reads of a card, as YAML: license, kind, and figures.

    Args:
        name: Name of the model.
        dataset: Name of the data set.
        metrics: As in the run's metrics.json; the figures are those of its `split`.
        license: License of the weights.
        tags: Tags of the model.

    Raises:
        ImportError: If `huggingface_hub` is not installed.
    """
    hub = checks.import_extra("huggingface_hub", "Cards of the Hugging Face hub", "weights")
    split, key = metrics["split"], accuracy_key(metrics)
    figures = {
        metric: metrics[f"{split}_{metric}"]
        for metric in (key, "top5_accuracy", "loss")
        if f"{split}_{metric}" in metrics
    }
    task = "image-classification"
    data = hub.ModelCardData(
        license=license,
        library_name="keras",
        pipeline_tag=task,
        tags=list(tags),
        metrics=[key],
        model_name=name,
        eval_results=[
            hub.EvalResult(
                task_type=task,
                dataset_type=dataset,
                dataset_name=dataset,
                dataset_split=split,
                metric_type=metric,
                metric_name=f"{split} {metric.replace('_', ' ')}",
                metric_value=float(value),
            )
            for metric, value in figures.items()
        ],
    )
    return data.to_yaml()


def versions() -> dict[str, str]:
    """Returns the versions that a result depends on."""
    return {
        "keras_resnet": __version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
    }


def origin() -> dict[str, Any]:
    """Returns command and versions, as metrics.json has them."""
    return {"command": command_line(), "versions": versions()}


def versions_text(metrics: Mapping[str, Any]) -> str:
    """Returns the versions that metrics.json names, as text."""
    return ", ".join(f"{name} {version}" for name, version in metrics["versions"].items())
