"""Preparation of images for a network, and class names of its scores.

Images are RGB in [0, 255], uint8 or float. The networks take them standardized by ImageNet's mean
and standard deviation per channel, the convention of torchvision and timm, not the BGR one of
Caffe and `keras.applications.resnet`. Weights of the latter are converted as they are read, but for
networks of `keras_resnet.applications`; their mean still differs by half a gray level.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet.naming import PREPROCESSING
from keras_resnet.utils import checks
from keras_resnet.utils.checks import Size, checked_size, sides_of
from keras_resnet.utils.files import parse_json

# Of the ImageNet training set, per channel R, G, B in [0, 255]: torchvision's constants times 255.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

INTERPOLATIONS = ("bilinear", "bicubic")
# Stands for the class of an image whose best class is below the threshold.
NONE_OF_THE_CLASSES = "none of the classes"

# Names of images by their number of channels.
COLORS = {1: "grayscale", 3: "RGB", 4: "RGBA"}

# More would take memory for what is cropped away.
_LARGEST_MARGIN = 16
# What no attribute changes.
_ALWAYS = {"orientation": "exif", "antialias": True, "crop": "center", "range": [0, 255]}


def covered_by(size: Size, resize: int | None) -> Size:
    """Returns what an image is to cover that a center of `size` is cropped from.

    That is the rectangle of the same ratio whose shorter side is `resize`, by default `size`.
    """
    height, width = sides_of(size)
    shortest = min(height, width)
    sides = (round(side * (resize or shortest) / shortest) for side in (height, width))
    return checked_size("resize", tuple(sides))


def _checked_numbers(*given: Any) -> list[tuple[float, ...]]:
    """Returns mean and deviation as tuples of numbers of Python."""
    mean, std = values = [np.asarray(value) for value in given]
    numbers = all(value.ndim == 1 and value.dtype.kind in "iuf" for value in values)
    if not numbers or mean.shape != std.shape or not np.isfinite(values).all() or (std < 0).any():
        raise ValueError(
            "`mean` and `std` must have one finite number for each channel, deviations no "
            "negative one. Received: mean={} and std={}".format(*given)
        )
    return [tuple(value.tolist()) for value in values]


def _checked_resizes(pairs: Any) -> tuple[tuple[Size, int], ...]:
    """Returns the pairs of `Preprocessing.resizes` as tuples."""
    listed = isinstance(pairs, (tuple, list))
    if not listed or not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
        raise ValueError(
            f"`resizes` must be pairs of an image size and its `resize`. Received: resizes={pairs}"
        )
    return tuple(
        (checked_size("resizes", size), checks.integer("resizes", resize)) for size, resize in pairs
    )


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Description of what is done to an image before a network sees it.

    The image is turned upright by its EXIF orientation; its shorter side is resized to `resize`
    pixels, antialiased; the center of `image_size` pixels is cropped; and the mean is subtracted
    and the difference divided by the deviation, per channel. For a rectangle the image is resized
    so that it just covers the one of the same ratio whose shorter side is `resize`, of which that
    of squares is a case. `print` shows it.

    Attributes:
        mean: Mean of the channels R, G, B, or of however many there are, in [0, 255].
        std: Standard deviation of the channels.
        image_size: Side in pixels of the center that is cropped, or its height and width.
        resize: Shorter side in pixels of what is cropped; None for that of `image_size`.
        interpolation: "bilinear" or "bicubic".
        class_names: Name of every class, in the order of the outputs; None where not known.
        source: Weights or data that it was taken from; "" where not known.
        resizes: Pairs of another `image_size` and its `resize`, where published; at other sizes
            `resize` is in proportion.
        bgr: Whether the network takes the channels in reverse, B, G, R.
        threshold: Probability of the best class below which an image shows none of the classes, in
            [0, 1]; None where there is no such limit.
        bits: Bits of each channel that are kept, 8 or 16. With 16, levels have fractions in the
            same [0, 255]: those of 16-bit PNGs are divided by 257.

    Raises:
        ValueError: If a value is out of range.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    image_size: Size = 224
    resize: int | None = None
    interpolation: str = "bilinear"
    class_names: tuple[str, ...] | None = None
    source: str = ""
    resizes: tuple[tuple[Size, int], ...] = ()
    bgr: bool = False
    threshold: float | None = None
    bits: int = 8

    def __post_init__(self):
        names = self.class_names
        if names is not None:
            listed = isinstance(names, (tuple, list))
            if not listed or not all(isinstance(name, str) for name in names):
                raise ValueError(
                    f"`class_names` must be a tuple of names. Received: class_names={names!r}"
                )
            object.__setattr__(self, "class_names", tuple(names))
        mean, std = _checked_numbers(self.mean, self.std)
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)
        object.__setattr__(self, "resizes", _checked_resizes(self.resizes))
        object.__setattr__(self, "image_size", checked_size("image_size", self.image_size))
        if self.resize is not None:
            shortest = min(sides_of(self.image_size))
            checks.integer("resize", self.resize, shortest)
            if self.resize > _LARGEST_MARGIN * shortest:
                raise ValueError(
                    f"`resize` must be at most {_LARGEST_MARGIN} times `image_size`, "
                    f"{shortest}. Received: resize={self.resize}"
                )
        checks.boolean("bgr", self.bgr)
        checks.one_of("bits", self.bits, (8, 16))
        if not isinstance(self.source, str):
            raise ValueError(f"`source` must be text. Received: source={self.source!r}")
        checks.one_of("interpolation", self.interpolation, INTERPOLATIONS)
        if self.threshold is not None:
            checks.fraction("threshold", self.threshold, one_allowed=True)

    @classmethod
    def unchanged(cls, channels: int, image_size: Size = 224) -> Preprocessing:
        """Returns that of a model which takes the center square in [0, 255] as it is."""
        return cls((0.0,) * channels, (1.0,) * channels, image_size)

    @property
    def shorter_side(self) -> int:
        """Shorter side in pixels of what is cropped: `resize`, or by default of `image_size`."""
        return self.resize or min(sides_of(self.image_size))

    @property
    def covers(self) -> Size:
        """Rectangle that the resized image just covers; for a square that is its shorter side."""
        return covered_by(self.image_size, self.resize)

    def shows_none(self, probability: float) -> bool:
        """Returns whether an image of that probability of the best class shows none of the classes.

        Compared as float32, as exported models do.
        """
        return self.threshold is not None and bool(
            np.float32(probability) < np.float32(self.threshold)
        )

    def at(self, image_size: Size) -> Preprocessing:
        """Returns it for images of another size, as published or in proportion."""
        image_size = checked_size("image_size", image_size)
        if image_size == self.image_size:
            return self
        if self.resize is None:
            return dataclasses.replace(self, image_size=image_size)
        sizes = {**dict(self.resizes), self.image_size: self.resize}
        new, own = (min(sides_of(size)) for size in (image_size, self.image_size))
        resize = sizes.pop(image_size, round(new * self.resize / own))
        return dataclasses.replace(
            self, image_size=image_size, resize=resize, resizes=tuple(sizes.items())
        )

    def with_weights_of(self, other: Preprocessing | None) -> Preprocessing:
        """Returns it for the weights that `other` is of, or for weights of which nothing is known.

        The source and the threshold are those of the weights.
        """
        source, threshold = (other.source, other.threshold) if other else ("", None)
        return dataclasses.replace(self, source=source, threshold=threshold)

    def __str__(self) -> str:
        count = len(self.mean)
        channels = f"{COLORS.get(count, f'{count} channels')} in [0, 255]"
        if self.bits == 16 and count in COLORS:
            channels = f"{COLORS[count]} of 16 bits in [0, 255]"
        elif self.bits == 16:
            channels = f"{count} channels of a .npy file, 16 bits in [0, 255]"
        numbers = [", ".join(f"{x:.6g}" for x in values) for values in (self.mean, self.std)]
        resized = f"shorter side to {self.shorter_side} pixels"
        if isinstance(covers := self.covers, tuple):
            resized = f"resized to cover {covers[0]}x{covers[1]} pixels (height x width)"
        height, width = sides_of(self.image_size)
        text = (
            f"{channels}, upright by EXIF; {resized}, "
            f"{self.interpolation}, antialiased; center of {height}x{width}; "
            f"minus ({numbers[0]}), divided by ({numbers[1]})"
        )
        text += "; then B, G, R" * self.bgr
        if self.class_names is not None:
            text += f"; {len(self.class_names)} named classes"
        if self.threshold is not None:
            text += f"; below probability {self.threshold:.3f} none of them"
        return text + f"; of {self.source}" * bool(self.source)

    def to_json(self) -> str:
        """Returns it as text that any program can read, for exported models.

        Beside the attributes it names what is the same for all: `orientation`, `antialias`, `crop`
        and `range`. For a rectangle `image_size` is its height and width, and `covers` those of the
        one that the resized image covers. Class names are not in it: exported models have them in a
        file of labels.
        """
        values = dataclasses.asdict(self) | {"resize": self.shorter_side} | _ALWAYS
        if isinstance(self.covers, tuple):
            values["covers"] = self.covers
        if self.bits == 8:
            del values["bits"]  # which earlier versions do not know
        return json.dumps({name: values[name] for name in values if name != "class_names"})

    @classmethod
    def from_json(cls, text: str | bytes) -> Preprocessing:
        """Returns what `to_json` gave out.

        Raises:
            ValueError: If the text is no such thing.
        """
        try:
            values = parse_json(text)
            always = {name: values.pop(name) for name in _ALWAYS}
            values.pop("covers", None)  # follows from the others
            if always == _ALWAYS:
                return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                "`preprocessing` must be the JSON that `Preprocessing.to_json` returns. "
                f"Received: {checks.first_line(error)}"
            ) from error
        raise ValueError(
            "`preprocessing` must be one that this version of keras_resnet knows. "
            f"Received: {always}"
        )

    def standardize(self, images: Any, data_format: str | None = None) -> Any:
        """Returns `(images - mean) / std` per channel; shapes and dtypes as `preprocess_input`.

        The channels are R, G, B before, and in reverse behind where the network wants that.
        """
        data_format = checks.data_format(data_format)
        axis = -1 if data_format == "channels_last" else -3
        if not hasattr(images, "shape"):
            images = np.asarray(images)
        rank = len(images.shape)
        channels = len(self.mean)
        if rank < 3 or images.shape[axis] != channels:
            raise ValueError(
                f"`images` must have {channels} channels, (..., H, W, {channels}) for "
                f"channels_last or (..., {channels}, H, W) for channels_first. Received: images of "
                f"shape {tuple(images.shape)} with data_format={data_format!r}"
            )
        shape = [1] * rank
        shape[axis] = channels
        mean, std = (np.reshape(v, shape).astype("float32") for v in (self.mean, self.std))
        # Of a channel that is constant, as the layer does.
        std = np.maximum(std, np.float32(keras.config.epsilon()))
        if isinstance(images, np.ndarray):
            floating = "float" in keras.backend.standardize_dtype(images.dtype)
            prepared = ((images - mean) / std).astype(images.dtype if floating else "float32")
            return np.flip(prepared, axis) if self.bgr else prepared
        images = ops.convert_to_tensor(images)
        dtype = keras.backend.standardize_dtype(images.dtype)
        dtype = dtype if "float" in dtype else "float32"
        # In float32, since 16 bits cannot hold the difference of two numbers near 255 well.
        prepared = ops.cast((ops.cast(images, "float32") - mean) / std, dtype)
        return ops.flip(prepared, axis) if self.bgr else prepared

    def same_numbers(self, other: Preprocessing) -> bool:
        """Returns whether mean and deviation are those of `other`, to the rounding of float32."""
        if self.bgr != other.bgr:
            return False
        own, others = (*self.mean, *self.std), (*other.mean, *other.std)
        return len(own) == len(others) and np.allclose(own, others, rtol=1e-6, atol=0.0)


# Caffe's mean. Its networks take BGR that is not divided by the deviations: converting their
# weights reverses and scales the first kernel, so that one convention holds for all.
CAFFE = Preprocessing(mean=(123.68, 116.779, 103.939), resize=256)
# `preprocess_input` of `keras.applications.resnet`, which Caffe's networks take as they are, and of
# `keras.applications.resnet_v2`.
KERAS_CAFFE = dataclasses.replace(CAFFE, std=(1.0, 1.0, 1.0), bgr=True)
KERAS_TF = Preprocessing((127.5, 127.5, 127.5), (127.5, 127.5, 127.5), resize=256)


@keras.saving.register_keras_serializable("keras_resnet")
class ReversedNormalization(keras.layers.Normalization):
    """Keras's normalization, and behind it the channels in reverse: from RGB to BGR."""

    def call(self, inputs):
        (axis,) = self.axis
        order = list(reversed(range(inputs.shape[axis])))
        return ops.take(super().call(inputs), order, axis)


def standardize_layer(
    images: keras.KerasTensor, axis: int, prepared: Preprocessing
) -> keras.layers.Normalization:
    """Returns `Preprocessing.standardize` as a layer, for `include_preprocessing`.

    Raises:
        ValueError: If `images` have another number of channels, on `axis`, than `prepared`.
    """
    if images.shape[axis] != len(prepared.mean):
        raise ValueError(
            f"`include_preprocessing` subtracts the mean of {len(prepared.mean)} channels here; "
            "for others pass a `Preprocessing` with a number for each channel, such as "
            "mean=(127.5, ...), std=(127.5, ...) to scale to [-1, 1]. "
            f"Received: images of {images.shape[axis]} channels"
        )
    kind = ReversedNormalization if prepared.bgr else keras.layers.Normalization
    return kind(
        axis=axis,
        mean=prepared.mean,
        variance=[std**2 for std in prepared.std],
        dtype="float32",
        name=PREPROCESSING,
    )


def decode_predictions(
    predictions: Any, top: int = 5, class_names: Sequence[str] | None = None
) -> list[list[tuple[str, str, float]]]:
    """Returns the best classes of every image by their scores.

    Args:
        predictions: Scores `(batch, classes)`, probabilities or logits.
        top: Number of classes to return per image, best first.
        class_names: Name of every class. None means ImageNet's 1000, whose names Keras downloads
            once (35 kB, verified, kept in its cache).

    Returns:
        For each image, `top` tuples (class id, class name, score). The id is the WordNet one for
        ImageNet, else the class number as a string.

    Raises:
        ValueError: If shapes, `top` and the number of names do not fit together.
    """
    predictions = ops.convert_to_numpy(predictions)
    if predictions.ndim != 2:
        raise ValueError(
            "`predictions` must be scores of shape (batch, classes). "
            f"Received: predictions of shape {predictions.shape}"
        )
    classes = predictions.shape[1]
    names = 1000 if class_names is None else len(class_names)
    if isinstance(class_names, str) or names != classes:
        listed = not isinstance(class_names, (str, type(None)))
        received = f"{names} names" if listed else f"{class_names=}"
        raise ValueError(
            f"`class_names` must be a sequence of {classes} names, one for each class, or None for "
            f"ImageNet's 1000. Received: {received}"
        )
    if checks.integer("top", top) > classes:
        raise ValueError(f"`top` must be at most {classes}, all classes. Received: top={top}")
    if class_names is None:
        try:
            return keras.applications.imagenet_utils.decode_predictions(predictions, top=top)
        except Exception as error:  # Keras raises a bare one where the download fails.
            raise OSError(
                "The names of ImageNet's classes could not be fetched; pass `class_names`. "
                f"({checks.first_line(error)})"
            ) from error
    class_names = list(class_names)
    # As floats, since unsigned integers have no negatives.
    best = np.argsort(-predictions.astype("float64"), axis=1, kind="stable")[:, :top]
    return [
        [(str(i), class_names[i], float(scores[i])) for i in row]
        for row, scores in zip(best, predictions, strict=True)
    ]
