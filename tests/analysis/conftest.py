"""Figures as matplotlib has them, and as they are in files."""

import contextlib
import csv

import pytest

from keras_resnet.analysis.plots import drawing


def written(path):
    """Returns the rows of the CSV and the text of the SVG beside a figure's PNG."""
    with open(path.with_suffix(".csv"), newline="") as file:
        return list(csv.DictReader(file)), path.with_suffix(".svg").read_text()


@pytest.fixture
def figures(monkeypatch):
    """Keeps the matplotlib figures that are drawn."""
    kept = []
    figure = drawing.figure

    @contextlib.contextmanager
    def keeping(*args, **options):
        with figure(*args, **options) as fig:
            kept.append(fig)
            yield fig

    monkeypatch.setattr(drawing, "figure", keeping)
    return kept
