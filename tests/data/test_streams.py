"""Arrays and `tf.data` pipelines in training and evaluation, in place of a data set."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.data.dataset import ArrayDataset
from keras_resnet.data.streams import StreamDataset, as_dataset
from keras_resnet.evaluation import evaluate
from keras_resnet.training import Checkpoints
from tests.evaluation.helpers import images_of, noise, small_net
from tests.helpers import refused
from tests.training.fakes import assert_same_weights, blobs, make_trainer

DIGITS = "0123"


def plain():
    return blobs(augment=False)


def ordered(epochs=3):
    """Returns the arrays of the blobs as one epoch after the other comes in training."""
    batches = list(plain().train_batches(32).take(4 * epochs).as_numpy_iterator())
    return tuple(np.concatenate(column) for column in zip(*batches, strict=True))


def test_arrays_and_the_same_batches_as_a_pipeline_train_the_same_weights():
    data = plain()
    validation = data.arrays("validation")
    expected = make_trainer()
    history = expected.fit(data, 32, epochs=3).history
    assert len(history["val_accuracy"]) == 3
    slices = tf.data.Dataset.from_tensor_slices
    for images, steps, held_out in (
        (data.arrays("train"), None, validation),
        (slices(ordered()), 4, slices(validation)),
        # Batches of another size are regrouped.
        (slices(ordered()).batch(20), 4, slices(validation).batch(20)),
    ):
        trainer = make_trainer()
        own = trainer.fit(images, 32, epochs=3, steps_per_epoch=steps, validation_data=held_out)
        assert_same_weights(trainer, expected)
        for name, values in history.items():
            np.testing.assert_allclose(own.history[name], values, rtol=1e-6, err_msg=name)


def test_a_pipeline_resumes_by_skipping(tmp_path):
    images, labels = ordered(1)
    pipeline = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(128, seed=3)
    whole, parts = make_trainer(), make_trainer()
    # Read anew, as by another process, its generator begins anew too.
    whole.fit(pipeline, 32, steps=10)
    for steps in (3, 10):
        again = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(128, seed=3)
        parts = make_trainer()
        parts.fit(again, 32, steps=steps, checkpoints=Checkpoints(tmp_path, every=1))
    assert_same_weights(whole, parts)


def test_shards_are_rows_of_the_same_batches():
    data = StreamDataset(tf.data.Dataset.from_tensor_slices(ordered(1)), "train", DIGITS)
    whole = list(data.train_batches(32, start_step=1).take(5).as_numpy_iterator())
    parts = [
        list(data.train_batches(32, start_step=1, shard=(i, 2)).take(5).as_numpy_iterator())
        for i in range(2)
    ]
    for step, (images, labels) in enumerate(whole):
        np.testing.assert_array_equal(images, np.concatenate([part[step][0] for part in parts]))
        np.testing.assert_array_equal(labels, np.concatenate([part[step][1] for part in parts]))
    # After the last whole batch the first one comes again.
    np.testing.assert_array_equal(whole[3][0], ordered(1)[0][:32])


def test_evaluation_counts_each_example_once():
    images, labels = blobs().arrays("test")
    trainer = make_trainer()
    pipeline = tf.data.Dataset.from_tensor_slices((images, labels[:, np.newaxis])).batch(5)
    # Keras's column of labels, and a pipeline that does not say how long it is.
    unknown = pipeline.filter(lambda *_: True)
    expected = trainer.evaluate(blobs(), "test", 8)
    for data in ((images, labels), pipeline, unknown):
        assert trainer.evaluate(data, "test", 8) == pytest.approx(expected, rel=1e-6)
        assert trainer.evaluated_images == 37


def test_the_evaluator_takes_arrays_and_pipelines():
    dataset, model = noise(), small_net()
    images, labels = images_of(dataset)
    expected = evaluate(model, dataset, keep_outputs=True)
    as_bytes = images.astype("uint8")
    for data in (
        (as_bytes, labels),
        (images, labels),
        tf.data.Dataset.from_tensor_slices((as_bytes, labels)),
        tf.data.Dataset.from_tensor_slices((images, labels)).batch(6),
    ):
        result = evaluate(model, data, keep_outputs=True)
        assert result.split == "test" and result.count == 23
        np.testing.assert_array_equal(result.labels, labels)
        np.testing.assert_allclose(result.outputs, expected.outputs, rtol=1e-5, atol=1e-6)


def test_fractions_of_levels_are_kept():
    dataset, model = noise(), small_net()
    images, labels = images_of(dataset)
    images = np.clip(images + 0.37, 0, 255)
    result = evaluate(model, (images, labels), keep_outputs=True)
    np.testing.assert_allclose(result.outputs, model(images), rtol=1e-5, atol=1e-6)
    floats = ArrayDataset("floats", {"train": (images, labels)}, dataset.class_names)
    assert floats.image_dtype == tf.float32
    ((batch, _, _),) = floats.eval_batches("train", len(images))
    np.testing.assert_array_equal(batch, images)


def test_several_labels():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (12, 8, 8, 1), np.uint8), rng.integers(0, 2, (12, 4))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    for data in ((images, labels), tf.data.Dataset.from_tensor_slices((images, labels))):
        dataset = as_dataset(data, "train", DIGITS)
        assert dataset.multi_label and dataset.num_examples("train") == 12
        np.testing.assert_array_equal(dataset.labels("train"), labels)
        ((_, found, weights),) = dataset.eval_batches("train", 16)
        np.testing.assert_array_equal(found[:12], labels)
        assert found.dtype == tf.float32 and weights.numpy().sum() == 12
    trainer = make_trainer(loss=loss, multi_label=True)
    pipeline = tf.data.Dataset.from_tensor_slices((images, labels))
    assert trainer.fit(pipeline, 4, epochs=1).history["loss"][0] > 0


def test_mean_and_deviation():
    images, labels = ordered(1)
    data = StreamDataset(tf.data.Dataset.from_tensor_slices((images, labels)), "train", DIGITS)
    np.testing.assert_allclose(data.mean, images.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(data.std, images.std(axis=(0, 1, 2)), rtol=1e-6)


def test_what_is_refused():
    images, labels = ordered(1)
    slices = tf.data.Dataset.from_tensor_slices
    trainer = make_trainer()
    with refused("steps_per_epoch", "endless"):
        trainer.fit(slices((images, labels)).repeat(), 32, epochs=1)
    with refused("dataset", "endless"):
        endless = slices((images, labels)).repeat()
        trainer.fit(slices((images, labels)), 32, epochs=1, validation_data=endless)
    with refused("sampling"):
        trainer.fit(slices((images, labels)), 32, epochs=1, sampling="balanced")
    with refused("batch_size", "128"):
        trainer.fit(slices((images, labels)), 129, epochs=1)
    with refused("validation_data", "'validation'"):
        only_training = ArrayDataset("few", {"train": (images, labels)}, DIGITS)
        trainer.fit((images, labels), 32, epochs=1, validation_data=only_training)
    with refused("dataset", "in [0, 1]"):
        trainer.fit((images / 255, labels), 32, epochs=1)
    with refused("dataset", "ndarray"):
        trainer.fit(images, 32, epochs=1)
    for wrong in (
        slices(images),
        slices((images.astype("uint16"), labels)),
        slices((images, labels.astype("float32"))),
        slices((images, np.eye(3)[labels % 3])),
        slices((images[..., 0], labels)),
    ):
        with refused("dataset"):
            trainer.fit(wrong, 32, epochs=1)
    assert trainer.step == 0
