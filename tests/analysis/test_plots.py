"""Figures show what was measured, and the numbers are beside them."""

import itertools
import re

import numpy as np
import pytest
from matplotlib.cbook import STEP_LOOKUP_MAP

import keras_resnet
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


@pytest.mark.parametrize("options", [{}, {"subs": (1,), "most": 3}])
@pytest.mark.parametrize(
    "values",
    [(0.1, 0.12), (0.3, 0.9), (3, 4000), (0.5, 0.5), (0.97, 1.03), (7e-6, 51), (2, 5e23)],
)
def test_logarithmic_axes_have_two_plain_labels_or_more(tmp_path, values, options):
    with drawing.figure(tmp_path / "log.png") as fig:
        axes = fig.subplots()
        axes.plot(values)
        axes.set_yscale("log")
        drawing.log_axis(axes.yaxis, **options)
    low, high = axes.get_ylim()
    shown = [label for label in axes.get_yticklabels() if low <= label.get_position()[1] <= high]
    assert 2 <= len(shown) <= options.get("most", 8)
    assert all(float(label.get_text().replace("\N{MINUS SIGN}", "-")) > 0 for label in shown)
    # Over the whole of the axis, not at one end.
    pixels = [axes.transData.transform((0, label.get_position()[1]))[1] for label in shown]
    assert max(pixels) - min(pixels) > 0.25 * axes.get_window_extent().height


def test_learning_rate_of_an_epoch_is_drawn_over_that_epoch(tmp_path, figures):
    rates = (0.1, 0.1, 0.01)
    epochs = [
        {"epoch": i, "accuracy": 0.5, "learning_rate": rate} for i, rate in enumerate(rates, 1)
    ]
    plots.learning_curve(epochs, tmp_path / "curve.png", title="net on data")
    (line,) = figures[0].axes[1].lines
    steps = STEP_LOOKUP_MAP[line.get_drawstyle()]
    corners = zip(*steps(*line.get_data()), strict=True)
    for (begin, rate), (end, _) in itertools.pairwise(corners):
        if begin < end:  # epoch k goes from k - 1 to k
            assert rate == rates[int(end) - 1] and end - begin == 1


def test_linear_axes_begin_below_zero(tmp_path):
    for values in ([0, 80], [0, 0], [3, 4]):
        with drawing.figure(tmp_path / "zero.png") as fig:
            axes = fig.subplots()
            axes.plot(values, "o")
            drawing.from_zero(axes.yaxis)
        zero, top = axes.transData.transform([(0, 0), (0, max(values))])[:, 1]
        window = axes.get_window_extent()
        assert zero - window.y0 > 6 and window.y1 - top > 6


def test_points_at_zero_and_at_100_percent_are_whole(tmp_path):
    with drawing.figure(tmp_path / "error.png") as fig:
        axes = fig.subplots()
        axes.plot([0, 100])
        drawing.error_axis(axes)
    pixels = axes.transData.transform([(0, 0), (0, 100)])[:, 1]
    window = axes.get_window_extent()
    assert pixels[0] - window.y0 > 4 and window.y1 - pixels[1] > 4
    assert axes.get_yticks().tolist() == list(drawing.ERROR_TICKS)


def test_diagrams_of_blocks_show_their_layers(tmp_path):
    model = keras_resnet.ResNet20(shortcut="A", input_shape=(8, 8, 1))
    path = tmp_path / "blocks.png"
    plots.block_diagrams({"option A": (model, 1, 0)}, path, title="A block")
    # Glyphs are paths; matplotlib keeps each text as a comment.
    drawn = re.findall("<!-- (.*) -->", path.with_suffix(".svg").read_text(encoding="utf-8"))
    branch = ["3×3, 32, /2", "batch norm", "ReLU", "3×3, 32", "batch norm", "+", "ReLU"]
    assert [text for text in drawn if text != "zeros to 32, /2"] == [
        "x",
        *branch,
        "option A",
        "A block",
    ]
    assert "zeros to 32, /2" in drawn
    with pytest.raises(ValueError, match="Received: block 3 of stage 1"):
        plots.block_diagrams({"none": (model, 1, 3)}, path, title="None")


def test_plain_networks_have_a_color_of_their_own_beside_the_paper(tmp_path, figures):
    known = {"figure": "error", "values": [], "low": None, "high": None, "paper": None}
    rows = [
        {"network": "thin", "plain": True, "mean": 1.0, **known},
        {"network": "PlainlyResidual", "plain": False, "mean": 2.0, **known},
    ]
    plots.beside_the_paper(rows, tmp_path / "r.svg", title="")
    colors = {
        line.get_xdata()[0]: line.get_color()
        for line in figures[0].axes[0].lines
        if len(line.get_xdata())
    }
    assert colors == {1.0: drawing.VERMILION, 2.0: drawing.BLUE}
