import hashlib
import sys

import numpy as np
import pytest
from sklearn import datasets
from sklearn.neighbors import KNeighborsClassifier

from keras_resnet.data import load_dataset
from keras_resnet.data.augmentation import PadCropFlip
from keras_resnet.data.digits import load_digits, split_indices
from tests.helpers import refused


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def test_the_split_never_changes():
    split = split_indices(datasets.load_digits().target)
    text = ";".join(f"{name}:{','.join(map(str, split[name]))}" for name in sorted(split))
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "db67adb4abff3ea8c83b260eee29c72965753d7aea5c12099c25b812117de50a"


def test_the_split_is_stratified_and_complete():
    labels = datasets.load_digits().target
    split = split_indices(labels)
    sizes = {name: len(indices) for name, indices in split.items()}
    assert sizes == {"train": 1257, "validation": 180, "test": 360}
    assert sorted(np.concatenate(list(split.values()))) == list(range(1797))
    for name, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        counts = np.bincount(labels[split[name]])
        assert np.abs(counts - share * np.bincount(labels)).max() <= 1


def test_levels_and_statistics(digits):
    source = datasets.load_digits()
    split = split_indices(source.target)
    assert digits.name == "digits" and digits.image_shape == (8, 8, 1)
    assert digits.class_names == tuple("0123456789")
    images, labels, weights = next(iter(digits.eval_batches("test", 360)))
    assert images.dtype == np.uint8 and float(sum(weights)) == 360
    exact = source.images[split["test"]][..., np.newaxis] * 255 / 16
    assert np.abs(images.numpy() - exact).max() <= 0.5 and images.numpy().max() == 255
    np.testing.assert_array_equal(labels, source.target[split["test"]])
    train = source.images[split["train"]] * 255 / 16
    np.testing.assert_allclose(digits.mean, [train.mean()], atol=0.1)
    np.testing.assert_allclose(digits.std, [train.std()], atol=0.1)


def test_augmented_digits_are_new_and_still_the_same_digits(digits):
    (plain, labels), (changed, _) = (
        next(iter(digits.train_batches(1257, augment=augment))) for augment in (False, True)
    )
    plain, changed = (np.reshape(images, (1257, -1)) / 255 for images in (plain, changed))
    assert (plain != changed).any(axis=1).mean() > 0.99
    # 0.971 when written; shifts of a whole pixel give 0.765.
    assert KNeighborsClassifier(1).fit(plain, labels).score(changed, labels) > 0.95


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"keras-deep-residual\[train\]"):
        load_dataset("digits")


def test_digits_are_enlarged(digits):
    large = load_dataset("digits", image_size=32)
    assert large.image_shape == (32, 32, 1) and large.num_examples("train") == 1257
    (small_images, labels, _), (large_images, same, _) = (
        next(iter(data.eval_batches("test", 360))) for data in (digits, large)
    )
    np.testing.assert_array_equal(labels, same)
    # Means over the 4x4 pixels of each original pixel are about its value.
    blocks = np.reshape(large_images, (360, 8, 4, 8, 4)).mean(axis=(2, 4))
    assert np.corrcoef(blocks.ravel(), np.ravel(small_images))[0, 1] > 0.97
    with refused("`image_size`", "image_size=7"):
        load_dataset("digits", image_size=7)


def test_some_classes_and_a_few_images_of_each(digits):
    some = load_dataset("digits", classes=[7, 2, 5], per_class=4)
    assert some.class_names == ("7", "2", "5")
    (images, labels, _) = next(iter(some.eval_batches("train", 12)))
    assert np.bincount(labels).tolist() == [4, 4, 4]
    # In stored order, the first four of each digit.
    whole, digit, _ = next(iter(digits.eval_batches("train", 1257)))
    for label, name in enumerate((7, 2, 5)):
        expected = whole.numpy()[digit.numpy() == name][:4]
        np.testing.assert_array_equal(images.numpy()[labels.numpy() == label], expected)
    of_three = np.isin(datasets.load_digits().target, (7, 2, 5))
    left = load_dataset("digits", classes=[7, 2, 5])
    assert sum(left.num_examples(split) for split in left.splits) == of_three.sum()
    assert "only the digits 7, 2, 5; to train on, 4 of each class." in some.about


@pytest.mark.parametrize("classes", [[3], [3, 3], [3, 10], [3, -1], [3, 1.5]])
def test_classes_that_there_are_not(classes):
    with refused("`classes`", f"{classes[-1]}"):
        load_dataset("digits", classes=classes)


def test_digits_are_padded_and_mirrored_only_by_option():
    plain = load_digits(crop="pad")
    assert plain.augmentation == PadCropFlip(plain.mean, padding=1, flip=False)
    assert load_digits(crop="pad", flip=True).augmentation.flip
    with refused("`flip`", "flip=True"):
        load_digits(flip=True)
    with refused("`crop`", "crop='scale'"):
        load_digits(crop="scale")
