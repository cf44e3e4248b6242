"""Transforms of encoded photographs to training and evaluation images. Needs TensorFlow.

Random transforms are pure functions of uniform draws, like the augmentations of whole batches.
"""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from keras_resnet.data.decoding import crop_center, decode_whole, decode_window, to_bytes
from keras_resnet.data.npy import IMAGE_CHANNELS
from keras_resnet.preprocessing import (
    INTERPOLATIONS,
    Preprocessing,
    Size,
    checked_size,
    covered_by,
    sides_of,
)
from keras_resnet.utils import checks

# Principal components of the colors of ImageNet's pixels, one per row, times their eigenvalues, for
# RGB in [0, 255]. The numbers are fb.resnet.torch's.
_COLOR_COMPONENTS = [
    [255 * 0.2175 * x for x in (-0.5675, -0.5808, -0.5836)],
    [255 * 0.0188 * x for x in (0.7192, -0.0045, -0.6948)],
    [255 * 0.0045 * x for x in (0.4009, -0.8140, 0.4203)],
]

CROPS = ("scale", "inception", "pad")

# Attempts to fit an Inception-style crop into an image.
_ATTEMPTS = 10


@dataclasses.dataclass(frozen=True)
class Transforms:
    """Transforms of a photograph to a training and to an evaluation image.

    Attributes:
        image_size: Side of the images in pixels, or their height and width, also as text: 224x192.
            Of a rectangle, the sizes below are those of its shorter side; the longer one is in
            proportion.
        channels: 3 for RGB, 1 for grayscale, 4 for RGBA; any other number for `.npy` files of
            arrays `(height, width, channels)`.
        crop: Crop of a training image: "scale" is the paper's (section 3.4: shorter side sampled
            from `resize_range`, then a random square), "inception" a random 8 to 100 % of the area
            at a random aspect ratio between 3/4 and 4/3 of that of `image_size` (arXiv 1409.4842),
            "pad" for small images the center at `image_size`, padded on every side by an eighth of
            that with reflections (arXiv 1605.07146) and then cropped at random.
        resize_range: Smallest and largest shorter side for "scale", in pixels; None for the
            paper's (256, 480) at 224 pixels, in proportion at other sizes.
        eval_resize: Shorter side of which an evaluation image is the center, in pixels; None for
            the paper's 256 at 224 pixels, in proportion at other sizes, and for `image_size` with
            crop="pad".
        flip: Whether training images are flipped left to right with probability 1/2; False where
            left and right tell classes apart.
        lighting: Strength of the PCA lighting of RGB training images (Krizhevsky et al. 2012), 0
            for none; added before images are clipped and rounded. None for 0.1, as in the paper's
            recipe, or 0 with crop="pad".
        interpolation: "bilinear" or "bicubic", for evaluation images.
        bits: Bits of each channel that are kept: 8, for images of uint8, or 16, for float32 images
            in the same [0, 255], whose levels have fractions. Arrays of `.npy` files are float32
            always, and floats among them in whatever range they have.

    Raises:
        ValueError: If a value is out of range.
    """

    image_size: Size = 224
    channels: int = 3
    crop: str = "scale"
    resize_range: tuple[int, int] | None = None
    eval_resize: int | None = None
    flip: bool = True
    lighting: float | None = None
    interpolation: str = "bilinear"
    bits: int = 8

    @classmethod
    def of(cls, prepared: Preprocessing) -> Transforms:
        """Returns the transforms whose evaluation images are those that `prepared` describes."""
        return cls(
            image_size=prepared.image_size,
            channels=len(prepared.mean),
            eval_resize=prepared.shorter_side,
            interpolation=prepared.interpolation,
            bits=prepared.bits,
        )

    @classmethod
    def for_images(
        cls,
        image_shape: tuple[int | None, int | None, int],
        prepared: Preprocessing | None = None,
        image_size: Size | None = None,
    ) -> Transforms | None:
        """Returns the transforms to images of a model.

        Args:
            image_shape: `(H, W, C)` of the model's images; None for sides of any length.
            prepared: What its weights want done to an image, or None where not known: the center
                of the model's size.
            image_size: Size for a model of any; by default that of `prepared`, 224 without.

        Returns:
            None for a model of any number of channels, or of images of which one side is open.
        """
        *sides, channels = image_shape
        if channels is None or sides.count(None) == 1:
            return None
        prepared = prepared or Preprocessing.unchanged(channels)
        own = None if None in sides else checked_size("image_size", sides)
        return cls.of(prepared.at(own or image_size or prepared.image_size))

    def __post_init__(self):
        object.__setattr__(self, "image_size", checked_size("image_size", self.image_size))
        size = min(self.sides)
        checks.integer("channels", self.channels)
        checks.one_of("bits", self.bits, (8, 16))
        checks.one_of("crop", self.crop, CROPS)
        checks.one_of("interpolation", self.interpolation, INTERPOLATIONS)
        if self.resize_range is None:
            resize_range = tuple(round(size * x / 224) for x in (256, 480))
            object.__setattr__(self, "resize_range", resize_range)
        if self.eval_resize is None:
            eval_resize = size if self.crop == "pad" else round(size * 256 / 224)
            object.__setattr__(self, "eval_resize", eval_resize)
        if self.lighting is None:
            object.__setattr__(self, "lighting", 0.0 if self.crop == "pad" else 0.1)
        low, high = self.resize_range
        if not size <= low <= high:
            raise ValueError(
                f"`resize_range` must rise and start at `image_size`={size} or more. "
                f"Received: resize_range={self.resize_range!r}"
            )
        checks.integer("eval_resize", self.eval_resize, size)
        checks.boolean("flip", self.flip)
        assert self.lighting is not None
        if not 0 <= self.lighting < math.inf:
            raise ValueError(f"`lighting` must be 0 or more. Received: lighting={self.lighting!r}")

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of every image."""
        return sides_of(self.image_size)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of every image."""
        return *self.sides, self.channels

    @property
    def of_files(self) -> bool:
        """True for images of image files, False for arrays of `.npy` files."""
        return self.channels in IMAGE_CHANNELS

    @property
    def dtype(self) -> tf.DType:
        """Type of the images."""
        return tf.uint8 if self.bits == 8 and self.of_files else tf.float32

    @property
    def num_draws(self) -> int:
        """Number of uniform draws for one training image."""
        return 6 + {"scale": 1, "inception": 2 * _ATTEMPTS, "pad": 0}[self.crop]

    def training(self, encoded: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Returns a random crop, flip and lighting of an image, of `dtype` and shape `shape`.

        Those of image files are in [0, 255].

        Args:
            encoded: Bytes of an image, a string scalar.
            draws: `num_draws` numbers in [0, 1), float32.

        Raises:
            tf.errors.OpError: If the image cannot be decoded to its end.
        """
        position, flip, color, crop = tf.split(draws, [2, 1, 3, self.num_draws - 6])
        if self.crop == "pad":
            image = self._shifted(encoded, position)
        else:
            image = self._window(encoded, position, crop)
        if self.lighting and self.channels == 3:
            # Draws are multiples of 2**-23, and the normal deviate of 0 is infinite.
            normal = tf.math.ndtri(tf.maximum(color, 2.0**-24))
            image += self.lighting * tf.linalg.matvec(_COLOR_COMPONENTS, normal, transpose_a=True)
        if self.dtype == tf.uint8:
            image = to_bytes(image)
        elif self.of_files:
            image = tf.clip_by_value(image, 0.0, 255.0)
        if self.flip:
            # By `tf.reverse`, since a slice of step -1 takes as long as decoding.
            image = tf.cond(flip[0] < 0.5, lambda: tf.reverse(image, [1]), lambda: image)
        return image

    def _shifted(self, encoded: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        size = covered_by(self.sides, None)
        image = decode_whole(encoded, self.channels, size, self.interpolation, self.bits)
        padding = [side // 8 for side in self.sides]
        places = [2 * pixels + 1 for pixels in padding]
        corner = tf.cast(tf.floor(position * tf.constant(places, tf.float32)), tf.int32)
        center = crop_center(image, self.sides)
        padded = tf.pad(center, [*([pixels] * 2 for pixels in padding), [0, 0]], "REFLECT")
        return tf.cast(tf.slice(padded, [*tf.unstack(corner), 0], self.shape), tf.float32)

    def _window(self, encoded: tf.Tensor, position: tf.Tensor, crop: tf.Tensor) -> tf.Tensor:
        assert self.resize_range is not None  # since `__post_init__`
        resize_range = self.resize_range

        def window_of(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
            if self.crop == "scale":
                extent = scaled_extent(height, width, crop[0], self.sides, resize_range)
            else:
                ratio = self.sides[1] / self.sides[0]
                extent = inception_extent(height, width, tf.reshape(crop, [2, _ATTEMPTS]), ratio)
            return _placed(extent, height, width, position)

        return decode_window(
            encoded, window_of, self.sides, self.channels, antialias=False, bits=self.bits
        )

    def evaluation(self, encoded: tf.Tensor) -> tf.Tensor:
        """Returns the center of the image with its shorter side resized to `eval_resize`.

        A rectangle is the center of an image that covers it as `Preprocessing` says.

        Interpolation is antialiased and places are rounded as by Pillow and torchvision, so that
        networks trained elsewhere see the images that they were trained on. Arguments, result and
        errors are as for `training`.
        """
        covered = covered_by(self.sides, self.eval_resize)
        image = decode_whole(encoded, self.channels, covered, self.interpolation, self.bits)
        return crop_center(image, self.sides)


def scaled_extent(
    height: tf.Tensor,
    width: tf.Tensor,
    draw: tf.Tensor | float,
    image_size: Size,
    resize_range: tuple[int, int],
) -> tf.Tensor:
    """Returns height and width of a crop of `image_size` of the resized image, in source pixels.

    The shorter side is resized to a whole number of `resize_range`, both ends included; for a
    rectangle the image covers the one of its ratio whose shorter side that is.
    """
    low, high = resize_range
    shorter = low + tf.floor(draw * (high - low + 1))
    sides = sides_of(image_size)
    # Pixels of the source for each of the shorter side; for squares that is the image's own.
    lengths = [
        tf.cast(own, tf.float32) * (min(sides) / side)
        for own, side in zip((height, width), sides, strict=True)
    ]
    unit = tf.minimum(*lengths)
    return tf.stack([side / shorter * unit for side in sides])


def inception_extent(
    height: tf.Tensor, width: tf.Tensor, draws: tf.Tensor, ratio: float = 1.0
) -> tf.Tensor:
    """Returns height and width of 8 to 100 % of the area, their ratio 3/4 to 4/3 times `ratio`.

    That is the one of width to height. The first of several attempts, with draws in [0, 1) of shape
    `(2, attempts)`, that fits the image, or else the largest crop of an allowed ratio nearest to
    the image's.
    """
    height, width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    bounds = math.log(3 / 4 * ratio), math.log(4 / 3 * ratio)
    area = height * width * (0.08 + 0.92 * draws[0])
    root_ratio = tf.exp((bounds[0] + (bounds[1] - bounds[0]) * draws[1]) / 2)
    heights, widths = tf.sqrt(area) / root_ratio, tf.sqrt(area) * root_ratio
    largest = tf.stack(
        [tf.minimum(height, width * 4 / 3 / ratio), tf.minimum(width, height * 4 / 3 * ratio)]
    )
    heights = tf.concat([heights, largest[:1]], axis=0)
    widths = tf.concat([widths, largest[1:]], axis=0)
    first = tf.argmax(tf.cast((heights <= height) & (widths <= width), tf.int32))
    return tf.stack([heights[first], widths[first]])


def _placed(
    extent: tf.Tensor, height: tf.Tensor, width: tf.Tensor, position: tf.Tensor | list[float]
) -> tf.Tensor:
    """Returns the window of `extent` at `position`, 0 to 1 along each axis of its margin."""
    margin = tf.cast(tf.stack([height, width]), tf.float32) - extent
    return tf.concat([margin * position, extent], axis=0)
