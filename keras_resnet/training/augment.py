"""Augmentations of batches by name, made of Keras's layers. TensorFlow only.

Keras's layers draw from a counter of their own. Here it is given with each call, so that images
follow from it alone. Keras's own AugMix is not used, since it draws by Python's `random` when a
graph is traced, and nor is its color jitter, whose parts compute in the network's precision.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import keras
import tensorflow as tf

from keras_resnet.training.choices import AUGMENTS
from keras_resnet.utils import checks

# int64 [seed, count] of the draws of a number that tells layers and purposes apart.
Key = Callable[[int | tf.Tensor], tf.Tensor]

# Names of Keras's layers with their options.
_Layers = tuple[tuple[str, Mapping[str, object]], ...]

# AugMix's chains, and the longest of them (arXiv 1912.02781).
_CHAINS, _DEPTH = 3, 3
# More than the layers of an augmentation; where keys of choices begin.
_MOST_LAYERS, _CHOICES = 20, 500

# The ones that take colors apart.
_OF_COLOR = ("RandAugment", "RandomHue", "RandomSaturation")

_RANGE: dict[str, object] = {"value_range": (0, 255)}

# Keras's solarization draws thresholds from 0 to this share of 255, whatever its lower bound.
_SOLARIZATION = ("Solarization", {"threshold_factor": 1.0, **_RANGE})

_LAYERS: dict[str, _Layers] = {
    "rand": (("RandAugment", {"factor": 0.5, **_RANGE}),),
    # The wide space, but translations by AutoAugment's share of the side instead of 32 pixels.
    "trivial": (
        ("AutoContrast", _RANGE),
        ("Equalization", _RANGE),
        ("RandomRotation", {"factor": 135 / 360}),
        _SOLARIZATION,
        ("RandomPosterization", {"factor": (2, 8), **_RANGE}),
        ("RandomSaturation", {"factor": (0.0, 0.665), **_RANGE}),
        ("RandomContrast", {"factor": (0.99, 0.99), **_RANGE}),
        ("RandomBrightness", {"factor": 0.99, **_RANGE}),
        ("RandomSharpness", {"factor": (0.0, 1.0), **_RANGE}),
        ("RandomShear", {"x_factor": 0.99, "y_factor": 0.0}),
        ("RandomShear", {"x_factor": 0.0, "y_factor": 0.99}),
        ("RandomTranslation", {"height_factor": 0.45, "width_factor": 0.0}),
        ("RandomTranslation", {"height_factor": 0.0, "width_factor": 0.45}),
    ),
    # Severity 3, without what the corruptions of ImageNet-C do.
    "augmix": (
        ("AutoContrast", _RANGE),
        ("Equalization", _RANGE),
        ("RandomPosterization", {"factor": (3, 5), **_RANGE}),
        ("RandomRotation", {"factor": 9 / 360}),
        _SOLARIZATION,
        ("RandomShear", {"x_factor": 0.09, "y_factor": 0.0}),
        ("RandomShear", {"x_factor": 0.0, "y_factor": 0.09}),
        ("RandomTranslation", {"height_factor": 0.1, "width_factor": 0.0}),
        ("RandomTranslation", {"height_factor": 0.0, "width_factor": 0.1}),
    ),
    # A range of the probability, here of one value.
    "erasing": (("RandomErasing", {"factor": (0.5, 0.5), **_RANGE}),),
    # 0.4 as of Krizhevsky's followers (fb.resnet.torch), and some hue; 0.5 keeps saturation.
    "jitter": (
        ("RandomBrightness", {"factor": 0.4, **_RANGE}),
        ("RandomContrast", {"factor": (0.4, 0.4), **_RANGE}),
        ("RandomSaturation", {"factor": (0.375, 0.583), **_RANGE}),
        ("RandomHue", {"factor": 0.1, **_RANGE}),
    ),
}


def call_stateless(layer: keras.Layer, data: dict, key: tf.Tensor) -> dict:
    """Calls a random layer with its counter set to `key`, [seed, count]."""
    seeds = [v for v in layer.variables if v.name == "seed_generator_state"]
    mapping = [(seed, tf.cast(key, seed.dtype)) for seed in seeds]
    with keras.StatelessScope(state_mapping=mapping):
        return layer(dict(data), training=True)


class Augment:
    """Changes batches of images as a pure function of a key.

    Args:
        name: "rand" (RandAugment, arXiv 1909.13719, at strength 0.5), "trivial" (TrivialAugment,
            arXiv 2103.10158), "augmix" (AugMix, arXiv 1912.02781, without its loss), "erasing"
            (random erasing, arXiv 1708.04896), or "jitter" (brightness, contrast, saturation, hue).

    Raises:
        ValueError: An unknown name.
    """

    def __init__(self, name: str):
        self.name = checks.one_of("augment", name, AUGMENTS)
        # In float32, whatever the network that follows computes in.
        self._layers = [
            getattr(keras.layers, layer)(**options, dtype="float32")
            for layer, options in _LAYERS[name]
        ]
        self._apply = {"trivial": _one_each, "augmix": _mixed_chains}.get(name, _in_turn)

    def __call__(self, images: tf.Tensor, key: Key) -> tf.Tensor:
        """Returns float32 images in [0, 255] of the shape of `images`.

        Args:
            images: float32 in [0, 255], `(batch, height, width, channels)`.
            key: Draws by number, from 0 to 999.

        Raises:
            ValueError: The augmentation is of colors, and images are not RGB.
        """
        check_channels(self.name, images.shape[-1])
        # Some of Keras's layers forget the static shape.
        changed = self._apply(images, self._layers, key)
        return tf.ensure_shape(tf.clip_by_value(changed, 0.0, 255.0), images.shape)


def check_channels(name: str, channels: int) -> None:
    """Raises a ValueError if an augmentation is of colors and images have not three channels."""
    if channels != 3 and any(layer in _OF_COLOR for layer, _ in _LAYERS[name]):
        others = [
            name for name in AUGMENTS if not any(layer in _OF_COLOR for layer, _ in _LAYERS[name])
        ]
        raise ValueError(
            f"`augment` must be one of {', '.join(others)} for images of {channels} channels: "
            f"the others change colors. Received: augment={name!r}"
        )


def _called(layer: keras.Layer, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    return call_stateless(layer, {"images": images}, key)["images"]


def _in_turn(images: tf.Tensor, layers: Sequence[keras.Layer], key: Key) -> tf.Tensor:
    for number, layer in enumerate(layers):
        images = _called(layer, images, key(number))
    return images


def _one_each(images: tf.Tensor, layers: Sequence[keras.Layer], key: Key) -> tf.Tensor:
    """Applies one layer to each image, or none, all with equal probability."""
    draws = _uniform([tf.shape(images)[0], 1, 1, 1], key(_CHOICES))
    choice = tf.cast(draws * (len(layers) + 1), tf.int32)
    changed = images
    for number, layer in enumerate(layers):
        changed = tf.where(choice == number, _called(layer, images, key(number)), changed)
    return changed


def _mixed_chains(images: tf.Tensor, layers: Sequence[keras.Layer], key: Key) -> tf.Tensor:
    """Mixes each image with chains of one to three layers, which a whole batch has in common."""
    count = tf.shape(images)[0]
    # Exponential numbers over their sum have the Dirichlet distribution of concentration 1.
    draws = -tf.math.log1p(-_uniform([_CHAINS, count, 1, 1, 1], key(_CHOICES)))
    weights = draws / tf.maximum(tf.reduce_sum(draws, axis=0), 1e-9)
    share = _uniform([count, 1, 1, 1], key(_CHOICES + 1))
    depths = 1 + tf.cast(_uniform([_CHAINS], key(_CHOICES + 2)) * _DEPTH, tf.int32)
    choices = tf.cast(_uniform([_CHAINS, _DEPTH], key(_CHOICES + 3)) * len(layers), tf.int32)
    places = tf.range(_DEPTH) < depths[:, tf.newaxis]
    # The last of the branches is the image as it is.
    choices = tf.reshape(tf.where(places, choices, len(layers)), [-1])

    def link(number: tf.Tensor, changed: tf.Tensor, mixed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        chain, place = number // _DEPTH, number % _DEPTH
        before = tf.where(place == 0, images, changed)
        own = key(_MOST_LAYERS + tf.cast(number, tf.int64))
        branches = [functools.partial(_called, layer, before, own) for layer in layers]
        changed = tf.switch_case(choices[number], [*branches, lambda: before])
        changed = tf.ensure_shape(changed, images.shape)
        last = tf.cast(place == _DEPTH - 1, tf.float32)
        return number + 1, changed, mixed + last * weights[chain] * changed

    # A loop, since TensorFlow takes seconds to prepare a graph of all branches in all places.
    links, start = _CHAINS * _DEPTH, (tf.constant(0), images, tf.zeros_like(images))
    _, _, mixed = tf.while_loop(lambda number, *_: number < links, link, start)
    return share * images + (1.0 - share) * mixed


def _uniform(shape: Sequence[int | tf.Tensor], key: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform(shape, key)
