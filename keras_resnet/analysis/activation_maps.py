"""Class activation maps (Zhou et al., arXiv 1512.04150): where an image looks like a class.

They are exact here. A classifier on globally averaged maps is the average of a classifier at every
position, so that a logit is the mean of the class's map plus its bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet.surgery.heads import pooled_classifier
from keras_resnet.utils import checks


def class_activation_maps(
    model: keras.Model,
    images: Any,
    classes: int | Sequence[int] | None = None,
    *,
    resize: bool = False,
    batch_size: int = 32,
) -> np.ndarray:
    """Returns the map of a class for each image: its evidence at every position of the last map.

        maps = class_activation_maps(model, images)  # of the class that each is predicted to be

    A map is the last map of the network times the classifier's kernel. Its mean plus the
    classifier's bias is the logit of the class. `surgery.score_map` is the model that gives those
    of all classes at once, with their bias.

    Args:
        model: Functional model that ends in global average pooling and a Dense classifier, with or
            without activation; it is unchanged.
        images: Images as the model takes them, `(batch, H, W, C)` or channels first.
        classes: Number of the class to map, one for all images or one for each; None for the class
            of each image's largest logit.
        resize: Whether to resize the maps to the size of the images, bilinearly.
        batch_size: Images at a time.

    Returns:
        float32 `(batch, h, w)`, or `(batch, H, W)` with `resize`.

    Raises:
        ValueError: If the model ends otherwise, or an argument is wrong.
    """
    pooling, dense = pooled_classifier(model)
    checks.boolean("resize", resize)
    checks.integer("batch_size", batch_size)
    images = ops.convert_to_numpy(images)
    if images.ndim != 4:
        raise ValueError(
            f"`images` must be a batch of images. Received: images of shape {images.shape}"
        )
    chosen = None if classes is None else _one_each(classes, len(images), dense.units)
    kernel, *bias = (ops.convert_to_numpy(ops.cast(w, "float32")) for w in dense.weights)
    first = pooling.data_format == "channels_first"
    sides = images.shape[2:] if first else images.shape[1:3]
    features = keras.Model(model.inputs[0], pooling.input)
    found = []
    for start in range(0, len(images), batch_size):
        batch = slice(start, start + batch_size)
        last = np.asarray(features.predict_on_batch(images[batch]), "float32")
        last = np.moveaxis(last, 1, -1) if first else last
        if chosen is None:
            logits = last.mean(axis=(1, 2)) @ kernel + sum(bias)
            numbers = np.argmax(logits, axis=1)
        else:
            numbers = chosen[batch]
        maps = np.einsum("bhwc,cb->bhw", last, kernel[:, numbers], optimize=True)
        if resize:
            layers = ops.image.resize(maps[..., None], sides, data_format="channels_last")
            maps = ops.convert_to_numpy(layers)[..., 0]
        found.append(maps)
    return np.concatenate(found) if found else np.zeros((0, *sides), "float32")


def _one_each(classes: Any, images: int, units: int) -> np.ndarray:
    """Returns the number of a class for every image."""
    one = checks.is_whole(classes)
    numbers = np.full(images, classes) if one else np.asarray(classes)
    whole = numbers.dtype.kind in "iu" and numbers.shape == (images,)
    if not whole or (numbers < 0).any() or (numbers >= units).any():
        raise ValueError(
            f"`classes` must be a class number from 0 to {units - 1}, or one for each of the "
            f"{images} images. Received: classes={classes!r}"
        )
    return numbers
