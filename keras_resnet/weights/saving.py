"""Trained models as `.keras` files, which need nothing but this package to be loaded."""

from __future__ import annotations

import tempfile
from pathlib import Path

import keras

from keras_resnet.network import Network, remembered
from keras_resnet.utils import private
from keras_resnet.utils.checks import first_line
from keras_resnet.utils.files import parse_json, replacing
from keras_resnet.utils.remote import local_path
from keras_resnet.weights.beside import local_file
from keras_resnet.weights.hugging_face import is_address
from keras_resnet.weights.keras_files import check_keras
from keras_resnet.weights.saved import warn_unless_finite

# Needs TensorFlow, so it is registered by the package that defines it.
_HUB_LAYER = b"keras_resnet>HubLayer"


def save_model(model: keras.Model, path: str | Path) -> None:
    """Writes a functional model of one input, with all its outputs, without optimizer and loss.

    The path is that of a local `.keras` file, which is written atomically; the model is unchanged.

    Raises:
        ValueError: If the path is an address.
    """
    path = local_path("path", path)
    kind = type(model) if isinstance(model, Network) else keras.Model
    several = isinstance(model.output, dict) or len(model.outputs) > 1
    outputs = model.output if several else model.outputs[0]
    bare = kind(model.inputs[0], outputs, name=model.name)
    with replacing(path) as temporary:
        bare.save(temporary)


def load_model(path: str | Path) -> keras.Model:
    """Reads a `.keras` file; one that holds Python code, or arrays that would swell, is refused.

    It may be at an address such as gs://bucket/model.keras; see `utils.remote`.

    A file whose layers have more weights than it has bytes is refused. The module of a
    `HubLayer` in it is run if it is in the verified cache, this process has loaded it, or
    `export.trust_module` allows it: nothing is downloaded. Weights that are not finite are loaded
    with a warning.

    Raises:
        ValueError: If there is no such file, or Keras cannot read it.
    """
    if is_address(path):
        raise ValueError(
            "`path` must be an existing .keras file; keras_resnet.load_model loads networks of the "
            f"Hugging Face hub, too. Received: {str(path)!r}"
        )
    path = local_file(path)
    if path.suffix != ".keras" or not path.is_file():
        raise ValueError(f"`path` must be an existing .keras file. Received: {str(path)!r}")
    try:
        config, weights = check_keras(path)
        if _HUB_LAYER in config and keras.saving.get_registered_object(_HUB_LAYER.decode()) is None:
            raise ValueError("it holds a HubLayer: `import keras_resnet.export` first")
        model = _build(config, path.stat().st_size)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.weights.h5"
            file.write_bytes(weights)
            keras.Model.load_weights(model, file)  # Their source is in the config.
        remembered(model)  # A file that tells nonsense of its network is refused, too.
    except Exception as error:  # Whatever layers and backends raise, out of memory too.
        raise ValueError(
            "`path` must be a file that Keras can read. "
            f"Received: {str(path)!r} ({first_line(error)})"
        ) from error
    warn_unless_finite(model, str(path))
    return model


def _build(config: bytes, size: int) -> keras.Model:
    """Returns the model of a config, with initial weights, if they can fit into `size` bytes."""
    built = {**parse_json(config), "compile_config": None}
    with private.without_values(most=size):  # A number takes a byte at least.
        return keras.saving.deserialize_keras_object(built, safe_mode=True)
