"""Weights for RGB in networks for images of other channels, by timm's rule.

For one channel the first kernel is summed over R, G and B, which is exact for gray images. For `n`
it is repeated, R, G, B, R, ..., to `n` channels and multiplied by 3/n, so that its sum stays the
same, to the difference of the channels that the last repetition lacks. A kernel for images whose
channels a network has reversed, to B, G, R, is that for the images as they are, in reverse.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_resnet.naming import STEM
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.weights.transfer import Layers

_RGB = 3
# First convolution of a stem, and of a deep one.
_FIRST = (f"{STEM}_conv", f"{STEM}_1_conv")


def image_channels(layers: Layers) -> int | None:
    """Returns the channels of the images that the first convolution takes, or None without one."""
    kernels = (layers[name][0] for name in _FIRST if name in layers)
    return next((kernel.shape[-2] for kernel in kernels if np.ndim(kernel) == 4), None)


def adapt_channels(layers: Layers, channels: int | None, bgr: bool = False) -> Layers:
    """Returns weights for images of so many channels; those for others than RGB unchanged.

    With `bgr` the network reverses the channels of its images.
    """
    if channels is None or channels == _RGB or image_channels(layers) != _RGB:
        return layers
    name = next(name for name in _FIRST if name in layers)
    kernel, *others = layers[name]
    return {**layers, name: [adapt_kernel(np.asarray(kernel), channels, bgr), *others]}


def adapt_kernel(kernel: np.ndarray, channels: int, bgr: bool = False) -> np.ndarray:
    """Returns a kernel `(height, width, 3, filters)` for images of so many channels."""
    if channels == 1:
        return kernel.sum(axis=-2, keepdims=True)
    order = np.arange(channels) % _RGB
    if bgr:  # The last channel of the images is the first of the kernel, and red its last.
        order = _RGB - 1 - order[::-1]
    return kernel.take(order, axis=-2) * np.float32(_RGB / channels)


def adapt_preprocessing(prepared: Preprocessing | None, channels: int) -> Preprocessing | None:
    """Returns how images of so many channels are prepared for weights that want RGB so.

    Each channel has the mean and standard deviation of the one whose kernel it gets, and a single
    one the averages of the three. What is for as many channels, or for others than RGB, stays.
    """
    if prepared is None or len(prepared.mean) != _RGB or channels == _RGB:
        return prepared

    def adapted(numbers: Sequence[float]) -> tuple[float, ...]:
        if channels == 1:
            return (sum(numbers) / _RGB,)
        return tuple(numbers[i % _RGB] for i in range(channels))

    numbers = {name: adapted(getattr(prepared, name)) for name in ("mean", "std")}
    return dataclasses.replace(prepared, **numbers)  # type: ignore[arg-type]
