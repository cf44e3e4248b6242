"""One picture is one picture: every form of a model prepares a file in the same way.

A photograph in eight EXIF orientations, three aspect ratios and three sizes goes through evaluation
as in training, the evaluator, `predict`, `.keras`, a SavedModel and a Hub module by bytes, LiteRT
and ONNX. Those of this package share one function, so their pixels are equal and outputs differ by
rounding; Pillow, as a stranger would use it by the JSON that the file carries, rounds pixels its
own way.
"""

from __future__ import annotations

import dataclasses
import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

import keras_resnet
from keras_resnet.data import Transforms, load_dataset
from keras_resnet.evaluation import SingleCrop, evaluate
from keras_resnet.evaluation.predictor import predict
from keras_resnet.export import export, export_hub, load_exported
from keras_resnet.preprocessing import KERAS_CAFFE, Preprocessing
from tests.helpers import randomize

for package in ("ai_edge_litert", "onnxruntime", "tf2onnx"):
    pytest.importorskip(package)

SIDE = 24
PREPARED = Preprocessing(
    image_size=SIDE, resize=29, interpolation="bicubic", class_names=("left", "right"), source="x"
)
# How an upright picture is stored for each EXIF orientation, as Pillow names it.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
# Width and height.
SIZES = [
    (side * w // 2, side * h // 2) for w, h in ((2, 2), (3, 2), (2, 4)) for side in (29, 50, 90)
]
# Between kernels of formats; between Pillow's pixels, within one level, and TensorFlow's.
FORMS, PILLOW = 1e-5, 1e-2


def encoded(size: tuple[int, int], orientation: int, form: str) -> bytes:
    """Returns a file of the photograph at a size, stored so that the orientation turns it back."""
    picture = ImageOps.fit(Image.fromarray(load_sample_image("china.jpg")), size)
    if (turn := STORED[orientation]) is not None:
        picture = picture.transpose(turn)
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    picture.save(buffer, form, exif=exif, quality=95)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The picture in all sizes and orientations; PNGs, and a JPEG of each size and orientation."""
    root = tmp_path_factory.mktemp("pictures")
    for form, suffix in (("PNG", "png"), ("JPEG", "jpg")):
        for number, size in enumerate(SIZES):
            for orientation in STORED:
                side = "left" if orientation % 2 else "right"
                path = root / "train" / side / f"{number}-{orientation}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(size, orientation, form))
    return sorted(root.rglob("*.*"))


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    keras.utils.set_random_seed(0)
    model = randomize(
        keras_resnet.CifarResNet(
            8, input_shape=(SIDE, SIDE, 3), classes=2, include_preprocessing=PREPARED
        )
    )
    classifier = model.get_layer("predictions")
    classifier.kernel.assign(50 * classifier.kernel)  # so that pictures differ
    folder = tmp_path_factory.mktemp("forms")
    model.save(folder / "model.keras")
    export_hub(model, folder / "hub", "classification")
    export(model, folder / "saved_model")
    export(model, folder / "model.tflite", "litert")
    export(model, folder / "model.onnx", "onnx")
    return model, folder


@pytest.fixture(scope="module")
def expected(forms, files):
    """Probabilities of the model for the pixels that evaluation sees, `(files, 2)`."""
    view = Transforms.of(PREPARED)
    pixels = np.stack([view.evaluation(path.read_bytes()).numpy() for path in files])
    return np.asarray(forms[0](pixels.astype("float32"), training=False))


def test_pictures_differ_and_orientations_do_not(files, expected):
    rows = dict(zip((f"{p.stem}{p.suffix}" for p in files), expected, strict=True))
    for number in range(len(SIZES)):
        upright = rows[f"{number}-1.png"]
        for orientation in STORED:
            png, jpeg = (rows[f"{number}-{orientation}.{suffix}"] for suffix in ("png", "jpg"))
            # Turned PNGs have the same pixels; sums of their resizing come in another order.
            np.testing.assert_allclose(png, upright, atol=2e-3)
            # The encoder sees other blocks of 8x8 pixels.
            np.testing.assert_allclose(jpeg, upright, atol=0.05)
    assert np.ptp(expected[:, 0]) > 0.02


def test_evaluation_in_training_and_by_the_evaluator(forms, files, expected):
    root = files[0].parents[2]
    whole = {"image_size": SIDE, "val_split": 0, "test_split": 0}
    dataset = load_dataset("folder", root, eval_resize=29, interpolation="bicubic", **whole)
    images = next(iter(dataset.eval_batches("train", len(files))))[0].numpy()
    received = np.asarray(forms[0](images.astype("float32"), training=False))
    np.testing.assert_allclose(received, expected, atol=FORMS)

    # Of a data set that has other defaults, the evaluator takes what the model says.
    other = load_dataset("folder", root, **whole)
    result = evaluate(forms[0], other, split="train")
    assert result.protocol == SingleCrop(29)
    np.testing.assert_allclose(result.scores, expected.max(axis=1), atol=FORMS)


@pytest.mark.parametrize(
    "form", ["model.keras", "hub", "saved_model", "model.tflite", "model.onnx"]
)
def test_predictions_of_every_form(forms, files, expected, form):
    exported = load_exported(forms[1] / form)
    assert str(exported.preprocessing).startswith(str(PREPARED).partition("; 2 named")[0])
    rows = predict(exported, files, top=2)
    assert [row.path for row in rows] == files
    received = [[dict(zip(row.labels, row.probabilities, strict=True))[name]
                 for name in PREPARED.class_names] for row in rows]  # fmt: skip
    np.testing.assert_allclose(received, expected, atol=FORMS)


def test_signatures_of_bytes(forms, files, expected):
    images = tf.constant([path.read_bytes() for path in files])
    saved = tf.saved_model.load(str(forms[1] / "saved_model" / "1"))
    rows = saved.signatures["serving_default"](image_bytes=images)
    np.testing.assert_allclose(rows["probabilities"], expected, atol=FORMS)
    best = np.array([b"left", b"right"])[np.argmax(expected, axis=1)]
    np.testing.assert_array_equal(rows["classes"][:, 0], best)
    hub = tf.saved_model.load(str(forms[1] / "hub"))
    logits = hub.signatures["serving_bytes"](encoded=images)["logits"]
    np.testing.assert_allclose(tf.nn.softmax(logits), expected, atol=FORMS)


def by_pillow(data: bytes, said: dict) -> np.ndarray:
    """Prepares a file by the JSON of an exported model with nothing but Pillow."""
    assert said["orientation"] == "exif" and said["antialias"] and said["crop"] == "center"
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    shorter = min(picture.size)
    size = tuple(side * said["resize"] // shorter for side in picture.size)
    picture = picture.resize(size, Image.Resampling[said["interpolation"].upper()])
    left, top = (round((side - said["image_size"]) / 2) for side in picture.size)
    picture = picture.crop((left, top, left + said["image_size"], top + said["image_size"]))
    return np.asarray(picture, "float32")


def test_a_stranger_who_follows_the_description(forms, files, expected):
    import onnxruntime

    session = onnxruntime.InferenceSession(forms[1] / "model.onnx")
    said = json.loads(session.get_modelmeta().custom_metadata_map["preprocessing"])
    images = np.stack([by_pillow(path.read_bytes(), said) for path in files])
    (received,) = session.run(None, {"images": images})
    np.testing.assert_allclose(received, expected, atol=PILLOW)


def plain_network(channels: int) -> keras.Model:
    """Returns a model of Keras alone that standardizes nothing and remembers nothing."""
    images = keras.Input((SIDE, SIDE, channels))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(images)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, keras.layers.Dense(3, "softmax", name="scores")(x))


def small_network(channels: int, **options) -> keras.Model:
    numbers = {"mean": tuple(range(90, 90 + channels)), "std": (60.0,) * channels}
    prepared = Preprocessing(**numbers, image_size=SIDE, resize=29)
    shape = {"input_shape": (SIDE, SIDE, channels), "include_preprocessing": prepared}
    net = keras_resnet.ResNet((1,), widths=(8,), block="basic", **shape, **options)
    classifier = randomize(net).get_layer("predictions")
    classifier.kernel.assign(10 * classifier.kernel)
    return net


# A model, and what a file beside it says of the preparation of its images.
OTHERS = {
    "B, G, R": (
        lambda: plain_network(3),
        dataclasses.replace(KERAS_CAFFE, image_size=SIDE, resize=29),
    ),
    "one sigmoid": (lambda: small_network(3, classes=1, classifier_activation="sigmoid"), None),
    "four channels": (lambda: small_network(4, classes=3), None),
}


# Four forms are written and run for each.
@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=() if kind == "B, G, R" else pytest.mark.slow) for kind in OTHERS],
)
def test_every_form_of_other_networks(kind, tmp_path):
    build, beside = OTHERS[kind]
    keras.utils.set_random_seed(0)
    net = build()
    path = tmp_path / "model.keras"
    net.save(path)
    if beside is not None:
        (tmp_path / "preprocessing.json").write_text(beside.to_json())
    channels = net.input_shape[-1]
    exif, files = Image.Exif(), [tmp_path / "0.png", tmp_path / "1.png"]
    exif[0x0112] = 6
    for file, name in zip(files, ("flower.jpg", "china.jpg"), strict=True):
        picture = Image.fromarray(load_sample_image(name)).resize((70, 50))
        if channels == 4:
            picture.putalpha(ImageOps.grayscale(picture))
        picture.save(file, exif=exif)

    model = keras_resnet.load_model(path)
    view = Transforms.of(model.preprocessing)
    pixels = np.stack([view.evaluation(file.read_bytes()) for file in files]).astype("float32")
    # By hand, where the network itself does not.
    seen = pixels if beside is None else (pixels - np.array(beside.mean, "float32"))[..., ::-1]
    outputs = np.asarray(net(np.ascontiguousarray(seen)))
    expected = np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs
    assert np.ptp(expected, axis=0).max() > 100 * FORMS

    export_hub(model, tmp_path / "hub", "classification")
    export(model, tmp_path / "saved_model")
    export(model, tmp_path / "model.tflite", "litert")
    export(model, tmp_path / "model.onnx", "onnx")
    for form in ("model.keras", "hub", "saved_model", "model.tflite", "model.onnx"):
        for row, wanted in zip(predict(tmp_path / form, files), expected, strict=True):
            scores = dict(zip(map(int, row.labels), row.probabilities, strict=True))
            received = [scores[number] for number in range(len(wanted))]
            np.testing.assert_allclose(received, wanted, atol=FORMS)

    images = tf.constant([*(file.read_bytes() for file in files), b"broken"])
    saved = tf.saved_model.load(str(tmp_path / "saved_model" / "1"))
    rows = saved.signatures["serving_default"](image_bytes=images)
    np.testing.assert_allclose(rows["probabilities"][:2], outputs, atol=FORMS)
    hub = tf.saved_model.load(str(tmp_path / "hub"))
    answers = hub.signatures["serving_bytes"](encoded=images)
    (name,) = answers.keys() - {"error"}
    function = tf.sigmoid if name == "sigmoid_logits" else tf.nn.softmax
    np.testing.assert_allclose(function(answers[name][:2]), outputs, atol=FORMS)
    for errors in (rows["error"], answers["error"]):
        assert [bool(text) for text in errors.numpy()] == [False, False, True]
