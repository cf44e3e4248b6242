"""A SavedModel inside a model is trained as Keras's own loop trains it."""

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.data import ArrayDataset
from keras_resnet.export import HubLayer, export_hub
from keras_resnet.training import Trainer, sgd

BATCH, STEPS = 16, 3
LOSS = "sparse_categorical_crossentropy"


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    model = keras_resnet.CifarResNet(8, input_tensor=keras.layers.Rescaling(1 / 127, -1)(inputs))
    return export_hub(model, tmp_path_factory.mktemp("hub") / "module")


def build(module, trainable):
    keras.utils.set_random_seed(1)
    images = keras.Input((8, 8, 1))
    features = HubLayer(module, trainable=trainable)(keras.layers.Rescaling(1 / 255)(images))
    return keras.Model(images, keras.layers.Dense(3, activation="softmax")(features))


@pytest.fixture(scope="module")
def dataset():
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (BATCH, 8, 8, 1)).astype(np.uint8)
    return ArrayDataset("noise", {"train": (images, np.arange(BATCH) % 3)}, ["a", "b", "c"])


def test_trainer_moves_a_modules_weights_as_fit_does(module, dataset):
    ours, keras_own = build(module, True), build(module, True)
    before = [v.numpy() for v in ours.trainable_variables]
    Trainer(ours, sgd(0.1, weight_decay=0.0), LOSS).fit(dataset, BATCH, steps=STEPS)
    keras_own.compile(sgd(0.1, weight_decay=0.0), LOSS, jit_compile=False)
    for images, labels in dataset.train_batches(BATCH).take(STEPS):
        keras_own.train_on_batch(images, labels)
    for old, v in zip(before, ours.trainable_variables, strict=True):
        assert np.abs(old - v.numpy()).max() > 0, f"{v.path} did not move"
    for a, b in zip(ours.trainable_variables, keras_own.trainable_variables, strict=True):
        # The two sum in another order, and ReLUs next to zero make more of it with every step.
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=5e-4, err_msg=a.path)


def test_frozen_module_does_not_move(module, dataset):
    model = build(module, False)
    before = [v.numpy() for v in model.layers[-2].weights]
    Trainer(model, sgd(0.1), LOSS).fit(dataset, BATCH, steps=STEPS)
    for a, b in zip(before, model.layers[-2].weights, strict=True):
        np.testing.assert_array_equal(a, b.numpy())


def test_weight_without_influence_is_named(dataset):
    images = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(images)
    dead = keras.layers.Dense(3, name="dead")(flat)
    scores = keras.layers.Dense(3, activation="softmax")(flat)
    model = keras.Model(images, scores + keras.ops.stop_gradient(dead))
    with pytest.warns(UserWarning, match="dead/kernel"):
        Trainer(model, sgd(0.1), LOSS).fit(dataset, BATCH, steps=1)
