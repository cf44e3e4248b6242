"""Reading weights that Keras saved, by layer name and with every shape checked.

Keras itself matches a weights file to a model by the order of layers of each class, which lets some
files of other networks pass. Here layers are matched by name.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
import zlib
from pathlib import Path

import h5py
import keras
import ml_dtypes
import numpy as np

from keras_resnet.weights.transfer import assign_weights, check_weights, unstacked_weights

# What h5py, zlib and zipfile raise for damaged files.
_DAMAGE = (
    *(OSError, LookupError, RuntimeError, TypeError, AttributeError, ValueError, EOFError),
    *(zipfile.BadZipFile, zlib.error),
)


def load_weights(model: keras.Model, path: str | Path, network: str | None = None) -> None:
    """Loads a `.weights.h5` or `.keras` file into a model of the same architecture.

    The file may come from the net with stacked or unrolled blocks. Nets that differ in wiring only
    (strides, shortcuts without parameters) have the same weights: a `.keras` file tells them apart,
    a `.weights.h5` file by the name of its model, unless that was one of the user's own.

    Args:
        model: The model, which gets the weights.
        path: The file.
        network: Name of the network that the model is, such as "resnet50_v1.5"; its own name where
            not given.

    Raises:
        ValueError: If there is no such file, if it cannot be read, or if it holds the weights of
            another architecture. The model is unchanged then.
    """
    name, weights = read_weights(path)
    network = model.name if network is None else network
    if name != network and _is_network(name) and _is_network(network):
        raise ValueError(
            f"`weights` must be those of {network!r}. Received: weights={str(path)!r}, which "
            f"holds the network {name!r}"
        )
    check_weights(model, weights, str(path))
    _check_wiring(model, Path(path))
    assign_weights(model, weights, str(path))


def _check_wiring(model: keras.Model, path: Path) -> None:
    """Compares strides and additions, which the weights do not show, where the file tells them."""
    if path.suffix != ".keras":
        return
    try:
        with zipfile.ZipFile(path) as archive:
            saved = _wiring(json.loads(archive.read("config.json"))["config"])
    except _DAMAGE:
        saved = {}  # Not a functional model: its weights have to speak for it.
    own = _wiring(model.get_config())
    different = sorted(
        name for name in saved.keys() | own.keys() if saved.get(name) != own.get(name)
    )
    if saved and different:
        raise ValueError(
            f"`weights` must be those of a network wired as {model.name!r}; build it with the "
            f"`version`, `shortcut` and `stem` of the file. Received: weights={str(path)!r}, which "
            f"differs in {', '.join(different[:3])}"
        )


def _wiring(config) -> dict[str, object]:
    """Returns strides and additions, of the stem and of the first block of each stage."""
    return {
        layer["config"]["name"]: list(layer["config"].get("strides", ()))
        for layer in config["layers"]
        if re.search(r"^conv1_conv$|^pool1_pool$|block1_(\d_conv|add)$", layer["config"]["name"])
    }


def _is_network(name: str) -> bool:
    """Whether the name is that of a line of the table, or of a variant of one."""
    return re.fullmatch(r"(resnet|plainnet)\d+(_[abc])?(_v1(\.5)?)?", name) is not None


def read_weights(path: str | Path) -> tuple[str, dict[str, list[np.ndarray]]]:
    """Returns the name of the saved model and the weights of its layers, blocks unstacked.

    Raises:
        ValueError: If `path` is not a readable `.weights.h5` or `.keras` file.
    """
    if not isinstance(path, (str, os.PathLike)) or not str(path):
        raise ValueError(
            "`weights` must be None or the path of a '.weights.h5' or '.keras' file. "
            f"Received: weights={path!r}"
        )
    path = Path(path)
    if not path.name.endswith((".weights.h5", ".keras")):
        raise ValueError(
            "`weights` must be None or the path of a '.weights.h5' or '.keras' file; names of "
            f"published weights are not known. Received: weights={str(path)!r}"
        )
    if not path.is_file():
        raise ValueError(f"`weights` must name an existing file. Received: weights={str(path)!r}")
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                return _read_h5(io.BytesIO(archive.read("model.weights.h5")))
        return _read_h5(path)
    except _DAMAGE as e:
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise ValueError(
            "`weights` must be a whole file written by Keras. "
            f"Received: weights={str(path)!r}, which cannot be read ({reason})"
        ) from e


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
