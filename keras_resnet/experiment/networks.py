"""The networks that settings ask for, by the table. Light to import: no Keras, no TensorFlow."""

from __future__ import annotations

from typing import Any

from keras_resnet.architectures import (
    Architecture,
    DenseArchitecture,
    cifar_architecture,
    find_architecture,
)
from keras_resnet.experiment.settings import Network, expect_defaults


def architecture_of(network: Network) -> Architecture | DenseArchitecture:
    """Returns the network's entry of the table, with those options replaced that were asked for."""
    own: dict[str, Any] = {"block": network.block, "widening": network.widening}
    own = {name: value for name, value in own.items() if value is not None}
    variants = ("shortcut", "version", "squeeze_excitation")
    architecture: Architecture | DenseArchitecture
    if network.depth is not None:
        architecture = cifar_architecture(network.depth, **own)
    else:
        expect_defaults(network, tuple(own), "goes with `depth`; a named network has its own")
        architecture = find_architecture(network.model)
    if isinstance(architecture, DenseArchitecture):
        why = f"must be left out for {architecture.name}, which has no residual blocks"
        expect_defaults(network, (*variants, "stochastic_depth", "zero_init_residual"), why)
        return architecture
    options: dict[str, Any] = {name: getattr(architecture, name) for name in variants}
    for name in variants:
        if (value := getattr(network, name)) is not None:
            options[name] = None if value in ("none", 0) else value
    return architecture.variant(**options)
