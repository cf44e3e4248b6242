"""What the subjects of all libraries share."""

from __future__ import annotations

import numpy as np

# So small that the weights stay finite on noise.
LEARNING_RATE = 1e-3
MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4
TORCH_ONNX = "torch.onnx"


def classes_of(image_size: int) -> int:
    """Returns the classes of a network for images of that size."""
    return 10 if image_size == 32 else 1000


def noise(batch_size: int, image_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns uint8 images and labels of four batches."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4 * batch_size, image_size, image_size, 3), "uint8")
    return images, rng.integers(0, classes_of(image_size), len(images)).astype("int32")


def batch(batch_size: int) -> np.ndarray:
    """Returns float32 images of 224x224 in [0, 255]."""
    shape = batch_size, 224, 224, 3
    return np.random.default_rng(0).uniform(0, 255, shape).astype("float32")
