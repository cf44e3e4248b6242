"""Exported models give the outputs of the model, in every format."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet.export import export, export_hub, inference, load_exported
from keras_resnet.export.formats import CALIBRATED, custom_operations, format_of
from keras_resnet.export.mismatch import ExportMismatchError
from keras_resnet.preprocessing import CAFFE
from tests.export.conftest import FORMS, LABELS, QUANTIZED, assert_same_in_threads, small_net
from tests.helpers import randomize, refused

# All of the `export` extra.
for package in ("ai_edge_litert", "onnxruntime", "tf2onnx"):
    pytest.importorskip(package)


@pytest.mark.parametrize("form", [form for form in FORMS if form not in QUANTIZED])
def test_outputs_are_the_models(trained, exported, test_images, form):
    images = test_images[0][:7]
    loaded = load_exported(exported[form].path)
    assert loaded.image_shape == (8, 8, 1) and loaded.output == "probabilities"
    assert loaded.labels == tuple(LABELS)
    tolerance = 1e-2 if "float16" in form else 1e-5
    expected = trained.predict(images, verbose=0)
    np.testing.assert_allclose(loaded(images), expected, atol=tolerance)
    np.testing.assert_allclose(loaded(images[:1]), expected[:1], atol=tolerance)


@pytest.mark.parametrize("form", QUANTIZED)
def test_integers_are_as_accurate_to_a_point_on_all_test_images(
    trained, exported, test_images, form
):
    images, labels = test_images
    scores = load_exported(exported[form].path)(images)
    of_float = trained.predict(images, verbose=0)
    accuracy, of_integers = (np.mean(np.argmax(s, axis=1) == labels) for s in (of_float, scores))
    assert accuracy > 0.9
    assert abs(of_integers - accuracy) <= 0.01
    assert exported[form].agreement > 0.98 and exported[form].images == 180


def test_four_random_images_are_compared_without_others(exported):
    for form in set(FORMS) - set(QUANTIZED):
        assert exported[form].images == 4


@pytest.mark.parametrize(("io_dtype", "zero"), [("uint8", 0), ("int8", -128)])
def test_integers_in_and_out(trained, exported, test_images, tmp_path, io_dtype, zero):
    """Integers are the gray levels themselves; `load_exported` takes and gives floats."""
    from ai_edge_litert.interpreter import Interpreter

    images = test_images[0][:50]
    path = tmp_path / "m.tflite"
    options = {"quantize": "int8", "calibration": [np.minimum(images, 250)]}
    written = export(trained, path, "litert", io_dtype=io_dtype, **options)
    assert written.images == 50
    runner = Interpreter(str(path)).get_signature_runner("serving_default")
    tensor = runner.get_input_details()["images"]
    assert tensor["dtype"] == np.dtype(io_dtype) and tensor["quantization"] == (1.0, zero)
    received = runner(images=(images + zero).astype(io_dtype))["probabilities"]
    assert received.dtype == np.dtype(io_dtype)
    outputs = load_exported(path)(images)
    np.testing.assert_array_equal(outputs, (received.astype("float32") - zero) / 256)
    # Levels between and beyond are those next to them.
    np.testing.assert_array_equal(load_exported(path)(images + 0.4), outputs)
    np.testing.assert_array_equal(
        load_exported(path)(images * 100 - 50),
        load_exported(path)(np.clip(images * 100 - 50, 0, 255)),
    )
    of_floats = load_exported(exported["litert int8"].path)(images)
    np.testing.assert_allclose(outputs, of_floats, atol=0.15)


def test_sizes_are_those_of_the_precision(trained, exported):
    weights = trained.count_params()
    for form, of_one in {
        "litert": 4,
        "onnx": 4,
        "litert float16": 2,
        **dict.fromkeys(QUANTIZED, 1),
    }.items():
        assert of_one * weights * 0.9 < exported[form].bytes < of_one * weights * 1.2 + 30_000
    path = exported["saved_model"].path
    files = [file for file in path.rglob("*") if file.is_file()]
    assert exported["saved_model"].bytes == sum(file.stat().st_size for file in files)


@pytest.mark.parametrize("form", [form for form in FORMS if "litert" in form])
def test_litert_has_builtin_operations_only(exported, form):
    assert custom_operations(exported[form].path.read_bytes()) == []


def test_operations_from_outside_are_noticed():
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [tf.function(tf.math.softplus).get_concrete_function(tf.TensorSpec((2,), tf.float32))]
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.SELECT_TF_OPS]
    assert custom_operations(converter.convert()) == ["FlexIdentity", "FlexSoftplus"]


def test_a_model_that_litert_lacks_operations_for_is_refused(tmp_path):
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, keras.ops.erfinv(x))
    with refused("`model`", "LiteRT", model.name):
        export(model, tmp_path / "m.tflite", "litert")
    assert os.listdir(tmp_path) == []


def test_normalization_is_folded(exported):
    module = tf.saved_model.load(str(exported["saved_model"].path))
    functions = module.signatures["serving_default"].graph.as_graph_def().library.function
    operations = {node.op for function in functions for node in function.node_def}
    assert "Conv2D" in operations and "FusedBatchNormV3" not in operations


@pytest.mark.parametrize("form", ["saved_model", "litert"])
def test_eight_threads_get_the_outputs_of_one(exported, test_images, form):
    batches = [test_images[0][i : i + 1 + i % 3] for i in range(32)]
    assert_same_in_threads(load_exported(exported[form].path), batches)


SLOW = [pytest.param(form, marks=pytest.mark.slow) for form in ("saved_model", "litert")]


@pytest.mark.parametrize("form", [*SLOW, "onnx"])
def test_stacked_blocks_are_exported(tmp_path, form):
    format, _, name = FORMS[form]
    net = small_net((3,), stack_blocks=True, dropout=0.1, stochastic_depth=0.1)
    written = export(net, tmp_path / name, format)
    assert written.format == format and written.difference < 1e-5
    if form == "onnx":
        import onnx

        graph = onnx.load(written.path).graph
        assert {"Loop", "Scan"}.isdisjoint(node.op_type for node in graph.node)


def test_images_of_any_size(tmp_path):
    net = small_net((1, 1), input_shape=(None, None, 3))
    loaded = load_exported(export(net, tmp_path / "m.onnx", "onnx").path)
    assert loaded.image_shape == (None, None, 3)
    for side in (9, 16):
        images = np.random.default_rng(0).uniform(0, 255, (2, side, side + 3, 3))
        np.testing.assert_allclose(loaded(images), net(images), atol=1e-5)
    with refused("`image_size`", "image_size=None"):
        export(net, tmp_path / "m.tflite", "litert")
    fixed = load_exported(export(net, tmp_path / "m.tflite", "litert", image_size=8).path)
    assert fixed.image_shape == (8, 8, 3)


GROUPED, NORMALIZED = {"groups": 2, "width_per_group": 32}, {"normalization": "group"}
RESNET_D = {"version": "v1.5", "shortcut_pool": True, "deep_stem": True}
VARIANTS = {
    "pre-activation": {"version": "v2", "stack_blocks": True},
    "ResNet-D with squeeze-and-excitation": {**RESNET_D, "squeeze_excitation": 4},
    "ResNeXt": GROUPED,
    "group normalization": NORMALIZED,
    "ResNeXt with group normalization": {**GROUPED, **NORMALIZED},
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_are_exported_in_every_format(tmp_path, variant):
    options = {"widths": (8, 16), "input_shape": (32, 32, 3), "classes": 5, **VARIANTS[variant]}
    model = keras_resnet.ResNet((2, 2), include_preprocessing=True, **options)
    images = np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)).astype("float32")
    for format, quantize, name in FORMS.values():
        calibration = [images] if quantize in CALIBRATED else None
        # TensorFlow would read brackets as a pattern.
        path = tmp_path / "a[1]" / name
        written = export(model, path, format, quantize=quantize, calibration=calibration)
        assert written.difference < {"float32": 1e-5, "float16": 1e-3}.get(quantize, 0.05)


def test_is_float32_whatever_the_training_precision(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    net = small_net((2,))
    written = export(net, tmp_path / "m")
    keras.config.set_dtype_policy("float32")
    reference = small_net((2,))
    keras_resnet.copy_weights(net, reference)
    images = np.random.default_rng(0).uniform(0, 255, (3, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(load_exported(written.path)(images), reference(images), atol=1e-5)


def test_imagenet_standardization_can_be_put_in_front(tmp_path):
    net = keras_resnet.CifarResNet(8, input_shape=(8, 8, 3), classifier_activation=None)
    with refused("`model`", "preprocessing='imagenet'", "'resnet8'"):
        export(net, tmp_path / "m")
    images = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype("float32")
    loaded = load_exported(export(net, tmp_path / "m", preprocessing="imagenet").path)
    assert loaded.output == "logits"
    expected = net(keras_resnet.preprocess_input(images))
    np.testing.assert_allclose(loaded(images), expected, atol=1e-5)


@pytest.mark.parametrize("preprocessing", ["inside", "imagenet"])
def test_the_remembered_standardization_is_put_in_front(tmp_path, preprocessing):
    net = keras_resnet.CifarResNet(8, input_shape=(8, 8, 3), classifier_activation=None)
    net.remember(dataclasses.replace(net.network, preprocessing=CAFFE))
    images = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype("float32")
    expected = net(CAFFE.standardize(images))
    loaded = load_exported(export(net, tmp_path / "m", preprocessing=preprocessing).path)
    np.testing.assert_allclose(loaded(images), expected, atol=1e-5)
    path = export_hub(net, tmp_path / "hub", "classification", preprocessing=preprocessing)
    np.testing.assert_allclose(load_exported(path)(images), expected, atol=1e-5)


def test_operations_in_front_of_a_network_may_standardize(tmp_path):
    images = keras.Input((8, 8, 3))
    net = keras_resnet.CifarResNet(8, input_tensor=images / 255.0)
    net.remember(dataclasses.replace(net.network, preprocessing=CAFFE))
    with refused("`model`", "preprocessing='imagenet'", "'resnet8'"):
        export(net, tmp_path / "m")


def test_a_wrong_file_is_not_kept(net, tmp_path, monkeypatch):
    def wrong(model):
        folded = fold(model)
        kernel = folded.get_layer("conv1_conv").kernel
        kernel.assign(kernel * 1.5)
        return folded

    fold = inference.fold_batch_norm
    monkeypatch.setattr(inference, "fold_batch_norm", wrong)
    with refused("`model`", "'resnet'", error=ExportMismatchError):
        export(net, tmp_path / "m")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["scale", "offset"])
def test_a_certain_network_with_a_wrong_preprocessing_is_refused(tmp_path, monkeypatch, kind):
    """On noise its probabilities are 1 whatever is in front: images are those that tell."""
    net = small_net((1, 1))
    head = net.get_layer("predictions")
    head.kernel.assign(3000 * head.kernel)
    images = keras.Input((8, 8, 1))
    layers = {"scale": keras.layers.Rescaling(1.01), "offset": keras.layers.Rescaling(1, 1.0)}

    def wrong(model):
        copy = fold(model)
        return keras.Model(images, copy(layers[kind](images)))

    noise = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 1)).astype("float32")
    expected = net.predict(noise, verbose=0)
    assert expected.max(axis=1).min() > 1 - 1e-6
    fold = inference.fold_batch_norm
    assert export(net, tmp_path / "right").difference < 1e-4
    monkeypatch.setattr(inference, "fold_batch_norm", wrong)
    assert np.abs(wrong(net).predict(noise, verbose=0) - expected).max() < 1e-6
    with refused("`model`", error=ExportMismatchError):
        export(net, tmp_path / "wrong")
    assert os.listdir(tmp_path) == ["right"]


def test_small_outputs_are_compared_as_strictly(tmp_path, monkeypatch):
    """A float16 file of features around 1e-4 may not be off by a tenth of them."""
    images = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1e-4 / 255)(images))
    model = keras.Model(images, keras.layers.Dense(3, name="features")(x))
    assert export(model, tmp_path / "m.onnx", "onnx").difference < 1e-5

    def wrong(model):
        copy = keras.models.clone_model(model)
        copy.set_weights([1.1 * value for value in model.get_weights()])
        return copy

    monkeypatch.setattr(inference, "fold_batch_norm", wrong)
    for path, options in ((tmp_path / "m", {}), (tmp_path / "m.onnx", {"format": "onnx"})):
        with refused("`model`", "1.0e-01", error=ExportMismatchError):
            export(model, path, overwrite=True, **options)


@pytest.mark.parametrize("scale", [True, False])
def test_group_normalization_of_maps_and_of_vectors(tmp_path, scale):
    images = keras.Input((6, 5, 6))
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.GroupNormalization(3, scale=scale, center=not scale)(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    x = keras.layers.GroupNormalization(2)(x)
    model = randomize(keras.Model(images, keras.layers.Dense(4, name="scores")(x)))
    for name, format in (("m.onnx", "onnx"), ("m.tflite", "litert")):
        assert export(model, tmp_path / name, format).difference < 1e-5


def test_grouped_convolutions_of_standardized_kernels(tmp_path):
    net = small_net((1,), block="bottleneck", shortcut="B", **GROUPED, **NORMALIZED)
    assert export(net, tmp_path / "m.onnx", "onnx").difference < 1e-5


def test_wrong_arguments_are_named(net, tmp_path):
    images = np.zeros((2, 8, 8, 1), "float32")
    path, lite, onnx = (tmp_path / name for name in ("m", "m.tflite", "m.onnx"))
    int8 = {"format": "litert", "quantize": "int8"}
    maps = keras_resnet.CifarResNet(8, include_top=False, input_shape=(8, 8, 1))
    for where, arguments, *words in (
        (path, {"format": "torch"}, "`format`", "'saved_model', 'litert', 'onnx'", "'torch'"),
        (path, {"quantize": "int8"}, "`quantize`", "'float32'", "quantize='int8'"),
        (path, {"format": "litert"}, "`path`", "'.tflite'", path),
        (lite, int8, "`calibration`", "quantize='int8'"),
        (lite, {**int8, "calibration": []}, "`calibration`", "no images"),
        (lite, {**int8, "calibration": "folder"}, "`calibration`", "'folder'"),
        (lite, {**int8, "calibration": [images[:, :4]]}, "`calibration`", "(4, 8, 1)"),
        (lite, {"format": "litert", "quantize": "int16x8"}, "`calibration`", "'int16x8'"),
        (lite, {"format": "litert", "io_dtype": "int16"}, "`io_dtype`", "'uint8'", "'int16'"),
        (lite, {"format": "litert", "io_dtype": "int8"}, "`io_dtype`", "quantize='float32'"),
        (path, {"io_dtype": "uint8"}, "`io_dtype`", "'litert'", "'uint8'"),
        (lite, {"format": "litert", "opset": 17}, "`opset`", "'onnx'", "opset=17"),
        (onnx, {"format": "onnx", "opset": 22}, "`opset`", "10 to 21", "opset=22"),
        (onnx, {"format": "onnx", "opset": True}, "`opset`", "opset=True"),
        (onnx, {**int8, "format": "onnx", "opset": 12}, "`opset`", "13 to 21", "opset=12"),
        (onnx, {**int8, "format": "onnx"}, "`calibration`", "calibration=None"),
        (onnx, {"format": "onnx", "about": {"name": "n"}}, "`about`", "'license'", "'name'"),
        (onnx, {"format": "onnx", "about": {"author": "a\nb"}}, "`about`", "author"),
        (path, {"about": {"author": "a"}}, "`about`", "'litert', 'onnx'"),
        (path, {"labels": ["one"]}, "`labels`", "1 labels"),
        (path, {"image_size": 9}, "`image_size`", "image_size=9"),
        (path, {"model": maps, "preprocessing": "none", "labels": ["a"]}, "`labels`"),
        (path, {"preprocessing": "tf"}, "`preprocessing`", "'tf'"),
    ):
        with refused(*words):
            export(**{"model": net, "path": where, **arguments})
    assert os.listdir(tmp_path) == []


def test_the_format_is_that_of_the_suffix(net, tmp_path):
    assert export(net, tmp_path / "m.onnx").format == "onnx"
    assert export(net, tmp_path / "m-1.0").path == tmp_path / "m-1.0" / "1"
    assert export(net, tmp_path / "m.foo", "saved_model").format == "saved_model"
    formats = {
        **dict.fromkeys(["m", "m.", ".m", "v1.2", "m.tflite.2", "a.b/m"], "saved_model"),
        **{"m.tflite": "litert", "m-1.0.onnx": "onnx", "a.onnx/m.tflite": "litert"},
    }
    assert {path: format_of(Path(path)) for path in formats} == formats
    for name in ("m.foo", "m.keras", "m.ONNX", "m-1.0.pb"):
        with refused("`path`", "'.tflite' or '.onnx'", "format='saved_model'", name):
            format_of(Path(name))
    with refused("`path`", "m.h5"):
        export(net, tmp_path / "m.h5")
    assert sorted(os.listdir(tmp_path)) == ["m-1.0", "m.foo", "m.onnx"]


def test_biases_that_are_all_the_same_number_are_right_in_calibrated_integers(tmp_path):
    """LiteRT's converter rounds such biases wrongly where ranges are in the graph, not here."""
    images = keras.Input((8, 8, 3))
    convolution = keras.layers.Conv2D(4, 3)
    x = convolution(keras.layers.Rescaling(1 / 255)(images))
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))
    scales = np.array([1.0, 0.1, 0.01, 0.001])
    random = np.random.default_rng(0)
    convolution.kernel.assign(scales * random.normal(size=convolution.kernel.shape))
    convolution.bias.assign(np.full(4, 0.5))
    batch = random.uniform(0, 255, (64, 8, 8, 3)).astype("float32")
    path = export(model, tmp_path / "m.tflite", quantize="int8", calibration=[batch]).path
    # Outputs come in steps of 0.01; another channel's scale would take a bias of 0.5 to 5 or more.
    np.testing.assert_allclose(load_exported(path)(batch), model(batch), atol=0.05)


def test_replaces_a_file_only_when_told(net, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_text("old")
    with refused("`path`", "overwrite=True", ".onnx", path):
        export(net, path, "onnx")
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("form", "package"),
    [("onnx", "tf2onnx"), ("onnx", "onnxruntime"), ("litert", "ai_edge_litert")],
)
def test_a_missing_package_is_one_sentence(exported, net, tmp_path, monkeypatch, form, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.interpreter", None)
    use = functools.partial(load_exported, exported[form].path)
    if package == "tf2onnx":
        use = functools.partial(export, net, tmp_path / "m.onnx", form)
    with pytest.raises(ImportError, match=r"keras-deep-residual\[export\]"):
        use()
    assert os.listdir(tmp_path) == []
