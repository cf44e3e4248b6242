"""Cross entropy for labels that are numbers or, after mixing, distributions."""

from __future__ import annotations

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
        if len(y_true.shape) < len(y_pred.shape):
            # Not a sparse cross entropy, so that smoothing has one place.
            y_true = ops.one_hot(ops.cast(y_true, "int32"), y_pred.shape[-1], dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(
            y_true, y_pred, from_logits=self.from_logits, label_smoothing=self.label_smoothing
        )

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "label_smoothing": self.label_smoothing,
        }
