"""How a photograph becomes a training or an evaluation image. Needs TensorFlow.

Random views are pure functions of uniform draws, like the augmentations of whole batches.
"""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from keras_resnet.data.decoding import decode_window, to_bytes
from keras_resnet.utils import checks

CROPS = ("scale", "inception")

# The principal components of the colours of ImageNet's pixels, one a row, each times its
# eigenvalue, for RGB in [0, 255]. The figures are fb.resnet.torch's.
_COLOUR_COMPONENTS = [
    [255 * 0.2175 * x for x in (-0.5675, -0.5808, -0.5836)],
    [255 * 0.0188 * x for x in (0.7192, -0.0045, -0.6948)],
    [255 * 0.0045 * x for x in (0.4009, -0.8140, 0.4203)],
]

# Tries to fit an Inception-style crop into an image before the centre is taken.
_TRIES = 10


@dataclasses.dataclass(frozen=True)
class Views:
    """What the training and evaluation images of a data set of photographs look like.

    Attributes:
        image_size: Height and width of the images, in pixels.
        channels: 3 for RGB, 1 for grey.
        crop: Of a training image: "scale" is the paper's (section 3.4: shorter side sampled from
            `resize_range`, then a random square), "inception" a random 8 to 100 % of the area at a
            random aspect ratio between 3/4 and 4/3 (arXiv 1409.4842).
        resize_range: Smallest and largest shorter side for "scale", in pixels; None for the
            paper's (256, 480) at 224 pixels, in proportion at other sizes.
        eval_resize: Shorter side of which an evaluation image is the centre, in pixels; None for
            the paper's 256 at 224 pixels, in proportion at other sizes.
        flip: Whether training images are mirrored left to right with probability 1/2.
        lighting: Strength of the PCA lighting of RGB training images (Krizhevsky et al. 2012; 0.1
            in the paper's recipe), 0 for none. It is added in float32 before images are rounded to
            uint8, clipped to [0, 255] as a camera would.

    Raises:
        ValueError: if a value is out of range.
    """

    image_size: int = 224
    channels: int = 3
    crop: str = "scale"
    resize_range: tuple[int, int] | None = None
    eval_resize: int | None = None
    flip: bool = True
    lighting: float = 0.1

    def __post_init__(self):
        size = checks.integer("image_size", self.image_size, 1)
        if self.channels not in (1, 3):
            raise ValueError(f"`channels` must be 1 or 3. Received: channels={self.channels!r}")
        if self.crop not in CROPS:
            raise ValueError(f"`crop` must be one of {CROPS}. Received: crop={self.crop!r}")
        if self.resize_range is None:
            object.__setattr__(
                self, "resize_range", tuple(round(size * x / 224) for x in (256, 480))
            )
        if self.eval_resize is None:
            object.__setattr__(self, "eval_resize", round(size * 256 / 224))
        low, high = self.resize_range
        if not size <= low <= high:
            raise ValueError(
                f"`resize_range` must rise and start at `image_size`={size} or more. "
                f"Received: resize_range={self.resize_range!r}"
            )
        checks.integer("eval_resize", self.eval_resize, size)
        if not 0 <= self.lighting < math.inf:
            raise ValueError(f"`lighting` must be 0 or more. Received: lighting={self.lighting!r}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of every image."""
        return self.image_size, self.image_size, self.channels

    @property
    def num_draws(self) -> int:
        """Uniform draws that one training image takes."""
        return 6 + (1 if self.crop == "scale" else 2 * _TRIES)

    def training(self, encoded: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """A random view.

        Args:
            encoded: Bytes of an image, a string scalar.
            draws: `num_draws` numbers in [0, 1), float32.

        Returns:
            uint8 in [0, 255] of shape `shape`.

        Raises:
            tf.errors.OpError: if the image cannot be decoded to its end.
        """
        assert self.resize_range is not None  # since `__post_init__`
        resize_range = self.resize_range
        position, mirror, colour, crop = tf.split(draws, [2, 1, 3, self.num_draws - 6])

        def window_of(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
            if self.crop == "scale":
                extent = scaled_extent(height, width, crop[0], self.image_size, resize_range)
            else:
                extent = inception_extent(height, width, tf.reshape(crop, [2, _TRIES]))
            return _placed(extent, height, width, position)

        image = decode_window(encoded, window_of, self.image_size, self.channels, antialias=False)
        if self.lighting and self.channels == 3:
            # Draws are multiples of 2**-23, and the normal deviate of 0 is infinite.
            normal = tf.math.ndtri(tf.maximum(colour, 2.0**-24))
            image += self.lighting * tf.linalg.matvec(_COLOUR_COMPONENTS, normal, transpose_a=True)
        image = to_bytes(image)
        if self.flip:
            # On bytes, and not by a slice of step -1: that took as long as decoding.
            image = tf.cond(mirror[0] < 0.5, lambda: tf.reverse(image, [1]), lambda: image)
        return image

    def evaluation(self, encoded: tf.Tensor) -> tf.Tensor:
        """The centre of the image with its shorter side resized to `eval_resize`.

        Interpolation averages here as Pillow's does, so that networks trained elsewhere are
        measured on what they know.

        Args:
            encoded: Bytes of an image, a string scalar.

        Returns:
            uint8 in [0, 255] of shape `shape`.

        Raises:
            tf.errors.OpError: if the image cannot be decoded to its end.
        """
        assert self.eval_resize is not None  # since `__post_init__`
        resize_range = self.eval_resize, self.eval_resize

        def window_of(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
            extent = scaled_extent(height, width, 0.0, self.image_size, resize_range)
            return _placed(extent, height, width, [0.5, 0.5])

        return to_bytes(
            decode_window(encoded, window_of, self.image_size, self.channels, antialias=True)
        )


def scaled_extent(
    height: tf.Tensor,
    width: tf.Tensor,
    draw: tf.Tensor | float,
    image_size: int,
    resize_range: tuple[int, int],
) -> tf.Tensor:
    """Height and width of what `image_size` shows of an image with a resized shorter side.

    The shorter side is a whole number of `resize_range`, both ends included.
    """
    low, high = resize_range
    shorter = low + tf.floor(draw * (high - low + 1))
    side = image_size / shorter * tf.cast(tf.minimum(height, width), tf.float32)
    return tf.stack([side, side])


def inception_extent(height: tf.Tensor, width: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Height and width of 8 to 100 % of the area at an aspect ratio between 3/4 and 4/3.

    Takes the first of several tries that fits the image, or else the largest window of a ratio as
    near to the image's as allowed.

    Args:
        height: Height of the image.
        width: Width of the image.
        draws: Numbers in [0, 1) of shape `(2, tries)`.
    """
    height, width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    bounds = math.log(3 / 4), math.log(4 / 3)
    area = height * width * (0.08 + 0.92 * draws[0])
    root_ratio = tf.exp((bounds[0] + (bounds[1] - bounds[0]) * draws[1]) / 2)
    heights, widths = tf.sqrt(area) / root_ratio, tf.sqrt(area) * root_ratio
    largest = tf.stack([tf.minimum(height, width * 4 / 3), tf.minimum(width, height * 4 / 3)])
    heights = tf.concat([heights, largest[:1]], axis=0)
    widths = tf.concat([widths, largest[1:]], axis=0)
    first = tf.argmax(tf.cast((heights <= height) & (widths <= width), tf.int32))
    return tf.stack([heights[first], widths[first]])


def _placed(
    extent: tf.Tensor, height: tf.Tensor, width: tf.Tensor, position: tf.Tensor | list[float]
) -> tf.Tensor:
    """The window of `extent` at `position`, 0 to 1 along each axis of the room it has."""
    room = tf.cast(tf.stack([height, width]), tf.float32) - extent
    return tf.concat([room * position, extent], axis=0)
