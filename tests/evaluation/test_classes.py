"""Classes of models and data sets, matched by name."""

import dataclasses
import logging

import keras
import numpy as np
import pytest

from keras_resnet import CifarResNet
from keras_resnet.data import ArrayDataset
from keras_resnet.evaluation import MultiScale, SingleCrop, evaluate
from keras_resnet.evaluation.classes import class_orders
from keras_resnet.network import class_names_of
from keras_resnet.preprocessing import Preprocessing
from tests.helpers import randomize, refused

from .helpers import images_of, noise

FRUIT, DIGITS = ("apple", "bee", "cat"), ("0", "1", "2")


def colors(names):
    """Red, green and blue images, classes of these names."""
    images = np.repeat(np.eye(3, dtype=np.uint8)[:, None, None] * 200, 4, 1).repeat(4, 2)
    splits = {split: (images, np.arange(3)) for split in ("train", "test")}
    return ArrayDataset("fruit", splits, names)


def perfect(order=(0, 1, 2)):
    """A model without an error on `colors`, whose outputs are in another order."""
    classifier = keras.layers.Dense(3, "softmax")
    layers = [keras.layers.Rescaling(1 / 20), keras.layers.GlobalAveragePooling2D(), classifier]
    model = keras.Sequential([keras.Input((4, 4, 3)), *layers])
    classifier.set_weights([np.eye(3)[:, list(order)], np.zeros(3)])
    return model


@pytest.mark.parametrize(
    ("classes", "named", "orders", "logged"),
    [
        (FRUIT, [FRUIT], [None], None),
        (FRUIT, [("cat", "apple", "bee")], [[1, 2, 0]], None),
        (FRUIT, [FRUIT, ("bee", "apple", "cat")], [None, [1, 0, 2]], None),
        (FRUIT, [None], [None], "m0"),
        (FRUIT, [FRUIT, None], [None, None], "m1"),
        (FRUIT, [DIGITS], [None], "m0"),
        (DIGITS, [FRUIT], [None], "m0"),
        # Numbers that are the names of both, as folders and as a list have them.
        (("0", "10", "2"), [("0", "2", "10")], [[0, 2, 1]], None),
        # Of models with other names than the data set's, the first gives the order.
        (DIGITS, [DIGITS, FRUIT, FRUIT[::-1]], [None, None, [2, 1, 0]], "m0 and m1 and m2"),
        (("e\u0301t\u00e9", "x"), [("x", "\u00e9te\u0301")], [[1, 0]], None),
        # One name twice.
        (("crane", "crane", "x"), [("crane", "crane", "x")], [None], None),
    ],
)
def test_orders(classes, named, orders, logged, caplog):
    caplog.set_level(logging.INFO, "keras_resnet")
    models = [f"m{i}" for i in range(len(named))]
    assert class_orders("data", classes, models, named) == orders
    assert len(caplog.messages) == bool(logged)
    assert all(f" {logged} " in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("classes", "named", "words"),
    [
        (("z-apple", "bee", "a-cat"), [FRUIT], ["'apple', 'cat'", "'z-apple', 'a-cat'", "m0"]),
        (FRUIT, [FRUIT, ("apple", "bee", "c\u202et")], ["'c\\u202et'", "'cat'", "m1"]),
        (DIGITS, [FRUIT, ("x", "y", "z")], ["'apple', 'bee', 'cat'", "m1", "of m0"]),
        (("crane", "crane", "x"), [("x", "crane", "crane")], ["m0"]),
        (tuple("abcdef"), [tuple("ghijkl")], ["'a', 'b', 'c', ...", "'g', 'h', 'i', ..."]),
    ],
)
def test_other_classes_are_refused(classes, named, words):
    with refused("`models`", *words):
        class_orders("data", classes, [f"m{i}" for i in range(len(named))], named)


def test_figures_do_not_depend_on_the_order_of_the_outputs():
    moved = perfect((2, 0, 1))
    names = [FRUIT, ("cat", "apple", "bee")]
    for models, named in (([moved], names[1:]), ([perfect(), moved], names)):
        assert evaluate(models, colors(FRUIT), class_names=named).top1_error == 0
        # By number, as without names: those of the second model are all wrong.
    assert evaluate(moved, colors(FRUIT)).top1_error == 1
    result = evaluate(perfect(), colors(("cat", "bee", "apple")), class_names=[FRUIT])
    assert result.top1_error == pytest.approx(2 / 3)
    with refused("`models`", "'a-cat', 'z-apple'", "fruit"):
        evaluate(perfect(), colors(("a-cat", "bee", "z-apple")), class_names=[FRUIT])


def named_net(names, tmp_path):
    """A network that remembers names, as saved and loaded."""
    model = CifarResNet(
        8,
        input_shape=(8, 12, 3),
        classes=7,
        include_preprocessing=Preprocessing((100.0,) * 3, (60.0,) * 3),
    )
    randomize(model)
    model.remember(model.network.with_class_names(names))
    model.save(tmp_path / "model.keras")
    return keras.models.load_model(tmp_path / "model.keras")


def test_a_network_brings_its_names_along(tmp_path):
    dataset = noise()
    model = named_net(dataset.class_names[::-1], tmp_path)
    assert class_names_of(model) == dataset.class_names[::-1]
    images, _ = images_of(dataset)
    scores = model.predict(images, verbose=0)[:, ::-1]
    for average in ("softmax", "logits"):
        result = evaluate(model, dataset, average=average)
        np.testing.assert_array_equal(result.ranking[:, 0], scores.argmax(axis=1))
    other = dataclasses.replace(model.network.preprocessing, class_names=("x",) * 7)
    model.remember(dataclasses.replace(model.network, preprocessing=other))
    with refused("`models`", "'class 0', 'class 1', 'class 2', ..."):
        evaluate(model, dataset)


def test_a_model_sees_what_it_was_trained_on_or_is_refused():
    """As by `predict` and `export`: what is remembered is put in front."""
    dataset, prepared = noise(), Preprocessing((100.0,) * 3, (60.0,) * 3)
    bare = randomize(CifarResNet(8, input_shape=(8, 12, 3), classes=7))
    with refused("`models`", "models='bare'"):
        evaluate(bare, dataset, names=["bare"])
    bare.remember(dataclasses.replace(bare.network, preprocessing=prepared))
    images, _ = images_of(dataset)
    expected = bare.predict(prepared.standardize(images), verbose=0)
    for protocol in (SingleCrop(), MultiScale((8,))):
        scores = evaluate(bare, dataset, protocol).scores
        np.testing.assert_allclose(scores, expected.max(axis=1), rtol=1e-5)
