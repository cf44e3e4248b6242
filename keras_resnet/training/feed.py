"""From an `ImageDataset` to the replicas of a strategy. TensorFlow only.

A worker reads its rows of a global batch at once; they are cut up among its replicas, which take
the pieces in turn. So every number of workers and replicas sees the same global batches.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from keras_resnet.data.dataset import ImageDataset
from keras_resnet.training.strategy import layout

Read = Callable[[tuple[int, int]], tf.data.Dataset]


def train_batches(
    strategy: tf.distribute.Strategy,
    dataset: ImageDataset,
    batch_size: int,
    seed: int,
    start_step: int,
):
    """The endless training batches from `start_step` on, one piece a replica.

    Args:
        strategy: Whose replicas take the pieces.
        dataset: The data.
        batch_size: Global batch, over all replicas.
        seed: Seed of order and augmentation.
        start_step: Batches to leave out.

    Returns:
        A distributed data set of (images, labels).
    """

    def read(shard: tuple[int, int]) -> tf.data.Dataset:
        return dataset.train_batches(batch_size, seed=seed, start_step=start_step, shard=shard)

    return _distribute(strategy, read, batch_size, tf.data.INFINITE_CARDINALITY)


def eval_batches(
    strategy: tf.distribute.Strategy, dataset: ImageDataset, split: str, batch_size: int
):
    """One pass over a split, one piece a replica: (images, labels, weights)."""

    def read(shard: tuple[int, int]) -> tf.data.Dataset:
        return dataset.eval_batches(split, batch_size, shard=shard)

    return _distribute(strategy, read, batch_size)


def _distribute(
    strategy: tf.distribute.Strategy, read: Read, batch_size: int, cardinality: int | None = None
):
    replica_batch = layout(strategy, batch_size).replica_batch

    def pieces(context: tf.distribute.InputContext) -> tf.data.Dataset:
        batches = read((context.input_pipeline_id, context.num_input_pipelines))
        if context.num_replicas_in_sync > context.num_input_pipelines:
            batches = batches.rebatch(replica_batch, drop_remainder=True)
        if cardinality is not None:
            # Spares TensorFlow its preparations for batches that may be missing.
            batches = batches.apply(tf.data.experimental.assert_cardinality(cardinality))
        return batches.prefetch(tf.data.AUTOTUNE)

    return strategy.distribute_datasets_from_function(pieces)
