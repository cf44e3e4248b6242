"""What tests of pictures need."""

import contextlib

import pytest

from keras_resnet.analysis.plots import confusion, drawing, studies


@pytest.fixture
def figures(monkeypatch):
    """Keeps the matplotlib figures that are drawn."""
    kept = []

    @contextlib.contextmanager
    def keeping(*args, **options):
        with drawing.figure(*args, **options) as fig:
            kept.append(fig)
            yield fig

    for module in (confusion, studies):
        monkeypatch.setattr(module, "figure", keeping)
    return kept
