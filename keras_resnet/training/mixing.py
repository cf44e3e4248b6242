"""Mixup, CutMix and augmentations on the device, by Keras's own layers. TensorFlow only.

Keras's layers draw from a counter of their own. Here it follows from the step, so that a resumed
run draws what the uninterrupted one drew, and no state has to be saved. A replica mixes within its
own images, so results depend on the number of replicas.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from keras_resnet.training.augment import Augment, call_stateless
from keras_resnet.training.choices import check_mixing
from keras_resnet.utils import checks

# More than any of the layers draws in one step.
_DRAWS_PER_STEP = 1000
# Keeps the layers' and the replicas' seeds apart.
_LAYER_STRIDE = 10**6
_REPLICA_STRIDE = 10**9
# Behind RandAugment, the mixers and the choice between them.
_FIRST_OF_AUGMENT = 4


class Mixing:
    """A `transform` for the trainer: RandAugment, an augmentation by name, then mixup or CutMix.

    Given both, each step takes one of them, with equal probability.

    Args:
        classes: Number of classes; labels become distributions over them where images are mixed.
        mixup: Alpha of mixup, arXiv 1710.09412, such as 0.2; 0 for none.
        cutmix: Alpha of CutMix, arXiv 1905.04899, in [0, 1] as Keras has it; 0 for none.
        rand_augment: Strength of RandAugment, arXiv 1909.13719, in [0, 1]; 0 for none.
        augment: Name of an `Augment`, such as "trivial"; None for none.
        seed: Seed of all draws.

    Raises:
        ValueError: A number out of its range, or an unknown `augment`.
    """

    def __init__(
        self,
        classes: int,
        *,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        rand_augment: float = 0.0,
        augment: str | None = None,
        seed: int = 0,
    ):
        self.classes = checks.integer("classes", classes, 2)
        self.seed = checks.integer("seed", seed, 0)
        check_mixing(mixup, cutmix, rand_augment, augment)
        # All layers in float32, whatever the network that follows computes in.
        self.rand_augment = None
        if rand_augment:
            self.rand_augment = keras.layers.RandAugment(factor=rand_augment, dtype="float32")
        self.augment = None if augment is None else Augment(augment)
        self.mixers: list[keras.Layer] = []
        if mixup:
            self.mixers.append(keras.layers.MixUp(alpha=mixup, dtype="float32"))
        if cutmix:
            self.mixers.append(keras.layers.CutMix(factor=cutmix, dtype="float32"))

    def __call__(
        self, images: tf.Tensor, labels: tf.Tensor, position: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Changes one replica's images and labels.

        Args:
            images: Images in [0, 255], `(batch, height, width, channels)`.
            labels: Integers, `(batch,)`, or multi-hot, `(batch, classes)`.
            position: int64 vector [step, replica], which decides all draws.

        Returns:
            float32 images, and the labels, `(batch, classes)` distributions where they are mixed.
        """
        data = {"images": tf.cast(images, tf.float32)}
        if self.rand_augment is not None:
            data = call_stateless(self.rand_augment, data, self._state(position, 0))
        if self.augment is not None:
            data["images"] = self.augment(
                data["images"], lambda index: self._state(position, _FIRST_OF_AUGMENT + index)
            )
        if not self.mixers:
            return data["images"], labels
        several = labels.shape.rank > 1
        data["labels"] = labels if several else tf.one_hot(labels, self.classes)
        mixers = [
            lambda mixer=mixer, index=index: call_stateless(
                mixer, data, self._state(position, index)
            )
            for index, mixer in enumerate(self.mixers, 1)
        ]
        draw = tf.random.stateless_uniform((), self._state(position, 3))
        data = tf.cond(draw < 0.5, mixers[0], mixers[-1]) if len(mixers) > 1 else mixers[0]()
        return data["images"], data["labels"]

    def _state(self, position: tf.Tensor, index: int | tf.Tensor) -> tf.Tensor:
        step, replica = tf.unstack(position)
        seed = self.seed + index * _LAYER_STRIDE + replica * _REPLICA_STRIDE
        return tf.stack([seed, step * _DRAWS_PER_STEP])
