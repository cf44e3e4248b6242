"""One picture is one picture for a network of rectangles, too: 32 pixels high, 24 wide."""

from __future__ import annotations

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
from keras_resnet.data.decoding import decode_whole, resize_shorter_side
from keras_resnet.data.transforms import inception_extent, scaled_extent
from keras_resnet.evaluation import MultiScale, SingleCrop, TenCrop, evaluate
from keras_resnet.evaluation.predictor import predict
from keras_resnet.experiment.settings import Data
from keras_resnet.export import export, load_exported
from keras_resnet.network import preprocessing_of
from keras_resnet.preprocessing import Preprocessing, checked_size, covered_by
from tests.helpers import randomize, refused

HEIGHT, WIDTH = 32, 24
PREPARED = Preprocessing(
    image_size=(HEIGHT, WIDTH), resize=27, class_names=("left", "right"), source="x"
)
# Width and height: squares, wide and tall, around the ratio of 24 to 32.
SIZES = [(60, 60), (90, 40), (40, 90), (45, 60), (60, 45), (30, 31)]
FORMS = 1e-5


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A photograph in several ratios, upright and turned by EXIF, as PNG and JPEG."""
    root = tmp_path_factory.mktemp("pictures")
    photograph = Image.fromarray(load_sample_image("china.jpg"))
    for number, size in enumerate(SIZES):
        picture = ImageOps.fit(photograph, size)
        for orientation, turn in ((1, None), (6, Image.Transpose.ROTATE_90)):
            stored = picture if turn is None else picture.transpose(turn)
            exif = Image.Exif()
            exif[0x0112] = orientation
            side = "left" if number % 2 else "right"
            for form in ("png", "jpeg"):
                path = root / "train" / side / f"{number}-{orientation}.{form}"
                path.parent.mkdir(parents=True, exist_ok=True)
                stored.save(path, form, exif=exif)
    return sorted(root.rglob("*.*"))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    net = randomize(
        keras_resnet.CifarResNet(
            8, input_shape=(HEIGHT, WIDTH, 3), classes=2, include_preprocessing=PREPARED
        )
    )
    classifier = net.get_layer("predictions")
    classifier.kernel.assign(50 * classifier.kernel)
    return net


@pytest.fixture(scope="module")
def expected(model, files):
    view = Transforms.of(PREPARED)
    pixels = np.stack([view.evaluation(path.read_bytes()).numpy() for path in files])
    assert pixels.shape[1:] == (HEIGHT, WIDTH, 3)
    return np.asarray(model(pixels.astype("float32"), training=False))


def test_sizes():
    assert checked_size("size", "224") == checked_size("size", 224) == 224
    assert checked_size("size", "224x192") == checked_size("size", [224, 192]) == (224, 192)
    assert checked_size("size", "64x64") == 64
    for wrong in ("x", "3x", "3x4x5", "0x4", (1, 2, 3), 2.5, 0, "-3"):
        with refused("size"):
            checked_size("size", wrong)
    # 256 for 224, in proportion to the shorter side.
    assert covered_by((224, 192), 219) == (256, 219)
    assert covered_by(224, 256) == 256 and covered_by((32, 24), None) == (32, 24)
    assert Data(image_size="32x24").image_size == "32x24"
    assert Data(image_size=[32, 24]).image_size == "32x24"
    assert Data(image_size="32").image_size == 32
    with refused("image_size"):
        Data(image_size="32y24")


@pytest.mark.parametrize("size", SIZES)
def test_images_just_cover_the_rectangle(size):
    width, height = size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    scale = max(36 / height, 27 / width)
    by_hand = (max(36, int(height * scale + 1e-9)), max(27, int(width * scale + 1e-9)))
    assert resize_shorter_side(tf.constant(image), (36, 27)).shape[:2] == by_hand
    png = tf.io.encode_png(image)
    assert decode_whole(png, 3, (36, 27)).shape[:2] == by_hand
    # Of a square that is the shorter side.
    square = resize_shorter_side(tf.constant(image), (27, 27))
    np.testing.assert_array_equal(square, resize_shorter_side(tf.constant(image), 27))


def test_pillow_makes_the_same_of_the_description(files):
    said = json.loads(PREPARED.to_json())
    assert said["image_size"] == [32, 24] and said["covers"] == [36, 27]
    assert Preprocessing.from_json(PREPARED.to_json()).image_size == (32, 24)
    view = Transforms.of(PREPARED)
    for path in files:
        if path.suffix != ".png":
            continue
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(path.read_bytes())))
        ratio = max(said["covers"][1] / picture.width, said["covers"][0] / picture.height)
        size = tuple(int(side * ratio + 1e-9) for side in picture.size)
        picture = picture.resize(size, Image.Resampling.BILINEAR)
        height, width = said["image_size"]
        left, top = round((picture.width - width) / 2), round((picture.height - height) / 2)
        theirs = np.asarray(picture.crop((left, top, left + width, top + height)), float)
        ours = view.evaluation(path.read_bytes()).numpy()
        assert np.abs(ours - theirs).max() <= 2, path


def test_training_crops():
    # The whole height or width at most: 36x27 is covered by 72x81 at 1/2, so 64 rows, 48 columns.
    np.testing.assert_allclose(scaled_extent(72, 81, 0.5, (32, 24), (27, 27)), [64, 48], rtol=1e-6)
    np.testing.assert_allclose(scaled_extent(81, 54, 0.5, (32, 24), (27, 27)), [64, 48], rtol=1e-6)
    draws = np.random.default_rng(0).random((40, 2, 10), np.float32)
    for one in draws:
        h, w = inception_extent(300, 400, one, 24 / 32).numpy()
        assert h <= 300 and w <= 400 and 0.75 * 0.7499 < w / h < 0.75 * 1.3334
    # A gradient down and across is cropped without being stretched.
    rows, columns = np.mgrid[:96, :96]
    image = tf.io.encode_png(np.stack([rows, columns, rows], -1).astype(np.uint8))
    for crop in ("scale", "inception", "pad"):
        transforms = Transforms((32, 24), crop=crop, flip=False, lighting=0.0)
        draws = np.full(transforms.num_draws, 0.5, np.float32)
        made = transforms.training(image, draws).numpy().astype(float)
        assert made.shape == (32, 24, 3)
        assert abs(made[16, 12, 0] - 48) < 2 and abs(made[16, 12, 1] - 48) < 2
        if crop != "inception":
            steps = np.diff(made[:, 12, 0]).mean(), np.diff(made[16, :, 1]).mean()
            assert steps[0] == pytest.approx(steps[1], rel=0.05)


def test_evaluation(model, files, expected):
    assert preprocessing_of(model).image_size == (HEIGHT, WIDTH)
    root, whole = files[0].parents[2], {"val_split": 0, "test_split": 0}
    dataset = load_dataset("folder", root, image_size="32x24", eval_resize=27, **whole)
    assert dataset.image_shape == (32, 24, 3)
    assert dataset.preprocessing().image_size == (32, 24)
    images = next(iter(dataset.eval_batches("train", len(files))))[0].numpy()
    received = np.asarray(model(images.astype("float32"), training=False))
    np.testing.assert_allclose(received, expected, atol=FORMS)
    # The model knows its own, whatever the data set has.
    other = load_dataset("folder", root, image_size=(32, 24), eval_resize=24, **whole)
    result = evaluate(model, other, split="train", keep_outputs=True)
    assert result.protocol == SingleCrop(27)
    np.testing.assert_allclose(result.outputs, expected, atol=FORMS)


def test_several_crops(model, files):
    root = files[0].parents[2]
    dataset = load_dataset("folder", root, image_size="32x24", val_split=0, test_split=0)
    outputs = []
    for path in files:
        image = decode_whole(path.read_bytes(), 3, (36, 27)).numpy().astype("float32")
        (height, width), crops = image.shape[:2], []
        for top, left in (
            *((t, x) for t in (0, height - 32) for x in (0, width - 24)),
            (round((height - 32) / 2), round((width - 24) / 2)),
        ):
            crops.append(image[top : top + 32, left : left + 24])
        outputs += [*crops, *(crop[:, ::-1] for crop in crops)]
    outputs = np.reshape(model.predict_on_batch(np.stack(outputs)), (len(files), 10, 2)).mean(1)
    result = evaluate(model, dataset, TenCrop(), split="train", keep_outputs=True)
    assert result.protocol == TenCrop(27)
    np.testing.assert_allclose(result.outputs, outputs, atol=FORMS)
    # Whole images, whatever rectangle the network has.
    assert MultiScale().resolved(dataset).scales == (24, 27, 41, 51, 69)


def test_every_form(model, files, expected, tmp_path):
    pytest.importorskip("ai_edge_litert")
    model.save(tmp_path / "model.keras")
    export(model, tmp_path / "saved_model")
    export(model, tmp_path / "model.tflite", "litert")
    for form in ("model.keras", "saved_model", "model.tflite"):
        exported = load_exported(tmp_path / form)
        assert exported.preprocessing.image_size == (32, 24)
        rows = predict(exported, files, top=2)
        received = [[dict(zip(row.labels, row.probabilities, strict=True))[name]
                     for name in PREPARED.class_names] for row in rows]  # fmt: skip
        np.testing.assert_allclose(received, expected, atol=FORMS, err_msg=form)
    with refused("image_size", "32"):
        predict(tmp_path / "model.keras", files, image_size=32)
    data = tf.constant([path.read_bytes() for path in files])
    saved = tf.saved_model.load(str(tmp_path / "saved_model" / "1"))
    rows = saved.signatures["serving_default"](image_bytes=data)
    np.testing.assert_allclose(rows["probabilities"], expected, atol=FORMS)
