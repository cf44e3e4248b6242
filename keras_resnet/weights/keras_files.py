"""Weights out of the files that Keras writes, by layer name and without trust in what they hold.

Keras itself matches a weights file to a model by the order of layers of each class, which lets some
files of other networks pass. Here layers are matched by name.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
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

Layers = dict[str, list[np.ndarray]]


def read_keras(path: Path) -> tuple[str, Layers, dict[str, Any] | None]:
    """Reads a `.keras` or `.weights.h5` file.

    Returns:
        The name of the saved model, the weights of its layers, blocks unstacked, and its config
        where the file has one and the model is functional.

    Raises:
        Exception: Any of `DAMAGE`, if it is no such file.
    """
    if path.suffix != ".keras":
        return *_read_h5(path), None
    with zipfile.ZipFile(path) as archive:
        name, layers = _read_h5(io.BytesIO(archive.read("model.weights.h5")))
        config = json.loads(archive.read("config.json"))["config"]
    return name, layers, config if "layers" in config and "output_layers" in config else None


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
            names = [_text(name) for name in group.attrs["weight_names"]]
            if names:
                layers[layer] = [_read_array(_descendant(group, name)) for name in names]
    return layers


def _read_h5(file) -> tuple[str, dict[str, list[np.ndarray]]]:
    weights = {}
    with h5py.File(file, "r") as h5:
        model_name = _attribute_name(_member(h5, "vars"))
        layers = _member(h5, "layers")
        for key in layers:
            layer = _member(layers, key)
            if "vars" not in layer or not len(_member(layer, "vars")):
                continue
            values = _member(layer, "vars")
            layer_name = _attribute_name(values)
            arrays = {name: _read_array(_member(values, name)) for name in values}
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


def _attribute_name(group):
    return str(group.attrs["name"])


def _read_array(dataset):
    # External and virtual storage would read other files under the name of weights.
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise OSError("it refers to data outside itself")
    if dataset.attrs.get("dtype") == "bfloat16":  # which HDF5 does not know
        return np.array(dataset, dtype=ml_dtypes.bfloat16)
    values = dataset[()]
    if values.dtype.kind not in "fiub":
        raise TypeError(f"{dataset.name} holds no numbers")
    return values
