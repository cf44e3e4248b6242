"""What replicas have in common: means over them, values assigned on all, gradients once summed.

TensorFlow only. To be called from within a replica.
"""

from __future__ import annotations

import keras
import tensorflow as tf


def mean_over_replicas(values: list[tf.Tensor]) -> list[tf.Tensor]:
    """The mean of statistics over all replicas; of whole numbers what the first replica has.

    Whole numbers count or point at something, alike on all replicas; they have no mean.
    """
    context = tf.distribute.get_replica_context()
    is_first = tf.equal(context.replica_id_in_sync_group, 0)
    floats = [value for value in values if value.dtype.is_floating]
    # As int64, since TensorFlow keeps int32 on the host and does not reduce across it.
    others = [tf.cast(value, tf.int64) for value in values if not value.dtype.is_floating]
    others = [tf.where(is_first, value, tf.zeros_like(value)) for value in others]
    reduce = tf.distribute.ReduceOp
    means = iter(context.all_reduce(reduce.MEAN, floats) if floats else ())
    firsts = iter(context.all_reduce(reduce.SUM, others) if others else ())
    return [
        next(means) if value.dtype.is_floating else tf.cast(next(firsts), value.dtype)
        for value in values
    ]


def assign_on_replicas(variables: list[keras.Variable], values: list[tf.Tensor]) -> None:
    """Assigns on every replica, from within one, what is the same on all."""

    def assign(strategy: tf.distribute.Strategy, values: list) -> None:
        for variable, value in zip(variables, values, strict=True):
            strategy.extended.update(
                variable.value, lambda v, new: v.assign(new), args=(value,), group=False
            )

    tf.distribute.get_replica_context().merge_call(assign, args=(values,))
