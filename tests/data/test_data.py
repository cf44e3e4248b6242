import pytest

from keras_resnet.data import ImageDataset, load_dataset


def test_a_known_name():
    dataset = load_dataset("digits")
    assert isinstance(dataset, ImageDataset)
    assert dataset.splits == ("train", "validation", "test")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"name": "mnist"},
            "`dataset` must be one of digits, .*, or tfds:NAME. Received: dataset='mnist'",
        ),
        (
            {"name": "digits", "data_dir": "/x"},
            "takes image_size, classes, per_class. Received: data_dir='/x'",
        ),
        ({"name": "digits", "size": 3}, "takes image_size, classes, per_class. Received: size=3"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        load_dataset(**arguments)
    assert "\n" not in str(error.value)
