"""Plots are pictures with content, and the numbers lie beside them."""

import csv

import numpy as np
import pytest

from keras_resnet.analysis import plots
from keras_resnet.analysis.plots import drawing


@pytest.fixture
def curve(tmp_path):
    epochs = [
        {"epoch": i, "accuracy": 1 - 0.9**i, "val_accuracy": 1 - 0.95**i, "learning_rate": 0.1}
        for i in range(1, 11)
    ]
    plots.learning_curve(epochs, tmp_path / "curve.png", title="net on data", final=("test", 0.5))
    return tmp_path, epochs


def test_learning_curve_has_both_lines_and_the_test_mark(curve):
    from matplotlib import colors, image

    picture = image.imread(curve[0] / "curve.png")[..., :3]
    for color in (drawing.BLUE, drawing.ORANGE, drawing.VERMILION, drawing.GREEN):
        near = np.abs(picture - np.array(colors.to_rgb(color))).max(axis=-1) < 0.02
        assert near.sum() > 20, f"{color} is not in the picture"


def test_svg_says_what_was_drawn(curve):
    text = (curve[0] / "curve.svg").read_text()
    # Glyphs are paths; matplotlib keeps each text as a comment.
    for label in (
        "net on data",
        "error (%)",
        "epoch",
        "learning rate",
        "test, after training: 50.00 %",
    ):
        assert label in text


def test_csv_holds_the_numbers(curve):
    with open(curve[0] / "curve.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in rows] == [row["accuracy"] for row in curve[1]]


def test_rows_with_different_keys_share_a_table(tmp_path):
    plots.write_table(tmp_path / "t.csv", [{"a": 1}, {"a": 2, "b": 3}])
    assert (tmp_path / "t.csv").read_text().split() == ["a,b", "1,", "2,3"]
