import pytest

from keras_resnet.data import ImageDataset, load_dataset
from tests.helpers import refused


def test_a_known_name():
    dataset = load_dataset("digits")
    assert isinstance(dataset, ImageDataset)
    assert dataset.splits == ("train", "validation", "test")


@pytest.mark.parametrize(
    ("name", "options", "received"),
    [
        ("mnist", {}, "dataset='mnist'"),
        ("digits", {"data_dir": "/x"}, "data_dir='/x'"),
        ("digits", {"size": 3}, "size=3"),
    ],
)
def test_wrong_arguments(name, options, received):
    with refused(f"`{received.partition('=')[0]}`", received):
        load_dataset(name, **options)
