"""Models of every format are opened by their path, and damaged ones are named in the error."""

from __future__ import annotations

import gc
import hashlib
import shutil
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet.export import ExportedModel, HubLayer, export, export_hub, load_exported, reading
from keras_resnet.export.verification import CHECKSUMS, load_saved_model
from keras_resnet.preprocessing import Preprocessing
from tests.export.conftest import close, features_of, random_images
from tests.helpers import refused
from tests.utils.zips import zipped


def test_a_keras_file_has_the_labels_beside_it(net, tmp_path):
    net.save(tmp_path / "model.keras")
    loaded = load_exported(tmp_path / "model.keras")
    assert loaded.labels is None and loaded.output == "probabilities"
    images = random_images() * 255
    np.testing.assert_allclose(loaded(images), net(images), rtol=1e-5, atol=1e-6)
    (tmp_path / "labels.txt").write_text("".join(f"{i}\n" for i in range(10)))
    assert load_exported(tmp_path / "model.keras").labels == tuple("0123456789")
    # With the mark that editors on Windows put at the start.
    (tmp_path / "labels.txt").write_text("\n".join("abcdefghij"), encoding="utf-8-sig")
    assert load_exported(tmp_path / "model.keras").labels == tuple("abcdefghij")


def test_a_network_of_its_own_names_needs_no_file(tmp_path):
    model = keras_resnet.CifarResNet(
        8, input_shape=(8, 8, 1), classes=2, include_preprocessing=Preprocessing((9.0,), (9.0,))
    )
    model.remember(model.network.with_class_names(["cat", "dog"]))
    model.save(tmp_path / "model.keras")
    (tmp_path / "labels.txt").write_text("another\nmodel\n")
    assert load_exported(tmp_path / "model.keras").labels == ("cat", "dog")
    export_hub(model, tmp_path / "module", "classification")
    export(model, tmp_path / "saved_model")
    for name in ("module", "saved_model"):
        assert load_exported(tmp_path / name).labels == ("cat", "dog")


def test_hub_modules_get_images_in_0_1(net, feature_vector, classification):
    images = random_images() * 255
    loaded = load_exported(classification)
    assert loaded.output == "logits" and loaded.image_shape == (8, 8, 1)
    assert loaded.labels[3] == "digit 3"
    scores = tf.nn.softmax(loaded(images))
    close(scores, net(images))
    features = load_exported(feature_vector)
    assert features.output == "features" and features.labels is None
    close(features(images), features_of(net)(images))


@pytest.mark.parametrize("form", ["saved_model", "module", "keras", "onnx"])
def test_frozen_models_give_the_same_from_constants(
    form, trained, exported, classification, tmp_path
):
    trained.save(tmp_path / "m.keras")
    paths = {"module": classification, "keras": tmp_path / "m.keras"}
    path = paths.get(form) or exported[form].path
    frozen, converted = [], reading.private.with_constants
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            *(reading.private, "with_constants"),
            lambda function: frozen.append(converted(function)) or frozen[0],
        )
        loaded = load_exported(path, frozen=True)
    plain = load_exported(path)
    assert (loaded.labels, loaded.output) == (plain.labels, plain.output)
    for images in (random_images(1) * 255, random_images(0) * 255, random_images() * 255):
        np.testing.assert_allclose(loaded(images), plain(images), rtol=1e-5, atol=1e-6)
    # Files of ONNX, and of LiteRT, have constants as they are.
    assert len(frozen) == (form != "onnx")
    assert not any(function.variables for function in frozen)


class Table(tf.Module):
    """A foreign module that looks something up."""

    def __init__(self):
        self.scale = tf.Variable(2.0)
        pairs = tf.lookup.KeyValueTensorInitializer([0, 1], [5.0, 7.0])
        self.table = tf.lookup.StaticHashTable(pairs, 0.0)

    @tf.function(input_signature=[tf.TensorSpec((None, 4, 4, 3))])
    def __call__(self, image):
        return self.scale * self.table.lookup(tf.cast(image[:, 0, 0], tf.int32))


def test_what_is_no_variable_stays_in_frozen_modules(tmp_path):
    module = Table()
    tf.saved_model.save(module, str(tmp_path / "m"), {"default": module.__call__})
    loaded = load_exported(tmp_path / "m", frozen=True)
    gc.collect()
    np.testing.assert_array_equal(loaded(np.full((1, 4, 4, 3), 255)), [[14.0, 14.0, 14.0]])


class Classifier(tf.Module):
    """A foreign module: its signature has names of its own."""

    @tf.function(input_signature=[tf.TensorSpec((None, 4, 4, 3))])
    def __call__(self, image):
        return tf.reduce_mean(image, axis=[1, 2])


def test_foreign_modules_give_logits(tmp_path):
    module = Classifier()
    tf.saved_model.save(module, str(tmp_path / "m"), {"default": module.__call__})
    loaded = load_exported(tmp_path / "m")
    assert loaded.output == "logits" and loaded.image_shape == (4, 4, 3)
    np.testing.assert_allclose(loaded(np.full((2, 4, 4, 3), 255.0)), np.ones((2, 3)))


def test_images_of_another_shape_are_refused_by_every_format(
    net, exported, classification, tmp_path
):
    net.save(tmp_path / "m.keras")
    paths = [exported[form].path for form in ("saved_model", "litert", "onnx")]
    for path in (tmp_path / "m.keras", classification, *paths):
        loaded = load_exported(path)
        for shape in ((2, 4, 8, 1), (2, 8, 8, 3), (8, 8, 1)):
            with refused("`images`", "(8, 8, 1)", f"shape {shape}"):
                loaded(np.zeros(shape))


class Damaged(tf.Module):
    """A module whose graph can be loaded, but not run."""

    @tf.function(input_signature=[tf.TensorSpec((None, 4, 4, 3))])
    def __call__(self, image):
        return tf.gather([[1.0, 2.0]], tf.cast(image[:, 0, 0, 0], tf.int32) - 7)


def test_errors_of_every_runtime_name_the_file(tmp_path):
    module = Damaged()
    tf.saved_model.save(module, str(tmp_path / "m"), {"default": module.__call__})
    with refused("`path`", tmp_path / "m", "execution error"):
        load_exported(tmp_path / "m")(np.zeros((1, 4, 4, 3)))

    def run(images):
        raise raised

    for raised in (RuntimeError("Node 7\nfailed"), KeyError("output")):
        with refused("`path`", "m.onnx", str(raised).splitlines()[0]):
            ExportedModel(tmp_path / "m.onnx", (4, 4, 3), "logits", None, run)(
                np.zeros((1, 4, 4, 3))
            )
    raised = tf.errors.ResourceExhaustedError(None, None, "no memory")
    with pytest.raises(tf.errors.ResourceExhaustedError):
        ExportedModel(tmp_path / "m.onnx", (4, 4, 3), "logits", None, run)(np.zeros((1, 4, 4, 3)))


def test_what_is_no_model_is_named(net, tmp_path):
    for name in ("m.keras", "m.tflite", "m.onnx", "m.txt"):
        (tmp_path / name).write_bytes(b"no model")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"no protocol buffer")
    tf.saved_model.save(tf.Module(), str(tmp_path / "empty"))
    keras_resnet.CifarResNet(8, input_shape=(8, 8, 1)).save(tmp_path / "bare.keras")
    for name in ("none.keras", "m.txt", "m.keras", "m.tflite", "m.onnx", "saved", "empty"):
        with refused("`path`", tmp_path / name):
            load_exported(tmp_path / name)
    with refused("`path`", "preprocessing.json", "--preprocessing imagenet", "bare.keras"):
        load_exported(tmp_path / "bare.keras")
    (tmp_path / "preprocessing.json").write_text(Preprocessing((9.0,), (3.0,)).to_json())
    assert load_exported(tmp_path / "bare.keras").preprocessing.mean == (9.0,)


def test_feature_maps_are_too_many_outputs(net, feature_maps):
    with refused("`path`", feature_maps, "C2, C3, C4"):
        load_exported(feature_maps)


def test_foreign_onnx_files_are_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [value("x", onnx.TensorProto.FLOAT, [1, 3])],
        [value("y", onnx.TensorProto.FLOAT, [1, 3])],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "m.onnx")
    with refused("`path`", "keras_resnet.export.export", "inputs x", "outputs y"):
        load_exported(tmp_path / "m.onnx")


def test_labels_of_a_litert_file_are_there_or_the_file_is_damaged(exported, tmp_path):
    """Any bit of the archive behind the model is altered, or its end is cut off."""
    whole = exported["litert"].path.read_bytes()
    labels, path = load_exported(exported["litert"].path).labels, tmp_path / "m.tflite"
    begin, rng = whole.find(b"PK\3\4"), np.random.default_rng(0)
    damaged = [whole[: int(i)] for i in (begin, *rng.integers(begin, len(whole), 20))]
    for position in rng.integers(8 * begin, 8 * len(whole), 60):
        content = bytearray(whole)
        content[position // 8] ^= 1 << position % 8
        damaged.append(bytes(content))
    noticed = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            assert load_exported(path).labels == labels
        except ValueError:
            with refused("`path`", path):
                load_exported(path)
            noticed += 1
    assert noticed >= 21 + 30


def test_damage_of_a_litert_model_is_noticed(exported, tmp_path):
    """The library itself gives other outputs, or none, for most altered bits."""
    whole = exported["litert"].path.read_bytes()
    for position in np.random.default_rng(0).integers(0, whole.find(b"PK\3\4"), 20):
        content = bytearray(whole)
        content[position] ^= 1
        (tmp_path / "m.tflite").write_bytes(content)
        with refused("`path`", "m.tflite"):
            load_exported(tmp_path / "m.tflite")


def test_other_labels_behind_a_litert_file_are_refused(exported, tmp_path):
    whole = exported["litert"].path.read_bytes()
    for archive in (
        zipped({"labels.txt": b"a\nb\n"}),
        zipped({"other.txt": b""}),
        zipped({"labels.txt": bytes(1 << 20)}, zipfile.ZIP_DEFLATED),
    ):
        (tmp_path / "m.tflite").write_bytes(whole[: whole.find(b"PK\3\4")] + archive)
        with refused("`path`", "m.tflite"):
            load_exported(tmp_path / "m.tflite")


def test_damaged_labels_of_an_onnx_file_are_noticed(exported, tmp_path):
    path = exported["onnx"].path
    assert load_exported(path).labels[3] == "digit 3"
    for before, after in ((b"digit 3", b"digit 4"), (b"\x06labels\x12", b"\x06lafels\x12")):
        assert path.read_bytes().count(before) == 1
        (tmp_path / "m.onnx").write_bytes(path.read_bytes().replace(before, after))
        with refused("`path`", "m.onnx"):
            load_exported(tmp_path / "m.onnx")


@pytest.mark.parametrize("form", ["onnx", "litert"])
def test_the_bytes_that_were_verified_are_those_that_run(form, exported, tmp_path, monkeypatch):
    """Another model takes the place of the file as soon as its checksum is known."""
    path = tmp_path / exported[form].path.name
    path.write_bytes(exported[form].path.read_bytes())
    expected, digest = load_exported(path)(random_images()), reading.sha256

    def replace(content):
        path.write_bytes(b"another")
        return digest(content)

    monkeypatch.setattr(reading, "sha256", replace)
    loaded = load_exported(path)
    assert path.read_bytes() == b"another"
    np.testing.assert_array_equal(loaded(random_images()), expected)


def test_onnx_files_with_weights_in_other_files_are_refused(exported, tmp_path):
    onnx = pytest.importorskip("onnx")
    model, path = onnx.load(exported["onnx"].path), tmp_path / "m.onnx"
    del model.metadata_props[-1]
    model.doc_string = ""
    options = {"save_as_external_data": True, "location": "m.bin", "size_threshold": 0}
    onnx.save(model, path, **options)
    with refused("`path`", path, "in other files"):
        load_exported(path)


def test_what_takes_no_images_is_named(tmp_path):
    words, images = keras.Input((5,)), keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(2)(words)
    keras.Model(words, outputs).save(tmp_path / "words.keras")
    pooled = keras.layers.GlobalAveragePooling2D()(images)
    keras.Model([words, images], [outputs, pooled]).save(tmp_path / "both.keras")
    for name, taken in (("words", "(5,)"), ("both", "(5,) and (8, 8, 3)")):
        with refused("`path`", f"{name}.keras", f"whose inputs are {taken}"):
            load_exported(tmp_path / f"{name}.keras")


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << position % 8
    path.write_bytes(content)


def test_any_damage_of_an_onnx_file_is_noticed(exported, tmp_path):
    whole, path = exported["onnx"].path.read_bytes(), tmp_path / "m.onnx"
    end = len(whole)
    # Everywhere, and near both of the places that say there is a checksum.
    places = np.random.default_rng(0).integers(0, end, 40).tolist()
    for position in [*range(0, 100, 3), *places, *range(end - 120, end, 3)]:
        path.write_bytes(whole)
        flip(path, position)
        with refused("`path`", "m.onnx"):
            load_exported(path)
    for length in (0, *places, end - 105, end - 64, end - 1):
        path.write_bytes(whole[:length])
        with refused("`path`", "m.onnx"):
            load_exported(path)


def test_onnx_files_without_a_checksum_open(exported, tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(exported["onnx"].path)
    *kept, checksum = model.metadata_props
    assert checksum.key == "keras_resnet.model.sha256"
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.doc_string = ""
    onnx.save(model, tmp_path / "m.onnx")
    loaded, images = load_exported(tmp_path / "m.onnx"), random_images()
    assert loaded.labels[3] == "digit 3"
    np.testing.assert_array_equal(loaded(images), load_exported(exported["onnx"].path)(images))


@pytest.mark.parametrize("form", ["saved_model", "module"])
def test_damage_of_any_file_of_a_saved_model_is_noticed(form, exported, classification, tmp_path):
    path = classification if form == "module" else exported["saved_model"].path
    files = [file.relative_to(path) for file in path.rglob("*") if file.is_file()]
    assert len(files) == 7  # in a SavedModel a request to warm up, in a module the card
    for file in files:
        for damage in ("flipped", "lost"):
            copy = tmp_path / file.name / damage
            shutil.copytree(path, copy)
            if damage == "flipped":
                flip(copy / file, (copy / file).stat().st_size // 2)
            elif file.as_posix() == CHECKSUMS:
                (copy / file).write_text("".join((copy / file).open().readlines()[:-1]))
            else:
                (copy / file).unlink()
            with refused("`path`", copy):
                load_exported(copy)
            with refused("`handle`", copy):
                HubLayer(copy)
    # Names of files are not followed to other places.
    (copy / CHECKSUMS).write_text(f"{64 * '0'}  ../{file.name}\n{64 * '0'}  saved_model.pb\n")
    with pytest.raises(ValueError, match="lacks"):
        load_saved_model(copy)


def test_saved_models_without_checksums_or_with_more_files_open(classification, tmp_path):
    images = random_images() * 255
    expected = load_exported(classification)(images)
    copy = shutil.copytree(classification, tmp_path / "m")
    (copy / "CARD.md").write_text("More.")
    np.testing.assert_array_equal(load_exported(copy)(images), expected)
    shutil.rmtree(copy / "assets.extra")
    np.testing.assert_array_equal(load_exported(copy)(images), expected)


def test_checksums_are_those_that_other_programs_verify(classification):
    for line in (classification / CHECKSUMS).read_text().splitlines():
        digest, _, file = line.partition("  ")
        assert digest == hashlib.sha256((classification / file).read_bytes()).hexdigest()


def test_a_litert_file_without_labels(net, tmp_path):
    path = export(net, tmp_path / "m.tflite", "litert").path
    assert load_exported(path).labels is None
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "a\nb\n")
    assert load_exported(path).labels == ("a", "b")


def test_what_is_behind_a_litert_file_without_labels_is_there_or_the_file_is_damaged(tmp_path):
    model = keras_resnet.CifarResNet(
        8, input_shape=(8, 8, 1), include_preprocessing=Preprocessing((9.0,), (9.0,))
    )
    path = export(model, tmp_path / "m.tflite", "litert").path
    whole = path.read_bytes()
    loaded = load_exported(path)
    assert loaded.labels is None and loaded.preprocessing.mean == (9.0,)
    begin = whole.find(b"PK\3\4")
    ends = [whole[:-22], whole[:-1], whole[:begin]]
    renamed = whole[: whole.rfind(b"preprocessing")] + whole[
        whole.rfind(b"preprocessing") :
    ].replace(b"preprocessing", b"Preprocessing")
    flipped = whole[: begin // 2] + bytes([whole[begin // 2] ^ 1]) + whole[begin // 2 + 1 :]
    for damaged in (*ends, renamed, flipped):
        path.write_bytes(damaged)
        with refused("`path`", "m.tflite"):
            load_exported(path)
    # Files of older versions do not tell what is behind them.
    path.write_bytes(whole[:begin].replace(b"keras_resnet.archived", b"keras_resnet.Archived"))
    assert load_exported(path).preprocessing is None


def test_a_backbone_gives_outputs(net, tmp_path):
    features_of(net).save(tmp_path / "m.keras")
    assert load_exported(tmp_path / "m.keras").output == "outputs"
