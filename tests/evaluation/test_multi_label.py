"""Several labels an image, and one output for two classes, against scikit-learn and by hand."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from sklearn import metrics

from keras_resnet.data import ArrayDataset
from keras_resnet.evaluation import (
    MultiLabelEvaluation,
    SingleCrop,
    TenCrop,
    evaluate,
)
from keras_resnet.evaluation.predictor import Classifier
from keras_resnet.export import export, export_hub, load_exported
from tests.helpers import refused

from .helpers import SHAPE, images_of, small_net


def drawn(classes=4, count=60, seed=0):
    rng = np.random.default_rng(seed)
    labels = (rng.random((count, classes)) < [0.5, 0.3, 0.1, 0.0][:classes]).astype("float32")
    # Rounded, so that scores are equal.
    return labels, (0.3 * labels + 0.7 * rng.random(labels.shape)).round(1).astype("float32")


def result_of(labels, outputs):
    names = tuple("abcdefg"[: labels.shape[1]])
    count = len(labels)
    places = (np.arange(count), labels, outputs, 0, 2.0)
    return MultiLabelEvaluation(("net",), "noise", "test", SingleCrop(8), "softmax", names, *places)


def test_figures_are_those_of_scikit_learn():
    labels, outputs = drawn()
    found, guessed = result_of(labels, outputs), outputs >= 0.5
    expected = [metrics.average_precision_score(labels[:, i], outputs[:, i]) for i in range(3)]
    np.testing.assert_allclose(found.average_precision[:3], expected, rtol=1e-6)
    assert found.average_precision[3] is None  # no image has it
    assert found.mean_average_precision == pytest.approx(np.mean(expected), rel=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for average in ("macro", "micro"):
            f1 = metrics.f1_score(labels, guessed, average=average, zero_division=0)
            assert getattr(found, f"{average}_f1") == pytest.approx(f1, rel=1e-6)
    assert found.subset_accuracy == pytest.approx(metrics.accuracy_score(labels, guessed))
    assert found.label_accuracy == pytest.approx(np.mean((labels > 0) == guessed))
    rows = found.per_class()
    assert rows[3]["images"] == 0 and "average_precision" not in rows[3]
    for i, row in enumerate(rows[:3]):
        assert row["precision"] == pytest.approx(
            metrics.precision_score(labels[:, i], guessed[:, i])
        )
        assert row["recall"] == pytest.approx(metrics.recall_score(labels[:, i], guessed[:, i]))


def test_rows_and_metrics_are_json():
    labels, outputs = np.array([[1, 0], [1, 1.0]]), np.array([[0.75, 0.5], [0.25, 1.0]])
    found = result_of(labels, outputs)
    assert found.predictions() == [
        {"index": 0, "labels": "0", "predicted": "0 1", "a": 0.75, "b": 0.5},
        {"index": 1, "labels": "0 1", "predicted": "1", "a": 0.25, "b": 1.0},
    ]
    figures = json.loads(json.dumps(found.metrics()))
    assert (figures["images"], figures["subset_accuracy"]) == (2, 0.0)
    assert figures["label_accuracy"] == 0.5 and figures["protocol"]["name"] == "single-crop"
    assert "\n" not in str(found) and "top-1" not in str(found)


def several(classes=4):
    rng = np.random.default_rng(0)
    splits = {
        split: (
            rng.integers(0, 256, (count, *SHAPE), np.uint8),
            rng.integers(0, 2, (count, classes)).astype("float32"),
        )
        for split, count in (("train", 9), ("test", 23))
    }
    names = [f"class {i}" for i in range(classes)]
    return ArrayDataset("noise", splits, names, multi_label=True)


@pytest.mark.parametrize("protocol", [SingleCrop(), TenCrop()], ids=str)
def test_probabilities_of_all_labels_are_averaged_over_crops(protocol):
    data, model = several(), small_net(classes=4, activation="sigmoid")
    found = evaluate(model, data, protocol, batch_size=7)
    images, labels = images_of(data)
    expected = model(images).numpy()
    if isinstance(protocol, TenCrop):  # of images of the network's own size
        expected = (expected + model(images[:, :, ::-1]).numpy()) / 2
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_allclose(found.outputs, expected, rtol=1e-5, atol=1e-6)


def test_what_does_not_apply_is_refused():
    with refused("`models`", "softmax"):
        evaluate(small_net(classes=4), several())
    with refused("`model`", "sigmoid"):
        evaluate(small_net(classes=4, activation="sigmoid"), several(), average="logits")


@pytest.mark.slow
@pytest.mark.parametrize("classes", [1, 3])
def test_every_form_gives_probabilities(tmp_path, classes):
    """Of one output, both classes have theirs; the forms agree with the network."""
    names = ["cat", "dog"] if classes == 1 else ["cat", "dog", "owl"]
    net = small_net(shape=(8, 8, 3), classes=classes, activation="sigmoid")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 8, 8, 3), np.uint8)
    expected = np.asarray(net(images.astype("float32")))
    if classes == 1:
        expected = np.concatenate([1 - expected, expected], 1)
    export_hub(net, tmp_path / "hub", "classification", labels=names)
    export(net, tmp_path / "model.tflite", "litert", labels=names)
    export(net, tmp_path / "saved", labels=names)
    for form in ("hub", "model.tflite", "saved"):
        classifier = Classifier(load_exported(tmp_path / form), 3, image_size=8)
        for row, scores in zip(classifier.classify(images), expected, strict=True):
            best = np.argsort(-scores, kind="stable")
            assert row[0] == tuple(names[i] for i in best), form
            np.testing.assert_allclose(row[1], scores[best], atol=2e-5, err_msg=form)


def test_one_output_is_evaluated_as_two_classes(tmp_path):
    rng = np.random.default_rng(0)
    splits = {
        split: (rng.integers(0, 256, (count, 8, 8, 3), np.uint8), rng.integers(0, 2, count))
        for split, count in (("train", 9), ("test", 23))
    }
    data = ArrayDataset("noise", splits, ["cat", "dog"])
    net = small_net(shape=(8, 8, 3), classes=1, activation="sigmoid")
    images, labels = images_of(data)
    second = np.asarray(net(images))[:, 0]
    export_hub(net, tmp_path / "hub", "classification", labels=["cat", "dog"])
    for model in (net, load_exported(tmp_path / "hub")):
        found = evaluate(model, data)
        np.testing.assert_array_equal(found.ranking[:, 0], second > 0.5)
        np.testing.assert_allclose(found.scores, np.maximum(second, 1 - second), rtol=1e-4)
        assert found.top1_error == pytest.approx(np.mean((second > 0.5) != labels))
    (best, probabilities), *_ = Classifier(model, image_size=8).classify(images.astype("uint8"))
    assert best == (("dog", "cat") if second[0] > 0.5 else ("cat", "dog"))
    assert sum(probabilities) == pytest.approx(1.0)
    # Outputs are matched by name.
    other = evaluate(net, data, class_names=[["dog", "cat"]])
    np.testing.assert_array_equal(other.ranking[:, 0], second <= 0.5)
    with refused("`models`", "softmax"):
        evaluate(small_net(shape=(8, 8, 3), classes=1), data)
