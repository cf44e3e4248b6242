"""A functional model that remembers which network it is, and how it was built."""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.architectures import Architecture, DenseArchitecture, Stem, identify
from keras_resnet.layers import PACKAGE, Remembering
from keras_resnet.naming import OTHER_NAMES, find_stage, map_name
from keras_resnet.preprocessing import KERAS_CAFFE, KERAS_TF, Preprocessing
from keras_resnet.utils import checks, private
from keras_resnet.utils.callers import warn_caller
from keras_resnet.utils.escapes import visible
from keras_resnet.utils.files import parse_json


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """How a network was built.

    Attributes:
        builder: "ResNet" or "DenseNet", the general builder that makes it.
        arguments: That builder's arguments, all but `weights`, `input_tensor` and `name`.
        on_tensor: Whether it was built on a tensor of the caller's, `input_tensor`.
        preprocessing: What the weights want done to an image, or None where nothing is known.
        dtype_policy: Name of the policy that its layers compute by.
    """

    builder: str
    arguments: Mapping[str, Any]
    on_tensor: bool = False
    preprocessing: Preprocessing | None = None
    dtype_policy: str = dataclasses.field(default_factory=lambda: keras.config.dtype_policy().name)

    def __post_init__(self):
        object.__setattr__(self, "arguments", types.MappingProxyType(dict(self.arguments)))

    @property
    def architecture(self) -> Architecture | DenseArchitecture:
        """The entry of the table, a variant of one, or a network without a name."""
        return identify(self.arguments)

    def with_class_names(self, names: Sequence[str] | None) -> NetworkConfig:
        """Returns it with names of the classes, where there is a `preprocessing` to hold them."""
        if self.preprocessing is None:
            return self
        names = None if names is None else tuple(names)
        prepared = dataclasses.replace(self.preprocessing, class_names=names)
        return dataclasses.replace(self, preprocessing=prepared)

    def without_classes(self) -> NetworkConfig:
        """Returns it without what the preprocessing tells of the classes: names and threshold."""
        if self.preprocessing is None:
            return self
        prepared = dataclasses.replace(self.preprocessing, class_names=None, threshold=None)
        return dataclasses.replace(self, preprocessing=prepared)

    @property
    def standardizes(self) -> bool:
        """True if the model itself standardizes its images."""
        return bool(self.arguments["include_preprocessing"])

    @property
    def keeps_bias(self) -> bool:
        """True if weights of `keras.applications` fit it, and their images, unconverted."""
        reverses = self.preprocessing is not None and self.preprocessing.bgr
        return bool(self.arguments.get("conv_bias")) and (reverses or not self.standardizes)

    @property
    def stride_version(self) -> str | None:
        """Version of the strides; None without bottlenecks, where all are the same."""
        architecture = self.architecture
        if isinstance(architecture, DenseArchitecture) or architecture.block != "bottleneck":
            return None
        if len(architecture.repeats) == 1:
            return None
        return "v1.5" if architecture.version == "v2" else architecture.version

    def function(self) -> dict[str, Any]:
        """Returns what decides, beside the weights, what the network computes of an image."""
        architecture = dataclasses.asdict(self.architecture)
        about = ("name", "depth", "source")
        own = {name: value for name, value in architecture.items() if name not in about}
        names = ["activation", "normalization", "filters"]
        if self.arguments["normalization"] != "batch":
            names.append("bn_epsilon")  # of batch statistics the variances can take it up
        # A model that was saved before there was an option lacks it.
        parts = {name: self.arguments.get(name) for name in names}
        return {name: _meaning(value) for name, value in (own | parts).items()}

    def to_json(self) -> str:
        """Returns it as text, for the config of a layer."""
        values = keras.saving.serialize_keras_object(
            {
                "builder": self.builder,
                "arguments": {name: _plain(value) for name, value in self.arguments.items()},
                "preprocessing": _plain(self.preprocessing),
                "on_tensor": self.on_tensor,
                "dtype_policy": self.dtype_policy,
            }
        )
        return json.dumps(values)

    @classmethod
    @functools.lru_cache(maxsize=64)
    def from_json(cls, text: str) -> NetworkConfig:
        """Returns what `to_json` gave out.

        Raises:
            ValueError: If the text is no such thing, or would build more than a function.
        """
        try:
            plain = parse_json(text, object_hook=_expect_function)
            values = keras.saving.deserialize_keras_object(plain)
            arguments = {name: _tuples(value) for name, value in values["arguments"].items()}
            for name, kind in (("stem", Stem), ("include_preprocessing", Preprocessing)):
                if isinstance(arguments[name], Mapping):
                    arguments[name] = kind(**arguments[name])
            prepared = values["preprocessing"] and Preprocessing(**values["preprocessing"])
            checks.one_of("builder", values["builder"], ("ResNet", "DenseNet"))
            return cls(**{**values, "arguments": arguments, "preprocessing": prepared})
        except Exception as error:  # Whatever Keras raises for objects that it cannot read.
            raise ValueError(
                "`network`, how a model was built, must be of names and of objects that Keras can "
                f"read safely. Received: {checks.first_line(error)}"
            ) from error


def _watched(method: Callable) -> Any:
    """Returns a method of Keras's models that looks at the range of its images first."""

    @functools.wraps(method)
    def look_first(self, *args, **kwargs):
        warn_of_range(self, args[0] if args else kwargs.get("x"))
        return getattr(super(Network, self), method.__name__)(*args, **kwargs)

    return look_first


@keras.saving.register_keras_serializable(PACKAGE)
class Network(keras.Model):
    """A functional model that knows its network; in all else it is any functional model.

    Attributes:
        network: How it was built; saved, loaded and cloned with the model.
    """

    _built_by: NetworkConfig | None = None
    _described: Preprocessing | None = None
    _warned = False

    __call__ = _watched(keras.Model.__call__)
    fit = _watched(keras.Model.fit)
    evaluate = _watched(keras.Model.evaluate)
    predict = _watched(keras.Model.predict)

    def get_layer(self, name=None, index=None):
        """Returns a layer as `keras.Model` does, by either name where Keras has another."""
        if name in OTHER_NAMES and all(layer.name != name for layer in self.layers):
            name = OTHER_NAMES[name]
        return super().get_layer(name, index)

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """Loads weights as `keras.Model` does; the file does not tell whose they are.

        Where they are others than before, `source` and `threshold` of the `preprocessing` are
        dropped, which were those of the old ones. `keras_resnet.load_weights` keeps what is known.
        """
        config = remembered(self)
        prepared = config and config.preprocessing
        forgotten = prepared and prepared.with_weights_of(None)
        if config is None or forgotten == prepared:
            super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
            return
        before = self._checksum()
        try:
            super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
        finally:  # Keras may have loaded some of them before an error.
            if self._checksum() != before:
                self.remember(dataclasses.replace(config, preprocessing=forgotten))

    def _checksum(self) -> int:
        checksum = 0
        for weight in self.weights:
            checksum = zlib.crc32(np.asarray(weight).tobytes(), checksum)
        return checksum

    @property
    def network(self) -> NetworkConfig:
        if self._built_by is not None:
            return self._built_by
        text = self._memory().network
        if text is None:
            raise ValueError(
                "`model` must have the layers that its builder made: the one that remembers how it "
                f"was built has been replaced. Received: model={self.name!r}"
            )
        return NetworkConfig.from_json(text)

    def remember(self, config: NetworkConfig) -> None:
        """Stores how it was built, with a `preprocessing` to images of its own size.

        Names of other classes than its own are dropped, and the threshold with them.
        """
        names = config.preprocessing and config.preprocessing.class_names
        scores = isinstance(self.output_shape, tuple) and len(self.output_shape) == 2
        if not (scores and config.arguments.get("include_top", True)) or (
            names and class_count(self.output_shape[1]) != len(names)
        ):
            config = config.without_classes()
        size = self._size(config)
        if config.preprocessing is not None and size is not None:
            config = dataclasses.replace(config, preprocessing=config.preprocessing.at(size))
        self._memory().network = config.to_json()
        # With functions and objects of the caller's, which Keras may not find by name.
        self._built_by = config

    def _size(self, config: NetworkConfig) -> tuple[int, int] | None:
        """Returns height and width of its images in pixels, or None if they may have several."""
        shape = self.inputs[0].shape[1:]
        sides = shape[1:] if config.arguments["data_format"] == "channels_first" else shape[:-1]
        return None if None in sides else tuple(sides)

    def _memory(self) -> Remembering:
        """Returns the layer that holds how the network was built: the first that can."""
        # Layers in front of it may be of these classes, too, and belong to another network.
        own = (layer for layer in self.layers if find_stage(layer.name) is not None)
        return next((layer for layer in own if isinstance(layer, Remembering)), Remembering())

    def summary(self, line_length=None, positions=None, print_fn=None, **options) -> None:
        """Prints Keras's summary, and what the weights want done to an image."""
        super().summary(line_length, positions, print_fn, **options)
        if self.preprocessing is not None:
            (print_fn or print)(f" Images: {visible(self.preprocessing)}")

    @property
    def preprocessing(self) -> Preprocessing | None:
        """Preprocessing that the weights expect, or None if unknown."""
        return self.network.preprocessing or self._described


class ImageRangeWarning(UserWarning):
    """Images in another range than the weights of the network were trained on."""


# Functions that prepare images.
_PREPARING = {
    "keras_resnet.preprocess_input": Preprocessing(),
    "keras_resnet.applications.resnet.preprocess_input": KERAS_CAFFE,
    "keras_resnet.applications.resnet_v2.preprocess_input": KERAS_TF,
}


def warn_of_range(model: Network, images: Any) -> None:
    """Warns, once for each model, of images that were not prepared as its weights expect them.

    Looks at the first image of an array or an eager tensor, and at nothing else. A range that the
    right images could have, too, is no reason to warn.
    """
    concrete = isinstance(images, np.ndarray) or hasattr(images, "numpy")
    if model._warned or not concrete or len(images.shape) != 4 or not images.shape[0]:
        return
    config = remembered(model)
    if config is None or config.preprocessing is None or config.on_tensor:
        return
    # Levels of 16 bits may lie close together, and those of arrays anywhere.
    if config.preprocessing.bits == 16:
        return
    try:
        image = np.asarray(images[0])
        smallest, largest = float(image.min()), float(image.max())
    except Exception:  # Whatever a backend raises for tensors without values, as while it traces.
        return
    prepared = config.preprocessing
    low, high, how = 0.0, 255.0, "images in [0, 255], which it standardizes itself"
    if not config.standardizes:
        ends = np.divide(
            [np.negative(prepared.mean), np.subtract(255, prepared.mean)], prepared.std
        )
        low, high = float(ends.min()), float(ends.max())
        names = (name for name, other in _PREPARING.items() if prepared.same_numbers(other))
        function = next(names, "model.preprocessing.standardize")
        how = f"images as {function} returns them, about {low:.3g} to {high:.3g}"
    width = high - low
    # Interpolation goes a little beyond.
    outside = smallest < low - width / 10 or largest > high + width / 10
    # Within five gray levels of 0, which is more than the whole range of [-1, 1] and the like.
    narrow = image.dtype.kind not in "iu" and smallest < largest
    narrow = narrow and max(-smallest, largest) < width / 50
    unit = low < -0.5 and 0 <= smallest < 0.1 and 0.5 < largest <= 1
    if outside or narrow or unit:
        model._warned = True
        message = f"{model.name} expects {how}. Received: images of {smallest:.3g} to {largest:.3g}"
        warn_caller(message, ImageRangeWarning)


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
class Backbone(Network):
    """A network from images to a dictionary of maps, which knows what they are."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """The maps, from the finest on."""
        arguments, architecture = self.network.arguments, self.network.architecture
        stem, stages = architecture.stem, len(arguments["blocks"])
        # Stages that end at the resolution of the next one.
        late = getattr(architecture, "version", None) == "v2-keras"
        limit = arguments["output_stride"] or stem.reduction * 2 ** (stages - 1)
        axis = 1 if arguments["data_format"] == "channels_first" else -1
        return tuple(
            Feature(
                name=map_name(i),
                # The stem's map is the one in front of its pool.
                stride=stem.strides if i < 0 else min(stem.reduction * 2 ** (i + late), limit),
                channels=self.output[map_name(i)].shape[axis],
                layer=private.layer_of(self.output[map_name(i)]).name,
            )
            for i in range(-1, stages)
            if map_name(i) in self.output
        )


def remembered(model: object) -> NetworkConfig | None:
    """Returns how a model was built, or None for models that are no network of this package."""
    if not isinstance(model, Network) or model._memory().network is None:
        return None
    return model.network


def preprocessing_of(model: object) -> Preprocessing | None:
    """Returns what a model's weights want done to an image, or None where that is not known.

    It is what the model remembers, else what it was told by `describe`.
    """
    network = remembered(model)
    return (network and network.preprocessing) or described(model)


def describe(model: keras.Model, prepared: Preprocessing) -> None:
    """Tells a model that remembers none what its weights want done to an image.

    It is not saved with the model.
    """
    if isinstance(model, Network):
        model._described = prepared
    else:
        model.preprocessing = prepared


def described(model: object) -> Preprocessing | None:
    """Returns what `describe` told a model, or None."""
    name = "_described" if isinstance(model, Network) else "preprocessing"
    prepared = getattr(model, name, None)
    return prepared if isinstance(prepared, Preprocessing) else None


def class_count(outputs: int) -> int:
    """Returns the number of classes that so many outputs tell apart: two of a single one."""
    return 2 if outputs == 1 else outputs


def class_names_of(model: object) -> tuple[str, ...] | None:
    """Returns the names of the classes that a model remembers, or None if it does not."""
    prepared = preprocessing_of(model)
    return None if prepared is None else prepared.class_names


def network_of(model: object) -> NetworkConfig:
    """Returns how a model was built.

    Raises:
        ValueError: If it is no network of this package, or a part of one.
    """
    if not isinstance(model, Network):
        raise ValueError(
            "`model` must be a network that a builder of keras_resnet made, or a copy of one as "
            f"saved, loaded or cloned. Received: model={getattr(model, 'name', model)!r}"
        )
    return model.network


# Layers of Keras that serve as activations.
_ACTIVATIONS = ("Activation", "ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax")
_FUNCTIONS = ("builtins", "keras.activations", "keras.initializers", "keras.regularizers")


def _expect_function(value: dict[str, Any]) -> dict[str, Any]:
    """Returns a JSON object, unbuilt; refuses objects of Keras other than functions of tensors.

    A file could have a layer or a model of any size built otherwise, before anything is compared.
    """
    value.pop("build_config", None)
    name, module = value.get("class_name"), value.get("module")
    package = str(value.get("registered_name") or "").partition(">")[0]
    known = module in _FUNCTIONS or (module == "keras.layers" and name in _ACTIVATIONS)
    if name in (None, "DTypePolicy") or known or (package and package not in ("function", PACKAGE)):
        return value
    raise ValueError(f"{module}.{name} is no activation or regularizer")


def _plain(value: Any) -> Any:
    """Returns a dataclass as a dictionary, and everything else as it is."""
    return dataclasses.asdict(value) if isinstance(value, (Stem, Preprocessing)) else value


def _tuples(value: Any) -> Any:
    """Returns a value with tuples for the lists that JSON has made of them."""
    if isinstance(value, Mapping):
        return {key: _tuples(entry) for key, entry in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def _meaning(value: Any) -> Any:
    """Returns an object of Keras as its class and options, less what is another in each process."""
    if not hasattr(value, "get_config"):
        return getattr(value, "__name__", value)
    config = {
        k: v for k, v in value.get_config().items() if k not in ("name", "dtype", "trainable")
    }
    return type(value).__name__, config
