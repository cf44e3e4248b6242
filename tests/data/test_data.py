import pytest

from keras_resnet.data import ImageDataset, load_dataset
from tests.helpers import refused


def test_a_known_name():
    dataset = load_dataset("digits")
    assert isinstance(dataset, ImageDataset)
    assert dataset.splits == ("train", "validation", "test")


@pytest.mark.parametrize(
    ("arguments", "argument", "received"),
    [
        ({"name": "mnist"}, "dataset", "dataset='mnist'"),
        ({"name": "digits", "data_dir": "/x"}, "data_dir", "data_dir='/x'"),
        ({"name": "digits", "size": 3}, "size", "size=3"),
    ],
)
def test_wrong_arguments(arguments, argument, received):
    with refused(f"`{argument}`", received):
        load_dataset(**arguments)
