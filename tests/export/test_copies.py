"""What `preprocessing` means for every kind of model: one network, one description, one answer."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.data import Transforms, load_dataset
from keras_resnet.evaluation import evaluate
from keras_resnet.evaluation.predictor import predict
from keras_resnet.export import export, export_hub, load_exported
from keras_resnet.export.copies import image_network
from keras_resnet.preprocessing import Preprocessing
from tests.data.helpers import encode
from tests.export.conftest import close
from tests.helpers import randomize, refused

for package in ("onnxruntime", "tf2onnx"):
    pytest.importorskip(package)

SIDE, NAMES = 8, ("bee", "cat", "dog")
AS_IT_IS = Preprocessing.unchanged(3, SIDE)
IMAGENET = dataclasses.replace(Preprocessing(), image_size=SIDE)
OWN = Preprocessing((90.0, 100.0, 110.0), (50.0, 60.0, 70.0), SIDE, resize=12, class_names=NAMES)
GIVEN = Preprocessing((30.0, 20.0, 10.0), (40.0, 50.0, 60.0), 16, resize=20, bgr=True)
# At the size of the models.
TOLD = dataclasses.replace(GIVEN, image_size=SIDE, resize=10, resizes=((16, 20),))


def network(preprocessing, remembers=True):
    keras.utils.set_random_seed(0)
    options = {"input_shape": (SIDE, SIDE, 3), "classes": 3, "widths": (8,), "block": "basic"}
    model = keras_resnet.ResNet((1,), include_preprocessing=preprocessing, **options)
    if not preprocessing and remembers:
        model.remember(dataclasses.replace(model.network, preprocessing=OWN))
    return randomize(model)


def foreign(scale):
    images = keras.Input((SIDE, SIDE, 3))
    model = network(False, remembers=False)
    x = keras.layers.Rescaling(scale)(images) if scale else images
    return keras.Model(images, model(x))


MODELS = {
    "remembers": lambda: network(False),
    "standardizes": lambda: network(OWN),
    "others'": lambda: foreign(None),
    "others' that rescales": lambda: foreign(1 / 2),
}


def described(told, numbers, names=None):
    own = {name: getattr(numbers, name) for name in ("mean", "std", "bgr")}
    return dataclasses.replace(told, **own, class_names=names)


# By model and `preprocessing`: what is put in front, and the description; None if it is refused.
CASES = {
    ("remembers", "inside"): (OWN, OWN),
    ("remembers", "imagenet"): (OWN, OWN),
    ("remembers", "none"): (AS_IT_IS, described(OWN, AS_IT_IS, NAMES)),
    ("remembers", GIVEN): (GIVEN, described(TOLD, GIVEN, NAMES)),
    ("standardizes", "inside"): (AS_IT_IS, OWN),
    ("standardizes", "imagenet"): None,
    ("standardizes", "none"): (AS_IT_IS, OWN),
    ("standardizes", GIVEN): (AS_IT_IS, described(TOLD, OWN, NAMES)),
    ("others'", "inside"): None,
    ("others'", "imagenet"): (IMAGENET, IMAGENET),
    ("others'", "none"): (AS_IT_IS, None),
    ("others'", GIVEN): (GIVEN, TOLD),
    ("others' that rescales", "inside"): (AS_IT_IS, None),
    ("others' that rescales", "imagenet"): (IMAGENET, IMAGENET),
    ("others' that rescales", "none"): (AS_IT_IS, None),
    ("others' that rescales", GIVEN): (AS_IT_IS, described(TOLD, AS_IT_IS)),
}
IDS = [f"{name}, {told if isinstance(told, str) else 'given'}" for name, told in CASES]


# Formats with signatures of files, beside ONNX for all.
SERVED = {("remembers", "none"): export, ("standardizes", GIVEN): export_hub}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Three files of pictures, and the data set of them, each of a class of its own."""
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), dtype=np.uint8)
    for name, picture in zip(NAMES, pixels, strict=True):
        (folder / "train" / name).mkdir(parents=True)
        file = encode(np.kron(picture, np.ones((4, 4, 1), np.uint8)), form="PNG")
        (folder / "train" / name / "p.png").write_bytes(file)
    dataset = load_dataset("folder", folder, image_size=SIDE, val_split=0, test_split=0)
    return sorted(folder.rglob("*.png")), dataset


# Some of these standardizations are not what the networks remember.
@pytest.mark.filterwarnings("ignore::keras_resnet.network.ImageRangeWarning")
@pytest.mark.parametrize(("name", "preprocessing"), CASES, ids=IDS)
def test_one_network_one_description_and_one_answer(pictures, tmp_path, name, preprocessing):
    case, model = CASES[name, preprocessing], MODELS[name]()
    if case is None:
        with refused("`model`", model.name):
            image_network(model, preprocessing)
        return
    front, description = case
    net, received = image_network(model, preprocessing)
    assert received == description
    files, dataset = pictures
    view = Transforms.of(description or AS_IT_IS)
    pixels = np.stack([view.evaluation(file.read_bytes()).numpy() for file in files])
    expected = np.asarray(model(front.standardize(pixels.astype("float32"))))
    assert np.ptp(expected, axis=0).max() > 1e-3  # else this would compare nothing
    close(net(pixels.astype("float32")), expected)

    write = SERVED.get((name, preprocessing))
    paths = [export(model, tmp_path / "m.onnx", preprocessing=preprocessing).path]
    if write is not None:
        options = {"kind": "classification"} if write is export_hub else {}
        write(model, tmp_path / "served", preprocessing=preprocessing, **options)
        paths.append(tmp_path / "served")
    for path in paths:
        exported = load_exported(path)
        stored = description and Preprocessing.from_json(description.to_json())
        assert exported.preprocessing == stored
        rows = predict(exported, files, top=3, labels=NAMES)
        answers = [dict(zip(row.labels, row.probabilities, strict=True)) for row in rows]
        close([[answer[name] for name in NAMES] for answer in answers], expected)
    if description is not None:  # else the data set's own crop counts
        result = evaluate(load_exported(paths[0]), dataset, split="train")
        close(result.scores, expected.max(axis=1))


@pytest.mark.parametrize(
    ("scale", "preprocessing", "front"),
    [
        (None, "inside", GIVEN),
        (None, "imagenet", GIVEN),
        (None, "none", AS_IT_IS),
        (1 / 2, "inside", AS_IT_IS),
        (1 / 2, "imagenet", GIVEN),
        (1 / 2, "none", AS_IT_IS),
    ],
)
def test_a_file_beside_stands_for_what_is_remembered(tmp_path, scale, preprocessing, front):
    foreign(scale).save(tmp_path / "m.keras")
    (tmp_path / "preprocessing.json").write_text(GIVEN.to_json())
    model = keras_resnet.load_model(tmp_path / "m.keras")
    net, description = image_network(model, preprocessing)
    assert description == described(TOLD, front)
    images = np.random.default_rng(0).uniform(0, 255, (2, SIDE, SIDE, 3)).astype("float32")
    close(net(images), model(front.standardize(images)))


def test_a_rescaling_behind_a_nested_augmentation_is_found():
    flips = keras.Sequential([keras.layers.RandomFlip(), keras.layers.RandomRotation(0.1)])
    convolution = [keras.layers.Conv2D(2, 3), keras.layers.GlobalAveragePooling2D()]
    layers = [keras.Input((SIDE, SIDE, 3)), flips, keras.layers.Rescaling(1 / 255), *convolution]
    model = keras.Sequential(layers)
    assert image_network(model) == (model, None)
    front = keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.layers.Conv2D(3, 1)])
    late = keras.Sequential([keras.Input((SIDE, SIDE, 3)), front, *layers[2:]])
    with refused("`model`", late.name):
        image_network(late)


def test_numbers_of_the_callers_operations_are_not_claimed():
    rescaled = keras.layers.Rescaling(1 / 2)(keras.Input((SIDE, SIDE, 3)))
    options = {"input_tensor": rescaled, "classes": 3, "widths": (8,), "block": "basic"}
    model = keras_resnet.ResNet((1,), **options)
    model.remember(dataclasses.replace(model.network, preprocessing=OWN))
    assert image_network(model) == (model, described(OWN, AS_IT_IS, NAMES))


def test_nothing_is_put_in_front_that_changes_nothing():
    model = network(False)
    assert image_network(model, Preprocessing.unchanged(3, SIDE))[0] is model
