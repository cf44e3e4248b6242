"""ImageNet (ILSVRC 2012). Needs TensorFlow (Datasets)."""

from __future__ import annotations

import os
from typing import Any

from keras_resnet.data import prepared
from keras_resnet.data.encoded import EncodedDataset
from keras_resnet.data.tfds import encoded_dataset
from keras_resnet.data.views import Views

# The field's figures for the training images, as torchvision gives them for [0, 1].
MEAN = tuple(255 * mean for mean in (0.485, 0.456, 0.406))
STD = tuple(255 * std for std in (0.229, 0.224, 0.225))


def load_imagenet2012(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    max_bad_files: int | None = 100,
    **views: Any,
) -> EncodedDataset:
    """ImageNet as TensorFlow Datasets prepares it, in TFRecord or ArrayRecord files.

    Its splits are "train" and "validation", the 50 000 images that results are reported on. The
    labels of the test images are not public.

    Args:
        data_dir: Where TensorFlow Datasets keeps its data; None for its own default.
        max_bad_files: Distinct bad images to go on after with a warning each; None for no limit.
        **views: Attributes of `Views`: `image_size` (224), `channels` (3), `crop` ("scale" or
            "inception"), `resize_range`, `eval_resize`, `flip` (True), `lighting` (0.1).

    Returns:
        The data set, its classes named by their WordNet ids.

    Raises:
        ValueError: if the data are not prepared or an option is out of range.
        ImportError: if TensorFlow Datasets is missing.
    """
    options = Views(**views)
    builder = prepared.builder("imagenet2012", data_dir)
    statistics = (MEAN, STD) if options.channels == 3 else None
    return encoded_dataset(
        "imagenet2012", builder, ("train", "validation"), options, max_bad_files, statistics
    )
