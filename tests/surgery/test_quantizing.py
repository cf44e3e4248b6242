"""Quantization-aware networks: what is rounded, how, and that they train, save and resume."""

from __future__ import annotations

import importlib.util

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet.layers import PACKAGE
from keras_resnet.network import class_names_of, preprocessing_of
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.surgery import (
    fake_quantization,
    fold_batch_norm,
    quantize_aware,
    rebuild,
    round_biases,
    with_logits,
)
from keras_resnet.surgery.conversion import any_size
from keras_resnet.surgery.fake_quantization import (
    FakeQuantization,
    QuantizedConv2D,
    QuantizedDense,
    fake_quantize,
    fake_quantize_kernel,
    is_quantized,
)
from keras_resnet.surgery.quantizing import with_constant_ranges
from keras_resnet.training import Checkpoints
from tests.helpers import distance, images, randomize, refused
from tests.surgery.test_folding import NETS, norms, variant
from tests.training.fakes import blobs, fit, make_trainer, small_model

MORE = {
    "bottlenecks v1, deepened": lambda: keras_resnet.deepen(
        variant(block="bottleneck", blocks=(1, 1)), (2, 1)
    ),
    "dense": lambda: keras_resnet.DenseNet(
        (2, 2), growth_rate=4, stem="cifar", input_shape=(9, 8, 3), classes=3
    ),
    "maps": lambda: variant(include_top=False),
    "logits": lambda: variant(classifier_activation=None),
    "sigmoid": lambda: variant(classifier_activation="sigmoid"),
}


def pixels(model, batch=8):
    """Returns images of [0, 255] or [-1, 1], as a model takes them."""
    sides = [side or 10 for side in model.input_shape[1:3]]
    if model.network.standardizes:
        return images(batch, *sides, 3, low=0.0, high=255.0).round()
    return images(batch, *sides, 3)


def ranges(model):
    return {
        layer.name: tuple(map(float, layer.ends()))
        for layer in model.layers
        if isinstance(layer, FakeQuantization)
    }


def both(low, high, x):
    """Returns values and gradients of TensorFlow's operation and of Keras's operations."""
    found = []
    for function in (fake_quantize, fake_quantization._fake_quantize):
        sources = [tf.constant(value, tf.float32) for value in (x, low, high)]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = function(*sources)
            loss = tf.reduce_sum(outputs * images(*np.shape(x), seed=3))
        found.append([outputs, *tape.gradient(loss, sources)])
    return found


@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (-0.7, 3.3), (0.0, 6.0), (-4.1, 0.0)])
def test_both_formulas_and_their_gradients_agree(low, high):
    x = images(1000, low=-5.0, high=7.0)
    x[:4] = low, high, 0.0, -0.0
    (values, *of_values), (others, *of_others) = both(low, high, x)
    assert distance(values, others) < 1e-6
    assert len(np.unique(np.round(values, 5))) <= 256 and 0.0 in values.numpy()
    for gradient, other in zip(of_values, of_others, strict=True):
        assert distance(gradient, other) < 1e-5
    beyond = (x < low - (high - low) / 255) | (x > high + (high - low) / 255)
    inside = (x > low + (high - low) / 255) & (x < high - (high - low) / 255)
    assert beyond.sum() > 200 and not np.any(of_values[0].numpy()[beyond])
    np.testing.assert_array_equal(of_values[0].numpy()[inside], images(1000, seed=3)[inside])


def test_kernels_are_those_of_tensorflows_operation():
    kernel = images(3, 3, 5, 4) * [0.1, 1.0, 20.0, 0.0]
    kernel = tf.constant(kernel, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        rounded = fake_quantize_kernel(kernel)
        loss = tf.reduce_sum(rounded * images(3, 3, 5, 4, seed=1))
    largest = np.abs(kernel).max((0, 1, 2))
    expected = tf.quantization.fake_quant_with_min_max_vars_per_channel(
        kernel, -largest, largest, num_bits=8, narrow_range=True
    )
    np.testing.assert_allclose(rounded, expected, atol=1e-6 * 20)
    np.testing.assert_array_equal(tape.gradient(loss, kernel), images(3, 3, 5, 4, seed=1))
    np.testing.assert_allclose(np.abs(rounded).max((0, 1, 2)), largest, rtol=1e-6)
    np.testing.assert_allclose(fake_quantize_kernel(rounded), rounded, rtol=1e-6)


FAST = ("A", "v2", "logits")


@pytest.mark.parametrize(
    "name",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in NETS | MORE],
)
def test_networks_round_and_are_close_to_what_they_were_made_of(name, tmp_path):
    model = randomize((NETS | MORE)[name]())
    x = pixels(model)
    quantized = quantize_aware(model, x)
    assert 0.0 < distance(quantized(x), model(x)) < 0.05
    assert norms(quantized) == [] and type(quantized) is type(model)
    constants = with_constant_ranges(quantized)
    assert (
        distance(constants(x), quantized(x)) < 1e-6
        and not constants.get_layer(
            next(layer.name for layer in quantized.layers if isinstance(layer, FakeQuantization))
        ).weights
    )
    quantized.save(tmp_path / "quantized.keras")
    loaded = keras.models.load_model(tmp_path / "quantized.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(x), quantized(x))
    assert loaded.network == quantized.network == model.network


def test_what_is_rounded_and_what_is_not():
    model = quantize_aware(randomize(variant(squeeze_excitation=2, blocks=(1, 1))))
    found = {name.removesuffix("_range") for name in ranges(model)}
    inner = ["1_relu", "2_conv", "se_squeeze", "se_reduce", "se_expand", "se_expand_sigmoid"]
    inner += ["se_excite", "out"]
    expected = {model.layers[0].name, "conv1_relu", "conv3_block1_0_conv", "avg_pool"}
    expected |= {f"conv{i}_block1_{part}" for i in (2, 3) for part in inner}
    assert found == expected | {"predictions"}
    assert ranges(model)["conv2_block1_se_expand_sigmoid_range"] == (0.0, 255 / 256)
    assert ranges(model)["conv1_relu_range"] == (0.0, 6.0)
    assert ranges(model)["conv2_block1_2_conv_range"] == (-6.0, 6.0)
    trained = {v.path for v in model.trainable_variables if "_range" in v.path}
    assert "conv1_relu_range/maximum" in trained and "conv1_relu_range/minimum" not in trained
    kinds = {type(layer) for layer in model.layers if layer.weights}
    assert kinds == {FakeQuantization, QuantizedConv2D, QuantizedDense}


def test_a_range_that_training_took_too_far_can_return():
    layer = FakeQuantization()
    layer.build((None, 4))
    layer.start_at(0.5, -0.5)
    x = tf.constant([-1.0, 0.0, 1.0])
    with tf.GradientTape() as tape:
        outputs = layer(x)
        loss = tf.reduce_sum(outputs * [1.0, 2.0, 3.0])
    gradients = tape.gradient(loss, [layer.minimum.value, layer.maximum.value])
    np.testing.assert_allclose(outputs, [0.0, 0.0, 1e-3], atol=1e-6)
    np.testing.assert_array_equal(gradients, [1.0, 3.0])


def test_a_pool_has_the_range_of_its_input():
    """An average is rounded again by the layer that rounded its input; a maximum is not rounded."""
    model = NETS["D"]()
    quantized = quantize_aware(randomize(model))
    pool = quantized.get_layer("conv3_block1_0_pool")
    layer = quantized.get_layer("conv2_block2_out_range")
    tensors = [node.input_tensors[0] for node in layer._inbound_nodes]
    assert len(tensors) == 2 and tensors[1] is pool.output
    x = pixels(model)
    inner = keras.Model(quantized.input, quantized.get_layer("conv3_block1_0_conv").input)
    step = ranges(quantized)[layer.name][1] / 255
    levels = np.asarray(inner(x)) / step
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-3)


def test_ranges_start_where_the_numbers_lie():
    model = randomize(variant())
    x = images(40, 9, 8, 3)
    quantized = quantize_aware(model, [x[:20], x[20:]])
    folded = fold_batch_norm(model)
    for name in ("conv2_block1_out", "avg_pool"):
        numbers = np.asarray(keras.Model(folded.input, folded.get_layer(name).output)(x))
        end = np.mean([np.percentile(part, 99.99) for part in (numbers[:20], numbers[20:])])
        np.testing.assert_allclose(ranges(quantized)[f"{name}_range"][1], end, rtol=0.01)
    np.testing.assert_array_equal(
        with_constant_ranges(quantized)(x),
        with_constant_ranges(quantize_aware(model, iter([x[:20], x[20:]])))(x),
    )


def test_standardization_is_of_pixels():
    model = randomize(NETS["B, with preprocessing"]())
    quantized = quantize_aware(model, pixels(model))
    x = pixels(model)
    np.testing.assert_array_equal(quantized(x + 0.3), quantized(x))
    standardized = keras.Model(model.input, model.get_layer("preprocessing").output)
    same = keras.Model(quantized.input, quantized.get_layer("preprocessing").output)
    # The offset is rounded to 1/127 of a gray level.
    np.testing.assert_allclose(same(x), standardized(x), atol=0.5 / 127 / 57)
    prepared = keras_resnet.preprocessing.KERAS_CAFFE
    model = keras_resnet.CifarResNet(8, include_preprocessing=prepared, input_shape=(8, 8, 3))
    quantized = quantize_aware(model, pixels(model))
    standardized = keras.Model(model.input, model.get_layer("preprocessing").output)
    same = keras.Model(quantized.input, quantized.get_layer("preprocessing").output)
    x = pixels(model)
    np.testing.assert_allclose(same(x), standardized(x), atol=0.5 / 127)


def test_it_remembers_preprocessing_and_class_names():
    model = NETS["B, with preprocessing"]()
    names = [f"class {i}" for i in range(10)]
    model.remember(model.network.with_class_names(names))
    quantized = quantize_aware(model)
    assert preprocessing_of(quantized) == preprocessing_of(model)
    assert class_names_of(quantized) == tuple(names)
    x = pixels(model)
    logits = with_logits(quantized)
    np.testing.assert_allclose(keras.ops.softmax(logits(x)), quantized(x), atol=1e-6)
    np.testing.assert_array_equal(any_size(quantized)(x), quantized(x))
    with refused("`model`", "quantize_aware"):
        rebuild(quantized, classes=3)


def test_everything_computes_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    quantized = quantize_aware(randomize(variant()))
    assert {layer.output.dtype for layer in quantized.layers} == {"float32"}
    assert {layer.compute_dtype for layer in quantized.layers[1:]} == {"float32"}


def test_biases_are_rounded_to_integers_of_their_layers():
    model = randomize(variant(blocks=(1, 1)))
    quantized = quantize_aware(model, pixels(model))
    layer, before = quantized.get_layer("conv2_block1_2_conv"), quantized.get_weights()
    round_biases(quantized)
    kernel, bias = layer.get_weights()
    low, high = ranges(quantized)["conv2_block1_1_relu_range"]
    levels = bias / (np.abs(kernel).max((0, 1, 2)) / 127 * (high - low) / 255)
    assert np.any(np.abs(levels) > 100) and levels == pytest.approx(np.round(levels), abs=0.01)
    moved = [distance(a, b) for a, b in zip(quantized.get_weights(), before, strict=True)]
    assert 0 < max(moved) < 0.01
    again = quantized.get_weights()
    round_biases(quantized)
    for value, other in zip(quantized.get_weights(), again, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-6)
    with refused("`model`", "quantize_aware"):
        round_biases(model)


def test_frozen_layers_stay_frozen():
    model = variant()
    model.get_layer("conv1_conv").trainable = False
    quantized = quantize_aware(model)
    assert not quantized.get_layer("conv1_conv").trainable_variables
    assert quantized.get_layer("conv2_block1_1_conv").trainable_variables


@keras.saving.register_keras_serializable(PACKAGE)
class Doubled(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs


@pytest.mark.parametrize(
    ("part", "of"),
    [
        (Doubled(name="odd"), "Doubled"),
        (keras.layers.DepthwiseConv2D(3, name="odd"), "DepthwiseConv2D"),
        (keras.layers.Activation("gelu", name="odd"), "Activation with another activation"),
        (keras.layers.ReLU(6.0, name="odd"), "ReLU with another activation"),
        (keras.layers.Softmax(name="odd"), "Softmax"),
        (keras.layers.GroupNormalization(2, name="odd"), "GroupNormalization"),
        (keras.layers.Rescaling(0.5, name="odd"), "Rescaling"),
        (keras.layers.Conv2D(4, 1, activation="tanh", name="odd"), "Conv2D"),
    ],
)
def test_other_layers_are_refused(part, of):
    inputs = keras.Input((6, 6, 3))
    x = part(keras.layers.Conv2D(4, 3, name="first")(inputs))
    model = keras.Model(inputs, keras.layers.Flatten()(x))
    with refused("`model`", "'odd'", of):
        quantize_aware(model)


def test_other_models_are_refused():
    inputs = keras.Input((6, 6, 4))
    shared = keras.layers.Conv2D(4, 1, name="shared")
    with refused("`model`", "'shared'", "several times"):
        quantize_aware(keras.Model(inputs, shared(shared(inputs))))
    first = keras.layers.MaxPooling2D(2, data_format="channels_first", name="first")
    with refused("`model`", "channels last", "'first'"):
        quantize_aware(keras.Model(inputs, first(inputs)))
    with refused("`model`", "quantize_aware"):
        quantize_aware(quantize_aware(variant()))
    inner = keras.Sequential([keras.Input((6, 6, 4)), keras.layers.Conv2D(4, 1)], name="inner")
    with refused("`model`", "'inner'"):
        quantize_aware(keras.Model(inputs, keras.layers.ReLU()(inner(inputs))))
    with refused("`model`", "Sequential"):
        quantize_aware(keras.Sequential([keras.layers.Dense(3)]))
    norm = keras.layers.BatchNormalization(name="of_vectors")
    vectors = norm(keras.layers.GlobalAveragePooling2D()(inputs))
    with refused("`model`", "batch normalization of maps", "'of_vectors'"):
        quantize_aware(keras.Model(inputs, vectors))
    with refused("`model`", "DilatedAveragePooling2D"):
        quantize_aware(variant(shortcut_pool=True, output_stride=1))


@pytest.mark.parametrize("wrong", [[], np.zeros((4, 9, 9, 3)), [np.zeros((9, 8, 3))]])
def test_images_of_another_shape_are_refused(wrong):
    with refused("`images`", "(9, 8, 3)" if len(wrong) == 1 else "(batch, *(9, 8, 3))"):
        quantize_aware(variant(), wrong)


def test_images_that_would_be_lost_are_refused():
    """Pixels become integers in [0, 255]: no levels in between, and none beyond."""
    model = variant(include_preprocessing=True)
    for wrong in (-1.0, 256.0, np.nan):
        with refused("`images`", "[0, 255]"):
            quantize_aware(model, [np.full((2, 9, 8, 3), 255.0), np.full((2, 9, 8, 3), wrong)])
    deep = Preprocessing((121.7, 113.1, 104.9), (61.3, 57.9, 59.1), bits=16)
    with refused("`model`", "16 bits"):
        quantize_aware(variant(include_preprocessing=deep))


def quantized_model():
    return quantize_aware(randomize(small_model()), some_blobs())


def some_blobs():
    ((x, _, _),) = blobs().eval_batches("test", 37)
    return np.asarray(x, "float32")


def test_training_lowers_the_loss_moves_the_ranges_and_resumes(tmp_path):
    whole = make_trainer(0.02, model=quantized_model)
    before = ranges(whole.model)
    fit(whole, 24)
    after = ranges(whole.model)
    fixed = {name for name in before if name.endswith("_pixels")}
    assert {name for name in before if before[name] == after[name]} == fixed != set()
    assert whole.evaluate(blobs(), "test", 37)["accuracy"] > 0.8
    for last_step in (10, 24):
        parted = make_trainer(0.02, model=quantized_model)
        fit(parted, last_step, checkpoints=Checkpoints(tmp_path))
    for weight, other in zip(parted.model.weights, whole.model.weights, strict=True):
        np.testing.assert_array_equal(weight, other)


def test_fit():
    rng = np.random.default_rng(0)
    model = quantize_aware(small_model())
    model = keras.Model(model.input, keras.layers.Softmax()(model.output))
    model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    x, y = rng.integers(0, 256, (16, 8, 8, 1)).astype("float32"), rng.integers(0, 4, 16)
    losses = model.fit(x, y, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0] and is_quantized(model)


REPLICAS = """
import sys
import keras, numpy as np, tensorflow as tf
from keras_resnet.training import Trainer, sgd
from tests.surgery.test_quantizing import quantized_model
from tests.training.fakes import cross_entropy, fit

count = int(sys.argv[2])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
names = [f"CPU:{i}" for i in range(count)]
strategy = tf.distribute.MirroredStrategy(names) if count > 1 else tf.distribute.get_strategy()
keras.utils.set_random_seed(0)
with strategy.scope():
    model = quantized_model()
    optimizer = sgd(0.02)
trainer = Trainer(model, optimizer, cross_entropy(), strategy=strategy)
assert strategy.num_replicas_in_sync == count
fit(trainer, 6)
np.savez(sys.argv[1], *model.get_weights())
"""


@pytest.mark.slow
def test_two_replicas_train_as_one(subprocess_python, tmp_path):
    found = []
    for count in (1, 2):
        subprocess_python(REPLICAS, tmp_path / f"{count}.npz", count)
        found.append(dict(np.load(tmp_path / f"{count}.npz")))
    assert len(found[0]) > 8  # kernels, biases and ranges
    for name, value in found[0].items():
        assert distance(found[1][name], value) < 1e-5


ON_JAX = """
import sys
import jax, keras, numpy as np
from keras_resnet.surgery import quantize_aware, round_biases
model = keras.models.load_model(sys.argv[1])
arrays = np.load(sys.argv[2])
np.testing.assert_allclose(model(arrays["x"]), arrays["y"], atol=0.02)
def loss(values):
    outputs, _ = model.stateless_call(values, [], arrays["x"], training=True)
    return keras.ops.mean((outputs - 1) ** 2)
gradients = jax.grad(loss)([v.value for v in model.trainable_variables])
assert keras.backend.backend() == "jax"
own = quantize_aware(keras.models.load_model(sys.argv[4]), arrays["x"])
np.testing.assert_allclose(own(arrays["x"]), arrays["y"], atol=0.02)
own.compile(keras.optimizers.SGD(0.01), "mse")
own.fit(arrays["x"], arrays["y"] - 1, epochs=1, batch_size=len(arrays["x"]), verbose=0)
trained = own.predict(arrays["x"], verbose=0)
round_biases(own)
rounded = own.predict(arrays["x"], verbose=0)
assert np.max(np.abs(trained - arrays["y"])) > 0.01
np.testing.assert_allclose(rounded, trained, atol=0.02 * np.max(np.abs(trained)))
np.savez(sys.argv[3], *gradients)
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_on_jax(subprocess_python, tmp_path):
    model = variant(blocks=(1, 1), classifier_activation=None)
    x = pixels(model)
    quantized = quantize_aware(randomize(model), x)
    model.save(tmp_path / "m.keras")
    quantized.save(tmp_path / "q.keras")
    np.savez(tmp_path / "q.npz", x=x, y=quantized(x))
    paths = [tmp_path / name for name in ("q.keras", "q.npz", "gradients.npz", "m.keras")]
    subprocess_python(ON_JAX, *paths, env={"KERAS_BACKEND": "jax"})
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((quantized(x, training=True) - 1) ** 2)
    variables = [variable.value for variable in quantized.trainable_variables]
    of_jax = np.load(paths[2]).values()
    for gradient, other in zip(tape.gradient(loss, variables), of_jax, strict=True):
        # A number that the two round to different levels changes a gradient a little.
        assert distance(other, gradient) < 0.05
