"""Weights of `keras.applications`, converted to those of this package's networks.

`DenseNet121`, 169 and 201 differ in names and an epsilon; `ResNet50V2`, 101 and 152 are of version
"v2-keras" and differ in nothing. `ResNet50`, 101 and 152 are the authors' Caffe models. They differ
in three things, each of which is moved to where it belongs without a change of the function that
the network computes, unless it has biases, too (`conv_bias`):

- a bias in every convolution, which the normalization behind it subtracts again: into its mean;
- an epsilon of 1.001e-5 in that normalization: the difference goes into the variance;
- images in BGR, less their mean and not divided by anything: the first kernel is reversed along its
  channels and multiplied by the standard deviations of `preprocess_input`. The mean stays Caffe's,
  since the zeros around an image are zeros after its subtraction.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_resnet.naming import CLASSIFIER, POST
from keras_resnet.preprocessing import CAFFE, KERAS_CAFFE, KERAS_TF, Preprocessing
from keras_resnet.weights.saved import SavedWeights

_EPSILON = 1.001e-5
# Names that their classifier has had.
_CLASSIFIERS = ("probs", "fc1000")


def from_keras_applications(saved: SavedWeights) -> SavedWeights:
    """Returns weights of `keras.applications` as this package's, and all others unchanged.

    Those of its ResNets keep the `original`, for networks that have a bias in every convolution.
    """
    dense = {"bn", "conv2_block1_0_bn"} <= saved.layers.keys()
    # Of version "v2", whose stem is normalized, the first block is not.
    preactivated = "conv2_block1_preact_bn" in saved.layers
    biased = len(saved.layers.get("conv1_conv", ())) == 2
    if not (dense or (biased and (preactivated or "conv1_bn" in saved.layers))):
        return saved
    layers = {
        # With a slash in old files.
        CLASSIFIER if name in _CLASSIFIERS else name.replace("/", "_"): list(arrays)
        for name, arrays in saved.layers.items()
    }
    converted = dataclasses.replace(saved, layers=layers, name=None, epsilon=_EPSILON)
    if dense:
        layers[f"{POST}_bn"] = layers.pop("bn")
        return dataclasses.replace(converted, preprocessing=Preprocessing(resize=256))
    if preactivated:
        return dataclasses.replace(converted, version="v2-keras", preprocessing=KERAS_TF)
    kernel = layers["conv1_conv"][0]
    # Those of other channels are no published ones, and tell nothing of their images.
    published = kernel.ndim == 4 and kernel.shape[2] == 3
    original = dataclasses.replace(
        converted,
        layers={name: list(arrays) for name, arrays in layers.items()},
        version="v1",
        preprocessing=KERAS_CAFFE if published else None,
    )
    for name, arrays in layers.items():
        norm = layers.get(f"{name.removesuffix('conv')}bn")
        if name.endswith("_conv") and norm and len(arrays) == 2 and len(norm) == 4:
            # (conv + bias) - mean is conv - (mean - bias).
            norm[2] = norm[2] - arrays.pop()
    if published:
        scale = np.reshape(CAFFE.std, (3, 1)).astype(kernel.dtype)
        layers["conv1_conv"][0] = kernel[:, :, ::-1] * scale
    return dataclasses.replace(
        converted,
        version="v1",
        stem_pool="padded",
        preprocessing=CAFFE if published else None,
        original=original,
    )
