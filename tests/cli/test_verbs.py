"""`keras-resnet summary`, `convert`, `doctor`, `study`, `check-data`, run as a user runs them."""

import csv
import json

import fsspec
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

import keras_resnet
from keras_resnet.cli import check_data, run
from tests.helpers import assert_same_weights, randomize
from tests.recipes.running import refused, run_here


@pytest.fixture
def model(tmp_path):
    options = {"input_shape": (16, 16, 3), "classes": 5, "include_preprocessing": True}
    net = randomize(keras_resnet.ResNet20(**options), 0)
    net.save(tmp_path / "model.keras")
    return net


def test_summary_counts(model, tmp_path):
    about = json.loads(run_here("summary", tmp_path / "model.keras", "--json", "--layers"))
    assert about["network"] == "ResNet20" and about["input"] == "16x16x3"
    assert about["parameters"] == sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    # A quarter of the 40.5 million of 32x32 images (He et al. 2015), but for the classifier.
    assert about["multiply_adds"] == pytest.approx(40.55e6 / 4, rel=0.01)
    assert about["by_layer"][-1]["multiply_adds"] == about["multiply_adds"]
    text = run_here("summary", "ResNet18", "--image-size", "64x32")
    assert "11,689,512" in text and "64x32x3" in text
    refused("image_size='64x'", "summary", "ResNet18", "--image-size", "64x")
    variant = json.loads(run_here("summary", "ResNet20_B", "--json"))
    assert variant["network"] == "ResNet20_B" and variant["layers"] > 70
    assert not {"by_layer", "images"}.intersection(variant)  # nothing is known of its images


@pytest.mark.parametrize(
    "name", ["out.weights.h5", "out.pth", "out.pt", "out.safetensors", "out.keras"]
)
def test_weights_survive_conversion_there_and_back(model, tmp_path, name):
    out, back = tmp_path / name, tmp_path / "back.keras"
    run_here("convert", tmp_path / "model.keras", out)
    if name == "out.keras":
        run_here("convert", out, back)
    else:
        run_here("convert", "ResNet20", out, back, "--classes", 5)
    copy, weights = keras_resnet.load_model(back), model.get_weights()
    kept = [weight for weight in copy.get_weights() if weight.size]
    assert len(kept) == len(weights)
    for one, other in zip(kept, weights, strict=True):
        np.testing.assert_array_equal(one, other)
    refused("files", "convert", tmp_path / "model.keras", out)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["ResNet20", "out.keras"], "none are published for it"),
        (["ResNet20", "a.pth", "out.txt"], "`files`"),
        (["ResNet20", "a.pth", "out.h5"], "`files`"),
        (["none.keras", "a.pth", "out.keras"], "`files`"),
        (["ResNet*", "a.pth", "out.keras"], "`files`"),
        (["ResNet34_A", "none.pth", "out.keras"], "none.pth"),
        (["none.keras", "out.keras", "--classes", 3], "--classes 3 for none.keras"),
        (["hf://own/net", "out.keras", "--version", "v2"], "--version v2 for hf://own/net"),
        (["timm/resnet18.tv_in1k", "out.keras", "--classes", 3], "--classes 3 for timm/"),
    ],
)
def test_wrong_conversions_are_one_line(words, named):
    refused(named, "convert", *words)


def test_conversion_from_address_to_address(model, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    store = fsspec.filesystem("memory").store
    store.clear()
    weights, back = "memory://verbs/out.pth", "memory://verbs/back.keras"
    assert run_here("convert", "model.keras", weights).startswith(f"{weights}: ")
    run_here("convert", "ResNet20", weights, back, "--classes", 5)
    assert sorted(store) == ["/verbs/back.keras", "/verbs/out.pth"]
    assert not (tmp_path / "memory:").exists()
    assert_same_weights(keras_resnet.load_model(back), model)
    refused("files", "convert", "model.keras", weights)


def test_a_converted_backbone_keeps_its_maps(tmp_path):
    options = {"include_top": False, "input_shape": (16, 16, 3), "features": ["C2", "C4"]}
    backbone = randomize(keras_resnet.ResNet20(**options), 0)
    backbone.save(tmp_path / "backbone.keras")
    run_here("convert", tmp_path / "backbone.keras", tmp_path / "out.keras")
    copy = keras_resnet.load_model(tmp_path / "out.keras")
    assert list(copy.output) == list(backbone.output) and copy.features == backbone.features
    assert_same_weights(copy, backbone)


def test_doctor_names_what_is_there():
    found = json.loads(run_here("doctor", "--json"))
    lines = {row["what"]: row["state"] for row in found}
    assert (
        lines[f"keras_resnet {keras_resnet.__version__}"] == "ok" and lines["extra train"] == "ok"
    )
    steps = [row for row in found if row["what"].startswith("two steps of training")]
    assert [row["state"] for row in steps] == ["ok", "ok"]


def test_an_unknown_study_is_named():
    refused("NAME='fly'", "study", "fly")


def test_check_data_tells_its_findings_where_labels_cannot_be_searched(tmp_path, capsys):
    for name, count in (("left", 6), ("right", 4)):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((8, 8, 3), 20 * i, "uint8")).save(folder / f"{name}{i}.png")
    (tmp_path / "photos/left/empty.png").touch()
    words = [str(tmp_path / "photos"), "--workdir", str(tmp_path / "checked")]
    refused("none.keras", "check-data", *words, "--labels", "none.keras")
    assert not (tmp_path / "checked").exists()
    with pytest.raises(SystemExit) as end:
        run(check_data.main, [*words, "--no-duplicates", "--labels", "pixels"])
    told = capsys.readouterr()
    assert end.value.code == 2 and "empty.png: zero-byte" in told.out
    assert told.err.splitlines()[-1].startswith("error: `folder` must have two classes or more")
    written = {path.name for path in (tmp_path / "checked").iterdir()}
    assert {"findings.csv", "report.html"} <= written and "labels.csv" not in written


def test_check_data_finds_labels_by_the_pixels_of_arrays(tmp_path):
    rng = np.random.default_rng(0)
    for name, sign in (("left", 1), ("right", -1)):
        (tmp_path / name).mkdir()
        for i in range(10):
            # The mean over the channels says nothing.
            image = rng.normal(size=(8, 8, 2)) + (-1 if i == 9 else 1) * sign * np.array([1, -1])
            np.save(tmp_path / name / f"{i}.npy", image.astype("float32"))
    with pytest.raises(SystemExit) as end:
        run_here("check-data", tmp_path, "--labels", "pixels", "--workdir", tmp_path / "checked")
    with open(tmp_path / "checked" / "labels.csv", newline="") as file:
        found = {row["path"] for row in csv.DictReader(file)}
    assert found == {str(tmp_path / name / "9.npy") for name in ("left", "right")}
    assert end.value.code == 1


def test_check_data_refuses_another_size_than_the_models_before_it_reads(model, tmp_path):
    words = ("--labels", tmp_path / "model.keras", "--image-size", "16x32")
    refused("image_size=16x32", "check-data", tmp_path / "none", *words)


def test_check_data_shows_planted_faults_on_a_page(tmp_path):
    """One leak, one picture of two classes, and nothing else."""
    picture = load_sample_image("china.jpg")
    rng, root = np.random.default_rng(0), tmp_path / "photos"
    for split, count in (("train", 4), ("val", 2)):
        for name in ("left", "right"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                top, x = rng.integers(0, 300), rng.integers(0, 500)
                Image.fromarray(picture[top : top + 100, x : x + 120]).save(folder / f"{i}.jpg")
    Image.open(root / "train/left/0.jpg").save(root / "val/left/copy.jpg", quality=60)
    Image.open(root / "train/left/1.jpg").save(root / "train/right/twin.png")
    workdir = tmp_path / "checked"
    with pytest.raises(SystemExit) as end:
        run_here("check-data", root, "--workdir", workdir, "--json")
    assert end.value.code == 1
    with open(workdir / "findings.csv", newline="") as file:
        found = {row["kind"] for row in csv.DictReader(file) if row["severity"] != "information"}
    assert found == {"leak", "two classes"}
    page = (workdir / "report.html").read_text()
    assert "val/left/copy.jpg" in page and "twin.png" in page and page.count("data:image") == 4
