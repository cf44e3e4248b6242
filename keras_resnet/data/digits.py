"""The handwritten digits that scikit-learn contains, described in `ABOUT`. Needs TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_resnet.data.augmentation import PadCropFlip, RandomAffine
from keras_resnet.data.dataset import ArrayDataset
from keras_resnet.utils import checks

# The split is part of the data set: results on other test images cannot be compared.
_SPLIT_SEED = 1512

ABOUT = (
    "1797 handwritten digits of 43 writers, 8x8 pixels in 17 levels of gray, as shipped in "
    'scikit-learn: the test part of "Optical Recognition of Handwritten Digits" (UCI Machine '
    "Learning Repository, Alpaydin and Kaynak 1998, CC BY 4.0). Split by class, with a fixed seed, "
    "into 1257 training, 180 validation and 360 test images; a writer may be in several splits, so "
    "the test accuracy says little about new writers."
)


def split_indices(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Returns sorted positions of 1257 training, 180 validation and 360 test images.

    The split is fixed and stratified: the images are sorted by class, at random within a class, and
    of every ten, two are test images, one a validation image and seven are training images. So
    each class has the same share of every split to within one image. The data name no writers.
    """
    # RandomState's streams are frozen by NumPy's compatibility policy; Generator's are not.
    shuffled = np.random.RandomState(_SPLIT_SEED).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    place = np.arange(len(labels)) % 10
    test, validation = np.isin(place, (0, 5)), place == 3
    return {
        "train": np.sort(by_class[~test & ~validation]),
        "validation": np.sort(by_class[validation]),
        "test": np.sort(by_class[test]),
    }


def load_digits(
    image_size: int = 8,
    classes: Sequence[int] = tuple(range(10)),
    per_class: int | None = None,
    *,
    crop: str | None = None,
    flip: bool = False,
) -> ArrayDataset:
    """Returns the digits as uint8 images of shape `(8, 8, 1)`, ink 255 on paper 0.

    The classes are named "0" to "9", and augmented by small shifts, rotations and zooms, or by
    `PadCropFlip`.

    Args:
        image_size: Height and width, at least 8, that the images are resized to bilinearly.
        classes: Digits to keep, at least two; label i stands for `classes[i]`.
        per_class: Number of training images to keep of each class, the first ones; None for all.
        crop: "pad" for crops of images padded by an eighth of their size; None for `RandomAffine`.
        flip: Whether half of the padded images are mirrored.

    Raises:
        ValueError: If an option is out of range.
        ImportError: If scikit-learn is missing.
    """
    kept = [checks.integer("classes", digit, 0) for digit in classes]
    if len(kept) < 2 or len(set(kept)) < len(kept) or max(kept) > 9:
        raise ValueError(
            f"`classes` must be two or more different digits, 0 to 9. Received: classes={classes}"
        )
    if per_class is not None:
        checks.integer("per_class", per_class)
    checks.one_of("crop", crop, (None, "pad"))
    if checks.boolean("flip", flip) and crop is None:
        raise ValueError("`flip` goes with crop='pad'. Received: flip=True, crop=None")
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            "The digits come with scikit-learn: install keras-deep-residual[train]."
        ) from error
    digits = datasets.load_digits()
    # Levels 0 to 16 are counts of ink in 4x4 blocks of a finer bitmap.
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    if checks.integer("image_size", image_size, 8) > 8:
        # A tensor would initialize TensorFlow, after which logical devices cannot be set.
        from PIL import Image

        size, method = (image_size, image_size), Image.Resampling.BILINEAR
        resized = (Image.fromarray(image).resize(size, method) for image in images)
        images = np.stack([np.asarray(image) for image in resized])
    images = images[..., np.newaxis]
    # Label of each digit, -1 for those to drop.
    labels = np.array([kept.index(d) if d in kept else -1 for d in range(10)])[digits.target]
    whole = split_indices(digits.target)
    splits = {split: indices[labels[indices] >= 0] for split, indices in whole.items()}
    if per_class is not None:
        train = splits["train"]
        of_label = [train[labels[train] == i][:per_class] for i in range(len(kept))]
        splits["train"] = np.sort(np.concatenate(of_label))
    about = ABOUT
    if len(kept) < 10 or per_class is not None:
        some = "all" if per_class is None else f"{per_class} of each class"
        about += f" Here only the digits {', '.join(map(str, kept))}; to train on, {some}."
    dataset = ArrayDataset(
        "digits",
        {split: (images[indices], labels[indices]) for split, indices in splits.items()},
        class_names=[str(digit) for digit in kept],
        augmentation=RandomAffine(),
        about=about,
    )
    if crop == "pad":
        dataset.augmentation = PadCropFlip(dataset.mean, padding=image_size // 8, flip=flip)
    return dataset
