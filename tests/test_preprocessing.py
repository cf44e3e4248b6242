"""The image convention, and the way from scores to names."""

from __future__ import annotations

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet import decode_predictions, preprocess_input
from keras_resnet.preprocessing import (
    CAFFE,
    IMAGENET_MEAN,
    IMAGENET_STD,
    KERAS_CAFFE,
    KERAS_TF,
    Preprocessing,
)
from tests.helpers import distance, refused

# As torchvision writes them, for images in [0, 1].
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pixels(*shape, dtype="uint8"):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def test_constants():
    np.testing.assert_allclose(IMAGENET_MEAN, np.multiply(MEAN, 255))
    np.testing.assert_allclose(IMAGENET_STD, np.multiply(STD, 255))


def test_values_by_hand():
    image = np.array([[[0, 128, 255]]], "uint8")
    expected = [(0 - 123.675) / 58.395, (128 - 116.28) / 57.12, (255 - 103.53) / 57.375]
    np.testing.assert_allclose(preprocess_input(image)[0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32", "float64", "bfloat16"])
@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_dtypes(kind, dtype):
    if (kind, dtype) == ("array", "bfloat16"):
        images = pixels(2, 3, 4, 3, dtype=tf.bfloat16.as_numpy_dtype)
    else:
        images = pixels(2, 3, 4, 3, dtype="uint8" if dtype == "bfloat16" else dtype)
    if kind == "tensor":
        images = tf.cast(images, dtype)
    result = preprocess_input(images)
    assert isinstance(result, np.ndarray) == (kind == "array")
    kept = dtype if "float" in dtype else "float32"
    assert keras.backend.standardize_dtype(result.dtype) == kept
    expected = (pixels(2, 3, 4, 3) / 255.0 - MEAN) / STD
    tolerance = {"float16": 2e-3, "bfloat16": 2e-2, "float64": 1e-6}.get(dtype, 1e-6)
    assert distance(tf.cast(result, "float64"), expected) < tolerance


@pytest.mark.parametrize("kind", ["array", "tensor"])
@pytest.mark.parametrize("leading", [(), (2,), (2, 3)], ids=str)
def test_channels_first(leading, kind):
    last = pixels(*leading, 4, 5, 3)
    first = np.moveaxis(last, -1, -3)
    if kind == "tensor":
        last, first = tf.constant(last), tf.constant(first)
    result = np.moveaxis(np.asarray(preprocess_input(first, "channels_first")), -3, -1)
    np.testing.assert_allclose(result, preprocess_input(last), rtol=1e-6, atol=1e-6)


def test_data_format_of_keras():
    keras.config.set_image_data_format("channels_first")
    assert preprocess_input(pixels(2, 3, 4, 5)).shape == (2, 3, 4, 5)


def test_in_a_data_pipeline():
    dataset = tf.data.Dataset.from_tensor_slices(pixels(3, 4, 4, 3)).map(preprocess_input)
    result = np.stack(list(dataset.as_numpy_iterator()))
    np.testing.assert_allclose(result, preprocess_input(pixels(3, 4, 4, 3)), rtol=1e-6, atol=1e-6)


def test_input_is_left_alone():
    images = pixels(1, 2, 2, 3, dtype="float32")
    preprocess_input(images)
    np.testing.assert_array_equal(images, pixels(1, 2, 2, 3))


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 8, 8, 1), {}),
        ((8, 8), {}),
        ((3,), {}),
        ((2, 3, 8, 8), {}),
        ((2, 8, 8, 3), {"data_format": "channels_first"}),
    ],
)
def test_images_have_the_channels_of_the_mean(shape, options):
    with refused("`images`", "3 channels", shape):
        preprocess_input(np.zeros(shape, "uint8"), **options)


def test_unknown_data_format():
    with refused("`data_format`", "data_format='NHWC'"):
        preprocess_input(pixels(2, 2, 3), "NHWC")


def test_images_must_have_a_shape():
    with refused("`images`"):
        preprocess_input([[1, 2, 3]])


# --- in the model ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_include_preprocessing_equals_preprocess_input(dtype):
    options = {"input_shape": (16, 16, 3)}
    inside = keras_resnet.CifarResNet(8, include_preprocessing=True, **options)
    outside = keras_resnet.CifarResNet(8, **options)
    keras_resnet.copy_weights(inside, outside)
    x = pixels(3, 16, 16, 3, dtype=dtype)
    assert distance(inside(x), outside(preprocess_input(x))) < 1e-5
    assert inside.get_layer("preprocessing").weights == []


def test_include_preprocessing_computes_in_float32():
    # 255 - 103.53 and 254 - 103.53 are the same number in bfloat16.
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = keras_resnet.CifarResNet(8, include_preprocessing=True, input_shape=(4, 4, 3))
    standardized = keras.Model(model.input, model.get_layer("preprocessing").output)
    x = pixels(1, 4, 4, 3)
    assert standardized(x).dtype == tf.float32
    assert distance(standardized(x), preprocess_input(x)) < 1e-6


# --- decode_predictions ----------------------------------------------------------------------

SCORES = np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]], "float32")
NAMES = ("cat", "dog", "bird")


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_decode(kind):
    scores = SCORES if kind == "array" else tf.constant(SCORES)
    decoded = decode_predictions(scores, top=2, class_names=NAMES)
    assert [[(i, name) for i, name, _ in row] for row in decoded] == [
        [("1", "dog"), ("2", "bird")],
        [("0", "cat"), ("2", "bird")],
    ]
    for row, expected in zip(decoded, [[0.6, 0.3], [0.5, 0.3]], strict=True):
        assert [score for _, _, score in row] == pytest.approx(expected)
        assert all(type(score) is float for _, _, score in row)


def test_decode_takes_logits_and_breaks_ties_by_class():
    decoded = decode_predictions(np.array([[-3.0, 2.0, 2.0]]), top=3, class_names=NAMES)
    assert [name for _, name, _ in decoded[0]] == ["dog", "bird", "cat"]
    assert decoded[0][2][2] == -3.0


def test_decode_of_all_classes_and_of_no_image():
    assert decode_predictions(SCORES[:0], top=3, class_names=NAMES) == []
    assert len(decode_predictions(SCORES, top=3, class_names=NAMES)[0]) == 3


def test_decode_imagenet(monkeypatch):
    # Keras fetches the names; the tests have no network.
    asked = []

    def names(predictions, top):
        asked.append((predictions.shape, top))
        return [[("n01440764", "tench", 1.0)]]

    monkeypatch.setattr(keras.applications.imagenet_utils, "decode_predictions", names)
    assert decode_predictions(np.eye(1, 1000), top=1) == [[("n01440764", "tench", 1.0)]]
    assert asked == [((1, 1000), 1)]


@pytest.mark.parametrize(
    ("name", "value", "received"),
    [
        ("predictions", SCORES[0], "(3,)"),
        ("predictions", SCORES[None], "(1, 2, 3)"),
        ("class_names", None, "class_names=None"),
        ("class_names", ("cat", "dog"), "2 names"),
        ("class_names", "cat", "'cat'"),
        *(("top", value, f"top={value}") for value in (0, 4, 2.0, True)),
    ],
    ids=str,
)
def test_decode_misuse(name, value, received):
    arguments = {"predictions": SCORES, "top": 2, "class_names": NAMES, name: value}
    with refused(f"`{name}`", received):
        decode_predictions(**arguments)


def test_published_sizes_and_proportions():
    published = Preprocessing(resize=235, resizes=((288, 288),))
    assert [published.at(size).shorter_side for size in (224, 288, 112)] == [235, 288, 118]
    assert published.at(288).at(224) == published
    for wrong, said in (
        ({"resize": 200}, "resize=200"),
        ({"resize": 4000}, "resize=4000"),
        ({"interpolation": "box"}, "'box'"),
        ({"mean": 1.0}, "mean=1.0"),
        ({"std": (1.0, 1.0, float("nan"))}, "nan"),
        ({"std": (1.0, 1.0, -1.0)}, "-1.0"),
        ({"source": 3}, "source=3"),
        ({"bgr": "x"}, "bgr='x'"),
    ):
        with refused(said):
            Preprocessing(**wrong)


def test_the_description_as_json():
    prepared = Preprocessing(resize=235, interpolation="bicubic", source="x", class_names=("a",))
    said = json.loads(prepared.to_json())
    assert said["resize"] == 235 and said["range"] == [0, 255] and "class_names" not in said
    assert Preprocessing.from_json(prepared.to_json()) == dataclasses.replace(
        prepared, class_names=None
    )
    wrong = (
        {"mean": "abc"},
        {"std": [1.0]},
        {"image_size": "x"},
        {"orientation": "none"},
        {"resizes": [[1]]},
        {"unknown": 1},
        {"mean": None},
    )
    texts = ["", "[]", "{", "5", "{}", *(json.dumps(said | change) for change in wrong)]
    for text in texts:
        with refused("`preprocessing`"):
            Preprocessing.from_json(text)


def test_entries_of_published_weights_have_their_rules():
    rules = {
        name: (entry.preprocessing.resize, entry.preprocessing.interpolation)
        for name, entry in keras_resnet.weights.PRETRAINED.items()
    }
    assert rules["timm/resnet50.a1_in1k"] == (235, "bicubic")
    assert rules["timm/resnet50.tv2_in1k"] == (232, "bilinear")
    assert rules["keras/resnet50"] == rules["timm/resnet50.tv_in1k"] == (256, "bilinear")


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_the_conventions_of_keras(data_format):
    """Tensors and arrays, as `preprocess_input` of `keras.applications` returns them."""
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 3)).astype("float32")
    if data_format == "channels_first":
        images = images.transpose(0, 3, 1, 2)
    for prepared, module in (
        (KERAS_CAFFE, keras.applications.resnet),
        (KERAS_TF, keras.applications.resnet_v2),
        (Preprocessing(), keras.applications.densenet),
    ):
        expected = module.preprocess_input(images.copy(), data_format)
        for given in (images, keras.ops.convert_to_tensor(images)):
            assert distance(prepared.standardize(given, data_format), expected) < 1e-6
    assert not CAFFE.same_numbers(dataclasses.replace(CAFFE, bgr=True))


def test_an_image_below_the_threshold_shows_none_of_the_classes():
    prepared = Preprocessing(threshold=0.3)
    assert [prepared.shows_none(share) for share in (0.2999, 0.3, 0.3001)] == [True, False, False]
    # As float32, which is a little more than 0.3.
    assert not prepared.shows_none(float(np.float32(0.3)))
    assert not Preprocessing().shows_none(0.0)
    assert not Preprocessing(threshold=0.0).shows_none(0.0)


def test_sequences_of_any_kind_become_tuples():
    resizes = [[[16, 12], 20], [9, 9]]
    given = Preprocessing([1, 2.5], np.float32([1, 2]), [8, 6], 12, resizes=resizes)
    expected = Preprocessing((1.0, 2.5), (1.0, 2.0), (8, 6), 12, resizes=(((16, 12), 20), (9, 9)))
    assert given == expected and hash(given) == hash(expected)
    assert json.loads(given.to_json())["std"] == [1.0, 2.0]
    for wrong in (5, [5], [[5]], [["x", 5]], [[5, "x"]], [[5, 0]]):
        with refused("`resizes`"):
            Preprocessing(resizes=wrong)


# As `to_json` wrote it before 16 bits, and with everything.
STORED = (
    '{"mean": [127.5, 127.5, 127.5], "std": [127.5, 127.5, 127.5], "image_size": 224, '
    '"resize": 256, "interpolation": "bilinear", "source": "", "resizes": [], "bgr": false, '
    '"threshold": null, "orientation": "exif", "antialias": true, "crop": "center", '
    '"range": [0, 255]}',
    '{"mean": [123.68, 116.779, 103.939], "std": [1.0, 1.0, 1.0], "image_size": [8, 6], '
    '"resize": 7, "interpolation": "bicubic", "source": "timm/x", '
    '"resizes": [[16, 18], [[24, 20], 22]], "bgr": true, "threshold": 0.25, "bits": 16, '
    '"orientation": "exif", "antialias": true, "crop": "center", "range": [0, 255], '
    '"covers": [9, 7]}',
)


def test_what_earlier_versions_stored_is_read():
    mean, resizes = (123.68, 116.779, 103.939), ((16, 18), ((24, 20), 22))
    full = Preprocessing(
        mean, (1.0,) * 3, (8, 6), 7, "bicubic", None, "timm/x", resizes, True, 0.25, 16
    )
    assert [Preprocessing.from_json(text) for text in STORED] == [KERAS_TF, full]
    assert [KERAS_TF.to_json(), full.to_json()] == list(STORED)
