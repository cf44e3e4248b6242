"""Larger maps out of finished networks: strides replaced by dilation, with the same weights."""

from __future__ import annotations

import copy
from typing import Any

import keras
from keras import ops

from keras_resnet.layers import PACKAGE
from keras_resnet.surgery.graphs import Config, sources
from keras_resnet.surgery.stages import stage_ends, step, strides
from keras_resnet.utils import checks, private
from keras_resnet.weights.transfer import copy_weights

_POOLS = ("AveragePooling2D", "MaxPooling2D")


def dilate(model: keras.Model, output_stride: int) -> keras.Model:
    """Returns a copy whose maps are no coarser than `output_stride`, with the same weights.

    Strides that would go beyond become 1, and whatever follows takes its pixels so much further
    apart (the algorithme a trous): of kernels it is their dilation. What comes before a replaced
    stride keeps its spacing, so that the 3x3 convolution that had it in the first block of a stage
    (version "v1.5", basic blocks) is dilated as the stage before.

    In inference the maps of the copy have those of `model` in them, to rounding, at every position
    that `model` has: with strides 8 and 32, as `[:, ::4, ::4]`. That holds at the borders and for
    odd sizes too; not for DenseNet's where an odd map loses its last row, and not where a layer
    looks at the whole map (squeeze and excitation, group normalisation).

    Source: Chen et al., arXiv 1606.00915, section 3.1; Yu, Koltun, Funkhouser, arXiv 1705.09914.

    Args:
        model: Network of this package, trained or not, with or without its classifier, which is
            left as it is. With its classifier it gives the mean of the answers at more positions;
            `evaluation.score_map` has them one by one.
        output_stride: Stride of the last map: that of the stem's end, 4 for ImageNet and 1 for
            CIFAR, or twice, four or eight times that.

    Returns:
        A model like `model`, which is not compiled.

    Raises:
        ValueError: If the model has no stages, or none of its maps has that stride.
    """
    ends = stage_ends(model) if isinstance(model, keras.Model) else {}
    if not ends:
        raise ValueError(
            "`model` must be a network of this package itself, with layers named as "
            f"conv2_block1_out. Received: model={getattr(model, 'name', model)!r}"
        )
    config = copy.deepcopy(model.get_config())
    reached = strides(config)
    allowed = sorted({reached[private.layer_of(end).name] for end in ends.values()})
    checks.one_of("output_stride", output_stride, allowed)
    _dilate(config, output_stride, 1, 1)
    dilated = type(model).from_config(config)
    copy_weights(model, dilated)
    return dilated


def _dilate(config: Config, limit: int, stride: int, spacing: int) -> None:
    """Changes the config of a model whose input has that stride, and that spacing of its pixels.

    The spacing is how far apart those pixels are that the network without dilation would have.
    """
    places: dict[str, tuple[int, int]] = {}
    for layer in config["layers"]:
        before = [places[name] for name in sources(layer["inbound_nodes"])]
        # Paths that meet have the same stride, and so the same spacing.
        stride_before, spacing_before = before[0] if before else (stride, spacing)
        by = step(layer["config"])
        kept = stride_before * by <= limit
        _space_out(layer, limit, stride_before, spacing_before, kept)
        places[layer["name"]] = (
            (stride_before * by, spacing_before) if kept else (stride_before, spacing_before * by)
        )


def _space_out(layer: Config, limit: int, stride: int, spacing: int, kept: bool) -> None:
    """Changes a layer's config for pixels so far apart, its stride to 1 unless that is `kept`."""
    own = layer["config"]
    if kept and spacing == 1:
        return
    if layer["class_name"] in _POOLS:
        _space_out_pool(layer, spacing)
        return
    if "layers" in own:
        raise ValueError(
            "`model` must have its stages and what follows them as layers of its own. "
            f"Received: a model with the model {layer['name']!r} in it"
        )
    if "block" in own:
        _dilate(own["block"]["config"], limit, stride, spacing)
    if not kept:
        own["strides"] = 1
    if layer["class_name"] == "ZeroPadding2D":
        own["padding"] = [[spacing * n for n in sides] for sides in own["padding"]]
    elif max(own.get("kernel_size", [1])) > 1:
        own["dilation_rate"] = [spacing * n for n in own["dilation_rate"]]
    elif "dilation" in own:
        own["dilation"] *= spacing


def _space_out_pool(layer: Config, spacing: int) -> None:
    own = layer["config"]
    if layer["class_name"] != "AveragePooling2D" or {*own["pool_size"], *own["strides"]} != {2}:
        raise ValueError(
            "`model` must have no pooling in the stages to dilate but averages of 2x2 pixels. "
            f"Received: a model with layer {layer['name']!r} there"
        )
    layer["class_name"] = DilatedAveragePooling2D.__name__
    layer["module"] = DilatedAveragePooling2D.__module__
    layer["registered_name"] = keras.saving.get_registered_name(DilatedAveragePooling2D)
    layer["config"] = {
        **{name: own[name] for name in ("name", "trainable", "dtype", "data_format")},
        "dilation": spacing,
    }


@keras.saving.register_keras_serializable(PACKAGE)
class DilatedAveragePooling2D(keras.layers.Layer):
    """At every pixel the average of 2x2 pixels that are `dilation` apart, itself the top left one.

    Of the pixels beyond the edge none counts: there it is the average of those that are left.
    Every `dilation * 2`-th output is that of `AveragePooling2D(2, padding="same")` on every
    `dilation`-th input.

    Args:
        dilation: Distance of the pixels, at least 1.
        data_format: "channels_last", "channels_first", or None for Keras's default.

    Input and output shape: `(batch, H, W, C)`, or `(batch, C, H, W)` for channels first.
    """

    def __init__(self, dilation=1, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.dilation = checks.integer("dilation", dilation)
        self.data_format = data_format or keras.config.image_data_format()
        checks.one_of("data_format", self.data_format, ("channels_last", "channels_first"))

    def call(self, inputs):
        first = 1 if self.data_format == "channels_last" else 2
        return self._along(self._along(inputs, first), first + 1)

    def _along(self, x, axis):
        def part(start, end=None):
            return x[(slice(None),) * axis + (slice(start, end),)]

        pairs = (part(None, -self.dilation) + part(self.dilation)) / 2
        return ops.concatenate([pairs, part(-self.dilation)], axis)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dilation": self.dilation,
            "data_format": self.data_format,
        }
