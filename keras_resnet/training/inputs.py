"""The data of a trainer, and their distribution over the replicas of a strategy. TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_resnet.data.dataset import ImageDataset
from keras_resnet.data.streams import Images, as_dataset
from keras_resnet.network import class_count
from keras_resnet.training.strategy import layout


def dataset_for(
    model: keras.Model, images: Images, split: str, name: str = "dataset"
) -> ImageDataset:
    """Returns data as a data set; those without names have a class for each output of the model.

    Args:
        model: The model.
        images: The data.
        split: The split that they are.
        name: Name of the argument that they are, for errors.

    Raises:
        ValueError: There are labels that the model has no output for, or the data are none.
    """
    shape = getattr(model, "output_shape", None)
    outputs = shape[-1] if isinstance(shape, tuple) else None
    count = class_count(outputs) if isinstance(outputs, int) else 0
    try:
        dataset = as_dataset(images, split, [str(number) for number in range(count)])
    except ValueError as error:
        raise ValueError(str(error).replace("`splits`", f"`{name}`", 1)) from error
    classes = len(dataset.class_names)
    # One output can stand for two classes.
    if isinstance(outputs, int) and 1 < outputs < classes:
        raise ValueError(
            f"`{name}` must have at most {outputs} classes, the outputs of the model. "
            f"Received: {dataset.name} with {classes} classes"
        )
    return dataset


def held_out_for(model: keras.Model, images: Images, split: str | None) -> ImageDataset:
    """Returns validation data as a finite data set that has the split; a ValueError otherwise."""
    dataset = dataset_for(model, images, split or "validation", "validation_data")
    if split not in dataset.splits:
        raise ValueError(
            f"`validation_data` must have the split {split!r}, `validation_split`. "
            f"Received: data with {', '.join(dataset.splits)}"
        )
    dataset.num_examples(split)  # An endless pipeline has no number.
    return dataset


def distribute(
    strategy: tf.distribute.Strategy, read: Callable, batch_size: int, *, endless: bool = False
) -> Any:
    """Distributes what `read(shard=...)` returns, one piece of each global batch a replica.

    A worker reads its rows of a global batch at once, and its replicas take equal pieces in turn.
    So every number of workers and replicas sees the same global batches.
    """
    replica_batch = layout(strategy, batch_size).replica_batch

    def pieces(context: tf.distribute.InputContext) -> tf.data.Dataset:
        batches = read(shard=(context.input_pipeline_id, context.num_input_pipelines))
        if context.num_replicas_in_sync > context.num_input_pipelines:
            batches = batches.rebatch(replica_batch, drop_remainder=True)
        if endless:
            # Spares TensorFlow its preparations for batches that may be missing.
            infinite = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
            batches = batches.apply(infinite)
        return batches.prefetch(tf.data.AUTOTUNE)

    return strategy.distribute_datasets_from_function(pieces)
