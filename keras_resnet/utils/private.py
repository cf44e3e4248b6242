"""The private names of Keras and TensorFlow that the package uses, and why nothing public does.

Seen in keras 3.15.1 and tensorflow 2.21.0; `tests/utils/test_private.py` says what changed in
another version. Protected hooks of Keras that a subclass here calls are among them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras.src import backend
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR


def layer_of(tensor: keras.KerasTensor) -> keras.Operation:
    """Returns the layer or operation that a symbolic tensor comes from."""
    # Public are only the way forward, and the configuration of a whole model.
    return tensor._keras_history.operation


def function_of(model: keras.Model) -> keras.Function | None:
    """Returns the graph of a functional model, or None; a `Sequential` one holds it inside."""
    # Public is only the list of a `Sequential` model's layers, without the graph of their calls.
    function = getattr(model, "_functional", None) or model
    return function if isinstance(function, keras.Function) else None


def run_through(function: keras.Function, inputs: Any, call: Callable[..., Any]) -> Any:
    """Runs inputs through a graph with `call(operation, *args, **kwargs)` for each operation."""
    # `clone_model(call_function=)` calls for whole models too, but makes layers and a model.
    return function._run_through_graph(inputs, call_fn=call)


def nested_layers(layer: keras.Layer) -> list[keras.Layer]:
    """Returns a layer and all layers inside, at any depth."""
    # `layers` is of models only, and holds no layers inside layers.
    return list(layer._flatten_layers())


def fixed_variables(layer: keras.Layer) -> list[keras.Variable]:
    """Returns the variables made with `trainable=False`, whatever is frozen now."""
    # `non_trainable_variables` are those of frozen layers too.
    return [v for part in nested_layers(layer) for v in part._non_trainable_variables]


def compute_output_spec(function: Callable[..., Any], *args: keras.KerasTensor) -> Any:
    """Calls a function once with tensors that have a shape and no values."""
    # The public one belongs to layers.
    return backend.compute_output_spec(function, *args)


def direction(metric: keras.metrics.Metric) -> str | None:
    """Returns "up" or "down" where a metric says which way is better."""
    # Keras itself reads it off the compiled model.
    return getattr(metric, "_direction", None)


@contextlib.contextmanager
def global_generator(generator: keras.random.SeedGenerator) -> Iterator[None]:
    """Puts a generator in the place of Keras's global one, of which each thread has its own."""
    # `keras.utils.set_random_seed` sets the seed of all generators and nothing back.
    before = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, generator)
    try:
        yield
    finally:
        global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, before)


def schedule_of(optimizer: keras.optimizers.Optimizer) -> Any:
    """Returns an optimizer's learning rate schedule, or the variable of a fixed learning rate."""
    # `learning_rate` is the number at this step.
    return optimizer._learning_rate


def variable_index(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> int:
    """Returns the place of a variable among those that an optimizer was built for."""
    # Public is nothing that `update_step` could find it by.
    return optimizer._get_variable_index(variable)


def has_weight_decay(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> bool:
    """Returns whether `exclude_from_weight_decay` left a variable in."""
    # It only writes; what was excluded can be read nowhere.
    return optimizer._use_weight_decay(variable)


@contextlib.contextmanager
def gradients_are_summed(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Keeps an optimizer from summing gradients over the replicas.

    It gets them summed, so that clipping and the finite test see the whole batch; a second sum
    would multiply them by the number of replicas.
    """
    # No option of `apply`, unlike in Keras 2.
    optimizer._all_reduce_sum_gradients = list
    try:
        yield
    finally:
        # The threads of several replicas come here in turn, and the first one has done it for all.
        vars(optimizer).pop("_all_reduce_sum_gradients", None)


def worker_count(strategy: Any) -> int:
    """Returns the number of workers of a `tf.distribute.Strategy`."""
    # The cluster resolver knows tasks, of which some are no workers.
    return getattr(strategy.extended, "_num_workers", 1)


def is_op_determinism_enabled() -> bool:
    """Returns whether `tf.config.experimental.enable_op_determinism` was called."""
    # Public is only the switch.
    from tensorflow.python.framework import config

    return config.is_op_determinism_enabled()


def with_constants(function: Any) -> Any:
    """Returns a concrete TensorFlow function with constants in place of its variables."""
    # The public ones are for graphs and sessions of TensorFlow 1.
    from tensorflow.python.framework import convert_to_constants

    return convert_to_constants.convert_variables_to_constants_v2(function)
