"""Parts of every network in Keras's functional API: convolutions, stem, input and top.

Options of a network (normalization, activation, regularization) are bound once in `Parts` and
handed to each block.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import keras
from keras.layers import (
    Activation,
    Conv2D,
    Cropping2D,
    Dense,
    Dropout,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    GroupNormalization,
    MaxPooling2D,
    ZeroPadding2D,
)

from keras_resnet.architectures import NORMALIZATIONS, Family, Stem, activation_name
from keras_resnet.layers import BatchNormalization, StandardizedConv2D
from keras_resnet.models.arguments import (
    check_classifier_dropout,
    check_features,
    check_input,
    check_preprocessing,
    check_top,
)
from keras_resnet.naming import (
    AVERAGE_POOL,
    CLASSIFIER,
    MAX_POOL,
    STEM,
    STEM_POOL,
    densenet_name,
    map_name,
)
from keras_resnet.network import Backbone, Network, NetworkConfig
from keras_resnet.preprocessing import Preprocessing, standardize_layer
from keras_resnet.utils import checks
from keras_resnet.weights.files import find_weights


def he_normal() -> keras.initializers.Initializer:
    """He et al. 2015b: a normal of variance 2 / fan-in, not truncated as Keras's "he_normal" is."""
    return keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """Options that all blocks of one network share, as in `ResNet`.

    Raises:
        ValueError: If one is wrong.
    """

    data_format: str | None = None
    activation: str | Callable = "relu"
    normalization: str = "batch"
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    synchronized_bn: bool = False
    kernel_regularizer: keras.regularizers.Regularizer | str | None = None
    dropout: float = 0.0
    conv_bias: bool = False
    keras_names: bool = False
    filters: Mapping[str, int] | None = None

    def __post_init__(self):
        checks.boolean("conv_bias", self.conv_bias)
        checks.boolean("keras_names", self.keras_names)
        checks.one_of("normalization", self.normalization, NORMALIZATIONS)
        checks.boolean("synchronized_bn", self.synchronized_bn)
        if self.synchronized_bn and self.normalization != "batch":
            raise ValueError(
                "`synchronized_bn` goes with normalization='batch'; others have no batch "
                f"statistics. Received: synchronized_bn=True with {self.normalization!r}"
            )
        for name, value in {
            "data_format": checks.data_format(self.data_format),
            "activation": checks.known(
                "activation", self.activation, keras.activations.get, none_allowed=False
            ),
            "bn_momentum": checks.fraction("bn_momentum", self.bn_momentum),
            "bn_epsilon": checks.positive("bn_epsilon", self.bn_epsilon),
            "kernel_regularizer": checks.known(
                "kernel_regularizer", self.kernel_regularizer, keras.regularizers.get
            ),
            "dropout": checks.fraction("dropout", self.dropout),
            "filters": self.filters
            and {name: checks.integer("filters", count) for name, count in self.filters.items()},
        }.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Self:
        """Returns those of a builder's arguments that are options of its blocks."""
        names = (field.name for field in dataclasses.fields(cls) if field.name in arguments)
        return cls(**{name: arguments[name] for name in names})

    @property
    def preactivated(self) -> bool:
        """True if normalization and activation stand in front of the convolutions."""
        return True

    @property
    def pads_apart(self) -> bool:
        """True if convolutions without stride have their padding in a layer of its own, too."""
        return False

    def layer_name(self, name: str) -> str | None:
        """Returns the name of a layer as the network has it; None for one that Keras numbers."""
        return densenet_name(name) if self.keras_names else name

    def width(self, name: str, filters: int) -> int:
        """Returns the filters of a layer: its entry in `filters`, or the given ones without it."""
        if self.filters is None:
            return filters
        if name not in self.filters:
            raise ValueError(
                "`filters` must have an entry for every convolution of the network. "
                f"Received: none for {name!r}"
            )
        return self.filters[name]

    @property
    def channel_axis(self) -> int:
        return -1 if self.data_format == "channels_last" else 1

    def conv(
        self,
        x,
        filters,
        kernel_size,
        strides=1,
        *,
        name,
        groups=1,
        dilation=1,
        zero=False,
        normalized=False,
    ):
        """A convolution, padded by the same (kernel_size - 1) / 2 on all sides.

        Not Keras's "same", which pads a strided convolution more on the bottom right than on the
        top left and so disagrees with every published set of weights. `zero` starts it at zero, and
        `normalized` says that a normalization follows.
        """
        padded = kernel_size > 1 and (strides > 1 or self.pads_apart)
        if padded:
            pad = self.layer_name(f"{name}_pad")
            x = ZeroPadding2D(dilation * (kernel_size // 2), self.data_format, name=pad)(x)
        kind = Conv2D if self.normalization == "batch" else StandardizedConv2D
        return kind(
            self.width(f"{name}_conv", filters),
            kernel_size,
            strides,
            padding="valid" if padded or strides > 1 else "same",
            data_format=self.data_format,
            dilation_rate=dilation if kernel_size > 1 else 1,
            groups=groups,
            use_bias=self.conv_bias and not (self.preactivated and normalized),
            kernel_initializer="zeros" if zero else he_normal(),
            kernel_regularizer=self.kernel_regularizer,
            name=f"{name}_conv",
        )(x)

    def norm(self, x, *, name, gamma_initializer="ones"):
        if self.normalization == "group":
            # 32 groups (section 3 of arXiv 1803.08494), fewer where that left one channel in each:
            # on small maps a channel by itself is next to nothing when its mean is taken away.
            groups = max(1, math.gcd(64, x.shape[self.channel_axis]) // 2)
            return GroupNormalization(
                groups,
                axis=self.channel_axis,
                epsilon=self.bn_epsilon,
                gamma_initializer=gamma_initializer,
                name=f"{name}_gn",
            )(x)
        return BatchNormalization(
            axis=self.channel_axis,
            momentum=self.bn_momentum,
            epsilon=self.bn_epsilon,
            gamma_initializer=gamma_initializer,
            synchronized=self.synchronized_bn,
            name=self.layer_name(f"{name}_bn"),
        )(x)

    def activate(self, x, *, name):
        return Activation(self.activation, name=self.layer_name(name))(x)

    def norm_act(self, x, *, name):
        x = self.norm(x, name=name)
        return self.activate(x, name=f"{name}_{activation_name(self.activation)}")

    def conv_norm_act(self, x, filters, kernel_size, strides=1, *, name, groups=1, dilation=1):
        x = self.conv(
            x,
            filters,
            kernel_size,
            strides,
            name=name,
            groups=groups,
            dilation=dilation,
            normalized=True,
        )
        return self.norm_act(x, name=name)

    def drop(self, x, *, name):
        """Dropout, where there is one."""
        return Dropout(self.dropout, name=f"{name}_dropout")(x) if self.dropout else x


def stem(x, filters: int, spec: Stem, parts: Parts, pool: str = "padded", bare: bool = False):
    """The layers before the first stage: `conv1`, and what `stem_pool` makes of its map.

    With the `pool` "first", or `bare` as in `keras.applications.resnet_v2`, there is neither
    normalization nor activation behind the last convolution.
    """
    last, last_strides = STEM, spec.strides
    if spec.deep:
        half, last, last_strides = max(1, filters // 2), f"{STEM}_3", 1
        for i, strides in enumerate([spec.strides, 1]):
            x = parts.conv_norm_act(x, half, spec.kernel_size, strides, name=f"{STEM}_{i + 1}")
    end = parts.conv if bare or pool == "first" else parts.conv_norm_act
    x = end(x, filters, spec.kernel_size, last_strides, name=last)
    return x, stem_pool(x, parts, pool, bare) if spec.pool else x


def stem_pool(x, parts: Parts, pool: str = "padded", bare: bool = False):
    """A 3x3 max pool of stride 2."""
    options = {"data_format": parts.data_format}
    at_end = ((0, 1), (0, 1)) if pool == "ceil" else 1
    if bare or (parts.activation is keras.activations.relu and pool != "first"):
        # Zeros are neutral under the maximum where activations are not negative; bare, as Keras's.
        x = ZeroPadding2D(at_end, name=parts.layer_name(f"{STEM_POOL}_pad"), **options)(x)
        return MaxPooling2D(3, 2, name=parts.layer_name(f"{STEM_POOL}_pool"), **options)(x)
    # With stride 1 Keras's own padding, neutral for all numbers, is the same on all sides.
    x = MaxPooling2D(3, 1, "same", name=f"{STEM_POOL}_pool", **options)(x)
    if pool == "ceil":
        x = Cropping2D(((1, 0), (1, 0)), name=f"{STEM_POOL}_crop", **options)(x)
    return MaxPooling2D(1, 2, name=f"{STEM_POOL}_stride", **options)(x)


def top(
    x, include_top, pooling, classes, classifier_activation, parts: Parts, classifier_dropout=0.0
):
    """The end of a network: the classifier, pooled maps, or the last maps themselves."""
    if include_top or pooling == "avg":
        x = GlobalAveragePooling2D(parts.data_format, name=AVERAGE_POOL)(x)
    elif pooling == "max":
        x = GlobalMaxPooling2D(parts.data_format, name=MAX_POOL)(x)
    if not include_top:
        return x
    if classifier_dropout:
        x = Dropout(classifier_dropout, name=f"{CLASSIFIER}_dropout")(x)
    return classifier(classes, classifier_activation, parts.kernel_regularizer)(x)


def classifier(classes: int, activation: Any = "softmax", kernel_regularizer: Any = None) -> Dense:
    """Returns a new classifier of pooled features."""
    return Dense(
        classes,
        activation=activation,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        kernel_regularizer=kernel_regularizer,
        # Logits and probabilities in float32 even where the rest computes in 16 bits.
        dtype=keras.config.dtype_policy().variable_dtype,
        name=CLASSIFIER,
    )


def assemble(
    builder: str,
    arguments: dict[str, Any],
    stages: Callable[[keras.KerasTensor], Iterable[keras.KerasTensor]],
    parts: Parts,
    stem: Stem,
    family: Family,
) -> Network:
    """Returns the model of a network: input, standardization, stages, top, memory and weights.

    `arguments` are all of the general builder's, and `stages` is a function from the images to the
    stem's map and the last map of every stage, in order.
    """
    passing = ("weights", "input_tensor", "name")
    weights, input_tensor, name = (arguments[key] for key in passing)
    arguments = {key: value for key, value in arguments.items() if key not in passing}
    ending = check_top(arguments, family.classes)
    include_top, blocks = ending["include_top"], arguments["blocks"]
    dropout = check_classifier_dropout(arguments["classifier_dropout"], include_top)
    names = [map_name(i) for i in range(-1, len(blocks))]
    features = check_features(arguments["features"], include_top, ending["pooling"], names)

    include, data_format = arguments["include_preprocessing"], parts.data_format
    arguments |= {**ending, "activation": parts.activation, "data_format": data_format}
    config = NetworkConfig(builder, arguments, on_tensor=input_tensor is not None)
    inputs, x = check_input(
        input_tensor,
        arguments["input_shape"],
        family.image_size if include_top else None,
        stem.smallest_image(len(blocks)),
        data_format,
    )
    network = config.architecture.name.lower()
    saved = find_weights(weights, network)
    preprocessing = check_preprocessing(include, saved, x.shape[parts.channel_axis])
    if include and preprocessing is not None:
        x = standardize_layer(x, parts.channel_axis, preprocessing)(x)
    maps = {}
    for map_, last in zip(names, stages(x), strict=False):
        maps[map_] = last
        if features and maps.keys() >= set(features):
            break
    kind = Backbone if features else Network
    outputs = {map_: maps[map_] for map_ in features}
    if not features:
        outputs = top(last, parts=parts, classifier_dropout=dropout, **ending)
    model = kind(inputs, outputs, name=name or network)
    config = dataclasses.replace(config, preprocessing=preprocessing)
    model.remember(config)
    if saved is not None:
        saved.load_into(model)
        if isinstance(include, Preprocessing):
            model.remember(config)  # The caller's own, whatever the file tells.
    return model
