"""Backbones: networks that give the maps of their stages, for detection and segmentation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras

from keras_resnet.layers import PACKAGE
from keras_resnet.models.resnet import build
from keras_resnet.surgery.dilation import dilate
from keras_resnet.surgery.graphs import is_channels_first, open_sides, rebuilt
from keras_resnet.surgery.stages import stage_ends, strides
from keras_resnet.utils import checks, private

# Of the builders, what is about the end that a backbone does not have.
_TOP = ("include_top", "pooling", "classes", "classifier_activation")


@dataclasses.dataclass(frozen=True)
class Feature:
    """One of the maps that a backbone gives.

    Attributes:
        name: Its name: "C2".
        stride: How many pixels of the image one of its stands for, along a side.
        channels: Its channels.
        layer: Name of the layer that computes it.
    """

    name: str
    stride: int
    channels: int
    layer: str


@keras.saving.register_keras_serializable(PACKAGE)
class Backbone(keras.Model):
    """A functional model from images to a dictionary of maps, which knows what they are."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """The maps, from the finest on; read off the layers, so in loaded and cloned models too."""
        config = self.get_config()
        total = strides(config)
        axis = 1 if is_channels_first(config) else -1
        found = []
        for name, tensor in self.output.items():
            layer = private.layer_of(tensor).name
            found.append(Feature(name, total[layer], tensor.shape[axis], layer))
        return tuple(sorted(found, key=lambda feature: int(feature.name[1:])))


def backbone(
    model: str | keras.Model,
    endpoints: Sequence[str] | None = None,
    *,
    output_stride: int | None = None,
    **options,
) -> Backbone:
    """Returns a network that gives the maps of its stages, by name: C2, C3, C4 and C5.

    `Ci` is the last map of stage conv`i`, of stride 2 ** i in networks for ImageNet; CIFAR networks
    have C2 to C4, of strides 1, 2 and 4. It is what the next stage reads. With pre-activation
    (version "v2", DenseNet) that is a sum or concatenation which nothing has normalised; their last
    map is normalised and activated, as their classifier reads it. Sides are rounded up, those of
    DenseNet's down after C2. A small segmentation net:

        maps = keras_resnet.backbone("ResNet50", ["C2", "C5"], weights="imagenet", version="v1.5")
        fine, coarse = (keras.layers.Conv2D(21, 1)(maps.output[name]) for name in ("C2", "C5"))
        scores = keras.layers.Add()([fine, keras.layers.UpSampling2D(8)(coarse)])
        segmenter = keras.Model(maps.input, scores)
        keras_resnet.freeze(segmenter, 2)  # the stem and the first stage, and all normalisations

    Args:
        model: Name of a network, such as "ResNet50" or "DenseNet121", or a finished network of this
            package, whose weights are copied; it is left as it is.
        endpoints: Names of the maps to give; all of them where not given. Stages behind the last
            one are left out.
        output_stride: Stride of the last stage, reached by dilation in place of strides, with the
            same weights (`keras_resnet.dilate`); 8 or 16 in most segmentation nets.
        **options: For a name, those of its builder, such as `weights` or `input_shape`. Images may
            have any size unless `input_shape` says otherwise, as may those of a finished network.

    Returns:
        A functional model from images `(batch, H, W, C)`, prepared as for the network itself, to
        `{"C2": (batch, h, w, channels), ...}`. Its `features` has names, strides and channels.

    Raises:
        ValueError: If there is no such network or map, or an argument is wrong.
    """
    if isinstance(model, str):
        for option in _TOP:
            if option in options:
                raise ValueError(
                    f"`{option}` is not for a backbone, which ends in maps. "
                    f"Received: {option}={options[option]!r}"
                )
        network = build(model, include_top=False, **options)
    elif options:
        option, value = next(iter(options.items()))
        raise ValueError(
            f"`{option}` goes with the name of a network; a finished one has its options. "
            f"Received: {option}={value!r} with model={getattr(model, 'name', model)!r}"
        )
    else:
        network = _without_top(model)
    if output_stride is not None:
        network = dilate(network, output_stride)
    ends = stage_ends(network)
    if endpoints is None:
        endpoints = ends
    elif isinstance(endpoints, str) or not isinstance(endpoints, Sequence) or not endpoints:
        raise ValueError(
            f"`endpoints` must be some of {', '.join(map(repr, ends))} in a list. "
            f"Received: endpoints={endpoints!r}"
        )
    outputs = {checks.one_of("endpoints", name, tuple(ends)): ends[name] for name in endpoints}
    return Backbone(network.inputs[0], outputs, name=network.name)


def _without_top(model: keras.Model) -> keras.Model:
    """Returns a copy of a network up to the end of its last stage, for images of any size."""
    ends = stage_ends(model) if isinstance(model, keras.Model) else {}
    if not ends:
        raise ValueError(
            "`model` must be the name of a network, or a network of this package itself, with "
            f"layers named as conv2_block1_out. Received: model={getattr(model, 'name', model)!r}"
        )
    *_, last = ends.values()
    cut = keras.Model(model.inputs[0], last, name=model.name)
    config = cut.get_config()
    open_sides(config)
    return rebuilt(cut, config)
