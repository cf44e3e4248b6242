"""Weights by name or from a file of any kind, verified and loaded into a model."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.architectures import is_network_name
from keras_resnet.network import NetworkConfig, remembered
from keras_resnet.utils import checks
from keras_resnet.utils.files import replacing
from keras_resnet.utils.remote import is_remote, local_path
from keras_resnet.weights.beside import local_file
from keras_resnet.weights.hugging_face import HubNetwork, find_network, is_address
from keras_resnet.weights.keras_applications import from_keras_applications
from keras_resnet.weights.keras_files import read_keras, read_legacy_h5
from keras_resnet.weights.padding import PADDINGS
from keras_resnet.weights.pytorch import EPSILON, pool_of_names, to_torch, version_of_names
from keras_resnet.weights.registry import PRETRAINED, find_pretrained
from keras_resnet.weights.saved import SavedWeights
from keras_resnet.weights.torch_files import read_torch, read_torch_network, write_torch

# Of the metadata of a file of safetensors.
_NETWORK = "keras_resnet.network"
# What only this package writes, the second before it had the first.
_OWN = {_NETWORK, "wiring"}


def find_weights(weights: str | Path | None, network: str) -> SavedWeights | None:
    """Reads the weights that the argument `weights` of a builder names, downloaded if need be.

    Args:
        weights: The path of a file, the name of published weights, "imagenet" for the first
            published ones of the network, an address of the Hugging Face hub, "hf://owner/name", or
            of a file on a remote file system, such as gs://bucket/x.safetensors, or None, for which
            None is returned.
        network: Name of the network that is to get them, such as "resnet50".

    Raises:
        ValueError: If there are no such weights, the file cannot be read, or it says that it is of
            another network.
    """
    return None if weights is None else _find(weights, network)


def load_weights(
    model: keras.Model,
    path: str | Path,
    network: str | None = None,
    *,
    padding: str | None = None,
) -> None:
    """Loads weights, from a file or by name, into a model of the same architecture.

    A file of Keras may come from the network with stacked or unrolled blocks. Networks that differ
    in strides, activations or shortcuts without parameters have the same weights: a `.keras` file,
    and a `.safetensors` file of this package, tell them apart, a `.weights.h5` file by the name of
    its model, unless that was one of the user's own. Where the epsilon of the normalization is
    known and another, the difference goes into the variances. Weights for RGB fit models of images
    of any channels: the first kernel is summed over R, G and B for one channel, and repeated and
    multiplied by 3/n for `n`, as in timm. Files of PyTorch are taken for version "v1.5", ResNets of
    `keras.applications` for "v1". Weights that are not finite are loaded with a warning.

    Args:
        model: The model, which gets the weights.
        path: The file, or the name of published weights.
        network: Name of the network that the model is; by default that which it remembers, or its
            own name.
        padding: Side of the zero channels that shortcuts of option A add, in the network of a file
            of PyTorch, which does not tell: "both" in akamaster's pytorch_resnet_cifar10 and its
            copies, "behind" the others in this package. The channels are put in order, so that the
            outputs are the same; without the top the features are those of the file in that other
            order. Other files and networks leave no choice and ignore it.

    Raises:
        ValueError: If there is no such file, if it cannot be read, or if it holds the weights of
            another architecture. The model is unchanged then.
    """
    checks.one_of("padding", padding, (None, *PADDINGS))
    config = remembered(model)
    name = model.name if config is None else config.architecture.name.lower()
    saved = _find(path, network or (name if is_network_name(name) else model.name))
    if saved.padding is None:
        saved = dataclasses.replace(saved, padding=padding)
    saved.load_into(model)


def save_torch_weights(model: keras.Model, path: str | Path) -> None:
    """Writes the weights of a network for PyTorch, under torchvision's and timm's names.

    torchvision and timm load the file into their model of the same shape with
    `load_state_dict(safetensors.torch.load_file(path))`, or with
    `load_state_dict(torch.load(path, weights_only=True))`. Theirs are of version "v1.5": a
    bottleneck net of "v1" has the same names and shapes there and computes something else.

    Args:
        model: Residual network or DenseNet of this package, or one with its layer names.
        path: A `.safetensors` file, or a `.pth` or `.pt` file as `torch.save` writes it; written
            atomically.

    Raises:
        ValueError: If PyTorch's models lack a layer of this one, or the path ends otherwise.
        ImportError: If `safetensors` is needed and not installed.
    """
    path = local_path("path", path)
    kind = path.suffix
    if kind not in (".safetensors", ".pth", ".pt"):
        raise ValueError(
            f"`path` must end in '.safetensors', '.pth' or '.pt'. Received: path={str(path)!r}"
        )
    config, state = remembered(model), to_torch(model)
    network = None if config is None else config.to_json()
    if config and config.arguments.get("conv_bias"):
        raise ValueError(
            "`model` must have convolutions without biases, as in PyTorch; save its weights as "
            "'.weights.h5' and load them with keras_resnet.ResNet50(weights=path) or alike, which "
            f"converts them. Received: model={model.name!r} with conv_bias=True"
        )
    with replacing(path) as temporary:
        if kind == ".safetensors":
            about = {"format": "pt"} | ({} if network is None else {_NETWORK: network})
            _safetensors().save_file(state, temporary, about)
        else:
            write_torch(state, temporary, network)


def _find(weights: str | Path, network: str) -> SavedWeights:
    """Returns published weights or those of a file, as the ending of the name says."""
    if is_address(weights):
        return read_hub(find_network(str(weights)))
    if is_remote(weights):
        weights = local_file(weights)
    kind = next((kind for kind in _READERS if str(weights).endswith(kind)), None)
    sources = {"imagenet", *(name.partition("/")[0] for name in PRETRAINED)}
    if kind is None and isinstance(weights, str) and weights.partition("/")[0] in sources:
        published = find_pretrained(weights, network)
        saved = _read(published.fetch(), published.name)
        prepared = dataclasses.replace(published.preprocessing, source=published.name)
        return dataclasses.replace(saved, preprocessing=prepared)
    if kind is None or not isinstance(weights, (str, os.PathLike)):
        received = str(weights) if isinstance(weights, os.PathLike) else weights
        raise ValueError(
            "`weights` must be the path of a '.keras', '.weights.h5', '.safetensors', '.pth', "
            "'.pt', '.th' or '.h5' file, 'imagenet' or the name of published weights. "
            f"Received: weights={received!r}"
        )
    if not Path(weights).is_file():
        raise ValueError(
            f"`weights` must name an existing file. Received: weights={str(weights)!r}"
        )
    saved = _read(Path(weights), str(weights))
    # A file without a config tells its network by the name of its model alone.
    told = saved.name if saved.network is None else None
    # That of a CIFAR network may be older than the one for ImageNet of its depth.
    if (
        told not in (None, network, network.removeprefix("cifar"))
        and is_network_name(told)
        and is_network_name(network)
    ):
        raise ValueError(
            f"`weights` must be those of {network!r}. Received: weights={str(weights)!r}, which "
            f"holds the network {told!r}"
        )
    return saved


def read_hub(found: HubNetwork) -> SavedWeights:
    """Reads the weights of a network of the hub."""
    saved = _read(found.file, found.address)
    if found.builder is None:
        return saved
    # Names of timm tell the version; those of transformers are the same for all.
    version = found.arguments["version"] if found.transformers else saved.version
    state, prepared = found.torch_state(saved.layers), found.preprocessing
    return dataclasses.replace(saved, layers=state, version=version, preprocessing=prepared)


def _read(path: Path, source: str) -> SavedWeights:
    reader, writer = next(_READERS[kind] for kind in _READERS if path.name.endswith(kind))
    try:
        return reader(path, source)
    except ImportError:
        raise
    except Exception as error:  # Whatever the libraries raise for damaged files.
        # The message of a KeyError is the key alone.
        reason = type(error).__name__ if isinstance(error, KeyError) else checks.first_line(error)
        raise ValueError(
            f"`weights` must be a whole file written by {writer}. "
            f"Received: weights={source!r}, which cannot be read ({reason})"
        ) from error


def _read_keras(path: Path, source: str) -> SavedWeights:
    name, layers, config = read_keras(path)
    saved = SavedWeights(source, layers, name=name)
    told = (layer["config"].get("network") for layer in (config or {"layers": ()})["layers"])
    text = next(filter(None, told), None)
    return from_keras_applications(saved) if text is None else _of_network(saved, text)


def _read_legacy(path: Path, source: str) -> SavedWeights:
    return from_keras_applications(SavedWeights(source, read_legacy_h5(path)))


def _read_safetensors(path: Path, source: str) -> SavedWeights:
    with _safetensors().safe_open(path, framework="numpy") as file:
        names, about = file.keys(), file.metadata() or {}
        state = {name: file.get_tensor(name) for name in names}
    saved = _of_torch(state, source)
    if not _OWN.isdisjoint(about):
        saved = dataclasses.replace(saved, padding="behind")
    return _of_network(saved, about.get(_NETWORK))


def _read_torch(path: Path, source: str) -> SavedWeights:
    saved, network = _of_torch(read_torch(path), source), read_torch_network(path)
    if network is not None:
        saved = dataclasses.replace(saved, padding="behind")
    return _of_network(saved, network)


def _of_torch(state: Mapping[str, np.ndarray], source: str) -> SavedWeights:
    return SavedWeights(
        source,
        state,
        torch=True,
        version=version_of_names(state),
        stem_pool=pool_of_names(state),
        epsilon=EPSILON,
    )


def _of_network(saved: SavedWeights, text: str | None) -> SavedWeights:
    """Returns weights with what their file tells of the network, if it is one of this package."""
    if text is None:
        return saved
    try:
        network = NetworkConfig.from_json(text)
    except ValueError:
        # With functions that Keras does not find by name, the shapes alone have to tell.
        return saved
    return dataclasses.replace(
        saved,
        network=network,
        version=None,
        stem_pool=None,
        epsilon=saved.epsilon if saved.torch else float(network.arguments["bn_epsilon"]),
        preprocessing=network.preprocessing,
    )


# Reader and writer of a file by the ending of its name; the first that fits.
_READERS = {
    ".keras": (_read_keras, "Keras"),
    ".weights.h5": (_read_keras, "Keras"),
    ".h5": (_read_legacy, "Keras"),
    ".safetensors": (_read_safetensors, "safetensors"),
    **dict.fromkeys((".pth", ".pt", ".th", ".pth.tar", ".bin"), (_read_torch, "PyTorch")),
}


def _safetensors() -> Any:
    return checks.import_extra("safetensors.numpy", "Files of safetensors", "weights")
