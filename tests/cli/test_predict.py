"""`keras-resnet predict`, and its recipe in a process of its own."""

import numpy as np
import pytest
from PIL import Image

from tests.recipes.running import refused, run_recipe, save_untrained


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, its labels, an image, and a file that is none, in one folder."""
    folder = tmp_path_factory.mktemp("model")
    save_untrained(folder, channels=3, labels=("cat", "dog"))
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.jpg")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def test_prints_the_best_classes(folder):
    result = run_recipe("predict", folder / "model.keras", folder)
    assert result.returncode == 0, result.stderr
    path, *classes = result.stdout.splitlines()
    assert path == str(folder / "photo.jpg")
    shares = {line.split()[-1]: float(line.split()[0]) for line in classes}
    assert set(shares) == {"cat", "dog"} and sum(shares.values()) == pytest.approx(100, abs=0.02)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1 and "Bad image 1: " in warnings[0] and "broken.png" in warnings[0]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["nothing.keras", "photo.jpg"], "'nothing.keras'"),
        (["{model}", "broken.png"], "broken.png"),
        (["{model}", "missing.jpg"], "missing.jpg"),
        (["{model}", "photo.jpg", "--top", "0"], "top=0"),
        (["{model}", "photo.jpg", "--resize", "4"], "resize=4"),
        (["{model}"], "IMAGE"),
    ],
)
def test_wrong_flag_is_one_line(folder, flags, named, monkeypatch):
    monkeypatch.chdir(folder)
    refused(named, "predict", *(flag.format(model=folder / "model.keras") for flag in flags))
