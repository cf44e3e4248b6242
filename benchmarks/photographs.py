"""Photographs to read: windows of the two that scikit-learn has, as JPEG files in class folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images


def write(folder: str, count: int, width: int, height: int) -> None:
    """Writes photographs of one size, with a little noise, as enlarged ones have too few details.

    Args:
        folder: Where the folders of two classes are made.
        count: Photographs in all.
        width: Pixels of each.
        height: Pixels of each.
    """
    rng = np.random.default_rng(0)
    for number in range(count):
        image = Image.fromarray(load_sample_images().images[number % 2])
        # Windows of the same ratio, at random places.
        own_height = int(rng.uniform(0.7, 1.0) * min(image.height, image.width * height / width))
        own_width = own_height * width // height
        left = int(rng.integers(image.width - own_width + 1))
        top = int(rng.integers(image.height - own_height + 1))
        box = (left, top, left + own_width, top + own_height)
        pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box), "float32")
        pixels = np.clip(pixels + rng.normal(0, 4, pixels.shape), 0, 255).astype("uint8")
        path = Path(folder, "ab"[number % 2], f"{number}.jpg")
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path, quality=90)
