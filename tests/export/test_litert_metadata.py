"""LiteRT files say what they take and give in the words of the public metadata schema."""

from __future__ import annotations

import json
import zipfile

import flatbuffers
import numpy as np
import pytest

import keras_resnet
from keras_resnet.export import export, load_exported
from keras_resnet.export.litert_metadata import ENTRY, classifier_metadata
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.utils import private
from tests.helpers import randomize

# Numbers of the fields, copied from metadata_schema.fbs of tensorflow/tflite-support.
NAME, DESCRIPTION = 0, 1  # of models, tensors and files
VERSION, SUBGRAPHS, AUTHOR, LICENSE, PARSER = 2, 3, 4, 5, 7
INPUTS, OUTPUTS = 2, 3
CONTENT, UNITS, STATS, FILES = 3, 4, 5, 6
TYPE, MEMBER = 0, 1  # of a union
FILE_TYPE, COLOR, SIZE, WIDTH, HEIGHT, MEAN, STD, MAX, MIN = 2, 0, 1, 0, 1, 0, 1, 0, 1
RGB, GRAYSCALE, AXIS_LABELS, IMAGE, NORMALIZATION, THRESHOLDING = 1, 2, 2, 2, 1, 3
GLOBAL = 0  # of thresholds


class Table:
    """A table of a FlatBuffer, read by the format's own rules."""

    def __init__(self, table: flatbuffers.table.Table):
        self._table = table

    def __contains__(self, field):
        return self._table.Offset(4 + 2 * field) != 0

    def _at(self, field):
        return self._table.Offset(4 + 2 * field) + self._table.Pos

    def text(self, field):
        return self._table.String(self._at(field)).decode()

    def number(self, field, kind="Int8Flags"):
        return self._table.Get(getattr(flatbuffers.number_types, kind), self._at(field))

    def table(self, field):
        return self._of(self._table.Indirect(self._at(field)))

    def tables(self, field):
        offset = self._table.Offset(4 + 2 * field)
        start = self._table.Vector(offset)
        count = self._table.VectorLen(offset)
        return [self._of(self._table.Indirect(start + 4 * i)) for i in range(count)]

    def floats(self, field):
        flags = flatbuffers.number_types.Float32Flags
        return self._table.GetVectorAsNumpy(flags, self._table.Offset(4 + 2 * field)).tolist()

    def _of(self, place):
        return Table(flatbuffers.table.Table(self._table.Bytes, place))


def read(data: bytes) -> Table:
    assert data[4:8] == b"M001"
    return Table(flatbuffers.table.Table(data, int.from_bytes(data[:4], "little")))


def metadata_of(path) -> Table:
    """Returns the metadata of a LiteRT file."""
    model = private.litert_model(path.read_bytes())
    entries = (model.Metadata(i) for i in range(model.MetadataLength()))
    (entry,) = (entry for entry in entries if entry.Name().decode() == ENTRY)
    return read(model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())


def test_a_file_of_floats_says_what_it_takes_and_gives(exported):
    path = exported["litert"].path
    model = metadata_of(path)
    assert model.text(NAME) == "resnet8" and model.text(PARSER) == "1.0.0"
    assert VERSION not in model and AUTHOR not in model and LICENSE not in model
    (graph,) = model.tables(SUBGRAPHS)
    (images,), (scores,) = graph.tables(INPUTS), graph.tables(OUTPUTS)
    content = images.table(CONTENT)
    assert images.text(NAME) == "images" and content.number(TYPE, "Uint8Flags") == IMAGE
    assert content.table(MEMBER).number(COLOR) == GRAYSCALE
    size = content.table(MEMBER).table(SIZE)
    assert [size.number(side, "Uint32Flags") for side in (WIDTH, HEIGHT)] == [8, 8]
    (unit,) = images.tables(UNITS)
    assert unit.number(TYPE, "Uint8Flags") == NORMALIZATION
    assert [unit.table(MEMBER).floats(field) for field in (MEAN, STD)] == [[0.0], [1.0]]
    assert [images.table(STATS).floats(field) for field in (MIN, MAX)] == [[0.0], [255.0]]
    assert [scores.table(STATS).floats(field) for field in (MIN, MAX)] == [[0.0], [1.0]]
    (labels,) = scores.tables(FILES)
    assert scores.text(NAME) == "probabilities" and labels.number(FILE_TYPE) == AXIS_LABELS
    with zipfile.ZipFile(path) as archive:
        # Readers in C++ refuse compressed ones.
        assert archive.getinfo(labels.text(NAME)).compress_type == zipfile.ZIP_STORED


def test_sizes_colors_and_integers():
    about = {"description": "Dïgits.", "version": "2", "author": "A", "license": "MIT"}
    for channels, color in ((3, RGB), (1, GRAYSCALE), (4, None)):
        model = read(
            classifier_metadata("m", (7, 300, channels), "logits", io_dtype="uint8", about=about)
        )
        fields = (DESCRIPTION, VERSION, AUTHOR, LICENSE)
        assert [model.text(field) for field in fields] == list(about.values())
        (graph,) = model.tables(SUBGRAPHS)
        (images,), (scores,) = graph.tables(INPUTS), graph.tables(OUTPUTS)
        properties = images.table(CONTENT).table(MEMBER)
        # The default, unknown, is not stored.
        assert (properties.number(COLOR) if COLOR in properties else None) == color
        assert properties.table(SIZE).number(WIDTH, "Uint32Flags") == 300
        assert UNITS not in images and FILES not in scores and STATS not in scores


def test_a_threshold_is_that_of_readers_and_of_callers(tmp_path):
    prepared = Preprocessing(image_size=8, threshold=0.625)
    options = {"input_shape": (8, 8, 3), "include_preprocessing": prepared, "classes": 3}
    model = randomize(keras_resnet.CifarResNet(8, **options))
    for form, suffix in (("litert", "tflite"), ("onnx", "onnx")):
        export(model, tmp_path / f"m.{suffix}", form)
        assert load_exported(tmp_path / f"m.{suffix}").preprocessing.threshold == 0.625
    with zipfile.ZipFile(tmp_path / "m.tflite") as archive:
        assert json.loads(archive.read("preprocessing.json"))["threshold"] == 0.625
    onnx = pytest.importorskip("onnx")
    entries = onnx.load(tmp_path / "m.onnx").metadata_props
    assert [
        json.loads(one.value)["threshold"] for one in entries if one.key == "preprocessing"
    ] == [0.625]
    metadata = metadata_of(tmp_path / "m.tflite")
    assert "below probability 0.625 none of them" in metadata.text(DESCRIPTION)
    (scores,) = metadata.tables(SUBGRAPHS)[0].tables(OUTPUTS)
    (unit,) = scores.tables(UNITS)
    assert unit.number(TYPE, "Uint8Flags") == THRESHOLDING
    assert unit.table(MEMBER).number(GLOBAL, "Float32Flags") == 0.625
    # Logits are no probabilities.
    scores = read(classifier_metadata("m", (8, 8, 3), "logits", threshold=0.625))
    assert UNITS not in scores.tables(SUBGRAPHS)[0].tables(OUTPUTS)[0]


def test_one_output_has_neither_labels_nor_a_threshold_of_readers(tmp_path):
    """It is that of the second of two classes, and readers take labels for one per output."""
    prepared = Preprocessing(image_size=8, threshold=0.625, class_names=("cat", "dog"))
    options = {"input_shape": (8, 8, 3), "include_preprocessing": prepared, "classes": 1}
    model = randomize(keras_resnet.CifarResNet(8, classifier_activation="sigmoid", **options))
    path = export(model, tmp_path / "m.tflite", "litert", labels=["cat", "dog"]).path
    (scores,) = metadata_of(path).tables(SUBGRAPHS)[0].tables(OUTPUTS)
    assert scores.text(NAME) == "probabilities" and STATS in scores
    assert FILES not in scores and UNITS not in scores
    opened = load_exported(path)
    assert opened.labels == ("cat", "dog") and opened.preprocessing.threshold == 0.625


@pytest.mark.parametrize("io_dtype", ["float32", "uint8"])
def test_mediapipe_gives_names_and_outputs(tmp_path, io_dtype):
    mediapipe = pytest.importorskip("mediapipe")
    tasks = pytest.importorskip("mediapipe.tasks.python")
    model = randomize(keras_resnet.CifarResNet(8, classes=5, include_preprocessing=True))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32, 3), dtype="uint8")
    path = tmp_path / "m.tflite"
    options = {"calibration": [rng.uniform(0, 255, (16, 32, 32, 3))], "labels": list("abcde")}
    quantize = "float32" if io_dtype == "float32" else "int8"
    export(model, path, "litert", quantize=quantize, io_dtype=io_dtype, **options)
    settings = tasks.vision.ImageClassifierOptions(tasks.BaseOptions(str(path)))
    with tasks.vision.ImageClassifier.create_from_options(settings) as classifier:
        frame = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
        (result,) = classifier.classify(frame).classifications
    assert result.head_name == "probabilities"
    expected = np.asarray(model(image[None].astype("float32")))[0]
    assert {category.category_name for category in result.categories} == set("abcde")
    for category in result.categories:
        i = "abcde".index(category.category_name)
        tolerance = 1e-5 if io_dtype == "float32" else 0.05
        np.testing.assert_allclose(category.score, expected[i], atol=tolerance)
