"""The layers that Keras lacks: values by hand, Keras's own arithmetic, round trips, errors.

`BlockStack` has a file of its own.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.layers import BatchNormalization, DilatedAveragePooling2D, ZeroPadShortcut
from tests.helpers import distance, images, kernels_in_graph, refused

SCRIPTS = Path(__file__).with_name("distributed")


def recreated(layer):
    """Returns the layer made anew from its serialized form, by its registered name."""
    config = keras.saving.serialize_keras_object(layer)
    assert config["registered_name"].startswith("keras_resnet>")
    return keras.saving.deserialize_keras_object(config)


# --- ZeroPadShortcut -------------------------------------------------------------------------


# Rows and columns that a stride keeps.
KEPT = {(4, 1): [0, 1, 2, 3], (4, 2): [0, 2], (5, 1): [0, 1, 2, 3, 4], (5, 2): [0, 2, 4]}
KEPT |= {(3, 2): [0, 2], (3, 1): [0, 1, 2], (5, 3): [0, 3], (3, 3): [0], (4, 3): [0, 3]}


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("size", [(4, 4), (5, 3), (3, 4)], ids=str)
@pytest.mark.parametrize("filters", [2, 5])
def test_zero_pad_values(size, strides, filters, data_format):
    x = images(2, *size, 2)
    rows, columns = (KEPT[side, strides] for side in size)
    expected = np.zeros((2, len(rows), len(columns), filters), "float32")
    expected[..., :2] = x[:, rows][:, :, columns]
    if data_format == "channels_first":
        x, expected = np.moveaxis(x, -1, 1), np.moveaxis(expected, -1, 1)
    layer = ZeroPadShortcut(filters, strides, data_format)
    np.testing.assert_array_equal(layer(x), expected)
    assert layer.compute_output_shape(x.shape) == expected.shape
    assert layer.weights == []


def test_zero_pad_gradient_reaches_the_kept_pixels_only():
    x = tf.ones((1, 3, 3, 1))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(ZeroPadShortcut(4, 2)(x))
    kept = [[1, 0, 1], [0, 0, 0], [1, 0, 1]]
    np.testing.assert_array_equal(tape.gradient(y, x)[0, :, :, 0], kept)


@pytest.mark.parametrize(
    ("data_format", "shape", "expected"),
    [
        ("channels_last", (None, None, None, 4), (None, None, None, 8)),
        ("channels_last", (None, 7, None, 4), (None, 4, None, 8)),
        ("channels_first", (None, 4, None, 7), (None, 8, None, 4)),
    ],
)
def test_zero_pad_open_shapes(data_format, shape, expected):
    layer = ZeroPadShortcut(8, 2, data_format)
    assert layer.compute_output_shape(shape) == expected
    assert layer(keras.KerasTensor(shape)).shape == expected


def test_zero_pad_keeps_the_dtype_of_the_policy():
    assert ZeroPadShortcut(3, dtype="mixed_bfloat16")(images(1, 2, 2, 3)).dtype == tf.bfloat16


def test_zero_pad_takes_kerass_data_format():
    keras.config.set_image_data_format("channels_first")
    assert ZeroPadShortcut(4).data_format == "channels_first"


def test_zero_pad_config():
    layer = ZeroPadShortcut(6, 2, "channels_first", name="conv3_block1_0_pad")
    again = recreated(layer)
    assert again.get_config() == layer.get_config()
    assert (again.filters, again.strides, again.data_format) == (6, 2, "channels_first")
    x = images(2, 3, 5, 5)
    np.testing.assert_array_equal(again(x), layer(x))


@pytest.mark.parametrize(
    ("name", "value"),
    [("filters", 0), ("filters", 2.0), ("strides", 0), ("strides", True), ("data_format", "NHWC")],
)
def test_zero_pad_wrong_arguments(name, value):
    with refused(f"`{name}`", f"{name}={value!r}"):
        ZeroPadShortcut(**{"filters": 4, name: value})


def test_zero_pad_cannot_take_channels_away():
    with refused("`filters`", "shortcut='B'", "filters=3"):
        ZeroPadShortcut(3)(images(1, 4, 4, 5))


def test_zero_pad_wants_images():
    with pytest.raises(ValueError, match="ndim=4"):
        ZeroPadShortcut(3)(images(4, 3))


# --- BatchNormalization -----------------------------------------------------------------

FUSED = {"FusedBatchNormV3", "FusedBatchNormGradV3"}

# What the two may differ by, relative to the largest value. Both compute in float32 and differ in
# the order of their sums. A 16-bit result is rounded once, at the end, to p significant bits: 8 in
# bfloat16, 11 in float16. Two float32 numbers on either side of a rounding boundary become
# neighbors, which are one unit in the last place apart: at most 2**(1 - p) of their size.
TOLERANCE = {"float32": 5e-6, "mixed_bfloat16": 2**-7, "mixed_float16": 2**-10}
# Gradients sum over all pixels, with cancellation, and pass one more rounding on their way back.
GRADIENT_TOLERANCE = {"float32": 2e-5, "mixed_bfloat16": 2**-6, "mixed_float16": 2**-9}


def twins(shape, **config):
    """Returns our layer and Keras's with the same drawn weights, built for `shape`."""
    layers = [
        kind(gamma_initializer="ones", **config)
        for kind in (BatchNormalization, keras.layers.BatchNormalization)
    ]
    for layer in layers:
        layer.build(shape)
        rng = np.random.default_rng(3)
        for variable in layer.weights:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return layers


def run(layer, x, training):
    """Returns output, gradients (of the input first) and moving statistics after the step."""
    x = tf.cast(x, layer.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training)
        loss = tf.reduce_sum(tf.cast(y, "float32") * images(*y.shape, seed=5))
    variables = [variable.value for variable in layer.trainable_variables]
    gradients = tape.gradient(loss, [x, *variables])
    return y, gradients, [layer.moving_mean.numpy(), layer.moving_variance.numpy()]


def assert_twins_agree(ours, keras_layer, x, training, policy="float32"):
    y, gradients, statistics = run(ours, x, training)
    expected_y, expected_gradients, expected_statistics = run(keras_layer, x, training)
    assert y.dtype == expected_y.dtype
    assert distance(y, expected_y) <= TOLERANCE[policy]
    assert len(gradients) == len(expected_gradients) == 1 + len(ours.trainable_variables)
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        assert gradient.dtype == expected.dtype
        assert distance(gradient, expected) <= GRADIENT_TOLERANCE[policy]
    # Statistics are float32 whatever the policy, and of the same rounded inputs.
    for value, expected in zip(statistics, expected_statistics, strict=True):
        assert distance(value, expected) <= TOLERANCE["float32"]


def uses_kernel(layer, x, training):
    x = tf.cast(x, layer.compute_dtype)
    return "FusedBatchNormV3" in kernels_in_graph(lambda x: layer(x, training=training), x)


@pytest.mark.parametrize("mode", ["training", "inference", "frozen"])
@pytest.mark.parametrize("axis", [-1, 3, 1, -3])
@pytest.mark.parametrize("policy", TOLERANCE)
def test_fused_equals_keras(policy, axis, mode):
    shape = (4, 5, 6, 7)
    training, trainable = mode != "inference", mode != "frozen"
    ours, keras_layer = twins(shape, axis=axis, epsilon=1e-3, trainable=trainable, dtype=policy)
    x = 3.0 + 2.0 * images(*shape)
    assert uses_kernel(ours, x, training)
    assert not uses_kernel(keras_layer, x, training)
    before = [ours.moving_mean.numpy(), ours.moving_variance.numpy()]
    assert_twins_agree(ours, keras_layer, x, training, policy)
    after = [ours.moving_mean.numpy(), ours.moving_variance.numpy()]
    moved = [bool((a != b).any()) for a, b in zip(before, after, strict=True)]
    assert moved == [mode == "training"] * 2


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
def test_fused_without_scale_or_center(center, scale, training):
    shape = (3, 4, 4, 5)
    ours, keras_layer = twins(shape, center=center, scale=scale)
    assert uses_kernel(ours, images(*shape), training)
    assert_twins_agree(ours, keras_layer, images(*shape), training)


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 1, 1, 3), (1, 1, 2, 3)], ids=str)
def test_fused_on_next_to_no_pixels(shape):
    # Of one pixel the unbiased variance is 0/0; Keras averages the biased one, which is 0. With a
    # small epsilon two numbers become -1 and 1 whatever they are: no gradient to compare.
    ours, keras_layer = twins(shape, momentum=0.5, epsilon=0.5)
    assert uses_kernel(ours, images(*shape), True)
    assert_twins_agree(ours, keras_layer, images(*shape), True)
    assert np.isfinite(ours.moving_variance.numpy()).all()


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99])
def test_fused_moving_statistics_by_hand(momentum):
    x = 5.0 + images(2, 3, 3, 4)
    layer = BatchNormalization(momentum=momentum)
    layer(x, training=True)
    mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    assert distance(layer.moving_mean, (1 - momentum) * mean) < 1e-6
    assert distance(layer.moving_variance, momentum + (1 - momentum) * variance) < 1e-6


@pytest.mark.parametrize("training", [True, False])
def test_epsilon_is_the_given_one(training):
    # TensorFlow's public function raises it to 1.001e-5, the field's 1e-5 included. On channels of
    # variance 1e-6 that would show: the ratio of outputs is sqrt(1.1e-5 / 1.101e-5), 5e-4 less.
    x = 1e-3 * np.sign(images(8, 4, 4, 2))
    for epsilon in (1e-5, 1e-7):
        ours, keras_layer = twins(x.shape, epsilon=epsilon)
        for layer in (ours, keras_layer):
            layer.moving_variance.assign([1e-6, 2e-6])
        y, expected = (layer(x, training=training) for layer in (ours, keras_layer))
        assert distance(y, expected) < 1e-5


def test_fused_on_a_large_mean():
    # A variance computed as E[x^2] - E[x]^2 would lose all its digits here.
    ours, keras_layer = twins((8, 8, 8, 3), momentum=0.0)
    x = 3000.0 + images(8, 8, 8, 3)
    ours(x, training=True)
    true = x.astype("float64").var(axis=(0, 1, 2))
    # float32 holds 3000 +- 1 to 1.2e-4 each.
    assert distance(ours.moving_variance, true) < 1e-3


def test_fused_statistics_of_half_precision_inputs_are_float32():
    x = tf.cast(100.0 + images(64, 16, 16, 2), "float16")
    layer = BatchNormalization(momentum=0.0, dtype="mixed_float16")
    assert layer(x, training=True).dtype == tf.float16
    assert {v.dtype for v in layer.weights} == {"float32"}
    # The sum of these 16384 numbers is beyond float16's range of 65504.
    expected = x.numpy().astype("float64")
    assert distance(layer.moving_mean, expected.mean(axis=(0, 1, 2))) < 1e-5
    assert distance(layer.moving_variance, expected.var(axis=(0, 1, 2))) < 1e-4


# Everything else is Keras's own arithmetic, to the bit.
ELSEWHERE = {
    "rank 2": ((6, 5), {}),
    "rank 3": ((3, 6, 5), {}),
    "rank 5": ((2, 3, 3, 3, 4), {}),
    "axis 2": ((3, 4, 5, 6), {"axis": 2}),
    "float64": ((3, 4, 5, 6), {"dtype": "float64"}),
    "pure bfloat16": ((3, 4, 5, 6), {"dtype": "bfloat16"}),
    "renorm": ((3, 4, 5, 6), {"renorm": True}),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", ELSEWHERE)
def test_falls_back_to_keras(case, training):
    shape, config = ELSEWHERE[case]
    layers = twins(shape, **config)
    x = images(*shape)
    assert not uses_kernel(layers[0], x, training)
    y, expected = (run(layer, x, training) for layer in layers)
    for value, other in zip(tf.nest.flatten(y), tf.nest.flatten(expected), strict=True):
        np.testing.assert_array_equal(value, other)


def test_a_mask_falls_back_to_keras():
    ours, keras_layer = twins((2, 3, 4, 5))
    x = images(2, 3, 4, 5)
    mask = images(2, 3, 4, seed=1) > 0
    masked = [layer(x, training=True, mask=mask) for layer in (ours, keras_layer)]
    np.testing.assert_array_equal(*masked)
    assert distance(ours(x, training=True), masked[0]) > 1e-2
    graph = kernels_in_graph(lambda x: ours(x, training=True, mask=mask), tf.constant(x))
    assert "FusedBatchNormV3" not in graph


def test_float64_model_has_float64_statistics():
    keras.config.set_dtype_policy("float64")
    layer = BatchNormalization(momentum=0.0)
    x = 1.0 + 1e-9 * images(4, 4, 4, 2).astype("float64")
    layer(x, training=True)
    np.testing.assert_allclose(layer.moving_mean, x.mean(axis=(0, 1, 2)), rtol=1e-13)


def test_fused_in_a_compiled_step_of_open_shape():
    ours, keras_layer = twins((None, None, None, 3))

    def step(layer):
        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
        def call(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
                loss = tf.reduce_sum(y**3)
            return y, tape.gradient(loss, x)

        return call

    compiled = [step(layer) for layer in (ours, keras_layer)]
    operations = {op.type for op in compiled[0].get_concrete_function().graph.get_operations()}
    assert operations >= FUSED
    for size in ((4, 6, 5), (2, 3, 3)):
        x = images(*size, 3)
        for value, expected in zip(compiled[0](x), compiled[1](x), strict=True):
            assert distance(value, expected) < 1e-5
    for value, expected in zip(ours.weights, keras_layer.weights, strict=True):
        assert distance(value, expected) < 1e-5


def test_fused_exports_an_open_batch(tmp_path):
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, BatchNormalization()(inputs))
    model.layers[1].moving_mean.assign([1.0, 2.0, 3.0])
    model.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")
    for batch in (1, 5):
        x = images(batch, 4, 4, 3)
        assert distance(loaded.serve(x), model(x)) < 1e-6


def test_fused_second_derivative():
    # A gradient penalty differentiates the gradient.
    ours, keras_layer = twins((3, 4, 4, 2))
    x = tf.constant(images(3, 4, 4, 2))
    results = []
    for layer in (ours, keras_layer):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(layer(x, training=True) ** 3)
            penalty = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        results.append(outer.gradient(penalty, x))
    assert distance(*results) < 1e-4


def test_fused_config_and_state(tmp_path):
    config = {"axis": 1, "momentum": 0.8, "epsilon": 1e-5, "center": False, "name": "bn"}
    layer = BatchNormalization(**config)
    again = recreated(layer)
    assert type(again) is BatchNormalization
    assert again.get_config() == layer.get_config()
    assert {k: again.get_config()[k] for k in config} == config
    # The same as Keras's, so that one can stand in for the other.
    assert set(layer.get_config()) == set(keras.layers.BatchNormalization().get_config())


SYNCHRONIZED = SCRIPTS / "layers_sync_bn.py"


def test_synchronized_over_two_replicas_equals_one(subprocess_python):
    output = subprocess_python(SYNCHRONIZED).stdout
    assert output.splitlines()[-1] == "two replicas equal one"


# --- DilatedAveragePooling2D ------------------------------------------------------------------


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    ("dilation", "sides"), [(1, (4, 5)), (2, (7, 6)), (3, (2, 3)), (4, (9, 1))]
)
def test_average_of_pixels_apart(dilation, sides, data_format):
    x = images(2, *sides, 3)
    expected = np.empty_like(x)
    for i in range(sides[0]):
        for j in range(sides[1]):
            window = x[:, i : i + dilation + 1 : dilation, j : j + dilation + 1 : dilation]
            expected[:, i, j] = window.mean(axis=(1, 2))
    layer = DilatedAveragePooling2D(dilation, data_format)
    if data_format == "channels_first":
        x, expected = np.moveaxis(x, -1, 1), np.moveaxis(expected, -1, 1)
    np.testing.assert_allclose(layer(x), expected, atol=1e-6)
    assert layer.compute_output_shape(x.shape) == x.shape
    again = DilatedAveragePooling2D.from_config(layer.get_config())
    assert (again.dilation, again.data_format) == (dilation, data_format)
