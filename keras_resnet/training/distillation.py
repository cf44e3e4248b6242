"""Knowledge distillation, arXiv 1503.02531. TensorFlow only."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_resnet.utils import checks

# Below this a probability has no part in a result of float32.
_SMALLEST = 1e-12


class Distillation:
    """Trains a network, the student, by the outputs of another one, the teacher, for `Trainer`.

    The loss is `(1 - alpha) * loss + alpha * temperature**2 * KL(teacher || student)`, where both
    distributions are softmax(logits / temperature). The square keeps the size of the gradient
    independent of the temperature (section 2 of the paper). Outputs of sigmoid are distributions
    over "yes" and "no", and their divergences are averaged over the outputs, as in
    `BinaryCrossEntropy`.

    Args:
        teacher: From the images that the student sees, after all augmentation, `(batch, H, W, C)`
            in [0, 255], to probabilities of the student's outputs; made under the strategy's scope,
            such as a model `lambda images: model(images, training=False)`. It is not trained, and
            no checkpoint holds it.
        temperature: Temperature, above 0.
        alpha: Share of the teacher, in [0, 1].
        sigmoid: Whether both end in sigmoid; else in softmax.

    Raises:
        ValueError: A number out of its range.
    """

    def __init__(
        self,
        teacher: Callable[[tf.Tensor], tf.Tensor],
        *,
        temperature: float = 4.0,
        alpha: float = 0.9,
        sigmoid: bool = False,
    ):
        self.teacher = teacher
        self.temperature = checks.positive("distillation_temperature", temperature)
        self.alpha = checks.fraction("distillation_alpha", alpha, one_allowed=True)
        self.sigmoid = checks.boolean("sigmoid", sigmoid)

    def targets(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the teacher's probabilities, float32, through which no gradient flows."""
        return tf.stop_gradient(tf.cast(self.teacher(images), tf.float32))

    def losses(self, targets: tf.Tensor, predictions: tf.Tensor, losses: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each example, `(batch,)`.

        Args:
            targets: Probabilities of the teacher, `(batch, outputs)`.
            predictions: Probabilities of the student, `(batch, outputs)`.
            losses: Loss of each example by its label, `(batch,)`.
        """
        if targets.shape[-1] != predictions.shape[-1]:
            raise ValueError(
                f"`teacher` must have {predictions.shape[-1]} outputs, as the model has. "
                f"Received: a teacher with {targets.shape[-1]}"
            )
        teacher, student = self._log_softened(targets), self._log_softened(predictions)
        divergence = tf.reduce_sum(tf.exp(teacher) * (teacher - student), -1)
        if self.sigmoid:
            divergence = tf.reduce_mean(divergence, -1)
        return (1.0 - self.alpha) * losses + self.alpha * self.temperature**2 * divergence

    def _log_softened(self, probabilities: tf.Tensor) -> tf.Tensor:
        """Returns logarithms of the distributions that the temperature makes of these."""
        if self.sigmoid:
            probabilities = tf.stack([1.0 - probabilities, probabilities], -1)
        # Logits are logarithms of the probabilities but for a constant, which softmax ignores.
        logits = tf.math.log(tf.maximum(probabilities, _SMALLEST))
        return tf.nn.log_softmax(logits / self.temperature)
