"""The usage examples of https://keras.io/api/applications/ with only the import changed.

ResNet50 stands for the other networks that the page uses, a file of random weights for "imagenet",
and a generated picture for the elephant's.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras.src.applications import imagenet_utils  # downloads the names of the classes, not public
from PIL import Image

from tests.applications.conftest import drawn
from tests.helpers import distance

CLASSIFY = """
from keras.applications.resnet50 import ResNet50
from keras.applications.resnet50 import preprocess_input, decode_predictions

model = ResNet50(weights=weights)
image = keras.utils.load_img(photograph, target_size=(224, 224))
x = keras.utils.img_to_array(image)
x = np.expand_dims(x, axis=0)
x = preprocess_input(x)
outputs = model.predict(x)
decoded = decode_predictions(outputs, top=3)[0]
"""

FEATURES = """
from keras.applications.resnet import ResNet50, preprocess_input

model = ResNet50(weights=weights, include_top=False)
x = keras.utils.img_to_array(keras.utils.load_img(photograph, target_size=(224, 224)))
x = preprocess_input(np.expand_dims(x, axis=0))
outputs = model.predict(x)
"""

INSIDE = """
from keras.applications.resnet import ResNet50
from keras.applications.resnet import preprocess_input
from keras.models import Model

base_model = ResNet50(weights=weights)
model = Model(inputs=base_model.input, outputs=base_model.get_layer("conv4_block6_out").output)
x = keras.utils.img_to_array(keras.utils.load_img(photograph, target_size=(224, 224)))
x = preprocess_input(np.expand_dims(x, axis=0))
outputs = model.predict(x)
"""

FINE_TUNE = """
from keras.applications.resnet import ResNet50
from keras.layers import Dense, GlobalAveragePooling2D
from keras.models import Model
from keras.optimizers import SGD

base_model = ResNet50(weights=weights, include_top=False)
x = GlobalAveragePooling2D()(base_model.output)
x = Dense(16, activation="relu")(x)
predictions = Dense(5, activation="softmax")(x)
model = Model(inputs=base_model.input, outputs=predictions)
for layer in base_model.layers:
    layer.trainable = False
model.compile(optimizer="rmsprop", loss="categorical_crossentropy")
before = base_model.get_weights()
model.fit(images, labels, verbose=0)
after_top = base_model.get_weights()
for layer in model.layers[:143]:
    layer.trainable = False
for layer in model.layers[143:]:
    layer.trainable = True
model.compile(optimizer=SGD(learning_rate=0.0001, momentum=0.9), loss="categorical_crossentropy")
model.fit(images, labels, verbose=0)
"""

CUSTOM_TENSOR = """
from keras.applications.resnet50 import ResNet50
from keras.layers import Input

input_tensor = Input(shape=(224, 224, 3))
model = ResNet50(input_tensor=input_tensor, weights=weights, include_top=True)
"""


@pytest.fixture(scope="module")
def theirs():
    return drawn("ResNet50", input_shape=(224, 224, 3))


@pytest.fixture(scope="module")
def given(theirs, tmp_path_factory):
    """What the examples find in place of the page's files."""
    folder = tmp_path_factory.mktemp("documentation")
    theirs.save_weights(folder / "imagenet.weights.h5")
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (9, 12, 3)).astype("uint8"))
    photo.resize((320, 240)).save(folder / "photograph.jpg")
    return {
        "keras": keras,
        "np": np,
        "weights": folder / "imagenet.weights.h5",
        "photograph": folder / "photograph.jpg",
        "images": rng.uniform(-120, 150, (4, 32, 32, 3)).astype("float32"),
        "labels": np.eye(5, dtype="float32")[[0, 4, 2, 2]],
    }


def run(example, given):
    """Runs an example after the change that makes it this package's, and returns its variables."""
    variables = dict(given)
    assert "from keras.applications" in example
    exec(example.replace("from keras.applications", "from keras_resnet.applications"), variables)
    return variables


@pytest.fixture(scope="module")
def inside(theirs, given):
    """Maps and scores of theirs for the photograph."""
    x = keras.utils.img_to_array(keras.utils.load_img(given["photograph"], target_size=(224, 224)))
    outputs = [
        theirs.get_layer(name).output
        for name in ("conv4_block6_out", "conv5_block3_out", "predictions")
    ]
    x = keras.applications.resnet50.preprocess_input(np.expand_dims(x, axis=0))
    return keras.Model(theirs.input, outputs).predict(x, verbose=0)


def test_classify(given, inside, monkeypatch):
    names = {str(i): [f"n{i:08}", f"class {i}"] for i in range(1000)}
    monkeypatch.setattr(imagenet_utils, "CLASS_INDEX", names)
    found = run(CLASSIFY, given)
    assert distance(found["outputs"], inside[2]) < 1e-5
    best = np.argsort(-inside[2][0])[:3]
    assert [entry[:2] for entry in found["decoded"]] == [tuple(names[str(i)]) for i in best]


@pytest.mark.parametrize(
    ("example", "at"), [(FEATURES, 1), pytest.param(INSIDE, 0, marks=pytest.mark.slow)]
)
def test_features(given, inside, example, at):
    assert distance(run(example, given)["outputs"], inside[at]) < 1e-5


def test_fine_tune(given):
    found = run(FINE_TUNE, given)
    for value, other in zip(found["after_top"], found["before"], strict=True):
        np.testing.assert_array_equal(value, other)
    base, start = found["base_model"], iter(found["before"])
    moved = {
        layer.name: max([np.ptp(value - next(start)) for value in layer.get_weights()]) > 0
        for layer in base.layers
        if layer.weights
    }
    # The last stage alone, and what it has been from its first layer on.
    assert {name for name, changed in moved.items() if changed} == {
        name for name in moved if name.startswith("conv5")
    }


@pytest.mark.slow
def test_custom_tensor(given, theirs):
    found = run(CUSTOM_TENSOR, given)
    model = found["model"]
    assert model.input is found["input_tensor"] and model.output_shape == (None, 1000)
    for value, other in zip(model.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)
