"""Files of 8-bit integers compute what a network of quantization-aware training does."""

from __future__ import annotations

import collections

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet.export import export, inference, load_exported
from keras_resnet.export.formats import float_operations
from keras_resnet.export.mismatch import ExportMismatchError
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.surgery import quantize_aware, round_biases, with_logits
from keras_resnet.utils import private
from tests.export.conftest import LABELS
from tests.helpers import randomize, refused

for package in ("ai_edge_litert", "onnxruntime", "tf2onnx"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def tuned(trained, digits):
    """The network of the digits after 20 steps of quantization-aware training."""
    model = quantize_aware(trained, [x for x, _, _ in digits.eval_batches("validation", 180)])
    optimizer = keras.optimizers.SGD(0.005, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(digits.train_batches(64), steps_per_epoch=20, verbose=0)
    return model


@pytest.fixture(scope="module")
def written(tuned, tmp_path_factory):
    """The report of its LiteRT file, which was compared on random images."""
    path = tmp_path_factory.mktemp("tuned") / "m.tflite"
    return export(tuned, path, "litert", quantize="int8", labels=LABELS)


# No pixel lies between two levels of a range by this.
PREPARED = Preprocessing(mean=(121.7, 113.1, 104.9), std=(61.3, 57.9, 59.1))


def network(**options):
    """Returns a small network of pixels that has all that larger ones have, with random weights."""
    defaults = {"blocks": (1, 1), "widths": (8, 16), "include_preprocessing": PREPARED}
    return randomize(
        keras_resnet.ResNet(
            **{**defaults, **options},
            input_shape=(33, 33, 3),
            classes=5,
            classifier_activation=None,
        ),
        gamma=(0.5, 1.2),
    )


def step(model):
    """Returns the step between the levels of a model's logits."""
    low, high = map(float, model.get_layer("predictions_range").ends())
    return (high - low) / 255


def tensor_types(data):
    graph = private.litert_model(data).Subgraphs(0)
    return collections.Counter(graph.Tensors(i).Type() for i in range(graph.TensorsLength()))


NETS = {
    "v1.5": {"block": "bottleneck", "version": "v1.5"},
    "A": {"block": "basic", "shortcut": "A"},
    "gates": {"block": "basic", "squeeze_excitation": 4},
    "v2": {"block": "basic", "version": "v2"},
    "dilated": {"block": "basic", "output_stride": 4},
    "D": {"block": "bottleneck", "deep_stem": True, "shortcut_pool": True, "groups": 2},
}


@pytest.mark.parametrize("format", ["litert", "onnx"])
@pytest.mark.parametrize(
    "name",
    [n if n in ("v1.5", "dilated") else pytest.param(n, marks=pytest.mark.slow) for n in NETS],
)
def test_logits_are_those_of_the_model(name, format, tmp_path):
    """To the last bit where biases are rounded, but for averages.

    A number that lies between two levels is rounded to either of them, and what follows it moves.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (32, 33, 33, 3)).astype("float32")
    model = quantize_aware(network(**NETS[name]), images)
    path = tmp_path / f"m.{'tflite' if format == 'litert' else format}"

    def differences():
        export(model, path, format, quantize="int8", overwrite=True)
        return np.abs(load_exported(path)(images) - model(images)) / step(model)

    before = differences()
    assert np.max(before) < 2.01 and 0 < np.mean(before > 0.5) < 0.2
    round_biases(model)
    after = differences()
    assert np.max(after) < 1.01
    # Averages, which "D" has, are rescaled in fixed point in the middle of the network.
    assert name == "D" or np.mean(after > 0.01) < 0.02


def test_a_convolution_is_off_by_a_step_at_most(tmp_path):
    """A channel of zeros, as of a block that starts as an identity, is one of zeros.

    Biases that are all the same number, which LiteRT's converter rounds wrongly, are right, too.
    """
    inputs = keras.Input((9, 9, 3))
    x = keras.layers.Rescaling([1 / 61.3, 1 / 57.9, 1 / 99.1], -1.7)(inputs)
    x = keras.layers.Conv2D(16, 3, activation="relu", name="conv")(x)
    model = randomize(keras.Model(inputs, x))
    kernel, bias = model.get_layer("conv").get_weights()
    kernel[..., 3] = 0
    model.get_layer("conv").set_weights([kernel, np.full_like(bias, 0.3)])
    images = np.random.default_rng(0).integers(0, 256, (64, 9, 9, 3)).astype("float32")
    model = quantize_aware(model, images)
    high = float(model.get_layer("conv_range").ends()[1])
    for format, name in (("litert", "m.tflite"), ("onnx", "m.onnx")):
        export(model, tmp_path / name, format, quantize="int8")
        steps = np.abs(load_exported(tmp_path / name)(images) - model(images)) / (high / 255)
        assert np.max(steps) < 1.01 and np.mean(steps > 0.5) < 0.002
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)


def test_a_litert_file_has_the_accuracy_of_the_model(tuned, written, test_images):
    images, labels = test_images
    scores = load_exported(written.path)(images)
    expected = tuned.predict(images, verbose=0)
    right, of_model = (np.mean(np.argmax(s, axis=1) == labels) for s in (scores, expected))
    assert of_model > 0.9 and abs(right - of_model) < 0.006
    # A step of the logits moves a probability by a quarter of it at most.
    assert np.max(np.abs(scores - expected)) < 1 / 256 + 2 * step(tuned) / 4
    assert np.mean(np.abs(scores - expected) <= 1 / 256) > 0.97
    assert load_exported(written.path).labels == tuple(LABELS)


def test_everything_in_a_litert_file_is_integers(tuned, test_images, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    images = test_images[0][:50]
    outputs = {}
    for io_dtype, floats, zero in (("float32", 2, 0), ("uint8", 0, 0), ("int8", 0, -128)):
        path = tmp_path / f"{io_dtype}.tflite"
        export(tuned, path, "litert", quantize="int8", io_dtype=io_dtype)
        data = path.read_bytes()
        assert tensor_types(data)[0] == floats and float_operations(data) == []
        tensors = private.litert_model(data).Subgraphs(0)
        scales = [
            tensors.Tensors(i).Quantization().ScaleLength()
            for i in range(tensors.TensorsLength())
            if tensors.Tensors(i).ShapeLength() == 4
        ]
        assert sum(length > 1 for length in scales) == 7  # a scale for each channel of a kernel
        runner = Interpreter(str(path)).get_signature_runner("serving_default")
        tensor = runner.get_input_details()["images"]
        assert tensor["quantization"] == ((0.0, 0) if floats else (1.0, zero))
        received = runner(images=(images + zero).astype(io_dtype))["probabilities"]
        outputs[io_dtype] = received if floats else (received.astype("float32") - zero) / 256
    np.testing.assert_array_equal(outputs["uint8"], outputs["float32"])
    np.testing.assert_array_equal(outputs["int8"], outputs["float32"])


def test_floats_in_between_are_found(tmp_path):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))
    export(keras.Model(inputs, x), tmp_path / "m.tflite", "litert", preprocessing="none")
    assert len(float_operations((tmp_path / "m.tflite").read_bytes())) == 2


def test_images_are_compared_only(tuned, written, test_images, tmp_path):
    """Calibration images change nothing in the file."""
    path, images = tmp_path / "m.tflite", test_images[0][:60]
    given = export(tuned, path, "litert", quantize="int8", calibration=[0.1 * images])
    assert (written.images, given.images) == (4, 60)
    np.testing.assert_array_equal(*(load_exported(p)(images) for p in (path, written.path)))


SLOW = [pytest.param(opset, marks=pytest.mark.slow) for opset in (13, 21)]


@pytest.mark.parametrize("opset", [17, *SLOW])
def test_an_onnx_file_predicts_the_same(tuned, test_images, tmp_path, opset):
    import onnx
    import onnxruntime

    images, _ = test_images
    path = tmp_path / "m.onnx"
    export(tuned, path, "onnx", quantize="int8", opset=opset)
    scores, expected = load_exported(path)(images), tuned.predict(images, verbose=0)
    assert np.mean(np.argmax(scores, axis=1) == np.argmax(expected, axis=1)) > 0.995
    assert np.max(np.abs(scores - expected)) < 2 * step(tuned) / 4 + 1e-5
    graph = onnx.load(path).graph
    of_kernels = [t for t in graph.initializer if t.name.endswith("_kernel_scale")]
    convolutions = [node for node in graph.node if node.op_type in ("Conv", "MatMul")]
    assert len(of_kernels) == len(convolutions) == 9
    assert (
        sum(len(onnx.numpy_helper.to_array(t)) > 1 for t in of_kernels) == 8
    )  # but of a gray pixel
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(path), options)
    computed = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert "QLinearConv" in computed and not {"Conv", "MatMul", "Relu", "Add"} & set(computed)


@pytest.mark.slow
def test_a_saved_model_computes_the_same(tuned, test_images, tmp_path):
    export(tuned, tmp_path / "m")
    images = test_images[0][:20]
    np.testing.assert_allclose(load_exported(tmp_path / "m")(images), tuned(images), atol=1e-5)


def test_standardization_that_is_put_in_front_is_of_integers(tmp_path):
    model = network(block="basic", include_preprocessing=False)
    images = np.random.default_rng(0).integers(0, 256, (8, 33, 33, 3)).astype("float32")
    model = quantize_aware(model, PREPARED.standardize(images))
    path = tmp_path / "m.tflite"
    export(model, path, "litert", quantize="int8", preprocessing=PREPARED, io_dtype="uint8")
    assert float_operations(path.read_bytes()) == [] and tensor_types(path.read_bytes())[0] == 0
    steps = (load_exported(path)(images) - model(PREPARED.standardize(images))) / step(model)
    assert np.max(np.abs(steps)) < 2.01


def test_logits_alone_can_be_exported(tuned, test_images, tmp_path):
    logits = with_logits(tuned)
    export(logits, tmp_path / "m.tflite", "litert", quantize="int8")
    loaded = load_exported(tmp_path / "m.tflite")
    assert loaded.output == "logits"
    outputs = tf.nn.softmax(loaded(test_images[0][:20]))
    np.testing.assert_allclose(outputs, tuned(test_images[0][:20]), atol=step(tuned))


@pytest.mark.parametrize(("format", "quantize"), [("litert", "dynamic"), ("onnx", "float32")])
def test_other_numbers_are_refused(tuned, tmp_path, format, quantize):
    with refused("`quantize`", repr(quantize)):
        export(tuned, tmp_path / "m", format, quantize=quantize)


def test_outputs_must_be_close_to_the_model(tuned, test_images, tmp_path, monkeypatch):
    """A cosine of 0.96 is enough for ranges that were measured only."""
    monkeypatch.setattr(inference, "load_exported", lambda path: lambda x: tuned(x).numpy() + 0.1)
    calibration = [test_images[0][:20]]
    with pytest.raises(ExportMismatchError, match=r"mean cosine of 0\.9[5-8]"):
        export(tuned, tmp_path / "m.onnx", "onnx", quantize="int8", calibration=calibration)


def test_other_models_still_need_images(trained, tmp_path):
    with refused("`calibration`", "None"):
        export(trained, tmp_path / "m.tflite", "litert", quantize="int8")
