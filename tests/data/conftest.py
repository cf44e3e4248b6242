import pytest
from sklearn.datasets import load_sample_images

from .helpers import write_folder


@pytest.fixture(scope="session")
def photographs():
    """china.jpg and flower.jpg: uint8 of shape (427, 640, 3)."""
    return load_sample_images().images


@pytest.fixture
def folder(tmp_path, photographs):
    return write_folder(tmp_path / "photos", photographs)
