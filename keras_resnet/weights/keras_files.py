"""Weights out of the files that Keras writes, by layer name and without trust in what they hold.

Keras itself matches a weights file to a model by the order of layers of each class, which lets some
files of other networks pass. Here layers are matched by name.

Keras compresses nothing, so no file of its makes more bytes than it has: one that would, by
compression, by chunks that are nowhere or by many names for one array, is refused before it is
read.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np

from keras_resnet.weights.transfer import unstacked_weights

# What h5py, zlib and zipfile raise for damaged files.
DAMAGE = (
    *(OSError, LookupError, RuntimeError, TypeError, AttributeError, ValueError, EOFError),
    *(zipfile.BadZipFile, zlib.error, struct.error, OverflowError, MemoryError),
)

_MOST_NAMES = 16

Layers = dict[str, list[np.ndarray]]


def read_keras(path: Path) -> tuple[str, Layers, dict[str, Any] | None]:
    """Reads a `.keras` or `.weights.h5` file.

    Returns:
        The name of the saved model, the weights of its layers, blocks unstacked, and its config
        where the file has one and the model is functional.

    Raises:
        Exception: Any of `DAMAGE`, if it is no such file.
    """
    size = path.stat().st_size
    if path.suffix != ".keras":
        return *_read_h5(path, size), None
    members = stored_members(path)
    name, layers = _read_h5(io.BytesIO(members["model.weights.h5"]), size)
    config = json.loads(members["config.json"])["config"]
    return name, layers, config if "layers" in config and "output_layers" in config else None


def check_keras(path: Path) -> bytes:
    """Returns the config of a `.keras` file, if the file makes no more bytes than it has.

    Raises:
        Exception: Any of `DAMAGE`, if it does, or is no such file.
    """
    members = stored_members(path)
    datasets = []
    with h5py.File(io.BytesIO(members["model.weights.h5"])) as h5:
        h5.visititems(
            lambda _, item: datasets.append(item) if isinstance(item, h5py.Dataset) else None
        )
        _check_sizes(datasets, path.stat().st_size)
    return members["config.json"]


def stored_members(path: Path) -> dict[str, bytes]:
    """Returns config and weights of a `.keras` file by the names that they have in it."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{member.filename} in it is compressed, which Keras never does")
        return {name: archive.read(name) for name in ("config.json", "model.weights.h5")}


def read_legacy_h5(path: Path) -> Layers:
    """Reads the weights of a `.h5` file of Keras 1 and 2, of weights alone or of a whole model.

    Raises:
        Exception: Any of `DAMAGE`, if it is no such file.
    """
    layers = {}
    with h5py.File(path, "r") as h5:
        groups = _member(h5, "model_weights") if "model_weights" in h5 else h5
        for layer in groups:
            group = _member(groups, layer)
            names = [_text(name) for name in _attribute(group, "weight_names")]
            if names:
                layers[layer] = [_descendant(group, name) for name in names]
        _check_sizes(itertools.chain(*layers.values()), path.stat().st_size)
        return {layer: [_read_array(item) for item in items] for layer, items in layers.items()}


def _read_h5(file, size) -> tuple[str, dict[str, list[np.ndarray]]]:
    datasets, weights = {}, {}
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
                weights.update(_blocks(arrays))
    return model_name, weights


def _blocks(arrays):
    keys = {name: name.rpartition(".") for name in arrays}
    if not all(position.isdecimal() for _, _, position in keys.values()):
        raise KeyError(f"no weights of stacked blocks: {', '.join(arrays)}")
    in_order = sorted(keys, key=lambda name: int(keys[name][2]))
    return unstacked_weights([(keys[name][0], arrays[name]) for name in in_order])


def _descendant(group, path):
    for name in path.split("/"):
        group = _member(group, name)
    return group


def _text(name):
    return name.decode() if isinstance(name, bytes) else str(name)


def _member(group, name):
    # A soft or external link can lead to other files of this machine.
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise OSError(f"{name!r} is a link or missing")
    return group[name]


def _attribute(group, name):
    # Each can refer to one and the same long text.
    if math.prod(group.attrs.get_id(name).shape) > _MOST_NAMES:
        raise ValueError(f"{name} of {group.name} has more names than a layer has weights")
    return group.attrs[name]


def _check_sizes(datasets: Iterable[Any], size: int) -> None:
    """Raises an error unless all of them are in the file itself, once, of `size` bytes."""
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
