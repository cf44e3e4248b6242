"""Planted wrong labels, and the page's rows about a folder that has some."""

import base64
import csv
import io

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import keras_resnet
from keras_resnet.data import check_data
from keras_resnet.evaluation import LabelCandidate, find_wrong_labels
from keras_resnet.evaluation.embeddings import embed_pixels
from keras_resnet.evaluation.labels import confident_errors, out_of_fold, write_candidates
from keras_resnet.evaluation.overview import THUMBNAIL, overview_of
from tests.helpers import refused

DIGITS = load_digits()


def planted(labels, share, seed):
    """Returns labels of which some are wrong, and their positions."""
    rng = np.random.default_rng(seed)
    wrong = rng.choice(len(labels), round(share * len(labels)), replace=False)
    flipped = labels.copy()
    flipped[wrong] = (labels[wrong] + rng.integers(1, 10, len(wrong))) % 10
    return flipped, set(wrong.tolist())


@pytest.mark.parametrize("seed", [0, 1])
def test_precision_and_recall_on_the_digits(seed):
    labels, wrong = planted(DIGITS.target, 0.05, seed)
    found = confident_errors(labels, out_of_fold(DIGITS.data, labels, 5, 0))
    right = [(i, likely) for i, likely in found if i in wrong]
    # 0.91 and 0.94, 0.77 and 0.72. cleanlab 2.9 finds the same images from these probabilities.
    assert len(right) >= 0.87 * len(found) and len(right) >= 0.68 * len(wrong)
    assert np.mean([DIGITS.target[i] == likely for i, likely in right]) > 0.95


def test_the_confident_joint_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 1])
    ones = np.array([0.1, 0.2, 0.9, 0.8, 0.9, 0.3])
    # Mean confidences are 0.6 of class 0 and 2/3 of class 1.
    assert confident_errors(labels, np.stack([1 - ones, ones], axis=1)) == [(2, 1), (5, 0)]
    ones[5] = 0.45  # class 0 has 0.55, less than its mean
    assert confident_errors(labels, np.stack([1 - ones, ones], axis=1)) == [(2, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Digits 0 and 1 in two splits, small JPEGs; two of them are in the wrong class."""
    folder = tmp_path_factory.mktemp("digits")
    for digit in (0, 1):
        for number, pixels in enumerate(DIGITS.images[DIGITS.target == digit][:30]):
            split = "val" if number % 3 == 0 else "train"
            place = folder / split / str(1 - digit if number == 4 else digit)
            place.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray((pixels * 15.9).astype("uint8")).resize((24, 24))
            image.save(place / f"{digit}_{number}.jpg", quality=95)
    return folder


WRONG = {"train/1/0_4.jpg": ("1", "0"), "train/0/1_4.jpg": ("0", "1")}


def rows(folder, candidates):
    return {str(one.path.relative_to(folder)): (one.given, one.likely) for one in candidates}


def test_a_folder_by_its_pixels(folder, tmp_path):
    found = find_wrong_labels(folder)
    assert rows(folder, found) == WRONG
    assert all(one.confidence > 0.9 > 0.1 > one.given_confidence for one in found)
    write_candidates(tmp_path / "labels.csv", found)
    with open(tmp_path / "labels.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["path"] for row in table] == [str(one.path) for one in found]
    assert float(table[0]["confidence"]) == found[0].confidence
    write_candidates(tmp_path / "none.csv", [])
    heading = b"path,given,likely,confidence,given_confidence\r\n"
    assert (tmp_path / "none.csv").read_bytes() == heading


def test_a_folder_by_a_network(folder):
    keras.utils.set_random_seed(0)
    images = keras.layers.Rescaling(1 / 64, offset=-2)(keras.Input((16, 16, 3)))
    model = keras_resnet.CifarResNet(8, input_tensor=images, classes=3)
    found = rows(folder, find_wrong_labels(folder, model))
    # Random features see less than trained ones.
    assert found.items() & WRONG.items() and len(found) <= 4


def test_pixels_of_a_folder(folder):
    table = embed_pixels(folder, side=16)
    path = table.paths[7]
    expected = np.asarray(Image.open(path).resize((16, 16), Image.Resampling.BILINEAR)) / 255
    np.testing.assert_allclose(table.vectors[7].reshape(16, 16), expected, atol=1.5 / 255)
    assert table.vectors.shape == (60, 256) and table.classes[7] == path.parent.name


def test_too_few_images_are_refused(folder):
    with refused("`folder`", "31 images or more", "'0': 30"):
        find_wrong_labels(folder, folds=31)
    with refused("`folds`", 1):
        find_wrong_labels(folder, folds=1)
    with refused("`folder`", "'no'"):
        find_wrong_labels("no")


def test_the_rows_of_a_page(folder, tmp_path):
    Image.open(folder / "train" / "0" / "0_1.jpg").save(folder / "val" / "0" / "copy.png")
    try:
        report = check_data(folder, duplicates=True)
        candidates = [
            LabelCandidate(folder / path, *classes, 0.9, 0.1) for path, classes in WRONG.items()
        ]
        page = overview_of(report, candidates, most=1)
    finally:
        (folder / "val" / "0" / "copy.png").unlink()
    count = {"landscape": 0, "portrait": 0, "square": 31}
    assert page.classes[0] == {"class": "0", "train": 20, "validation": 11, **count}
    assert [row["images"] for row in page.sizes] == [61] + 9 * [0]
    (pair,), (label,) = page.duplicates, page.labels
    assert pair.fault == "leak" and page.more_labels == 1
    assert page.more_duplicates == len(report.duplicates) - 1
    assert {"severity": "error", "kind": "leak"}.items() <= page.faults[0].items()
    assert page.faults[0]["files"] == report.counts["leak"]
    assert label.image.path in WRONG and (label.given, label.likely) == WRONG[label.image.path]
    kind, _, data = label.image.uri.partition(",")
    shown = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == "data:image/jpeg;base64" and shown.size == (THUMBNAIL, THUMBNAIL)
    original = Image.open(folder / label.image.path).resize(shown.size).convert("RGB")
    assert np.abs(np.asarray(shown, float) - np.asarray(original, float)).mean() < 8
