"""Compares networks: the cost of each, and its accuracy as measured or published."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.analysis.counting import Complexity, built_without_values, complexity
from keras_resnet.analysis.networks import NamedNetwork, closed_shape, find_network
from keras_resnet.analysis.published import Accuracy
from keras_resnet.preprocessing import sides_of
from keras_resnet.utils import checks
from keras_resnet.utils.checks import Size, checked_size
from keras_resnet.utils.files import parse_json

_FIGURES = (
    *("parameters", "multiply_adds", "activations", "weight_bytes"),
    *("inference_activation_bytes", "training_activation_bytes"),
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A network in the comparison.

    Attributes:
        network: The network by name.
        image_shape: Shape of one image.
        complexity: Its counts for one such image.
        accuracy: As measured by the user, or as published for images of this size, or None.
    """

    network: NamedNetwork
    image_shape: tuple[int, ...]
    complexity: Complexity
    accuracy: Accuracy | None

    def row(self) -> dict[str, object]:
        """Returns the totals as one flat row."""
        accuracy = self.accuracy
        return {
            "model": self.network.label,
            "library": self.network.library,
            "image_shape": "x".join(map(str, self.image_shape)),
            **{figure: getattr(self.complexity, figure) for figure in _FIGURES},
            "top1_accuracy": accuracy and accuracy.top1,
            "top5_accuracy": accuracy and accuracy.top5,
            "accuracy_is": accuracy and ("measured" if accuracy.measured else "published"),
            "protocol": accuracy and accuracy.protocol,
            "dataset": accuracy and accuracy.dataset,
            "source": accuracy and accuracy.source,
        }

    def summary(self) -> dict[str, object]:
        """Returns the figures that fit on a line of a terminal."""
        row, cost, accuracy = self.row(), self.complexity, self.accuracy
        shown = ("model", "image_shape", "parameters", "multiply_adds", "activations")
        return {
            **{name: row[name] for name in shown},
            "weights_MiB": cost.weight_bytes / 2**20,
            "inference_MiB": cost.inference_activation_bytes / 2**20,
            "training_MiB": cost.training_activation_bytes / 2**20,
            "top-1_%": accuracy and 100 * accuracy.top1,
            "accuracy": accuracy and f"{row['accuracy_is']}, {accuracy.protocol}",
        }


def compare(
    names: Sequence[str],
    *,
    image_size: Size | str | None = None,
    accuracies: Mapping[str, Accuracy] | None = None,
) -> Iterator[Entry]:
    """Counts what networks cost, one after the other.

    Args:
        names: Names of networks, as `find_network` takes them.
        image_size: Size of the images; each network's own where not given. Published accuracies
            are left out where they were measured at another size.
        accuracies: Measured accuracies by name, in place of published ones.

    Yields:
        An entry for each name.

    Raises:
        ValueError: If a name is unknown or listed twice, or an accuracy is of none of them.
    """
    accuracies = dict(accuracies or {})
    checks.different("models", names, "networks")
    networks = [find_network(name) for name in names]
    for name in accuracies:
        checks.one_of("accuracy", name, tuple(names))
    if image_size is not None:
        image_size = checked_size("image_size", image_size)
    return (_entry(network, image_size, accuracies.get(network.name)) for network in networks)


def _entry(network: NamedNetwork, image_size: Size | None, measured: Accuracy | None) -> Entry:
    if network.library == "file":
        model = network.build()
    else:
        model = built_without_values(network.build, image_size)
    shape = closed_shape(model.input_shape[1:], network.size(image_size))
    published = network.published
    if published is not None and sides_of(published.image_size) != shape[:2]:
        published = None
    return Entry(network, shape, complexity(model, shape), measured or published)


def read_accuracy(text: str) -> tuple[str, Accuracy]:
    """Reads a measured accuracy as a command line gives it, by the name of its network.

    The text is "NAME=VALUE" with a value in [0, 1], or "NAME=FILE" with the metrics.json of a
    training run or of an evaluation; a ValueError is raised if it or the file is something else.
    """
    name, found, value = text.rpartition("=")
    if not found or not name:
        raise ValueError(f"`accuracy` must be NAME=VALUE. Received: accuracy={text!r}")
    figures: dict[str, Any] = {"top5": None, "image_size": 0, "dataset": ""}
    try:
        figures |= {"top1": float(value), "protocol": "as given"}
    except ValueError:
        figures |= _from_metrics(Path(value))
    checks.fraction("accuracy", figures["top1"], one_allowed=True)
    return name, Accuracy(**figures, source=value, measured=True)


def _from_metrics(path: Path) -> dict[str, Any]:
    """Returns the fields of an accuracy that a metrics.json holds."""
    try:
        metrics = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"`accuracy` must name a JSON file. Received: {path}: {error}") from error
    if not isinstance(metrics, dict):
        metrics = {}
    if "top1_error" in metrics:  # an evaluation
        top5_error = metrics.get("top5_error")
        return {
            "top1": 1 - metrics["top1_error"],
            "top5": None if top5_error is None else 1 - top5_error,
            "protocol": metrics["protocol"]["name"],
            "dataset": metrics["dataset"],
        }
    for split in ("test", "validation"):  # a training run
        if f"{split}_accuracy" in metrics:
            top1, top5 = metrics[f"{split}_accuracy"], metrics.get(f"{split}_top5_accuracy")
            return {"top1": top1, "top5": top5, "protocol": f"{split} split"}
    raise ValueError(
        "`accuracy` must name a file with `top1_error`, `test_accuracy` or `validation_accuracy`. "
        f"Received: {path}"
    )
