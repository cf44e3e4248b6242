"""Calibration: what the probabilities of a classifier are worth, and how to mend them.

Sources: Guo et al., "On calibration of modern neural networks", arXiv 1706.04599, for the expected
calibration error and the temperature; Hendrycks and Gimpel, arXiv 1610.02136, for the threshold.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import numpy as np

from keras_resnet.evaluation.results import Evaluation
from keras_resnet.naming import CLASSIFIER
from keras_resnet.network import Network, network_of
from keras_resnet.surgery.graphs import functional_config, output_activation
from keras_resnet.surgery.rebuilding import rebuild
from keras_resnet.utils import checks

# Temperatures that are considered.
_LOWEST, _HIGHEST = 1e-2, 1e2
# Fewer images than these tell little of a temperature.
_FEW = 100
# How far from 1 the sum of an image's probabilities may be, in 16 bits too.
_ROUNDING = 2e-2


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Temperature and threshold, found on images that were not trained on.

    Attributes:
        temperature: What the logits are divided by for the smallest cross entropy; above 1 the
            network was too sure of itself.
        threshold: Probability of the best class, after that, which is reached by the share `kept`
            of the images that are classified correctly. Below it an image shows none of the
            classes.
        kept: That share.
        error: Expected calibration error before and after, in [0, 1].
        cross_entropy: Mean cross entropy in nats before and after.
        images: Number of images.
    """

    temperature: float
    threshold: float
    kept: float
    error: tuple[float, float]
    cross_entropy: tuple[float, float]
    images: int

    @property
    def doubt(self) -> str | None:
        """Reason why the temperature tells little: a bound of the search, or few images."""
        if not _LOWEST * 1.01 < self.temperature < _HIGHEST / 1.01:
            return f"the temperature, {self.temperature:.3g}, is at the end of the range searched"
        if self.images < _FEW:
            return f"the temperature is fitted on {self.images} images, fewer than {_FEW}"
        return None

    def __str__(self) -> str:
        return (
            f"temperature {self.temperature:.3f}: expected calibration error "
            f"{100 * self.error[0]:.2f} % before, {100 * self.error[1]:.2f} % after; cross entropy "
            f"{self.cross_entropy[0]:.4f} and {self.cross_entropy[1]:.4f}; below probability "
            f"{self.threshold:.3f} none of the classes ({self.images:,} images)"
        )


def reliability(confidences: np.ndarray, hits: np.ndarray, bins: int = 15) -> list[dict[str, Any]]:
    """Returns a row for each interval of confidence that has images.

    Args:
        confidences: Probability of the best class of each image, in [0, 1], `(n,)`.
        hits: Whether that is the image's class, `(n,)`.
        bins: Number of intervals of equal width.

    Returns:
        Rows with `low` and `high`, the ends of the interval (low, high], `images`, and the means
        `confidence` and `accuracy`.
    """
    confidences, hits = np.asarray(confidences, "float64"), np.asarray(hits, bool)
    checks.integer("bins", bins)
    place = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    return [
        {
            "low": i / bins,
            "high": (i + 1) / bins,
            "images": int((place == i).sum()),
            "confidence": float(confidences[place == i].mean()),
            "accuracy": float(hits[place == i].mean()),
        }
        for i in np.unique(place)
    ]


def calibration_error(confidences: np.ndarray, hits: np.ndarray, bins: int = 15) -> float:
    """Returns the expected calibration error, in [0, 1]; arguments as for `reliability`.

    It is the mean over the images of the distance between accuracy and mean confidence of the
    interval that their confidence is in.
    """
    rows = reliability(confidences, hits, bins)
    distances = [row["images"] * abs(row["accuracy"] - row["confidence"]) for row in rows]
    return sum(distances) / len(confidences)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature T of the smallest mean cross entropy of `softmax(logits / T)`.

    The cross entropy is convex in 1 / T, so that bisection of its slope finds the minimum. Where
    every image is classified correctly there is none, and the temperature is the lowest, 0.01.

    Args:
        logits: `(n, classes)`.
        labels: Class of each image, integers `(n,)`.
    """
    logits, labels = np.asarray(logits, "float64"), np.asarray(labels)
    own = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    low, high = 1 / _HIGHEST, 1 / _LOWEST
    while high / low > 1 + 1e-6:
        middle = math.sqrt(low * high)
        slope = (_softmax(middle * logits) * logits).sum(axis=1) - own
        low, high = (low, middle) if slope.mean() > 0 else (middle, high)
    return 1 / math.sqrt(low * high)


def fit_calibration(evaluation: Evaluation, kept: float = 0.95) -> Calibration:
    """Fits the temperature and the threshold to images of an evaluation.

    Args:
        evaluation: Of images that the model was not trained on and that its figures will not be
            reported on, such as the validation split, by `evaluate(..., keep_outputs=True)`.
        kept: Share of the correctly classified images that are not below the threshold, in [0, 1].

    Raises:
        ValueError: If `kept` is out of range, or the evaluation has not kept its outputs, has no
            mistake, or is of probabilities of sigmoid, which do not add up to 1.
    """
    checks.fraction("kept", kept, one_allowed=True)
    if evaluation.outputs is None:
        raise ValueError(
            "`evaluation` must be made with keep_outputs=True to be calibrated on. "
            "Received: one without the outputs of all classes"
        )
    logits, labels = evaluation.outputs.astype("float64"), evaluation.labels
    if evaluation.average == "softmax":  # Logits but for a constant.
        sums = logits.sum(axis=1)
        if np.abs(sums - 1).max() > _ROUNDING:
            raise ValueError(
                "`evaluation` must be of a model that ends in softmax, or one output of sigmoid. "
                f"Received: probabilities that add up to {sums.min():.3g} to {sums.max():.3g}"
            )
        logits = np.log(np.maximum(logits, np.finfo("float32").tiny))
    hits = logits.argmax(axis=1) == labels
    if hits.all():
        raise ValueError(
            "`evaluation` must have mistakes to be calibrated on; take more images. "
            f"Received: none in {len(hits)} images"
        )
    temperature = fit_temperature(logits, labels)
    errors, entropies = [], []
    for divisor in (1.0, temperature):
        probabilities = _softmax(logits / divisor)
        own = np.take_along_axis(probabilities, labels[:, None], axis=1)
        best = probabilities.max(axis=1)
        errors.append(calibration_error(best, hits))
        entropies.append(float(-np.log(np.maximum(own, np.finfo("float64").tiny)).mean()))
    found = best[hits]
    # An order statistic, not an interpolation: the share is kept exactly.
    threshold = float(np.quantile(found, 1 - kept, method="lower")) if len(found) else 0.0
    return Calibration(
        temperature,
        threshold,
        kept,
        (errors[0], errors[1]),
        (entropies[0], entropies[1]),
        len(labels),
    )


def calibrated(model: keras.Model, calibration: Calibration) -> Network:
    """Returns a copy whose probabilities are calibrated, in every form that it is exported to.

    The classifier's kernel and bias are divided by the temperature, so that the logits are; the
    threshold is in the `preprocessing` of the copy, and `predict` and exported models carry it.

    Raises:
        ValueError: If `model` is no network of this package with a classifier, or ends in several
            outputs of sigmoid.
    """
    expect_calibrable(model)
    config = network_of(model)
    assert config.preprocessing is not None
    copy = rebuild(model)
    dense = copy.get_layer(CLASSIFIER)
    dense.set_weights([values / calibration.temperature for values in dense.get_weights()])
    prepared = dataclasses.replace(config.preprocessing, threshold=calibration.threshold)
    copy.remember(dataclasses.replace(copy.network, preprocessing=prepared))
    return copy


def expect_calibrable(model: keras.Model, argument: str = "model") -> None:
    """Raises a ValueError for a model that `calibrated` cannot copy.

    Of several outputs of sigmoid each is a probability of its own, which the temperature of softmax
    does not calibrate.
    """
    ending = output_activation(functional_config(model))
    if ending == "sigmoid" and model.output_shape[-1] > 1:
        raise ValueError(
            f"`{argument}` must be for a model that ends in softmax, or in one output of sigmoid. "
            f"Received: {model.name!r}, which ends in {model.output_shape[-1]} of sigmoid"
        )
    config = network_of(model)
    if CLASSIFIER not in {layer.name for layer in model.layers} or config.preprocessing is None:
        raise ValueError(
            f"`{argument}` must be for a model with a classifier that remembers what its weights "
            f"want done to an image. Received: model {model.name!r}"
        )


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)
