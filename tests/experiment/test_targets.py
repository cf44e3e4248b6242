"""Heads, losses, metrics, class weights and teachers that settings and labels ask for."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import f1_score

from keras_resnet.data import ArrayDataset
from keras_resnet.evaluation import evaluate
from keras_resnet.experiment import Experiment
from keras_resnet.experiment.factories import build_model, make_trainer
from keras_resnet.experiment.settings import CHOICES
from keras_resnet.experiment.targets import (
    Head,
    expect_targets,
    head,
    load_teacher,
    make_loss,
    make_metrics,
)
from tests.helpers import distance, randomize, refused


def data(kind="single", count=24, size=16):
    """Noise of 16x16 pixels and three classes, two, or three labels at once."""
    rng = np.random.default_rng(0)
    classes = 2 if kind == "binary" else 3
    splits = {}
    for split in ("train", "test"):
        images = rng.integers(0, 256, (count, size, size, 1), np.uint8)
        labels = np.arange(count) ** 2 % classes
        if kind == "several":
            labels = rng.integers(0, 2, (count, classes)).astype("float32")
        splits[split] = images, labels
    return ArrayDataset("noise", splits, "abc"[:classes], multi_label=kind == "several")


@pytest.mark.parametrize("several", [False, True])
def test_every_metric_can_be_monitored(several):
    images = np.zeros((1, 8, 8, 1), np.uint8)
    labels = np.eye(1, 11, dtype="float32") if several else np.zeros(1, int)
    many = ArrayDataset("m", {"train": (images, labels)}, "abcdefghijk", multi_label=several)
    names = {metric.name for metric in make_metrics(Experiment().optimization, many)}
    assert names <= set(CHOICES["monitor"]) and len(names) > 1


def experiment(**settings):
    of = {"depth": 8, "batch_size": 8, "steps": 2, "warmup": "none", **settings}
    return Experiment.from_flat(**of)


def trainer_of(one, dataset):
    keras.utils.set_random_seed(0)
    model = build_model(one, dataset)
    return make_trainer(one, tf.distribute.get_strategy(), model, dataset, 2)


BINARY = {"loss": "bce", "binary_head": True}


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("single", {}, Head(3, "softmax")),
        ("single", {"loss": "bce"}, Head(3, "sigmoid")),
        ("binary", {}, Head(2, "softmax")),
        ("binary", BINARY, Head(1, "sigmoid")),
        ("several", {}, Head(3, "sigmoid")),
    ],
)
def test_heads(kind, settings, expected):
    assert head(experiment(**settings).optimization, data(kind)) == expected


def test_one_output_is_trained_measured_and_evaluated():
    one, dataset = experiment(**BINARY, class_weights="balanced", mixup=0.2), data("binary")
    trainer = trainer_of(one, dataset)
    assert trainer.model.output_shape == (None, 1)
    trainer.fit(dataset, 8, steps=2, validation_split=None)
    measured = trainer.evaluate(dataset, "test", 8)
    images, labels, _ = next(iter(dataset.eval_batches("test", 24)))
    p = np.asarray(trainer.model(np.asarray(images, "float32")))[:, 0].astype("float64")
    labels = labels.numpy()
    assert measured["accuracy"] == pytest.approx(np.mean((p > 0.5) == labels))
    losses = -np.log(np.where(labels, p, 1 - p))
    penalty = sum(float(loss) for loss in trainer.model.losses)
    assert measured["loss"] == pytest.approx(losses.mean() + penalty, rel=1e-5)
    found = evaluate(trainer.model, dataset)
    assert found.top1_error == pytest.approx(1 - measured["accuracy"])


def test_several_labels_are_trained_measured_and_evaluated():
    """With mixed images, too; the metrics of training are those of the evaluation."""
    dataset = data("several")
    one = experiment(class_weights="balanced", mixup=0.2, cutmix=0.5)
    trainer = trainer_of(one, dataset)
    history = trainer.fit(dataset, 8, steps=2, validation_split=None).history
    assert 0 < history["accuracy"][-1] < 1
    measured, found = trainer.evaluate(dataset, "test", 8), evaluate(trainer.model, dataset)
    assert measured["accuracy"] == pytest.approx(found.label_accuracy, rel=1e-5)
    assert measured["subset_accuracy"] == pytest.approx(found.subset_accuracy, abs=1e-6)
    assert measured["macro_f1"] == pytest.approx(found.macro_f1, rel=1e-5)
    expected = f1_score(found.labels, found.predicted, average="macro", zero_division=0)
    assert found.macro_f1 == pytest.approx(expected)
    labels = dataset.labels("train")
    weights = (24 - labels.sum(0)) / labels.sum(0)
    np.testing.assert_allclose(
        make_loss(one.optimization, dataset).positive_weights, weights, rtol=1e-6
    )


def test_teacher_is_matched_by_name_size_and_standardization(tmp_path):
    """It was trained on images of another size and mean, with its classes in another order."""
    large = data(size=32)
    large.class_names, large.mean, large.std = ("c", "a", "b"), (90.0,), (40.0,)
    teacher = randomize(build_model(experiment(), large))
    teacher.remember(teacher.network.with_class_names(large.class_names))
    teacher.save(tmp_path / "teacher.keras")
    # The same network by names in labels.txt beside it, as predict and evaluate read them.
    beside = tmp_path / "beside" / "teacher.keras"
    beside.parent.mkdir()
    teacher.remember(teacher.network.with_class_names(None))
    teacher.save(beside)
    (beside.parent / "labels.txt").write_text("c\na\nb\n")
    images = data().labels("test"), next(iter(data().eval_batches("test", 24)))[0]
    call = load_teacher(str(tmp_path / "teacher.keras"), data(), Head(3, "softmax"))
    resized = keras.ops.image.resize(
        np.asarray(images[1], "float32"), (32, 32), "bilinear", antialias=True
    )
    assert distance(call(images[1]), np.asarray(teacher(resized))[:, [1, 2, 0]]) < 1e-5
    other = load_teacher(str(beside), data(), Head(3, "softmax"))
    assert distance(other(images[1]), call(images[1])) < 1e-5
    with refused("`teacher`", "end in softmax"):
        load_teacher(str(tmp_path / "teacher.keras"), data(), Head(3, "sigmoid"))
    with refused("`teacher`", "shape (3,)"):
        load_teacher(str(tmp_path / "teacher.keras"), data("binary"), Head(2, "softmax"))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"binary_head": True}, "`binary_head`"),
        ({"loss": "hinge"}, "`loss`"),
        ({"sampling": "often"}, "`sampling`"),
        ({"class_weights": ["balanced", "1"]}, "`class_weights`"),
        ({"class_weights": [1, -1]}, "`class_weights`"),
        ({"distillation_alpha": 0.5}, "`distillation_alpha`"),
        ({"teacher": "t.keras", "distillation_temperature": 0}, "`distillation_temperature`"),
    ],
)
def test_settings_out_of_range(settings, named):
    with refused(named):
        Experiment.from_flat(**settings)


@pytest.mark.parametrize(
    ("kind", "settings", "named"),
    [
        ("single", BINARY, "`binary_head`"),
        ("several", {"sampling": "balanced"}, "`sampling`"),
        ("single", {"class_weights": ["1", "2"]}, "`class_weights`"),
    ],
)
def test_settings_that_do_not_fit_the_labels(kind, settings, named):
    with refused(named):
        expect_targets(experiment(**settings).optimization, data(kind))
