"""The state of a run as arrays, and back. TensorFlow only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.training.strategy import is_chief

# By name: other numbers among their attributes are settings, which Keras may change once it starts.
_COUNTERS = {
    keras.callbacks.EarlyStopping: ("wait", "best", "best_epoch", "stopped_epoch"),
    keras.callbacks.ModelCheckpoint: (
        *("best", "_batches_seen_since_last_saving", "_last_batch_seen"),
    ),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    # From an epoch's end to the next one's beginning, the averages lie in the model.
    keras.callbacks.SwapEMAWeights: ("_ema_weights_in_model",),
}

_BEST = "best_weights"

Variables = Mapping[str, Sequence[keras.Variable | tf.Variable]]
# Arrays by the position of the callback that keeps them.
BestWeights = Mapping[int, Sequence[np.ndarray]]


@contextlib.contextmanager
def kept(strategy: tf.distribute.Strategy, variables: Variables) -> Iterator[None]:
    """Gives variables back the values that they had, when the block is through."""
    before = collect(variables)
    try:
        yield
    finally:
        with strategy.scope():
            restore(variables, before)


def collect(variables: Variables) -> dict[str, np.ndarray]:
    """Reads groups of variables into arrays named `group/number`."""
    return {
        f"{group}/{index:04d}": variable.numpy()
        for group, members in variables.items()
        for index, variable in enumerate(members)
    }


def restore(variables: Variables, arrays: Mapping[str, np.ndarray]) -> None:
    """Gives groups of variables the values that `collect` read.

    Raises:
        ValueError: The arrays are those of other variables; nothing is assigned then.
    """
    targets = {
        f"{group}/{index:04d}": variable
        for group, members in variables.items()
        for index, variable in enumerate(members)
    }
    for name in targets.keys() | arrays.keys():
        own = tuple(targets[name].shape) if name in targets else "nothing"
        saved = arrays[name].shape if name in arrays else "nothing"
        if own != saved:
            raise ValueError(
                "`checkpoints` must be those of the same model, optimizer and metrics; use a new "
                f"directory. Received: {name} of shape {own}, where the checkpoint has {saved}"
            )
    for name, variable in targets.items():
        if arrays[name].dtype.kind in "iu" and _is_sum_of_replicas(variable):
            _assign_sum(variable, arrays[name])
        else:
            variable.assign(arrays[name])


def non_finite(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Name of the first array that holds a NaN or an infinity, or None."""
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            return name
    return None


def collect_callbacks(callbacks: Sequence[keras.callbacks.Callback]) -> list[dict]:
    """Reads what Keras's own callbacks count with, such as the patience that is used up."""
    return [
        {
            "class": type(callback).__name__,
            "counters": {name: getattr(callback, name) for name in _counters_of(callback)},
        }
        for callback in callbacks
    ]


def collect_best_weights(callbacks: Sequence[keras.callbacks.Callback]) -> dict[str, np.ndarray]:
    """Reads the weights that `EarlyStopping` keeps into arrays `best_weights/callback/number`."""
    return {
        f"{_BEST}/{position}/{index:04d}": array
        for position, callback in enumerate(callbacks)
        for index, array in enumerate(getattr(callback, _BEST, None) or ())
    }


def split_best_weights(
    arrays: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], BestWeights]:
    """Parts a checkpoint's arrays into those of variables and what `collect_best_weights` read."""
    best: dict[int, list[np.ndarray]] = {}
    for name in sorted(name for name in arrays if name.startswith(f"{_BEST}/")):
        best.setdefault(int(name.split("/")[1]), []).append(arrays[name])
    rest = {name: array for name, array in arrays.items() if not name.startswith(f"{_BEST}/")}
    return rest, best


def restore_callbacks(
    callbacks: Sequence[keras.callbacks.Callback],
    saved: Sequence[Mapping],
    best_weights: BestWeights,
) -> None:
    """Gives callbacks back what was read from them; where they are others, nothing."""
    for position, (callback, entry) in enumerate(zip(callbacks, saved, strict=False)):
        if type(callback).__name__ == entry["class"]:
            vars(callback).update(entry["counters"])
            if position in best_weights:
                setattr(callback, _BEST, list(best_weights[position]))


def _is_sum_of_replicas(variable: keras.Variable | tf.Variable) -> bool:
    several = tf.distribute.get_strategy().num_replicas_in_sync > 1
    return several and str(variable.aggregation).lower().endswith("sum")


def _assign_sum(variable: keras.Variable, total: np.ndarray) -> None:
    """Gives a count to the first replica: TensorFlow cuts it into equal whole parts, and loses."""
    strategy = tf.distribute.get_strategy()
    for index, copy in enumerate(strategy.experimental_local_results(variable.value)):
        copy.assign(total if index == 0 and is_chief(strategy) else np.zeros_like(total))


def _counters_of(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    for kind, names in _COUNTERS.items():
        if isinstance(callback, kind):
            return names
    return ()
