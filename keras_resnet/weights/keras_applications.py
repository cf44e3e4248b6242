"""Weights of `keras.applications` made those of this package's networks.

`DenseNet121`, 169 and 201 differ in names and an epsilon. `ResNet50`, 101 and 152 are the authors'
Caffe models. They differ in three things, each of which is moved to where it belongs without a
change of the function that the network computes:

- a bias in every convolution, which the normalisation behind it takes off again: into its mean;
- an epsilon of 1.001e-5 in that normalisation: the difference goes into the variance;
- images in BGR, less their mean and not divided by anything: the first kernel is turned round and
  multiplied by the standard deviations of `preprocess_input`. The mean stays Caffe's, since the
  zeros around an image are zeros after its subtraction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from keras_resnet.naming import CLASSIFIER, POST
from keras_resnet.preprocessing import CAFFE

EPSILON = 1.001e-5
# What their classifier has been called.
_CLASSIFIERS = ("probs", "fc1000")


def are_keras_applications(layers: Mapping[str, Sequence[np.ndarray]]) -> bool:
    """Whether the weights, by layer, are those of `keras.applications` and not of this package."""
    residual = "conv1_bn" in layers and len(layers.get("conv1_conv", ())) == 2
    return residual or are_densely_connected(layers)


def are_densely_connected(layers: Mapping[str, Sequence[np.ndarray]]) -> bool:
    """Whether the weights are those of a DenseNet of `keras.applications`."""
    return {"bn", "conv2_block1_0_bn"} <= layers.keys()


def from_keras_applications(
    layers: Mapping[str, Sequence[np.ndarray]],
) -> dict[str, list[np.ndarray]]:
    """Returns their weights as those of a network here but for the epsilon; ResNets' as "v1"."""
    layers = {
        # With a slash in files of old.
        CLASSIFIER if name in _CLASSIFIERS else name.replace("/", "_"): list(arrays)
        for name, arrays in layers.items()
    }
    if are_densely_connected(layers):
        layers[f"{POST}_bn"] = layers.pop("bn")
        return layers
    for name, arrays in layers.items():
        norm = layers.get(f"{name.removesuffix('conv')}bn")
        if name.endswith("_conv") and norm and len(arrays) == 2 and len(norm) == 4:
            # (conv + bias) - mean is conv - (mean - bias).
            norm[2] = norm[2] - arrays.pop()
    kernel = layers["conv1_conv"][0]
    if kernel.ndim == 4 and kernel.shape[2] == 3:
        scale = np.reshape(CAFFE.std, (3, 1)).astype(kernel.dtype)
        layers["conv1_conv"][0] = kernel[:, :, ::-1] * scale
    return layers
