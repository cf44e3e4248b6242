"""The order in which images are trained on: which rows a global batch has. Needs TensorFlow."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_resnet.utils import checks


def train_order(
    num_examples: int,
    batch_size: int,
    seed: int = 0,
    start_step: int = 0,
    probabilities: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Returns endless elements `(step, indices)`, int64 of shape `()` and `(batch_size,)`.

    Each epoch is a uniform permutation keyed by `(seed, epoch)`; `index_shuffle` would give
    neighboring epochs of 45,000 images permutations that correlate to 0.67. With `probabilities`,
    positive or zero numbers for every row, a row comes as often in an epoch as its share of
    `num_examples` says, rounded up or down at random (systematic sampling): equal ones give each
    row once.
    """
    steps = steps_per_epoch(num_examples, batch_size)
    seed = checks.integer("seed", seed, 0)
    first_epoch, skipped = divmod(checks.integer("start_step", start_step, 0), steps)
    shares = None if probabilities is None else _checked_shares(probabilities, num_examples)

    def shuffled(rows: tf.Tensor, key: int, epoch: tf.Tensor) -> tf.Tensor:
        seeds = [seed + key * 2**32, epoch]
        return tf.random.experimental.stateless_shuffle(rows, seed=seeds, alg="philox")

    def epoch_order(epoch: tf.Tensor) -> tf.data.Dataset:
        order = shuffled(tf.range(num_examples, dtype=tf.int64), 0, epoch)
        if shares is not None:
            # Cuts the line on which rows, in random order, lie by their shares at equal distances.
            ends = tf.cumsum(tf.gather(shares, order))
            start = tf.random.stateless_uniform((), [seed, epoch], dtype=tf.float64)
            cuts = (tf.range(num_examples, dtype=tf.float64) + start) / num_examples
            places = tf.searchsorted(ends, cuts * ends[-1], side="right")
            order = shuffled(tf.gather(order, tf.minimum(places, num_examples - 1)), 1, epoch)
        indices = tf.reshape(order[: steps * batch_size], [steps, batch_size])
        numbers = epoch * steps + tf.range(steps, dtype=tf.int64)
        return tf.data.Dataset.from_tensor_slices((numbers, indices))

    epochs = tf.data.Dataset.range(first_epoch, tf.int64.max)
    return epochs.flat_map(epoch_order).skip(skipped)


def shard_rows(batch_size: int, shard: tuple[int, int]) -> slice:
    """Returns the rows of a global batch that belong to `shard = (index, count)`."""
    batch_size = checks.integer("batch_size", batch_size)
    index, count = shard
    if not (isinstance(count, int) and isinstance(index, int) and 0 <= index < count):
        raise ValueError(
            f"`shard` must be (index, count) with 0 <= index < count. Received: shard={shard!r}"
        )
    if batch_size % count:
        raise ValueError(
            f"`batch_size` must be a multiple of the number of shards, {count}. "
            f"Received: batch_size={batch_size}"
        )
    rows = batch_size // count
    return slice(index * rows, (index + 1) * rows)


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Returns the number of whole batches of so many images; a ValueError if there is none."""
    if checks.integer("batch_size", batch_size) > num_examples:
        raise ValueError(
            f"`batch_size` must be at most the number of training images, {num_examples}. "
            f"Received: batch_size={batch_size}"
        )
    return num_examples // batch_size


def spread(count: int, most: int) -> np.ndarray:
    """Returns up to `most` of the positions below `count`, evenly spread, int64 and rising."""
    return np.linspace(0, count - 1, min(most, count)).astype(np.int64)


def _checked_shares(probabilities: np.ndarray, num_examples: int) -> np.ndarray:
    shares = np.asarray(probabilities, np.float64)
    valid = shares.shape == (num_examples,) and np.isfinite(shares).all() and (shares >= 0).all()
    if not valid or not shares.sum():
        raise ValueError(
            f"`probabilities` must be {num_examples} numbers of at least 0, one per training "
            f"image, not all 0. Received: an array of shape {shares.shape}"
        )
    return shares / shares.sum()
