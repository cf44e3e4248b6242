"""Weights by name or out of a file of any kind, checked and put into a model."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.architectures import is_network_name
from keras_resnet.network import NetworkConfig, remembered
from keras_resnet.preprocessing import CAFFE, Preprocessing
from keras_resnet.utils import checks
from keras_resnet.utils.files import replacing
from keras_resnet.weights.keras_applications import (
    EPSILON,
    are_densely_connected,
    are_keras_applications,
    from_keras_applications,
)
from keras_resnet.weights.keras_files import DAMAGE, Layers, read_keras, read_legacy_h5
from keras_resnet.weights.pytorch import to_torch
from keras_resnet.weights.registry import PRETRAINED, find_pretrained
from keras_resnet.weights.saved import SavedWeights
from keras_resnet.weights.torch_files import read_torch
from keras_resnet.weights.transfer import norm_epsilon

_TORCH_EPSILON = 1e-5
_FILES = "the path of a '.keras', '.weights.h5', '.safetensors', '.pth', '.pt' or '.h5' file"


def find_weights(weights: str | Path | SavedWeights | None, network: str) -> SavedWeights | None:
    """Reads what the `weights` of a builder stand for, downloading it if need be.

    Args:
        weights: None, the path of a file, a name of the table of published weights, or "imagenet"
            for those of the network. What has been read already is returned as it is.
        network: Name of the network that is to get them, such as "resnet50".

    Returns:
        The weights, not yet in a model; None for None.

    Raises:
        ValueError: If there are no such weights, the file cannot be read, or it says that it is of
            another network.
    """
    if weights is None or isinstance(weights, SavedWeights):
        return weights
    if _is_published(weights):
        published = find_pretrained(weights, network)
        saved = _read(published.fetch(), published.name)
        return dataclasses.replace(saved, preprocessing=published.preprocessing)
    saved = _read(_existing(weights), str(weights))
    # A file without a config tells its network by the name of its model alone.
    told = saved.name if saved.network is None else None
    if told not in (None, network) and is_network_name(told) and is_network_name(network):
        raise ValueError(
            f"`weights` must be those of {network!r}. Received: weights={str(weights)!r}, which "
            f"holds the network {told!r}"
        )
    return saved


def load_weights(model: keras.Model, path: str | Path, network: str | None = None) -> None:
    """Loads weights, from a file or by name, into a model of the same architecture.

    A file of Keras may come from the network with stacked or unrolled blocks. Networks that differ
    in strides, activations or shortcuts without parameters have the same weights: a `.keras` file,
    and a `.safetensors` file of this package, tell them apart, a `.weights.h5` file by the name of
    its model, unless that was one of the user's own. Where the epsilon of the normalization is
    known and another, the difference goes into the variances. Files of PyTorch are taken for
    version "v1.5", ResNets of `keras.applications` for "v1". Weights that are not finite are loaded
    with a warning.

    Args:
        model: The model, which gets the weights.
        path: The file, or the name of published weights.
        network: Name of the network that the model is; by default that which it remembers, or its
            own name.

    Raises:
        ValueError: If there is no such file, if it cannot be read, or if it holds the weights of
            another architecture. The model is unchanged then.
    """
    config = remembered(model)
    name = model.name if config is None else config.architecture.name.lower()
    saved = find_weights(path, network or (name if is_network_name(name) else model.name))
    if saved is None:
        raise ValueError(f"`weights` must be {_FILES}. Received: weights=None")
    saved.load_into(model)


def read_weights(path: str | Path) -> tuple[str | None, Layers]:
    """Returns the name of the saved model and the weights of its layers, blocks unstacked.

    Raises:
        ValueError: If `path` is not a file of Keras, or not readable.
    """
    saved = _read(_existing(path), str(path))
    if saved.torch:
        raise ValueError(f"`weights` must be a file of Keras. Received: weights={str(path)!r}")
    return saved.name, dict(saved.layers)


def save_torch_weights(model: keras.Model, path: str | Path) -> None:
    """Writes the weights of a residual network as safetensors under torchvision's names.

    torchvision and timm load the file into their model of the same shape with
    `load_state_dict(safetensors.torch.load_file(path))`. Theirs are of version "v1.5": a bottleneck
    net of "v1" has the same names and shapes there and computes something else.

    Args:
        model: Network of this package, or one with its layer names.
        path: A `.safetensors` file, which appears whole or not at all.

    Raises:
        ValueError: If PyTorch's models lack a layer of this one, or the path ends otherwise.
        ImportError: If `safetensors` is not installed.
    """
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"`path` must end in '.safetensors'. Received: path={str(path)!r}")
    state = _with_torch_epsilon(to_torch(model), norm_epsilon(model))
    about = {"format": "pt"}
    if config := remembered(model):
        about["network"] = config.to_json()
    with replacing(path) as temporary:
        _safetensors().numpy.save_file(state, temporary, about)


def _with_torch_epsilon(state: dict[str, np.ndarray], own: float | None) -> dict[str, np.ndarray]:
    """Returns a state dict that means the same where normalisations add PyTorch's epsilon."""
    shift = 0.0 if own is None else own - _TORCH_EPSILON
    if not shift:
        return state
    moved = {
        name: value.astype("float64") + shift
        for name, value in state.items()
        if name.endswith(".running_var")
    }
    if min(value.min() for value in moved.values()) < 0:
        raise ValueError(
            f"`model` must have bn_epsilon={_TORCH_EPSILON}, as in PyTorch, or variances larger "
            f"than the difference. Received: bn_epsilon={own}"
        )
    return state | {name: value.astype("float32") for name, value in moved.items()}


def _is_published(weights: object) -> bool:
    """Whether it is meant as a name of the table, not as a path."""
    if not isinstance(weights, str) or weights.endswith(tuple(_READERS)):
        return False
    sources = {name.partition("/")[0] for name in PRETRAINED}
    return weights == "imagenet" or weights.partition("/")[0] in sources


def _existing(path: str | Path) -> Path:
    if not isinstance(path, (str, os.PathLike)) or not str(path):
        raise ValueError(f"`weights` must be None, a name or {_FILES}. Received: weights={path!r}")
    kinds = "|".join(re.escape(kind) for kind in _READERS)
    if not re.search(f"({kinds})$", str(path)):
        raise ValueError(
            f"`weights` must be None, {_FILES}, 'imagenet' or the name of published weights. "
            f"Received: weights={str(path)!r}"
        )
    if not Path(path).is_file():
        raise ValueError(f"`weights` must name an existing file. Received: weights={str(path)!r}")
    return Path(path)


def _read(path: Path, source: str) -> SavedWeights:
    kind = next(kind for kind in _READERS if path.name.endswith(kind))
    errors = DAMAGE if kind != ".safetensors" else (*DAMAGE, _safetensors().SafetensorError)
    try:
        return _READERS[kind](path, source)
    except errors as error:
        # What a KeyError says is the key alone.
        reason = type(error).__name__ if isinstance(error, KeyError) else checks.first_line(error)
        whole = _WRITERS.get(kind, "PyTorch")
        raise ValueError(
            f"`weights` must be a whole file written by {whole}. "
            f"Received: weights={source!r}, which cannot be read ({reason})"
        ) from error


def _read_keras(path: Path, source: str) -> SavedWeights:
    name, layers, config = read_keras(path)
    if are_keras_applications(layers):
        return _of_keras_applications(layers, source)
    return _of_network(SavedWeights(source, layers, name=name), _remembered(config))


def _remembered(config: Mapping[str, Any] | None) -> str | None:
    """Returns what the layers of a saved model tell of its network, or None."""
    layers = config["layers"] if config else ()
    return next(filter(None, (layer["config"].get("network") for layer in layers)), None)


def _of_network(saved: SavedWeights, text: str | None) -> SavedWeights:
    """Returns weights with what their file tells of the network, if it is one of this package."""
    if text is None:
        return saved
    network = NetworkConfig.from_json(text)
    return dataclasses.replace(
        saved,
        network=network,
        version=None,
        epsilon=saved.epsilon if saved.torch else float(network.arguments["bn_epsilon"]),
        preprocessing=network.preprocessing,
    )


def _read_legacy(path: Path, source: str) -> SavedWeights:
    layers = read_legacy_h5(path)
    if not are_keras_applications(layers):
        return SavedWeights(source, layers)
    return _of_keras_applications(layers, source)


def _of_keras_applications(layers, source):
    about = {"version": "v1", "preprocessing": CAFFE}
    if are_densely_connected(layers):
        about = {"preprocessing": Preprocessing()}
    return SavedWeights(source, from_keras_applications(layers), epsilon=EPSILON, **about)


def _read_safetensors(path: Path, source: str) -> SavedWeights:
    with _safetensors().safe_open(path, framework="numpy") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}
        about = file.metadata() or {}
    return _of_network(_of_torch(state, source), about.get("network"))


def _read_torch(path: Path, source: str) -> SavedWeights:
    return _of_torch(read_torch(path), source)


def _of_torch(state, source):
    return SavedWeights(source, state, torch=True, version="v1.5", epsilon=_TORCH_EPSILON)


# By how the name ends; the first that fits.
_READERS = {
    ".keras": _read_keras,
    ".weights.h5": _read_keras,
    ".h5": _read_legacy,
    ".safetensors": _read_safetensors,
    **dict.fromkeys((".pth", ".pt", ".pth.tar", ".bin"), _read_torch),
}
_WRITERS = {
    ".keras": "Keras",
    ".weights.h5": "Keras",
    ".h5": "Keras",
    ".safetensors": "safetensors",
}


def _safetensors():
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "Files of safetensors need the package `safetensors`: "
            "pip install 'keras-deep-residual[weights]'."
        ) from error
    return safetensors
