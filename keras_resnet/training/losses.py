"""Losses for labels that are numbers, distributions after mixing, or several at once."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from keras_resnet.utils import checks


@keras.saving.register_keras_serializable("keras_resnet")
class CrossEntropy(keras.losses.Loss):
    """Cross entropy with label smoothing, arXiv 1512.00567, for hard and soft labels.

    Args:
        from_logits: Whether predictions are logits; else probabilities.
        label_smoothing: Share of the label's weight, in [0, 1), that goes to all classes alike.
        name: Name of the loss.
        **kwargs: As in `keras.losses.Loss`.

    Labels are integers `(batch,)` or distributions `(batch, classes)`.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        name: str = "cross_entropy",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.from_logits = from_logits
        self.label_smoothing = checks.fraction("label_smoothing", label_smoothing)

    def call(self, y_true, y_pred):
        # Not a sparse cross entropy, so that smoothing has one place.
        return keras.losses.categorical_crossentropy(
            _one_hot(y_true, y_pred),
            y_pred,
            from_logits=self.from_logits,
            label_smoothing=self.label_smoothing,
        )

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "label_smoothing": self.label_smoothing,
        }


@keras.saving.register_keras_serializable("keras_resnet")
class BinaryCrossEntropy(keras.losses.Loss):
    """Binary cross entropy of every output, averaged over the outputs.

    - Of classes that exclude each other (arXiv 2110.00476): labels are integers `(batch,)` or
      distributions `(batch, classes)`, as after mixup, and each output is trained to tell its
      class from the rest. Label smoothing is that of `CrossEntropy`.
    - Of one output for two classes: labels are 0 and 1, `(batch,)`, or distributions `(batch, 2)`.
    - Of several labels at once: `multi_label`, with labels 0 and 1, `(batch, classes)`.

    Of the mean over outputs, as Keras and timm have it, gradients are smaller than those of
    `CrossEntropy`, about in proportion to the number of classes.

    Args:
        from_logits: Whether predictions are logits; else probabilities, each of its own sigmoid.
        label_smoothing: Share of the label's weight, in [0, 1), that goes to all classes alike; of
            one output, and of several labels at once, to "yes" and "no" alike.
        multi_label: Whether an image can have several labels, or none.
        positive_weights: With `multi_label`, a factor for each class of the loss of images that
            have it, as `pos_weight` of PyTorch's `BCEWithLogitsLoss`.
        name: Name of the loss.
        **kwargs: As in `keras.losses.Loss`.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        multi_label: bool = False,
        positive_weights: Sequence[float] | None = None,
        name: str = "binary_cross_entropy",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.from_logits = from_logits
        self.label_smoothing = checks.fraction("label_smoothing", label_smoothing)
        self.multi_label = checks.boolean("multi_label", multi_label)
        if positive_weights is not None and not multi_label:
            raise ValueError(
                "`positive_weights` goes with multi_label=True. "
                f"Received: positive_weights={positive_weights!r}"
            )
        weights = None if positive_weights is None else [float(one) for one in positive_weights]
        self.positive_weights = weights

    def call(self, y_true, y_pred):
        y_true = _one_hot(y_true, y_pred)
        shares = 2 if self.multi_label or y_pred.shape[-1] == 1 else y_pred.shape[-1]
        smoothing = self.label_smoothing
        y_true = y_true * (1.0 - smoothing) + smoothing / shares
        losses = ops.binary_crossentropy(y_true, y_pred, from_logits=self.from_logits)
        if self.positive_weights is not None:
            zeros = ops.zeros_like(y_true)
            positive = ops.binary_crossentropy(zeros + 1.0, y_pred, from_logits=self.from_logits)
            extra = ops.convert_to_tensor(self.positive_weights, y_pred.dtype) - 1.0
            losses = losses + extra * y_true * positive
        return ops.mean(losses, axis=-1)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "label_smoothing": self.label_smoothing,
            "multi_label": self.multi_label,
            "positive_weights": self.positive_weights,
        }


def _one_hot(y_true, y_pred):
    """Returns labels as numbers of the shape and dtype of the predictions."""
    classes = y_pred.shape[-1]
    if len(y_true.shape) == len(y_pred.shape):
        # Of distributions over two classes, one output tells the second.
        y_true = y_true[..., 1:] if classes == 1 and y_true.shape[-1] == 2 else y_true
        return ops.cast(y_true, y_pred.dtype)
    if classes == 1:
        return ops.cast(y_true, y_pred.dtype)[..., None]
    return ops.one_hot(ops.cast(y_true, "int32"), classes, dtype=y_pred.dtype)
