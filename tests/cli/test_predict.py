"""`keras-resnet predict`, and its recipe in a process of its own."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.recipes.running import refused, run_here, run_recipe, save_untrained


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


def test_names_of_others_are_escaped(folder, tmp_path):
    """In an encoding that has few characters, too; no picture's name ends the list."""
    model, photo = folder / "model.keras", folder / "photo.jpg"
    labels = tmp_path / "labels.txt"
    labels.write_text("größe\x1b[2J\nc\u202et\n", encoding="utf-8")
    names = [b"1 \xc3\xa4.jpg", b"2\xff[#?.jpg", b"3\n\x1b[31m.jpg", b"4" * 250 + b".jpg"]
    for place in (tmp_path / "linked to", tmp_path / "pictures" / "in"):
        place.mkdir(parents=True)
    (tmp_path / "pictures" / "0").symlink_to(tmp_path / "linked to")
    (tmp_path / "linked to" / "round").symlink_to(tmp_path / "pictures")
    for name in names:
        shutil.copy(photo, os.fsencode(tmp_path / "linked to") + b"/" + name)
    shutil.copy(photo, tmp_path / "pictures" / "in" / "5.jpg")
    (tmp_path / "pictures" / "in" / "6\n.jpg").write_bytes(b"")

    command = [model, tmp_path / "pictures", "--labels", labels]
    result = run_recipe("predict", *command, env={"PYTHONIOENCODING": "ascii"})
    assert result.returncode == 0, result.stderr
    root = tmp_path / "pictures"
    shown = ["1 \\xe4.jpg", "2\\udcff[#?.jpg", "3\\n\\x1b[31m.jpg", "4" * 250 + ".jpg"]
    expected = [*(f"{root}/0/{name}" for name in shown), f"{root}/in/5.jpg"]
    lines = result.stdout.splitlines()
    assert lines[::3] == expected
    labels = {line.split("%  ")[1] for line in lines if line not in expected}
    assert labels == {"gr\\xf6\\xdfe\\x1b[2J", "c\\u202et"}
    (warning,) = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert f"{root}/in/6\\n.jpg is zero-byte" in warning

    rows = json.loads(run_here("predict", *command, "--json"))
    assert [row["path"].removeprefix(f"{root}/") for row in rows] == [
        *("0/1 ä.jpg", "0/2\\udcff[#?.jpg", "0/3\n\x1b[31m.jpg", f"0/{shown[3]}", "in/5.jpg")
    ]
    assert {*rows[0]["labels"]} == {"größe\x1b[2J", "c\u202et"}


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
