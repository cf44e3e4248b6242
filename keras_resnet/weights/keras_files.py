"""Weights in files of Keras, read by layer name and without trust in their contents.

Keras itself matches a weights file to a model by the order of layers of each class, which lets some
files of other networks pass.

Keras compresses nothing, so its arrays take no more bytes than their file. A file whose arrays
would, by compression, by missing chunks or by many names for one array, is refused before they are
read, as is one whose archive would swell. Every function here raises whatever the libraries raise
for damaged files.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import ml_dtypes
import numpy as np

from keras_resnet.utils.archives import open_archive
from keras_resnet.utils.files import parse_json
from keras_resnet.weights.transfer import Layers, unstacked_weights

# More than any layer has weights.
_MOST_NAMES = 16


def read_keras(path: Path) -> tuple[str, Layers, dict[str, Any] | None]:
    """Returns the name of the saved model, its weights by layer, and its config if functional."""
    size = path.stat().st_size
    if path.suffix != ".keras":
        return *_read_h5(path, size), None
    members = _stored_members(path)
    name, layers = _read_h5(io.BytesIO(members["model.weights.h5"]), size)
    config = parse_json(members["config.json"])["config"]
    return name, layers, config if "layers" in config and "output_layers" in config else None


def check_keras(path: Path) -> tuple[bytes, bytes]:
    """Returns config and weights of a `.keras` file whose arrays take no more bytes than it has."""
    members = _stored_members(path)
    items: list[Any] = []
    with h5py.File(io.BytesIO(members["model.weights.h5"])) as h5:
        h5.visititems(lambda _, item: items.append(item))
        _check_sizes([i for i in items if isinstance(i, h5py.Dataset)], path.stat().st_size)
    return members["config.json"], members["model.weights.h5"]


def _stored_members(path: Path) -> dict[str, bytes]:
    """Returns config and weights of a `.keras` file by their names in it."""
    with open(path, "rb") as file, open_archive(file) as archive:
        return {name: archive.read(name) for name in ("config.json", "model.weights.h5")}


def read_legacy_h5(path: Path) -> Layers:
    """Reads the weights of a `.h5` file of Keras 1 and 2, of weights alone or of a whole model."""
    layers = {}
    with h5py.File(path, "r") as h5:
        groups = _member(h5, "model_weights") if "model_weights" in h5 else h5
        for layer in groups:
            group = _member(groups, layer)
            names = _attribute(group, "weight_names")
            paths = [n.decode() if isinstance(n, bytes) else str(n) for n in names]
            if paths:
                layers[layer] = [functools.reduce(_member, p.split("/"), group) for p in paths]
        _check_sizes(itertools.chain(*layers.values()), path.stat().st_size)
        return {layer: [_read_array(item) for item in items] for layer, items in layers.items()}


def _read_h5(file: Path | BinaryIO, size: int) -> tuple[str, Layers]:
    datasets: dict[str, dict[str, Any]] = {}
    weights: Layers = {}
    with h5py.File(file, "r") as h5:
        model_name = str(_attribute(_member(h5, "vars"), "name"))
        layers = _member(h5, "layers")
        for key in layers:
            layer = _member(layers, key)
            if "vars" not in layer or not len(_member(layer, "vars")):
                continue
            values = _member(layer, "vars")
            layer_name = str(_attribute(values, "name"))
            datasets[layer_name] = {name: _member(values, name) for name in values}
        _check_sizes((item for items in datasets.values() for item in items.values()), size)
        for layer_name, items in datasets.items():
            arrays = {name: _read_array(dataset) for name, dataset in items.items()}
            if all(name.isdecimal() for name in arrays):
                weights[layer_name] = [arrays[name] for name in sorted(arrays, key=int)]
            else:  # a BlockStack's keys: layer of the pattern, and position in it
                in_order = sorted(arrays, key=lambda name: int(name.rpartition(".")[2]))
                stacked = [(name.rpartition(".")[0], arrays[name]) for name in in_order]
                weights.update(unstacked_weights(stacked))
    return model_name, weights


def _member(group, name):
    # A soft or external link can lead to other files of the machine.
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise OSError(f"{name!r} is a link or missing")
    return group[name]


def _attribute(group, name):
    # Each can refer to one and the same long text.
    if math.prod(group.attrs.get_id(name).shape) > _MOST_NAMES:
        raise ValueError(f"{name} of {group.name} has more names than a layer has weights")
    return group.attrs[name]


def _check_sizes(datasets: Iterable[Any], size: int) -> None:
    """Raises an error unless all data sets are in the file itself, once, of `size` bytes."""
    for dataset in datasets:
        # External and virtual storage would read other files under the name of weights.
        if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
            raise OSError("it refers to data outside itself")
        size -= dataset.nbytes
        if size < 0:
            raise ValueError("its arrays claim more bytes than the file has")


def _read_array(dataset):
    if dataset.attrs.get("dtype") == "bfloat16":  # which HDF5 does not know
        return np.array(dataset, dtype=ml_dtypes.bfloat16)
    if dataset.dtype.kind not in "fiub" or not dataset.size:
        raise TypeError(f"{dataset.name} holds no numbers")
    return dataset[()]
