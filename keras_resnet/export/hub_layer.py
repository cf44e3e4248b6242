"""TF Hub modules in Keras 3, where `hub.KerasLayer`, a layer of Keras 2, cannot go.

Needs TensorFlow, as Keras's backend too.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_resnet.export.handles import module_directory, trusted_directory
from keras_resnet.export.trust import module_checksum, trust_checksum
from keras_resnet.export.verification import SAVED_MODEL, load_saved_model, require_tensorflow
from keras_resnet.layers import PACKAGE
from keras_resnet.utils import private
from keras_resnet.utils.checks import first_line


@keras.saving.register_keras_serializable(PACKAGE)
class HubLayer(keras.layers.Layer):
    """A Reusable SavedModel (a TF2 Hub module) as a layer.

    While the layer is trainable its weights can be fine-tuned, its regularization losses count, and
    `training` is passed on. While it is not, the default, nothing in it changes, the statistics of
    batch normalization included. `trainable` can be set at any time, before `compile`.

    A module from the web is downloaded once and kept in TensorFlow Hub's cache
    (`TFHUB_CACHE_DIR`) with a checksum of its files, which is verified whenever it is used. A
    `.keras` file holds the weights of the layer, and of the module its handle only. Files with this
    layer can be loaded once `keras_resnet.export` is imported.

    Running a SavedModel runs the code in its graph, so use modules from sources that you trust. A
    file that is loaded has a module run only if it is in the cache with its checksum, this process
    has called `HubLayer` with it, or `trust_module` allows it; loading a file downloads nothing.

    Args:
        handle: Path of the module's directory, or its address, "https://...": of a .tar.gz archive,
            or of a server that gives one, such as tfhub.dev.
        trainable: Whether to fine-tune the module.
        sha256: Checksum of the archive that an address leads to, in hexadecimal.
        frozen_norms: Whether the module computes as in inference while its weights train: the
            statistics of its normalizations stay, their scales train, and nothing is dropped out.
        **kwargs: As for every layer, such as `name`.

    Input shape: what the module takes; for images float32 in [0, 1], `(batch, H, W, C)`.
    Output shape: what the module gives, such as `(batch, features)`.

    Raises:
        ValueError: If there is no module at `handle`, it is not a Reusable SavedModel, or its
            archive is damaged or unsafe.
        OSError: If it cannot be downloaded.
        RuntimeError: If Keras does not run on TensorFlow.
    """

    def __init__(
        self,
        handle: str | Path,
        trainable: bool = False,
        sha256: str | None = None,
        frozen_norms: bool = False,
        **kwargs,
    ):
        # Modules specify the dtype that they take; Keras would cast to its policy's.
        super().__init__(autocast=False, **kwargs)
        self.handle = str(handle)
        self.sha256 = sha256
        self.frozen_norms = bool(frozen_norms)
        require_tensorflow()
        self._module = _load(module_directory(self.handle, sha256), self.handle)
        self._takes_training = "training" in inspect.signature(self._module.__call__).parameters
        trained = {variable.ref() for variable in _listed(self._module, "trainable_variables")}
        with private.with_values(), keras.name_scope(self.name):
            self.module_weights = [
                keras.Variable(
                    variable,
                    trainable=variable.ref() in trained,
                    dtype=variable.dtype.name,
                    name=variable.name.split(":")[0].replace("/", "_"),
                )
                for variable in _listed(self._module, "variables")
            ]
        losses = _listed(self._module, "regularization_losses")
        first = next((weight for weight in self.module_weights if weight.trainable), None)
        if losses and first is not None:
            first.regularizer = _ModuleLosses(losses)
        self.built = True
        # Last, because it freezes the weights that the layer has at this time.
        self.trainable = trainable

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        inputs = keras.tree.map_structure(_in_float32, inputs)
        if self._takes_training:
            moving = training and self.trainable and not self.frozen_norms
            return self._module(inputs, training=bool(moving))
        return self._module(inputs)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> HubLayer:
        """Returns the layer of a config, if a file may have its module run; see `trust_module`."""
        handle, sha256 = str(config["handle"]), config.get("sha256")
        # Not looked up again, which could lead to another or download it.
        directory = trusted_directory(handle, sha256)
        layer = cls(**{**config, "handle": directory, "sha256": None})
        layer.handle, layer.sha256 = handle, sha256
        return layer

    def get_config(self) -> dict[str, Any]:
        own = {"handle": self.handle, "sha256": self.sha256, "frozen_norms": self.frozen_norms}
        return {**super().get_config(), **own}


class _ModuleLosses(keras.regularizers.Regularizer):
    """The sum of a module's regularization losses, as the regularizer of one of its weights.

    Keras counts it exactly once, however often the layer is called, and only while the weight is
    trainable.
    """

    def __init__(self, losses: list):
        self.losses = losses

    def __call__(self, weight: Any) -> Any:
        return tf.add_n([loss() for loss in self.losses])


def _load(directory: Path, handle: str) -> Any:
    if not (directory / SAVED_MODEL).is_file():
        raise ValueError(
            "`handle` must be the directory of a SavedModel, with a file saved_model.pb. "
            f"Received: handle={handle!r}"
        )
    checksum = module_checksum(directory)
    try:
        module = load_saved_model(directory)
    except Exception as error:  # Damaged ones raise errors of many kinds.
        raise ValueError(
            f"`handle` must be a whole SavedModel. Received: handle={handle!r}, which cannot be "
            f"read ({first_line(error)})"
        ) from error
    if not callable(module):
        raise ValueError(
            "`handle` must be a Reusable SavedModel, which can be called; this one has signatures "
            f"only. Received: handle={handle!r}"
        )
    trust_checksum(checksum)
    return module


def _listed(module: Any, name: str) -> list:
    return list(getattr(module, name, None) or ())


def _in_float32(tensor: Any) -> Any:
    # 16-bit activations of a mixed-precision model; the module judges integers.
    return tf.cast(tensor, tf.float32) if tensor.dtype in (tf.bfloat16, tf.float16) else tensor
