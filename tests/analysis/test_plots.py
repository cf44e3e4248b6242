"""Figures show what was measured, and the numbers are beside them."""

import numpy as np
import pytest

from keras_resnet.analysis import plots
from keras_resnet.analysis.plots import drawing
from tests.analysis.conftest import written


@pytest.fixture
def curve(tmp_path):
    epochs = [
        {"epoch": i, "accuracy": 1 - 0.9**i, "val_accuracy": 1 - 0.95**i, "learning_rate": 0.1}
        for i in range(1, 11)
    ]
    plots.learning_curve(epochs, tmp_path / "curve.png", title="net on data", final=("test", 0.5))
    return tmp_path, epochs


def test_learning_curve_has_both_lines_and_the_test_marker(curve):
    from matplotlib import colors, image

    picture = image.imread(curve[0] / "curve.png")[..., :3]
    for color in (drawing.BLUE, drawing.ORANGE, drawing.VERMILION, drawing.GREEN):
        near = np.abs(picture - np.array(colors.to_rgb(color))).max(axis=-1) < 0.02
        assert near.sum() > 20, f"{color} is not in the picture"


def test_svg_says_what_was_drawn_and_csv_holds_the_numbers(curve):
    rows, text = written(curve[0] / "curve.png")
    # Glyphs are paths; matplotlib keeps each text as a comment.
    for label in ("net on data", "error (%)", "epoch", "learning rate", "after training: 50.00 %"):
        assert label in text
    assert [float(row["accuracy"]) for row in rows] == [row["accuracy"] for row in curve[1]]


def test_rows_with_different_keys_share_a_table(tmp_path):
    plots.write_table(tmp_path / "t.csv", [{"a": 1}, {"a": 2, "b": 3}])
    assert (tmp_path / "t.csv").read_text().split() == ["a,b", "1,", "2,3"]


@pytest.mark.parametrize("values", [(0.1, 0.12), (0.3, 0.9), (3, 4000), (0.5, 0.5), (0.97, 1.03)])
def test_logarithmic_axes_have_at_least_two_plain_labels(tmp_path, values):
    with drawing.figure(tmp_path / "log.png") as fig:
        axes = fig.subplots()
        axes.plot(values)
        axes.set_yscale("log")
        drawing.log_axis(axes.yaxis)
    low, high = axes.get_ylim()
    shown = [label for label in axes.get_yticklabels() if low <= label.get_position()[1] <= high]
    assert len(shown) >= 2 and all(float(label.get_text()) > 0 for label in shown)


def test_points_at_zero_and_at_100_percent_are_whole(tmp_path):
    with drawing.figure(tmp_path / "error.png") as fig:
        axes = fig.subplots()
        axes.plot([0, 100])
        drawing.error_axis(axes)
    pixels = axes.transData.transform([(0, 0), (0, 100)])[:, 1]
    window = axes.get_window_extent()
    assert pixels[0] - window.y0 > 4 and window.y1 - pixels[1] > 4
    assert axes.get_yticks().tolist() == list(drawing.ERROR_TICKS)
