"""Messages of errors."""

import pytest

from keras_resnet.utils.checks import Problems, first_line


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


def test_problems_are_added_but_those_of_some_arguments():
    found, rest = Problems(), Problems()
    for name in ("depth", "ema"):
        rest.refuse(True, f"`{name}` must be 1. Received: {name}=2")
    found.add(rest, without=["depth"])
    with pytest.raises(ValueError, match=r"^`ema` must be 1. Received: ema=2$"):
        found.expect_none()
