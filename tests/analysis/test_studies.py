"""Curves over seeds, final errors and convergence against values by hand."""

import numpy as np
import pytest

from keras_resnet.analysis import plots, studies
from tests.analysis.conftest import written


def run(*accuracies, test=None):
    """Rows of one run, from its training and test accuracies."""
    rows = [{"epoch": i, "accuracy": a} for i, a in enumerate(accuracies, start=1)]
    for row, accuracy in zip(rows, test or (), strict=False):
        row["val_accuracy"] = accuracy
    return rows


STUDY = {
    "plain": [run(0.2, 0.4, 0.5, test=(0.1, 0.3, 0.5)), run(0.4, 0.6, 0.7, test=(0.3, 0.5, 0.9))],
    "residual": [run(0.5, 0.9, 1.0, test=(0.5, 0.8, 0.9)), run(0.7, 0.9, 1.0, test=(0.7, 0.8, 1))],
}


def curve(rows, network, kind, figure):
    """One column of the rows of a curve."""
    return [r[f"error_{figure}"] for r in rows if (r["network"], r["kind"]) == (network, kind)]


def test_curves_are_means_with_the_extremes_of_the_seeds():
    rows = studies.error_curves(STUDY)
    of = list(dict.fromkeys((row["network"], row["kind"]) for row in rows))
    assert of == [(name, kind) for name in STUDY for kind in ("training", "test")]
    assert [row["epoch"] for row in rows] == [1, 2, 3] * 4
    np.testing.assert_allclose(curve(rows, "plain", "training", "mean"), [0.7, 0.5, 0.4])
    np.testing.assert_allclose(curve(rows, "plain", "training", "low"), [0.6, 0.4, 0.3])
    np.testing.assert_allclose(curve(rows, "plain", "training", "high"), [0.8, 0.6, 0.5])
    np.testing.assert_allclose(curve(rows, "residual", "test", "mean"), [0.4, 0.2, 0.05])
    columns = ["network", "kind", "epoch", "error_mean", "error_low", "error_high"]
    assert all(list(row) == columns for row in rows)


def test_panels_are_by_shortcut_whatever_the_name():
    study = {"ResNet20": STUDY["residual"], "PlainNet20": STUDY["plain"], "DenseNet121": []}
    panels = studies.curves_by_kind(study)
    assert list(panels) == ["plain nets", "residual nets"]
    assert panels["plain nets"] == studies.error_curves({"PlainNet20": STUDY["plain"]})
    assert {row["network"] for row in panels["residual nets"]} == {"ResNet20"}
    assert list(studies.curves_by_kind({"resnet20_b": []})) == ["residual nets"]


def test_without_validation_there_is_a_training_curve_only():
    rows = studies.error_curves({"net": [run(0.5, 0.6)]})
    assert {row["kind"] for row in rows} == {"training"}


def test_the_first_epoch_at_an_error():
    rows = run(0.5, 0.9, 0.8, 0.95)
    assert studies.epochs_to_error(rows, 0.5) == 1
    assert studies.epochs_to_error(rows, 0.1) == 2  # 1 - 0.9 is a little less than 0.1
    assert studies.epochs_to_error(rows, 0.05) == 4
    assert studies.epochs_to_error(rows, 0.01) is None


def test_convergence_by_hand():
    plain, residual = studies.convergence(STUDY, [0.4, 0.1])
    assert plain["network"] == "plain" and plain["seeds"] == 2
    assert plain["training_error"] == pytest.approx(0.4)
    # Sample deviation of 0.5 and 0.3.
    assert plain["training_error_sd"] == pytest.approx(0.02**0.5)
    assert plain["test_error"] == pytest.approx(0.3)
    assert plain["epochs_to_40_percent"] == 2 and plain["seeds_at_40_percent"] == 1
    assert plain["epochs_to_10_percent"] is None and plain["seeds_at_10_percent"] == 0
    assert residual["epochs_to_40_percent"] == 1.5 and residual["seeds_at_40_percent"] == 2
    assert residual["epochs_to_10_percent"] == 2


def test_one_seed_has_no_deviation():
    assert studies.final_errors([run(0.5, 0.75)], "accuracy") == (0.25, None)


def test_nothing_is_drawn_at_an_edge(tmp_path, figures):
    plots.final_errors(studies.convergence(STUDY, []), tmp_path / "f.png", title="T")
    (axis,) = figures[0].axes
    highest = max(line.get_ydata().max() for line in axis.lines)
    low, high = axis.get_ylim()
    assert low < 0 and high > 1.1 * highest


def test_one_seed_has_no_bars(tmp_path, figures):
    single = {label: runs[:1] for label, runs in STUDY.items()}
    plots.final_errors(studies.convergence(single, []), tmp_path / "f.png", title="T")
    assert not figures[0].axes[0].collections
    assert figures[0].axes[0].get_legend().get_title().get_text() == ""


def test_one_seed_among_several_has_no_bar_of_length_zero(tmp_path, figures):
    mixed = {label: runs[: 1 + i] for i, (label, runs) in enumerate(STUDY.items())}
    plots.final_errors(studies.convergence(mixed, []), tmp_path / "f.png", title="T")
    for bars in figures[0].axes[0].collections:
        assert list(map(len, bars.get_segments())) == [0, 2]


def test_legend_names_the_band_of_several_seeds(tmp_path, figures):
    single = {label: runs[:1] for label, runs in STUDY.items()}
    for study in (STUDY, single):
        curves = studies.error_curves(study)
        plots.error_curves({"": curves}, tmp_path / "c.png", title="T")
    names = [fig.axes[0].get_legend_handles_labels()[1] for fig in figures]
    assert names[0][-1] == "band: lowest to highest seed"
    assert not any("band" in name for name in names[1])


def test_training_and_test_after_one_epoch(tmp_path, figures):
    study = {"net": [run(0.5, test=(0.4,)), run(0.6, test=(0.5,))]}
    plots.error_curves({"": studies.error_curves(study)}, tmp_path / "c.png", title="T")
    (axis,) = figures[0].axes
    marks = {line.get_label(): line.get_marker() for line in axis.lines}
    assert marks["net, training"] != marks["net, test"] and "None" not in marks.values()
    low, high = axis.get_xlim()
    assert [tick for tick in axis.get_xticks() if low <= tick <= high] == [1]


def test_figure_of_curves(tmp_path):
    sides = {"left": "plain", "right": "residual"}
    panels = {
        side: studies.error_curves({name: STUDY[name]}, "validation")
        for side, name in sides.items()
    }
    plots.error_curves(panels, tmp_path / "c.png", title="T")
    rows, svg = written(tmp_path / "c.png")
    for text in (
        "T",
        "left",
        "right",
        "plain, training",
        "residual, validation",
        "epoch",
        "error (%)",
    ):
        assert f"<!-- {text} -->" in svg
    assert len(rows) == 12


def test_figure_of_final_errors(tmp_path):
    rows = studies.convergence(STUDY, [0.1], "validation")
    assert all("test_error" not in row for row in rows)
    plots.final_errors(rows, tmp_path / "f.png", title="T", watched="validation")
    svg = (tmp_path / "f.svg").read_text()
    for text in ("plain", "residual", "validation error", "training error", "40.00", "5.00"):
        assert f"<!-- {text} -->" in svg
