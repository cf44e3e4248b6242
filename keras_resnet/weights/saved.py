"""Weights that have been read from a file, fitted to a model and loaded into it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_resnet.naming import CLASSIFIER
from keras_resnet.network import Backbone, NetworkConfig, remembered
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.utils.callers import warn_caller
from keras_resnet.weights.channels import adapt_channels, adapt_preprocessing, image_channels
from keras_resnet.weights.padding import PADDINGS, adds_channels, zeros_behind
from keras_resnet.weights.pytorch import from_torch, stem_pool
from keras_resnet.weights.transfer import (
    Layers,
    assign_weights,
    check_weights,
    layer_weights,
    norm_epsilon,
    renamed,
    with_epsilon,
)


@dataclasses.dataclass(frozen=True)
class SavedWeights:
    """Weights that have been read, and what is known of the network that they are of.

    Attributes:
        source: Name or path that was given.
        layers: Arrays by layer; for PyTorch's, one array by its name there.
        torch: Whether they are PyTorch's.
        name: Name of the model that was saved, or None.
        network: How the saved network was built, or None where the file does not tell.
        version: "v1", "v1.5" or "v2-keras", the only one that such weights are trained for, or
            None.
        stem_pool: The same of the stem's pool.
        epsilon: Epsilon of their normalization, or None for that of the model they are loaded into.
        preprocessing: How the images were prepared, or None where not known.
        original: These weights before they were converted, for networks that need no conversion.
        padding: "both" or "behind", the side of the zero channels of shortcuts of option A, or None
            where not known.
    """

    source: str
    layers: Mapping[str, Any]
    torch: bool = False
    name: str | None = None
    network: NetworkConfig | None = None
    version: str | None = None
    stem_pool: str | None = None
    epsilon: float | None = None
    preprocessing: Preprocessing | None = None
    original: SavedWeights | None = None
    padding: str | None = None

    def load_into(self, model: keras.Model) -> None:
        """Loads the weights into a model of the same architecture: all or, on an error, none.

        A classifier of another number of classes keeps the weights that it has, with a warning.

        Raises:
            ValueError: If they are those of another architecture.
        """
        own, config = layer_weights(model), remembered(model)
        if self.original and config and config.keeps_bias:
            self.original.load_into(model)
            return
        if self.torch and self.stem_pool == "ceil" and not any("conv3" in n for n in self.layers):
            raise ValueError(
                "`weights` must not be those of timm's legacy_seresnet18 and 34, which have an "
                "activation in front of squeeze-and-excitation; seresnet18 and 34 have none. "
                f"Received: weights={self.source!r}"
            )
        given = from_torch(self.layers, model) if self.torch else dict(self.layers)
        layers: Layers = renamed(given, model)
        channels = image_channels(own)
        wanted = self.preprocessing or (config and config.preprocessing)
        layers = adapt_channels(layers, channels, bgr=bool(wanted and wanted.bgr))
        message = self._fit_classifier(layers, own, model.name)
        if isinstance(model, Backbone):
            # Its last stage may be followed by others in the file.
            layers = {name: values for name, values in layers.items() if name in own}
        check_weights(model, layers, self.source)
        if config is not None:
            self._check_network(config, stem_pool(model), channels)
        if self.torch and adds_channels(model):
            layers = self._fit_padding(layers, model)
        layers = with_epsilon(layers, self.epsilon, norm_epsilon(model), self.source)
        assign_weights(model, layers, self.source)
        if config is not None:
            prepared = self._prepared_in(config, channels, keeps_classifier=message is not None)
            model.remember(dataclasses.replace(config, preprocessing=prepared))
        if message:
            warn_caller(message)
        warn_unless_finite(model, self.source)

    def prepared_for(self, channels: int | None) -> Preprocessing | None:
        """Returns how images of so many channels are prepared, or None where not known."""
        return adapt_preprocessing(self.preprocessing, 3 if channels is None else channels)

    def _prepared_in(
        self, config: NetworkConfig, channels: int | None, keeps_classifier: bool
    ) -> Preprocessing | None:
        """Returns what a network with these weights, as far as is known, wants done to an image."""
        held, known = config.preprocessing, self.prepared_for(channels)
        if known is None:
            return held and held.with_weights_of(None)
        if config.standardizes and held:
            # Its layer does so whatever the weights want; those of other channels may differ.
            known = dataclasses.replace(known, mean=held.mean, std=held.std, bgr=held.bgr)
        if keeps_classifier:
            names = held.class_names if held else None
            known = dataclasses.replace(known, class_names=names, threshold=None)
        return known

    def _fit_classifier(self, layers: Layers, own: Layers, model: str) -> str | None:
        """Keeps the model's classifier where the file's has other classes; returns a warning."""
        if CLASSIFIER not in own:
            layers.pop(CLASSIFIER, None)
            return None
        shapes = [np.shape(value) for value in layers.get(CLASSIFIER, ())]
        expected = [value.shape for value in own[CLASSIFIER]]
        if shapes == expected or (shapes and shapes[0][:-1] != expected[0][:-1]):
            return None
        layers[CLASSIFIER] = own[CLASSIFIER]
        classes = f"one of {shapes[0][-1]} classes" if shapes else "none"
        return (
            f"{model} has a classifier of {expected[0][-1]} classes and {self.source} {classes}: "
            "all weights were loaded but those of the classifier, which keeps its own"
        )

    def _fit_padding(self, layers: Layers, model: keras.Model) -> Layers:
        """Returns the weights for zero channels behind the others."""
        if self.padding not in PADDINGS:
            raise ValueError(
                "`padding` must be 'both' or 'behind' for this file, which does not tell where "
                "shortcuts of option A have their zero channels: on both sides, as in "
                "akamaster's pytorch_resnet_cifar10, or behind; build the network without weights, "
                "then call load_weights(model, path, padding=...). "
                f"Received: padding={self.padding!r} with weights={self.source!r}"
            )
        return zeros_behind(layers, model) if self.padding == "both" else layers

    def _check_network(self, config: NetworkConfig, pool: str | None, channels: int | None) -> None:
        """Compares what decides the outputs and does not show in the weights, where known."""
        if self.network is not None:
            saved, own = self.network.function(), config.function()
            different = [name for name in own if own[name] != saved.get(name)]
            if different:
                name = different[0]
                raise ValueError(
                    f"`weights` must be those of the same network, with {name}={own[name]!r}. "
                    f"Received: weights={self.source!r} of one with {name}={saved.get(name)!r}"
                )
        version = config.stride_version
        if self.version and version not in (None, self.version):
            raise ValueError(
                f"`version` must be {self.version!r} for these weights, which are of bottlenecks "
                f"with another stride. Received: version={version!r} with weights={self.source!r}"
            )
        if self.stem_pool and pool not in (None, self.stem_pool):
            raise ValueError(
                f"`stem_pool` must be {self.stem_pool!r} for these weights, which are of networks "
                f"with such a pool. Received: stem_pool={pool!r} with weights={self.source!r}"
            )
        held = config.preprocessing if config.standardizes else None
        known = self.prepared_for(channels)
        if held is None or known is None or known.same_numbers(held):
            return
        # For other channels than those of the weights the numbers are the caller's to choose, but
        # not the order of several.
        if known is self.preprocessing or (known.bgr != held.bgr and channels != 1):
            raise ValueError(
                "`weights` must be given to the builder itself for include_preprocessing=True, "
                f"since {self.source} needs the mean {known.mean}{_order(known)}. Received: "
                f"a model that subtracts {held.mean}{_order(held)}"
            )


def _order(prepared: Preprocessing) -> str:
    return ", then B, G, R" if prepared.bgr else ""


def warn_unless_finite(model: keras.Model, source: str) -> None:
    """Warns of the first weight with NaN or infinity in it, as training that diverged leaves."""
    for weight in model.weights:
        if not np.isfinite(np.asarray(weight)).all():
            warn_caller(f"{source} has numbers that are not finite, first in {weight.path}")
            return
