"""Reading weights that Keras saved, by layer name and with every shape checked.

Keras itself matches a weights file to a model by the order of layers of each class, which lets some
files of other networks pass. Here layers are matched by name.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np

from keras_resnet.architectures import ARCHITECTURES
from keras_resnet.weights.transfer import assign_weights, unstacked_weights

_NETWORKS = {name.lower() for name in ARCHITECTURES}


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Loads a `.weights.h5` or `.keras` file into a model of the same architecture.

    The file may come from the net with stacked or unrolled blocks.

    Raises:
        ValueError: If there is no such file, if it cannot be read, or if it holds the weights of
            another architecture. The model is unchanged then.
    """
    name, weights = read_weights(path)
    # A plain net and its option-A twin have the same weights; only the name tells them apart.
    if name != model.name and name in _NETWORKS and model.name in _NETWORKS:
        raise ValueError(
            f"`weights` must be those of {model.name!r}. Received: weights={str(path)!r}, which "
            f"holds the network {name!r}"
        )
    assign_weights(model, weights, str(path))


def read_weights(path: str | Path) -> tuple[str, dict[str, list[np.ndarray]]]:
    """Returns the name of the saved model and the weights of its layers, blocks unstacked.

    Raises:
        ValueError: If `path` is not a readable `.weights.h5` or `.keras` file.
    """
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
                file = io.BytesIO(archive.read("model.weights.h5"))
            return _read_h5(file)
        return _read_h5(path)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            "`weights` must be a whole file written by Keras. "
            f"Received: weights={str(path)!r}, which cannot be read ({reason})"
        ) from error


def _read_h5(file) -> tuple[str, dict[str, list[np.ndarray]]]:
    weights = {}
    with h5py.File(file, "r") as h5:
        model_name = _attribute_name(h5["vars"])
        for entry in h5["layers"].values():
            values = entry.get("vars")
            if values is None or not len(values):
                continue
            layer_name = _attribute_name(values)
            arrays = {key: _read_array(values[key]) for key in values}
            if all(key.isdecimal() for key in arrays):
                weights[layer_name] = [arrays[key] for key in sorted(arrays, key=int)]
            else:  # a BlockStack's keys: layer of the pattern, and position in it
                keys = sorted(arrays, key=lambda key: int(key.rpartition(".")[2]))
                stacked = [(key.rpartition(".")[0], arrays[key]) for key in keys]
                weights.update(unstacked_weights(layer_name, stacked))
    return model_name, weights


def _attribute_name(group):
    return str(group.attrs["name"])


def _read_array(dataset):
    # External storage would read other files of this machine under the name of weights.
    if not isinstance(dataset, h5py.Dataset) or dataset.external:
        raise OSError("it refers to data outside itself")
    return dataset[()]
