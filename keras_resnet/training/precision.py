"""Number formats of training, and the loss scale that float16 needs.

TensorFlow only. Weights, gradients after the reduce, logits and losses are float32 in every
format; layers compute in the format. Prefer bfloat16 where the device has it: it needs no scale.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from keras_resnet.training.choices import PRECISIONS
from keras_resnet.utils import checks


def set_precision(name: str) -> None:
    """Sets Keras's dtype policy for the models that are built from now on.

    Args:
        name: `"float32"`, `"mixed_bfloat16"` or `"mixed_float16"`.

    Raises:
        ValueError: Another name.
    """
    checks.one_of("precision", name, PRECISIONS)
    keras.config.set_dtype_policy(name)


class DynamicLossScale:
    """Keeps the gradients of a float16 model inside float16's range.

    The loss is multiplied by `scale`. Where a gradient, summed over all replicas, is not finite,
    the step is skipped everywhere and the scale halved; after `growth_steps` good steps in a row
    it doubles. `keras.optimizers.LossScaleOptimizer` looks at replica 0 alone, before the sum.

    Args:
        initial: First scale.
        growth_steps: Good steps after which the scale doubles.
    """

    def __init__(self, initial: float = 2.0**15, growth_steps: int = 2000):
        checks.positive("initial", initial)
        self.growth_steps = checks.integer("growth_steps", growth_steps)
        self.scale = tf.Variable(initial, trainable=False, dtype=tf.float32, name="loss_scale")
        self.good_steps = tf.Variable(0, trainable=False, dtype=tf.int64, name="good_steps")

    @property
    def variables(self) -> list[tf.Variable]:
        """The state a checkpoint has to hold."""
        return [self.scale, self.good_steps]

    def update(self, finite: tf.Tensor) -> None:
        """Adapts the scale to a step by whether its reduced gradients are `finite`, a bool scalar.

        To be called outside of the replicas.
        """
        good_steps = tf.where(finite, self.good_steps + 1, 0)
        grow = good_steps >= self.growth_steps
        factor = tf.where(finite, tf.where(grow, 2.0, 1.0), 0.5)
        # A scale that is infinite itself would never come back.
        self.scale.assign(tf.minimum(self.scale * factor, 2.0**24))
        self.good_steps.assign(tf.where(grow, tf.zeros_like(good_steps), good_steps))
