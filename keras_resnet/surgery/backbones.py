"""Backbones: networks that output the maps of their stages, for detection and segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_resnet.architectures import find_architecture
from keras_resnet.models.arguments import open_shape, some_of
from keras_resnet.models.builders import build
from keras_resnet.naming import map_name
from keras_resnet.network import Backbone, Network, network_of
from keras_resnet.surgery.rebuilding import rebuild

# Arguments of the builders about the end that a backbone lacks.
_TOP = ("include_top", "pooling", "classes", "classifier_activation", "features")


def backbone(
    model: str | Network,
    endpoints: Sequence[str] | None = None,
    *,
    output_stride: int | None = None,
    **options,
) -> Backbone:
    """Returns a network that outputs the maps of its stages by name: C2, C3, C4 and C5.

    `Ci` is the last map of stage conv`i`, of stride 2 ** i in networks for ImageNet; CIFAR networks
    have C2 to C4, of strides 1, 2 and 4. With pre-activation (version "v2", DenseNet) it is a sum
    or concatenation that is not normalized; the last map is normalized and activated. Sides are
    rounded up, those of DenseNet down after C2. A small segmentation net:

        maps = keras_resnet.backbone("ResNet50", ["C2", "C5"], weights="imagenet", version="v1.5")
        fine, coarse = (keras.layers.Conv2D(21, 1)(maps.output[name]) for name in ("C2", "C5"))
        scores = keras.layers.Add()([fine, keras.layers.UpSampling2D(8)(coarse)])
        segmenter = keras.Model(maps.input, scores)
        keras_resnet.freeze(segmenter, 2)  # the stem and the first stage, and all normalizations

    Args:
        model: Name of a network, such as "ResNet50" or "DenseNet121", or a trained network of this
            package, whose weights are copied; it is unchanged.
        endpoints: Names of the maps to output, by default all. Stages behind the last one are left
            out.
        output_stride: Stride of the last stage, reached by dilation in place of strides, with the
            same weights (`keras_resnet.dilate`); 8 or 16 in most segmentation nets.
        **options: For a name, those of its builder, such as `weights` or `input_shape`. Images may
            have any size unless `input_shape` says otherwise, as may those of a trained network.

    Returns:
        A functional model from images `(batch, H, W, C)`, prepared as for the network itself, to
        `{"C2": (batch, h, w, channels), ...}`. Its `features` has names, strides and channels.

    Raises:
        ValueError: If there is no such network or map, or an argument is wrong.
    """
    if isinstance(model, str):
        architecture, allowed = find_architecture(model), "a backbone, which ends in maps"
        refused = [option for option in options if option in _TOP]
    else:
        architecture = network_of(model).architecture
        refused, allowed = list(options), "the name of a network; a trained one has its options"
    if refused:
        name = refused[0]
        raise ValueError(f"`{name}` does not go with {allowed}. Received: {name}={options[name]!r}")
    maps = [map_name(stage) for stage in range(len(architecture.repeats))]
    endpoints = maps if endpoints is None else some_of("endpoints", endpoints, maps)
    if isinstance(model, str):
        return build(
            architecture,
            include_top=False,
            features=endpoints,
            output_stride=output_stride,
            **options,
        )
    shape = open_shape(model.input, model.network.arguments["data_format"])
    changes: dict[str, Any] = {"pooling": None, "classes": None, "input_shape": shape}
    if output_stride is not None:
        changes["output_stride"] = output_stride
    return rebuild(model, include_top=False, features=endpoints, **changes)
