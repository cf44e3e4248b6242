"""Fixtures of tests of figures."""

import contextlib

import pytest

from keras_resnet.analysis.plots import drawing


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
