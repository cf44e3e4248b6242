"""scikit-learn's handwritten digits: real images that come with a package. Needs TensorFlow.

1797 digits of 43 writers, 8x8 pixels with 17 grey levels, the test part of "Optical Recognition of
Handwritten Digits" (UCI Machine Learning Repository, Alpaydin and Kaynak 1998).
"""

from __future__ import annotations

import numpy as np

from keras_resnet import checks
from keras_resnet.data.augmentation import RandomAffine
from keras_resnet.data.dataset import ArrayDataset

# The split is part of the data set: figures measured on other test images do not compare.
SPLIT_SEED = 1512

ABOUT = (
    "1797 handwritten digits of 43 writers, 8x8 pixels in 17 levels of grey, as shipped in "
    'scikit-learn: the test part of "Optical Recognition of Handwritten Digits" (UCI Machine '
    "Learning Repository, Alpaydin and Kaynak 1998, CC BY 4.0). Split by class, with a fixed seed, "
    "into 1257 training, 180 validation and 360 test images; writers may stand in several splits, "
    "so that the test accuracy says little of new writers."
)


def split_indices(labels: np.ndarray) -> dict[str, np.ndarray]:
    """The fixed stratified split: 1257 training, 180 validation and 360 test images.

    The images are put in order of class, at random within a class, and dealt out by tens: two of
    ten to test, one to validation, seven to training. So every class has the same share in each
    split to within one image. Writers are not kept apart: the data do not name them.

    Args:
        labels: The digit of each image, in scikit-learn's order.

    Returns:
        Sorted positions for "train", "validation" and "test".
    """
    # RandomState's streams are frozen by NumPy's compatibility policy; Generator's are not.
    shuffled = np.random.RandomState(SPLIT_SEED).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    place = np.arange(len(labels)) % 10
    test, validation = np.isin(place, (0, 5)), place == 3
    return {
        "train": np.sort(by_class[~test & ~validation]),
        "validation": np.sort(by_class[validation]),
        "test": np.sort(by_class[test]),
    }


def load_digits(image_size: int = 8) -> ArrayDataset:
    """The digits as uint8 images of shape `(8, 8, 1)`, ink 255 on paper 0, with a fixed split.

    Args:
        image_size: Height and width that the images are enlarged to, bilinearly, for networks
            that take no smaller ones; at least 8, their own.

    Returns:
        The data set, 10 classes "0" to "9", augmented by small shifts, rotations and zooms.

    Raises:
        ImportError: if scikit-learn is missing.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            "The digits come with scikit-learn: install keras-deep-residual[train]."
        ) from error
    digits = datasets.load_digits()
    # Levels 0..16 are counts of ink in 4x4 blocks of a finer bitmap; 16 is all ink.
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    if checks.integer("image_size", image_size, 8) > 8:
        images = np.stack([_enlarged(image, image_size) for image in images])
    images = images[..., np.newaxis]
    return ArrayDataset(
        "digits",
        {
            split: (images[indices], digits.target[indices])
            for split, indices in split_indices(digits.target).items()
        },
        class_names=[str(digit) for digit in range(10)],
        augmentation=RandomAffine(),
        about=ABOUT,
    )


def _enlarged(image: np.ndarray, size: int) -> np.ndarray:
    # By Pillow: a tensor would start TensorFlow, after which no logical devices can be made.
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
