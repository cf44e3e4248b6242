"""The command line that is recorded with results."""

import sys

import pytest

from keras_resnet.utils.processes import command_line


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("/usr/bin/keras-resnet", "keras-resnet train -o 'a b'"),
        ("/opt/lib/keras_resnet/__main__.py", "python -m keras_resnet train -o 'a b'"),
        ("recipes/cifar10.py", "python recipes/cifar10.py train -o 'a b'"),
    ],
)
def test_the_command_line_is_as_one_types_it(program, expected, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program, "train", "-o", "a b"])
    assert command_line() == expected
