"""One picture is one picture with alpha, in gray, with 16 bits, and in `.npy` files.

Every way of reading a file gives what a reference in NumPy gives: training data, the evaluator,
`predict`, a SavedModel by bytes, and LiteRT.
"""

from __future__ import annotations

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet.data import BadImageWarning, Transforms, load_dataset
from keras_resnet.data.decoding import decode_whole, decoding_fault
from keras_resnet.data.npy import encode_npy
from keras_resnet.evaluation import evaluate
from keras_resnet.evaluation.predictor import predict
from keras_resnet.experiment import Experiment, preflight
from keras_resnet.export import export, load_exported
from keras_resnet.preprocessing import Preprocessing, standardize_layer
from keras_resnet.utils.checks import Problems
from tests.helpers import refused

SIDE = 16
RNG = np.random.default_rng(0)
# Low in contrast: all of it lies within two of the 256 levels.
FINE = (51_000 + RNG.integers(0, 400, (SIDE, SIDE, 3))).astype(np.uint16)
RGBA = RNG.integers(0, 256, (SIDE, SIDE, 4), np.uint8)
CUBE = RNG.normal(0.5, 2.0, (SIDE, SIDE, 5)).astype(np.float32)


def png(pixels):
    return tf.io.encode_png(pixels).numpy()


def whole(data, channels, bits=8):
    image = decode_whole(data, channels, bits=bits)
    assert image.dtype == (tf.float32 if bits == 16 or channels == 5 else tf.uint8)
    return image.numpy()


def test_alpha_is_kept():
    np.testing.assert_array_equal(whole(png(RGBA), 4), RGBA)
    opaque = np.dstack([RGBA[..., :3], np.full((SIDE, SIDE), 255, np.uint8)])
    np.testing.assert_array_equal(whole(png(RGBA[..., :3]), 4), opaque)
    gray = np.dstack([RGBA[..., :1]] * 3 + [RGBA[..., 3:]])
    np.testing.assert_array_equal(whole(png(RGBA[..., [0, 3]]), 4), gray)
    buffer = io.BytesIO()
    Image.fromarray(RGBA).save(buffer, "WEBP", lossless=True, exact=True)
    np.testing.assert_array_equal(whole(buffer.getvalue(), 4), RGBA)
    jpeg = tf.io.encode_jpeg(RGBA[..., :3]).numpy()
    np.testing.assert_array_equal(whole(jpeg, 4)[..., :3], whole(jpeg, 3))
    assert whole(jpeg, 4)[..., 3].min() == 255
    # White shows through where there are three channels.
    white = 255 - (255.0 - RGBA[..., :3]) * RGBA[..., 3:] / 255
    np.testing.assert_allclose(whole(png(RGBA), 3), white, atol=0.5001)


def test_sixteen_bits_are_kept():
    np.testing.assert_allclose(whole(png(FINE), 3, bits=16), FINE / 257, rtol=1e-6)
    assert np.unique(whole(png(FINE), 3)).size <= 3
    gray = FINE[..., :1]
    np.testing.assert_allclose(whole(png(gray), 1, bits=16), gray / 257, rtol=1e-6)
    weights = np.array([0.2989, 0.5870, 0.1140])
    np.testing.assert_allclose(whole(png(FINE), 1, 16)[..., 0], FINE @ weights / 257, rtol=2e-4)
    alpha = RNG.integers(0, 65536, (SIDE, SIDE, 1)).astype(np.uint16)
    both = np.concatenate([FINE, alpha], axis=-1)
    np.testing.assert_allclose(whole(png(both), 4, bits=16), both / 257, rtol=1e-6)
    white = 255 - (255 - FINE / 257) * (alpha / 65535)
    np.testing.assert_allclose(whole(png(both), 3, bits=16), white, rtol=1e-5)


def test_files_of_eight_bits_are_the_same_with_sixteen():
    for pixels in (RGBA, RGBA[..., :3], RGBA[..., :1], RGBA[..., [0, 3]]):
        for channels in (1, 3, 4):
            eight, sixteen = (whole(png(pixels), channels, bits) for bits in (8, 16))
            np.testing.assert_allclose(sixteen, eight, atol=1.0)
    np.testing.assert_array_equal(whole(png(RGBA), 4, 16), RGBA)
    palette = io.BytesIO()
    Image.fromarray(RGBA[..., :3]).quantize(16).save(palette, "PNG")
    jpeg = tf.io.encode_jpeg(RGBA[..., :3]).numpy()
    for data in (palette.getvalue(), jpeg):
        np.testing.assert_array_equal(whole(data, 3, 16), whole(data, 3))


@pytest.mark.parametrize("dtype", ["|u1", "<u2", ">u2", "<f2", "<f4", ">f4", "<f8", ">f8"])
def test_arrays_of_files(dtype):
    image = (CUBE if "f" in dtype else 100 * np.abs(CUBE).clip(0, 2)).astype(dtype)
    expected = image.astype(np.float32) / (257 if "u2" in dtype else 1)
    np.testing.assert_allclose(whole(encode_npy(image), 5), expected, rtol=1e-6)
    # The other order of axes, another version of the header.
    turned = np.asfortranarray(image)
    assert b"'fortran_order': True" in encode_npy(turned)
    np.testing.assert_allclose(whole(encode_npy(turned), 5), expected, rtol=1e-6)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, image, version=(2, 0), allow_pickle=False)
    np.testing.assert_allclose(whole(buffer.getvalue(), 5), expected, rtol=1e-6)
    assert decoding_fault(buffer.getvalue(), 5) is None


def pickled():
    buffer = io.BytesIO()
    np.save(buffer, np.array([[[{}] * 5]], dtype=object), allow_pickle=True)
    return buffer.getvalue()


WRONG = {
    "zero-byte": b"",
    "truncated": encode_npy(CUBE)[:-4],
    "unreadable": b"not an array",
    "(16, 16, 3)": encode_npy(CUBE[..., :3]),
    "(16, 16)": encode_npy(CUBE[..., 0]),
    "int32": encode_npy(CUBE.astype(np.int32)),
    "(0, 16, 5)": encode_npy(CUBE[:0]),
    "not finite": encode_npy(np.where(CUBE > 2, np.nan, CUBE).astype(np.float32)),
}


@pytest.mark.parametrize("fault", [*WRONG, "pickle"])
def test_arrays_that_are_refused(fault):
    data = WRONG.get(fault)
    data = pickled() if data is None else data
    with pytest.raises(tf.errors.OpError):
        decode_whole(data, 5)
    with pytest.raises(tf.errors.OpError):
        tf.function(lambda encoded: decode_whole(encoded, 5))(tf.constant(data))
    assert (fault if fault != "pickle" else "truncated") in decoding_fault(data, 5)


# Channels and bits, a file of a picture, its suffix, the pixels as the network sees them, and
# whether files are served, too.
KINDS = {
    "RGBA": (4, 8, lambda i: png(np.roll(RGBA, i, 0)), "png", RGBA, False),
    "gray of 16 bits": (1, 16, lambda i: png(np.roll(FINE[..., :1], i, 0)), "png",
                        FINE[..., :1] / 257, True),
    "five bands": (5, 16, lambda i: encode_npy(np.roll(CUBE, i, 0)), "npy", CUBE, True),
}  # fmt: skip


def small_model(prepared):
    keras.utils.set_random_seed(0)
    images = keras.Input((SIDE, SIDE, len(prepared.mean)))
    maps = standardize_layer(images, -1, prepared)(images)
    maps = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(maps)
    features = keras.layers.Flatten()(maps)
    return keras.Model(images, keras.layers.Dense(2, activation="softmax")(features))


@pytest.mark.parametrize("kind", KINDS)
def test_every_form(kind, tmp_path):
    pytest.importorskip("ai_edge_litert")
    channels, bits, file, suffix, pixels, served = KINDS[kind]
    root, images, paths = tmp_path / "data", [], []
    for i in range(6):
        path = root / "train" / "ab"[i % 2] / f"{i}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file(i))
        paths.append(path)
        images.append(np.roll(pixels, i, 0).astype(np.float32))
    images = np.stack(images)

    options = {"image_size": SIDE, "eval_resize": SIDE, "channels": channels}
    dataset = load_dataset("folder", root, val_split=0, test_split=0, **options)
    assert dataset.image_dtype == (tf.uint8 if kind == "RGBA" else tf.float32)
    order = [*range(0, 6, 2), *range(1, 6, 2)]  # class by class
    ((batch, _, _),) = dataset.eval_batches("train", 6)
    np.testing.assert_allclose(batch, images[order], rtol=1e-6)
    np.testing.assert_allclose(dataset.mean, images.mean(axis=(0, 1, 2)), rtol=1e-5)
    prepared = dataset.preprocessing()
    assert prepared.bits == bits and len(prepared.mean) == channels

    model = small_model(prepared)
    expected = np.asarray(model(images, training=False))
    assert np.ptp(expected[:, 0]) > 1e-4
    result = evaluate(model, dataset, split="train", keep_outputs=True)
    np.testing.assert_allclose(result.outputs, expected[order], atol=1e-5)

    export(model, tmp_path / "model.tflite", "litert", preprocessing=prepared)
    forms = ["model.tflite"]
    if served:
        export(model, tmp_path / "saved_model", preprocessing=prepared)
        forms.append("saved_model")
    for form in forms:
        rows = predict(load_exported(tmp_path / form), paths, top=2)
        received = [dict(zip(row.labels, row.probabilities, strict=True)) for row in rows]
        received = [[row["0"], row["1"]] for row in received]
        np.testing.assert_allclose(received, expected, atol=1e-5, err_msg=form)
    if not served:
        return
    data = tf.constant([path.read_bytes() for path in paths])
    saved = tf.saved_model.load(str(tmp_path / "saved_model" / "1"))
    rows = saved.signatures["serving_default"](image_bytes=data)
    np.testing.assert_allclose(rows["probabilities"], expected, atol=1e-5)
    assert set(rows["error"].numpy()) == {b""}


def write(root, files):
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def test_bits_follow_from_most_of_the_files(tmp_path):
    deep = write(tmp_path / "deep", {f"{c}/{i}.png": png(FINE) for c in "ab" for i in range(3)})
    flat = write(tmp_path / "flat", {f"{c}/{i}.png": png(RGBA) for c in "ab" for i in range(3)})
    write(deep, {"a/8.png": png(RGBA)})
    write(flat, {"a/16.png": png(FINE)})
    load = lambda root, **given: load_dataset("folder", root, image_size=SIDE, **given)  # noqa: E731
    assert load(deep).transforms.bits == 16 and load(flat).transforms.bits == 8
    assert load(deep, bits=8).image_dtype == tf.uint8
    assert load(flat, bits=16).image_dtype == tf.float32
    with refused("bits"):
        load(flat, bits=12)
    table = "path,label\n" + "".join(f"a/{i}.png,{'xy'[i % 2]}\n" for i in range(3))
    write(deep, {"t.csv": table.encode()})
    assert load_dataset("csv", deep / "t.csv", image_size=SIDE).transforms.bits == 16


def test_training_crops_keep_what_files_have(tmp_path):
    for crop in ("scale", "inception", "pad"):
        for channels, bits, data, pixels in (
            (3, 16, png(FINE), FINE / 257),
            (5, 8, encode_npy(CUBE), CUBE),
            (4, 8, png(RGBA), RGBA),
        ):
            made = Transforms(SIDE, channels, crop, bits=bits, lighting=0.0, resize_range=(16, 16))
            image = made.training(data, RNG.random(made.num_draws, np.float32)).numpy()
            assert image.shape == (SIDE, SIDE, channels) and image.dtype == made.dtype.name
            assert pixels.min() - 1e-4 <= image.min() and image.max() <= pixels.max() + 1e-4
            assert np.unique(image).size > 50


def test_folders_of_arrays(tmp_path):
    files = {f"{c}/{i}.npy": encode_npy(np.roll(CUBE, i, 1)) for c in "ab" for i in range(4)}
    root = write(tmp_path / "cubes", files | {"a/photo.png": png(RGBA), "a/bad.npy": b""})
    options = {"image_size": SIDE, "val_split": 0, "test_split": 0}
    with pytest.warns(UserWarning, match="1 .png"):
        dataset = load_dataset("folder", root, channels=5, **options)
    assert dataset.sizes == {"train": 9}
    with pytest.warns(BadImageWarning, match="zero-byte"):
        batches = list(dataset.eval_batches("train", 9))
    assert batches[0][2].numpy().sum() == 8
    (root / "a" / "0.npy").write_bytes(encode_npy(CUBE[..., :3]))
    with refused("channels", "5", "(16, 16, 3)"):
        load_dataset("folder", root, channels=5, **options)
    with refused("data_dir", ".npy"):
        load_dataset("folder", write(tmp_path / "no", {"a/1.png": png(RGBA)}), channels=5)
    for wrong in (0, -1, 2.5, "3"):
        with refused("channels"):
            Transforms(channels=wrong)


def test_the_description():
    text = str(Preprocessing((1.0,) * 4, (2.0,) * 4, bits=16))
    assert text.startswith("RGBA of 16 bits in [0, 255]")
    deep = Preprocessing(bits=16)
    assert Preprocessing.from_json(deep.to_json()) == Preprocessing.from_json(deep.to_json())
    assert Preprocessing.from_json(deep.to_json()).bits == 16
    assert "bits" not in Preprocessing().to_json()


def test_augmentations_of_colors_are_refused_before_training(tmp_path):
    arrays = {f"{c}/{i}.npy": encode_npy(CUBE) for c in "ab" for i in range(4)}
    pictures = {f"{c}/{i}.png": png(RGBA) for c in "ab" for i in range(4)}
    cubes, photographs = write(tmp_path / "c", arrays), write(tmp_path / "p", pictures)

    def check(root, channels, **settings):
        chosen = {"dataset": "folder", "data_dir": str(root), "image_size": SIDE}
        chosen |= {"workdir": str(tmp_path / "run"), "batch_size": 2, "val_split": 0.0}
        found = Problems()
        preflight.check(
            Experiment.from_flat(**chosen, channels=channels, test_split=0.0, **settings), found
        )
        found.expect_none()

    check(cubes, 5)
    check(photographs, 4, augment="erasing")
    for root, channels, wrong in (
        (cubes, 5, {"augment": "erasing"}),
        (cubes, 5, {"rand_augment": 0.5}),
        (photographs, 4, {"rand_augment": 0.5}),
        (photographs, 4, {"augment": "jitter"}),
    ):
        with refused(*wrong, str(channels)):
            check(root, channels, **wrong)
    with refused("bits"):
        check(photographs, 4, bits=9)
    with refused("channels", "(16, 16, 5)"):
        check(cubes, 6)
