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
_TOP = (
    *("include_top", "pooling", "classes", "classifier_activation", "classifier_dropout"),
    "features",
)


def backbone(
    model: str | Network,
    endpoints: Sequence[str | int] | None = None,
    *,
    output_stride: int | None = None,
    **options,
) -> Backbone:
    """Returns a network that outputs the maps of its stages by name: C2, C3, C4 and C5.

    `Ci` is the last map of stage conv`i`, of stride 2 ** i in networks for ImageNet; CIFAR networks
    have C2 to C4, of strides 1, 2 and 4. C1 is that of the stem, in front of its pool. With
    pre-activation (version "v2", DenseNet) a map is a sum or concatenation that is not normalized;
    the last one is normalized and activated. Sides are rounded up, those of DenseNet down after C2.
    A small segmentation net:

        maps = keras_resnet.backbone("ResNet50", ["C2", "C5"], weights="imagenet", version="v1.5")
        fine, coarse = (keras.layers.Conv2D(21, 1)(maps.output[name]) for name in ("C2", "C5"))
        scores = keras.layers.Add()([fine, keras.layers.UpSampling2D(8)(coarse)])
        segmenter = keras.Model(maps.input, scores)
        keras_resnet.freeze(segmenter, 2)  # the stem and the first stage, and all normalizations

    Args:
        model: Name of a network, such as "ResNet50" or "DenseNet121", or a trained network of this
            package, whose weights are copied; it is unchanged.
        endpoints: Maps to output by name or number, such as ["C3", "C5"] or [3, 5], by default
            those of all stages, without C1. Stages behind the last one are left out.
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
    stem, *stages = (map_name(stage) for stage in range(-1, len(architecture.repeats)))
    maps = stages if endpoints is None else some_of("endpoints", endpoints, (stem, *stages))
    if isinstance(model, str):
        return build(
            architecture,
            include_top=False,
            features=maps,
            output_stride=output_stride,
            **options,
        )
    shape = open_shape(model.input, model.network.arguments["data_format"])
    changes: dict[str, Any] = {"pooling": None, "classes": None, "classifier_dropout": 0.0}
    if output_stride is not None:
        changes["output_stride"] = output_stride
    return rebuild(model, include_top=False, features=maps, input_shape=shape, **changes)
