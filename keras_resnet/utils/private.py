"""The private names of Keras, TensorFlow, keras-tuner and Python that are used, with the reasons.

Seen in keras 3.15.1, tensorflow 2.21.0, keras-tuner 1.4.8 and Python 3.11;
`tests/utils/test_private.py` tells what changed in another version. Protected methods of Keras that
a subclass here calls are included.
"""

from __future__ import annotations

import contextlib
import math
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import keras
import numpy as np
from keras.src import backend
from keras.src.applications import imagenet_utils
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR

_UNINITIALIZED = "uninitialized_variables"


def layer_of(tensor: keras.KerasTensor) -> keras.Operation:
    """Returns the layer or operation that a symbolic tensor comes from."""
    # The public API has only the configuration of a whole model.
    return tensor._keras_history.operation


def function_of(model: keras.Model) -> keras.Function | None:
    """Returns the graph of a functional or `Sequential` model, or None."""
    # The public API has only the list of a `Sequential` model's layers.
    function = getattr(model, "_functional", None) or model
    return function if isinstance(function, keras.Function) else None


def run_through(function: keras.Function, inputs: Any, call: Callable[..., Any]) -> Any:
    """Runs inputs through a graph with `call(operation, *args, **kwargs)` for each operation."""
    # `clone_model(call_function=)` creates layers and a model.
    return function._run_through_graph(inputs, call_fn=call)


def nested_layers(layer: keras.Layer) -> list[keras.Layer]:
    """Returns a layer and all its sublayers, at any depth."""
    # Only models have `layers`, without the sublayers of layers.
    return list(layer._flatten_layers())


def fixed_variables(layer: keras.Layer) -> list[keras.Variable]:
    """Returns the variables created with `trainable=False`, whatever is frozen now."""
    # `non_trainable_variables` includes those of frozen layers.
    return [v for part in nested_layers(layer) for v in part._non_trainable_variables]


def compute_output_spec(function: Callable[..., Any], *args: keras.KerasTensor) -> Any:
    """Calls a function once with symbolic tensors."""
    # The public one is a method of layers.
    return backend.compute_output_spec(function, *args)


def group_of(layer: keras.Layer, store: Any, names: Sequence[str]) -> Any:
    """Returns a layer's group in a weights file, which calls groups after classes.

    That is the group in `store`, or the first of the same number that is called by one of `names`,
    which the class of the layer has had.
    """
    # Keras finds the group by the class of today, and has nowhere to tell it another name.
    path = getattr(store, "_h5_entry_path", None) or ""  # of H5 files alone
    found = re.fullmatch(rf"(.*/)(?:{'|'.join(names)})((?:_\d+)?)", path)
    if found is None or getattr(store._h5_entry_group, "attrs", {}).get("name") == layer.name:
        return store
    others = (f"{found[1]}{name}{found[2]}" for name in names)
    return store.get(next(filter(store.has_path, others), path))


class _Waiting(list):
    """Variables without values, of so many numbers at most."""

    def __init__(self, most: int):
        super().__init__()
        self.left = most

    def append(self, variable: keras.Variable) -> None:
        self.left -= math.prod(variable.shape)
        if self.left < 0:
            raise ValueError("its layers have more weights than it has bytes")
        super().append(variable)


@contextlib.contextmanager
def without_values(most: int) -> Iterator[None]:
    """Has variables that are made within have a shape, but take no memory there.

    They get their first values at the end; after an error, never. More numbers than `most` are a
    ValueError, before a layer can compute with them.
    """
    # Keras makes layers so within a function without state, and initializes them behind it.
    waiting = _Waiting(most)
    before = global_state.get_global_attribute(_UNINITIALIZED)
    global_state.set_global_attribute(_UNINITIALIZED, waiting)
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute(_UNINITIALIZED, before)
    for variable in waiting:
        variable._deferred_initialize()


@contextlib.contextmanager
def with_values() -> Iterator[None]:
    """Lets variables of values that exist be made within `without_values`."""
    scope = global_state.get_global_attribute("stateless_scope")
    global_state.set_global_attribute("stateless_scope", None)
    try:
        yield
    finally:
        global_state.set_global_attribute("stateless_scope", scope)


def application_shape(
    input_shape: Any, weights: Any, include_top: bool, classifier_activation: Any
) -> tuple[int | None, ...]:
    """Returns the shape of one image of a network of `keras.applications`.

    Raises what Keras raises where it, or the activation of the classifier, does not fit the rest.
    """
    # Keras checks the arguments of all its applications by these.
    if include_top:
        imagenet_utils.validate_activation(classifier_activation, weights)
    return imagenet_utils.obtain_input_shape(
        input_shape,
        default_size=224,
        min_size=32,
        data_format=keras.config.image_data_format(),
        require_flatten=include_top,
        weights=weights,
    )


def direction(metric: keras.metrics.Metric) -> str | None:
    """Returns "up" or "down", the direction in which a metric improves, or None if unknown."""
    # Keras itself reads this attribute of the compiled model.
    return getattr(metric, "_direction", None)


@contextlib.contextmanager
def global_generator(generator: keras.random.SeedGenerator) -> Iterator[None]:
    """Replaces Keras's global generator, of which each thread has its own."""
    # `keras.utils.set_random_seed` seeds all generators and restores nothing.
    before = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, generator)
    try:
        yield
    finally:
        global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, before)


def schedule_of(optimizer: keras.optimizers.Optimizer) -> Any:
    """Returns an optimizer's learning rate schedule, or the variable of a fixed learning rate."""
    # `learning_rate` is the value at this step.
    return optimizer._learning_rate


def averages_of(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Returns the moving averages of the weights that an optimizer with `use_ema` was built for."""
    # `finalize_variable_values` overwrites the weights by them.
    return optimizer._model_variables_moving_average


def variable_index(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> int:
    """Returns the index of a variable among those that an optimizer was built for."""
    # `update_step` has no public way to find it.
    return optimizer._get_variable_index(variable)


def has_weight_decay(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> bool:
    """Returns whether a variable was not excluded by `exclude_from_weight_decay`."""
    # The public API cannot tell what was excluded.
    return optimizer._use_weight_decay(variable)


@contextlib.contextmanager
def gradients_are_summed(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Keeps an optimizer from summing gradients over the replicas, since they are summed already.

    Clipping and the test for finite gradients take those of the whole batch; a second sum would
    multiply them by the number of replicas.
    """
    # `apply` has no option for this, unlike in Keras 2.
    optimizer._all_reduce_sum_gradients = list
    try:
        yield
    finally:
        # Threads of several replicas get here in turn; the first one has deleted it for all.
        vars(optimizer).pop("_all_reduce_sum_gradients", None)


def worker_count(strategy: Any) -> int:
    """Returns the number of workers of a `tf.distribute.Strategy`."""
    # The tasks of the public cluster resolver include some that are no workers.
    return getattr(strategy.extended, "_num_workers", 1)


def is_op_determinism_enabled() -> bool:
    """Returns whether `tf.config.experimental.enable_op_determinism` was called."""
    # Only the switch is public.
    from tensorflow.python.framework import config

    return config.is_op_determinism_enabled()


def with_constants(function: Any) -> Any:
    """Returns a concrete TensorFlow function with constants in place of its variables."""
    # The public functions take graphs and sessions of TensorFlow 1.
    from tensorflow.python.framework import convert_to_constants

    return convert_to_constants.convert_variables_to_constants_v2(function)


def litert_failure() -> type[Exception]:
    """Returns the class of the error that the LiteRT converter raises."""
    # The public API has the converter only.
    from tensorflow.lite.python.convert import ConverterError

    return ConverterError


def litert_model(data: Any) -> Any:
    """Returns the model in the bytes of a LiteRT file, as its schema has it."""
    # The public interpreter tells neither metadata nor which operations are built in.
    from tensorflow.lite.python import schema_py_generated

    return schema_py_generated.Model.GetRootAs(data, 0)


def litert_with_metadata(data: bytes, entries: Mapping[str, bytes]) -> bytes:
    """Returns the bytes of a LiteRT file with more entries of metadata, all at multiples of 16."""
    # The public converter has no option for it.
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated
    from tensorflow.lite.tools import flatbuffer_utils

    class Aligned(flatbuffers.Builder):
        # The schema asks for it (`force_align`), and its Python code forgets it.
        def StartVector(self, size, count, alignment):  # noqa: N802
            return super().StartVector(size, count, 16 if size == 1 else alignment)

    model = flatbuffer_utils.convert_bytearray_to_object(data)
    model.metadata = list(model.metadata or ())
    for name, content in entries.items():
        buffer, entry = schema_py_generated.BufferT(), schema_py_generated.MetadataT()
        buffer.data = np.frombuffer(content, "uint8")
        entry.name, entry.buffer = name, len(model.buffers)
        model.buffers.append(buffer)
        model.metadata.append(entry)
    builder = Aligned(len(data) + 1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


# The public class is the one in C, which has no table of instructions to take some out of.
PythonUnpickler: Any = pickle._Unpickler  # type: ignore[attr-defined]


def zip_directory(file: BinaryIO) -> tuple[int, int]:
    """Returns entries and bytes of a zip archive's directory as its end tells, 0 if it has none."""
    # The public class first makes an object of each entry, and compares neither.
    end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    return (end[4], end[5]) if end else (0, 0)


@contextlib.contextmanager
def tuner_saves_json(write: Callable[[str, Any], None]) -> Iterator[None]:
    """Makes keras-tuner write its JSON files by `write(path, value)`."""
    # Its own function overwrites them in place, and a search that was killed meanwhile is lost.
    from keras_tuner.src import utils

    before, utils.save_json = utils.save_json, write
    try:
        yield
    finally:
        utils.save_json = before
