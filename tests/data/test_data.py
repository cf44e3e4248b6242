import pytest

from keras_resnet.data import ImageDataset, load_dataset


def test_a_known_name():
    dataset = load_dataset("digits")
    assert isinstance(dataset, ImageDataset)
    assert dataset.splits == ("train", "validation", "test")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": "mnist"}, r"`dataset` must be one of \('digits'.*Received: dataset='mnist'"),
        ({"name": "digits", "data_dir": "/x"}, "takes image_size. Received: data_dir='/x'"),
        ({"name": "digits", "size": 3}, "takes image_size. Received: size=3"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        load_dataset(**arguments)
    assert "\n" not in str(error.value)
