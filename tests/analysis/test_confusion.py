"""Figures by class: readable for few classes and for many, with the numbers beside them."""

import numpy as np
import pytest

from keras_resnet.analysis import plots
from tests.analysis.conftest import written


@pytest.mark.parametrize("classes", [3, 45])
def test_confusion_matrix(tmp_path, classes):
    counts = np.eye(classes, dtype=int) * 7
    counts[1, 2] = 5
    names = [f"kind {i}" for i in range(classes)]
    plots.confusion_matrix(counts, names, tmp_path / "c.png", title="net on data")
    rows, text = written(tmp_path / "c.png")
    assert [[int(row[name]) for name in names] for row in rows] == counts.tolist()
    assert [row["true class"] for row in rows] == names
    assert (tmp_path / "c.png").stat().st_size > 5000
    assert "net on data" in text and "share of the true class (%)" in text
    # Few classes have every number in its cell; of many the mistakes are named.
    assert ("kind 1 taken for kind 2" in text) == (classes > 30)
    assert ("<!-- 7 -->" in text) == (classes <= 30)


def test_only_mistakes_are_named_as_such(tmp_path, figures):
    counts = 9 * np.eye(40, dtype=int)
    counts[3, 5] = 1
    plots.confusion_matrix(counts, [f"kind {i}" for i in range(40)], tmp_path / "c.png", title="t")
    bars = figures[0].axes[1]
    assert [label.get_text() for label in bars.get_yticklabels()] == ["kind 3 taken for kind 5"]


def test_classes_of_one_name_are_told_apart(tmp_path):
    plots.confusion_matrix(np.array([[1, 2], [3, 4]]), ["crane"] * 2, tmp_path / "c.png", title="t")
    rows, _ = written(tmp_path / "c.png")
    assert rows[1] == {"true class": "1 crane", "0 crane": "3", "1 crane": "4"}


@pytest.mark.parametrize("classes", [3, 45])
def test_names_are_neither_formulas_nor_commands(tmp_path, classes):
    odd = ["$\\frac{1}$ <b>", "two\nlines\x1b[2J", "n\udcff" + "x" * 250]
    names = [*odd, *map(str, range(classes - 3))]
    counts = np.roll(np.eye(classes, dtype=int), 1, axis=1)
    plots.confusion_matrix(counts, names, tmp_path / "c.png", title="$a$_\x07")
    row = {"images": 9, "error": 0.9, "low": 0.8, "high": 1.0}
    rows = [{"name": name, **row} for name in names]
    plots.class_errors(rows, tmp_path / "e.png", title="$a$_\x07")
    for name in ("c", "e"):
        _, text = written(tmp_path / f"{name}.png")
        for shown in (r"$a$_\x07", r"$\frac{1}$ &lt;b&gt;", r"two\nlines\x1b[2J", r"n\udcffxxx"):
            assert shown in text


@pytest.mark.parametrize("classes", [3, 45])
def test_class_errors(tmp_path, classes):
    rows = [
        {"name": f"kind {i}", "images": 9, "error": i / 50, "low": i / 99, "high": 0.9}
        for i in range(classes)
    ]
    rows.append({"name": "without images", "images": 0})
    plots.class_errors(rows, tmp_path / "e.png", title="net on data")
    table, text = written(tmp_path / "e.png")
    assert [row["name"] for row in table] == [row["name"] for row in rows]
    assert "top-1 error (%)" in text and "net on data" in text and "95 % interval" in text
    assert f"kind {classes - 1} (9)" in text and "without images" not in text
    assert ("kind 0 (9)" in text) == (classes <= 30)


@pytest.mark.parametrize("classes", [3, 45])
def test_legend_does_not_lie_on_high_errors(tmp_path, figures, classes):
    rows = [
        {"name": f"kind {i}", "images": 9, "error": 0.95, "low": 0.9, "high": 1.0}
        for i in range(classes)
    ]
    plots.class_errors(rows, tmp_path / "e.png", title="net on data")
    (fig,) = figures
    legends = [*fig.legends, *filter(None, (axes.get_legend() for axes in fig.axes))]
    assert len(legends) == 1
    for axes in fig.axes:
        assert not legends[0].get_window_extent().overlaps(axes.get_window_extent())
