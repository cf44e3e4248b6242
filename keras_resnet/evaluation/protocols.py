"""Test protocols: the crops of an image that a model's outputs are averaged over. Needs TensorFlow.

Sources: sections 3.4 and 4.1 of arXiv 1512.03385; Krizhevsky et al. 2012 for the ten crops.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, Self

import tensorflow as tf

from keras_resnet.data import ImageDataset
from keras_resnet.data.decoding import crop_center, resize_shorter_side
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.utils import checks

# Shorter sides of the paper's multi-scale test, for networks of 224x224 images.
PAPER_SCALES = (224, 256, 384, 480, 640)
PAPER_SIZE = 224


class Protocol(abc.ABC):
    """Makes crops of an image. Attributes left at None are set by `resolved`.

    Attributes:
        name: Name on a command line.
        any_size: Whether crops may have other sizes than the network's own, which then has to be
            fully convolutional.
    """

    name: ClassVar[str]
    any_size: ClassVar[bool] = False

    @abc.abstractmethod
    def resolved(self, dataset: ImageDataset, prepared: Preprocessing | None = None) -> Self:
        """Returns the protocol with every attribute set, or raises a ValueError if one is unfit.

        They are those that the model's weights want, `prepared`, else the data set's.
        """

    @property
    def shorter_side(self) -> int | None:
        """Shorter side in pixels of the images that `crops` takes; None for their own.

        For crops of a rectangle, images cover the one of its ratio that has this shorter side.
        """
        return None

    @abc.abstractmethod
    def crops(
        self, image: tf.Tensor, size: tuple[int, int], interpolation: str = "bilinear"
    ) -> tuple[tf.Tensor, ...]:
        """Returns crops of an image, those of one size stacked: `(crops, height, width, C)`.

        The image is in [0, 255], `(H, W, C)`, resized to `shorter_side`; `size` is height and
        width of the network's own images, and `interpolation` is for those that are resized here.
        """

    @abc.abstractmethod
    def __str__(self) -> str: ...


@dataclasses.dataclass(frozen=True)
class _FixedCrops(Protocol):
    """Crops of the network's own size from a resized image."""

    resize: int | None = None

    _description: ClassVar[str]

    def __post_init__(self):
        if self.resize is not None:
            checks.integer("resize", self.resize)

    def resolved(self, dataset: ImageDataset, prepared: Preprocessing | None = None) -> Self:
        side = min(dataset.image_shape[:2])
        if self.resize is not None and self.resize < side:
            raise ValueError(
                f"`resize` must be at least {side}, the side of the crops. "
                f"Received: resize={self.resize}"
            )
        own = dataset.eval_resize
        if prepared:
            own = prepared.at(dataset.image_shape[:2]).shorter_side
        return dataclasses.replace(self, resize=self.resize or own)

    @property
    def shorter_side(self) -> int | None:
        return self.resize

    def __str__(self) -> str:
        return self._description + (f" of shorter side {self.resize}" if self.resize else "")


@dataclasses.dataclass(frozen=True)
class SingleCrop(_FixedCrops):
    """The center of the image.

    Attributes:
        resize: Shorter side of the image that is cropped, in pixels. None for that which the
            model's weights want; where that is not known, the data set's own: 256 for photographs
            at 224 pixels and in proportion at other sizes, images of a fixed size as they are
            stored, where all crops coincide.

    Raises:
        ValueError: If `resize` is not 1 or more.
    """

    name: ClassVar[str] = "single-crop"
    _description: ClassVar[str] = "center crop"

    def crops(
        self, image: tf.Tensor, size: tuple[int, int], interpolation: str = "bilinear"
    ) -> tuple[tf.Tensor, ...]:
        return (crop_center(image, size)[tf.newaxis],)


@dataclasses.dataclass(frozen=True)
class TenCrop(_FixedCrops):
    """The four corners of the image, its center, and the mirror images of these five.

    Attributes:
        resize: As in `SingleCrop`.
    """

    name: ClassVar[str] = "ten-crop"
    _description: ClassVar[str] = "10 crops"

    def crops(
        self, image: tf.Tensor, size: tuple[int, int], interpolation: str = "bilinear"
    ) -> tuple[tf.Tensor, ...]:
        crops = _five_crops(image, size)
        return (tf.concat([crops, tf.reverse(crops, [2])], axis=0),)


@dataclasses.dataclass(frozen=True)
class MultiScale(Protocol):
    """The whole image at several sizes, for a fully convolutional network.

    Attributes:
        scales: Shorter sides in pixels; None for the paper's 224, 256, 384, 480 and 640 at 224
            pixels, in proportion at other sizes of the network's images.
        flip: Whether to add the mirror images. The paper does not say that it did.

    Raises:
        ValueError: If there is no scale, or one is not 1 or more.
    """

    scales: tuple[int, ...] | None = None
    flip: bool = False

    name: ClassVar[str] = "multi-scale"
    any_size: ClassVar[bool] = True

    def __post_init__(self):
        checks.boolean("flip", self.flip)
        if self.scales is None:
            return
        if not isinstance(self.scales, (tuple, list)) or not self.scales:
            raise ValueError(
                "`scales` must be one or more numbers of pixels, such as (224, 256). "
                f"Received: scales={self.scales!r}"
            )
        scales = tuple(checks.integer("scales", scale) for scale in self.scales)
        object.__setattr__(self, "scales", scales)

    def resolved(self, dataset: ImageDataset, prepared: Preprocessing | None = None) -> Self:
        side = min(dataset.image_shape[:2])
        scales = self.scales or tuple(round(side * s / PAPER_SIZE) for s in PAPER_SCALES)
        return dataclasses.replace(self, scales=scales)

    def crops(
        self, image: tf.Tensor, size: tuple[int, int], interpolation: str = "bilinear"
    ) -> tuple[tf.Tensor, ...]:
        scales = self.scales or ()
        resized = [resize_shorter_side(image, scale, interpolation)[tf.newaxis] for scale in scales]
        if self.flip:
            resized = [tf.concat([crop, tf.reverse(crop, [2])], axis=0) for crop in resized]
        return tuple(resized)

    def __str__(self) -> str:
        mirrored = ", and mirrored" if self.flip else ""
        return f"whole image at {', '.join(map(str, self.scales or ()))} pixels{mirrored}"


PROTOCOLS: dict[str, Any] = {cls.name: cls for cls in (SingleCrop, TenCrop, MultiScale)}


def make_protocol(name: str, **attributes: Any) -> Protocol:
    """Returns a protocol by its name.

    Args:
        name: "single-crop", "ten-crop" or "multi-scale".
        **attributes: Its attributes: `resize` of the crops, `scales` and `flip` of "multi-scale".

    Raises:
        ValueError: If there is none of that name, or it has no such attribute.
    """
    cls = PROTOCOLS[checks.one_of("protocol", name, tuple(PROTOCOLS))]
    known = [field.name for field in dataclasses.fields(cls)]
    for attribute, value in attributes.items():
        if attribute not in known:
            raise ValueError(
                f"`{attribute}` is no attribute of the protocol {name!r}, which takes "
                f"{' and '.join(known)}. Received: {attribute}={value}"
            )
    return cls(**attributes)


def _five_crops(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Returns the crops at the top left, top right, bottom left, bottom right and center."""
    bottom, right = tf.unstack(tf.shape(image)[:2] - size)
    corners = ((0, 0), (0, right), (bottom, 0), (bottom, right))
    crops = [tf.slice(image, [top, left, 0], [*size, image.shape[-1]]) for top, left in corners]
    return tf.stack([*crops, crop_center(image, size)])
