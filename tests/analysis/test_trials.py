"""The figure of a search."""

import numpy as np

from keras_resnet.analysis import plots
from keras_resnet.analysis.plots.trials import pareto_front


def row(trial, operations, accuracy, block="basic", epochs=8):
    return {
        **{"trial": trial, "network": f"net{trial}", "block": block, "parameters": 10 * operations},
        **{"multiply_adds": operations, "epochs": epochs, "val_accuracy": accuracy},
    }


ROWS = [
    row("0", 2_000_000, 0.95),
    row("1", 1_000_000, 0.90),
    row("2", 3_000_000, 0.95),
    row("3", 1_000_000, 0.80, block="bottleneck", epochs=2),
    row(None, 9_000_000, None),
]


def test_pareto_front():
    trained = [one for one in ROWS if one["val_accuracy"] is not None]
    assert [one["trial"] for one in pareto_front(trained)] == ["1", "0"]
    assert pareto_front([]) == []


def test_what_is_best_for_its_cost_is_a_staircase(tmp_path, figures):
    plots.search(ROWS, tmp_path / "accuracy.png", title="Search on data")
    (line,) = [one for one in figures[0].axes[0].lines if one.get_label() == "best for its cost"]
    assert line.get_drawstyle() == "steps-post"
    # Level up to the dearest candidate: nothing between two is as good as the dearer one.
    assert line.get_xdata().tolist() == [1, 2, 3]
    np.testing.assert_allclose(line.get_ydata(), [10, 5, 5])


def test_figure_names_the_chosen_and_the_untrained(tmp_path):
    path = tmp_path / "accuracy.png"
    plots.search(ROWS, path, title="Search on data", best="0", max_multiply_adds=4_000_000)
    text = path.with_suffix(".svg").read_text()
    for label in (
        *("Search on data; chosen: net0, 95.00 %", "best for its cost", "basic blocks", "chosen"),
        *("bottleneck blocks, fewer epochs", "over budget or failed", "budget"),
        *("validation accuracy (%)", "multiply-adds of one image"),
    ):
        assert f"<!-- {label}" in text, label
    assert len(path.with_suffix(".csv").read_text().splitlines()) == 1 + len(ROWS)
    assert path.stat().st_size > 10_000
