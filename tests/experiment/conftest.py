"""Fixtures of the tests of experiments."""

import pytest


@pytest.fixture
def logged(caplog):
    """Returns a function that gives the text that the package has logged so far."""
    caplog.set_level("INFO", "keras_resnet")
    return lambda: "\n".join(caplog.messages)
