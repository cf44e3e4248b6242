import dataclasses

import numpy as np
import pytest

from keras_resnet import ResNet
from keras_resnet.analysis import plots
from keras_resnet.evaluation import (
    SingleCrop,
    calibrated,
    calibration_error,
    evaluate,
    fit_calibration,
    fit_temperature,
    reliability,
)
from keras_resnet.evaluation.calibration import Calibration
from keras_resnet.export import export, load_exported
from keras_resnet.weights import load_model
from tests.helpers import randomize, refused

from .helpers import SHAPE, images_of, noise, small_net, softmax


def overconfident(factor, count=20000, classes=6):
    """Returns labels drawn from the softmax of logits, and the logits times `factor`."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(count, classes)) * 2
    chances = softmax(logits).cumsum(axis=1)
    labels = (rng.random((count, 1)) > chances).sum(axis=1).clip(max=classes - 1)
    return factor * logits, labels


def cross_entropy(logits, labels):
    return -np.log(softmax(logits)[np.arange(len(labels)), labels]).mean()


def test_reliability_by_hand():
    rows = reliability(np.array([0.1, 0.5, 0.55, 0.95, 1.0]), np.array([0, 1, 0, 1, 1]), bins=2)
    assert rows == [
        {"low": 0.0, "high": 0.5, "images": 2, "confidence": 0.3, "accuracy": 0.5},
        {"low": 0.5, "high": 1.0, "images": 3, "confidence": 2.5 / 3, "accuracy": 2 / 3},
    ]
    # 2/5 of 0.2 and 3/5 of 1/6.
    assert calibration_error([0.1, 0.5, 0.55, 0.95, 1.0], [0, 1, 0, 1, 1], bins=2) == (
        pytest.approx(0.18)
    )


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_temperature_is_the_factor_of_the_logits(factor):
    logits, labels = overconfident(factor)
    temperature = fit_temperature(logits, labels)
    # Of 20,000 drawn labels: the standard error of the factor is about 1 %.
    assert temperature == pytest.approx(factor, rel=0.03)
    best = cross_entropy(logits / temperature, labels)
    for other in (0.99, 1.01):
        assert best < cross_entropy(logits / (other * temperature), labels)


def test_temperature_without_a_mistake_is_the_lowest():
    assert fit_temperature([[5.0, 0.0]], [0]) == pytest.approx(0.01, rel=1e-5)


@pytest.mark.parametrize("average", ["softmax", "logits"])
def test_fit(average):
    logits, labels = overconfident(3.0)
    outputs = (softmax(logits) if average == "softmax" else logits).astype("float32")
    evaluation = dataclasses.replace(
        evaluate(small_net(), noise(), keep_outputs=True),
        average=average,
        outputs=outputs,
        labels=labels,
    )
    found = fit_calibration(evaluation, kept=0.9)
    assert found.temperature == pytest.approx(3, rel=0.03)
    assert found.error[0] > 0.1 and found.error[1] < 0.01
    assert found.cross_entropy == pytest.approx(
        [cross_entropy(logits / t, labels) for t in (1, found.temperature)], rel=1e-5
    )
    best = softmax(logits / found.temperature).max(axis=1)
    right = best[logits.argmax(axis=1) == labels]
    assert (right >= found.threshold * (1 - 1e-6)).mean() == pytest.approx(0.9, abs=1e-3)


def test_fit_needs_all_outputs_and_a_share():
    evaluation = evaluate(small_net(), noise())
    with refused("evaluation"):
        fit_calibration(evaluation)
    with refused("kept"):
        fit_calibration(evaluation, kept=1.5)
    right = evaluate(small_net(), noise(), keep_outputs=True)
    right = dataclasses.replace(right, labels=right.ranking[:, 0])
    with refused("evaluation", "none in 23 images"):
        fit_calibration(right)


def test_a_calibrated_model_keeps_it_in_its_files(tmp_path):
    dataset = noise()
    model = ResNet(
        (1, 1, 1),
        block="basic",
        stem="cifar",
        input_shape=SHAPE,
        classes=7,
        include_preprocessing=True,
    )
    randomize(model, 0)
    found = fit_calibration(evaluate(model, dataset, keep_outputs=True))
    copy = calibrated(model, found)
    images, labels = images_of(dataset)
    logits = np.log(model(images))
    np.testing.assert_allclose(copy(images), softmax(logits / found.temperature), rtol=1e-3)
    again = evaluate(copy, dataset, SingleCrop(), keep_outputs=True)
    assert fit_temperature(np.log(again.outputs), labels) == pytest.approx(1, abs=1e-3)
    copy.save(tmp_path / "model.keras")
    assert load_model(tmp_path / "model.keras").preprocessing.threshold == found.threshold
    path = export(copy, tmp_path / "model.tflite", "litert").path
    assert load_exported(path).preprocessing.threshold == pytest.approx(found.threshold)
    assert model.preprocessing.threshold is None


def test_only_networks_are_calibrated():
    model = small_net()
    found = fit_calibration(evaluate(model, noise(), keep_outputs=True))
    with refused("model"):
        calibrated(ResNet((1, 1, 1), include_top=False, stem="cifar"), found)


def test_several_outputs_of_sigmoid_are_not_calibrated():
    """The temperature is of softmax: of sigmoid, a class's probability is its own."""
    model, dataset = small_net(activation="sigmoid"), noise()
    with refused("evaluation", "add up to"):
        fit_calibration(evaluate(model, dataset, keep_outputs=True))
    found = fit_calibration(evaluate(small_net(), dataset, keep_outputs=True))
    with refused("model", "7 of sigmoid"):
        calibrated(model, found)
    two = noise(classes=2)
    single = evaluate(small_net(classes=1, activation="sigmoid"), two, keep_outputs=True)
    assert fit_calibration(single).images == len(single.labels)


def test_diagram_writes_its_table(tmp_path):
    rows = reliability(np.array([0.3, 0.9]), np.array([0, 1]))
    plots.reliability_diagram({"net": rows}, tmp_path / "reliability.png", title="Reliability")
    text = (tmp_path / "reliability.csv").read_text().splitlines()
    assert text[0] == "model,low,high,images,confidence,accuracy" and len(text) == 3


@pytest.mark.parametrize(
    ("temperature", "images", "word"),
    [(1.5, 100, None), (1.5, 99, "99 images"), (0.01, 500, "0.01,"), (100.0, 500, "100,")],
)
def test_a_temperature_at_its_bounds_or_of_few_images_is_in_doubt(temperature, images, word):
    found = Calibration(temperature, 0.5, 0.95, (0.1, 0.1), (1.0, 1.0), images)
    assert found.doubt is None if word is None else word in found.doubt
