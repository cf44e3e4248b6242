"""Messages of errors."""

import pytest

from keras_resnet.utils.checks import first_line


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("\n  first \nsecond", "first"),
        ("", "KeyError"),
        (f"a{'x' * 5000}b", f"a{'x' * 499} ... {'x' * 499}b"),
    ],
    ids=["several lines", "empty", "long"],
)
def test_first_line(message, line):
    error = KeyError() if not message else ValueError(message)
    assert first_line(error) == line
