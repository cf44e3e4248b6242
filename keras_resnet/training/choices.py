"""Names that settings choose from, and checks of numbers. Light to import: no Keras, no TensorFlow.

What stands behind the names is in the modules that these constants are imported into.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_resnet.utils import checks

# Augmentations of batches.
AUGMENTS = ("rand", "trivial", "augmix", "erasing", "jitter")
BALANCED = "balanced"
DECAYS = ("l2", "decoupled")
LOSSES = ("cross_entropy", "bce")
# Keras's own, in small letters.
OPTIMIZERS = (
    *("adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "ftrl", "lamb", "lion"),
    *("muon", "nadam", "rmsprop", "schedulefreeadamw", "sgd"),
)
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
SAMPLINGS = (BALANCED, "sqrt")
TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")


def check_mixing(
    mixup: float, cutmix: float, rand_augment: float, augment: str | None = None
) -> None:
    """Raises a ValueError that names each of the arguments of `Mixing` out of its range."""
    found = checks.Problems()
    if mixup:
        found.note(checks.positive, "mixup", mixup)
    found.note(checks.fraction, "cutmix", cutmix, one_allowed=True)
    found.note(checks.fraction, "rand_augment", rand_augment, one_allowed=True)
    found.note(checks.one_of, "augment", augment, (None, *AUGMENTS))
    found.expect_none()


def check_class_weights(value: Any) -> Any:
    """Returns class weights as `class_weights` takes them; a ValueError says what is wrong."""
    if value is None or isinstance(value, str):
        return checks.one_of("class_weights", value, (None, BALANCED))
    values = list(value.values()) if isinstance(value, Mapping) else list(value)
    for one in values:
        if one != 0:
            checks.positive("class_weights", one)
    if not any(values):
        raise ValueError(f"`class_weights` must not all be 0. Received: class_weights={value!r}")
    return value


def scaled_learning_rate(rate: float, batch_size: int, base_batch: int = 256) -> float:
    """Scales a learning rate with the global batch, by the linear rule of arXiv 1706.02677.

    Args:
        rate: Learning rate that is right for `base_batch`.
        batch_size: Global batch of this run.
        base_batch: Global batch that `rate` was chosen for.
    """
    return rate * batch_size / base_batch
