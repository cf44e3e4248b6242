"""Preparation of images for a network, and class names of its scores.

Images are RGB in [0, 255], uint8 or float. The networks take them standardized by ImageNet's mean
and standard deviation per channel, the convention of torchvision and timm, not the BGR one of
Caffe and `keras.applications.resnet`. Weights of the latter are converted as they are read, but for
networks of `keras_resnet.applications`; their mean still differs by half a gray level.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet.naming import PREPROCESSING
from keras_resnet.utils import checks

# Of the ImageNet training set, per channel R, G, B in [0, 255]: torchvision's constants times 255.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Preparation of images for a network.

    Attributes:
        mean: Mean of the channels R, G, B, in [0, 255]; subtracted first.
        std: Standard deviation of the channels; the difference is divided by it.
        image_size: Side in pixels of the center crop for the published accuracy.
        crop: That side as a fraction of the shorter side of the resized image.
        interpolation: "bilinear" or "bicubic".
        class_names: Name of every class, in the order of the outputs; None where not known.
        bgr: Whether the network takes the channels in reverse, B, G, R.
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    image_size: int = 224
    crop: float = 0.875
    interpolation: str = "bilinear"
    class_names: tuple[str, ...] | None = None
    bgr: bool = False

    def __post_init__(self):
        names = self.class_names
        if names is not None:
            listed = isinstance(names, (tuple, list))
            if not listed or not all(isinstance(name, str) for name in names):
                raise ValueError(
                    f"`class_names` must be a tuple of names. Received: class_names={names!r}"
                )
            object.__setattr__(self, "class_names", tuple(names))
        if len(self.mean) != len(self.std):
            raise ValueError(
                "`mean` and `std` must have one number for each channel. "
                f"Received: mean={self.mean} and std={self.std}"
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
CAFFE = Preprocessing(mean=(123.68, 116.779, 103.939))
# `preprocess_input` of `keras.applications.resnet`, which Caffe's networks take as they are, and of
# `keras.applications.resnet_v2`.
KERAS_CAFFE = dataclasses.replace(CAFFE, std=(1.0, 1.0, 1.0), bgr=True)
KERAS_TF = Preprocessing(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))


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
            "for others pass the `Preprocessing` of the data, or an `input_tensor` that has been "
            f"standardized. Received: images of {images.shape[axis]} channels"
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
