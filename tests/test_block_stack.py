"""A stack of blocks is the same blocks one after the other, in everything but its graph."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_resnet
from keras_resnet.layers import BlockStack, StochasticDepth
from tests.helpers import (
    assert_same_by_layer,
    assert_same_gradients,
    assert_same_weights,
    distance,
    gradients,
    images,
    randomize,
    refused,
    trainable_parameters,
)

# Stacked and unrolled blocks run the same kernels on the same numbers; only where TensorFlow's
# optimizer fuses or reorders them in one graph and not in the other do single roundings differ,
# and 1e-5 is some eighty of those in float32.
TOLERANCE = 1e-5

SHAPE = (8, 7, 3)


def net(stack_blocks, **options):
    """A small net; two blocks of its first stage, and one of its second, can be stacked."""
    sizes = {"blocks": (3, 2), "widths": (4, 6), "input_shape": SHAPE, "classes": 5}
    defaults = {**sizes, "block": "basic", "stem": "cifar", "classifier_activation": None}
    return keras_resnet.ResNet(**{**defaults, **options}, stack_blocks=stack_blocks)


def twins(recompute=False, **options):
    """Returns the unrolled and the stacked net with the same drawn weights."""
    unrolled, stacked = net(False, **options), net(True, recompute=recompute, **options)
    randomize(unrolled)
    keras_resnet.copy_weights(unrolled, stacked)
    return unrolled, stacked


def one_stage(**options):
    """Options of a net with a single stack, where one is enough: it traces faster."""
    return {"blocks": (3,), "widths": (4,), **options}


def compiled(model, rate, momentum=0.0, jit_compile=False):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate, momentum), loss, jit_compile=jit_compile)


def stacks(model):
    return [layer for layer in model.layers if isinstance(layer, BlockStack)]


def pattern(*layers, shape=(4,)):
    """A block made of `layers` in sequence."""
    inputs = x = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x, name="block")


# --- the same arithmetic ---------------------------------------------------------------------

BOTTLENECK = {"block": "bottleneck", "version": "v1.5"}
CASES = [
    *(
        ({"block": block, "shortcut": shortcut}, False)
        for block in ("basic", "bottleneck")
        for shortcut in ("A", "B", "C", None)
    ),
    ({**BOTTLENECK, "shortcut": "B"}, False),
    ({**BOTTLENECK, "shortcut": "C"}, True),
    ({"shortcut": "A"}, True),
    ({"version": "v2", "shortcut": "A"}, False),
    ({"version": "v2", "block": "bottleneck", "squeeze_excitation": 4}, True),
    ({"block": "bottleneck", "groups": 2, "width_per_group": 32}, False),
    ({"normalization": "group", "activation": "silu"}, False),
]


@pytest.mark.parametrize(("options", "recompute"), CASES, ids=str)
def test_stacked_equals_unrolled(options, recompute):
    unrolled, stacked = twins(recompute, **one_stage(**options))
    assert [(s.repeats, s.recompute) for s in stacks(stacked)] == [(2, recompute)]
    for training in (False, True):
        before = [weight.numpy() for weight in unrolled.non_trainable_weights]
        # Also that recomputing moves the statistics no second time.
        assert_same_gradients(stacked, unrolled, images(3, *SHAPE), TOLERANCE, training)
        for old, weight in zip(before, unrolled.non_trainable_weights, strict=True):
            assert (old != weight.numpy()).all() if training else (old == weight.numpy()).all()


@pytest.mark.slow
def test_resnet1001v2_builds_at_the_default_limit(no_draws, tmp_path):
    assert sys.getrecursionlimit() == 1000
    model = keras_resnet.ResNet1001V2(input_shape=(8, 8, 3))
    assert [s.repeats for s in stacks(model)] == [110] * 3
    model.save(tmp_path / "net.keras")
    loaded = keras.models.load_model(tmp_path / "net.keras", safe_mode=True)
    assert [w.shape for w in loaded.weights] == [w.shape for w in model.weights]
    assert loaded.predict(images(1, 8, 8, 3), verbose=0).shape == (1, 10)


def test_stages_and_their_stacks():
    unrolled, stacked = twins(blocks=(3, 1, 2), widths=(4, 6, 8))
    # Nothing is left to stack after the first block of the second stage.
    found = [(s.name, s.repeats) for s in stacks(stacked)]
    assert found == [("conv2_stack", 2), ("conv4_stack", 1)]
    x = images(2, *SHAPE)
    assert distance(stacked(x), unrolled(x)) <= TOLERANCE
    assert_same_weights(stacked, unrolled)


def test_training_by_fit():
    options = one_stage(kernel_regularizer="l2")
    unrolled, stacked = twins(**options)
    recomputed = net(True, **options, recompute=True)
    keras_resnet.copy_weights(unrolled, recomputed)
    x, labels = images(12, *SHAPE), np.arange(12) % 5
    losses = []
    for model in (unrolled, stacked, recomputed):
        compiled(model, 0.05, momentum=0.9)
        history = model.fit(x, labels, batch_size=4, epochs=2, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    for model, loss in ((stacked, losses[1]), (recomputed, losses[2])):
        np.testing.assert_allclose(loss, losses[0], rtol=TOLERANCE)
        # Six steps multiply a difference of roundings.
        assert_same_weights(model, unrolled, 10 * TOLERANCE)


@pytest.mark.slow
def test_training_compiled_by_xla():
    unrolled, stacked = twins(**one_stage())
    x, labels = images(4, *SHAPE), np.arange(4)
    for model in (unrolled, stacked):
        compiled(model, 0.05, jit_compile=True)
        model.train_on_batch(x, labels)
    assert_same_weights(stacked, unrolled, 1e-4)  # XLA fuses, and so rounds, in its own way


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_mixed_precision(policy, recompute):
    keras.config.set_dtype_policy(policy)
    unrolled, stacked = twins(recompute, **one_stage())
    assert {v.dtype for v in stacked.variables} == {"float32"}
    assert stacks(stacked)[0].output.dtype == policy.removeprefix("mixed_")
    for training in (False, True):
        assert_same_gradients(stacked, unrolled, images(3, *SHAPE), TOLERANCE, training)


def test_resnet110():
    unrolled = keras_resnet.ResNet110(input_shape=(8, 8, 3))
    stacked = keras_resnet.ResNet110(input_shape=(8, 8, 3), stack_blocks=True)
    randomize(unrolled)
    keras_resnet.copy_weights(unrolled, stacked)
    x = images(4, 8, 8, 3)
    for training in (False, True):
        assert distance(stacked(x, training=training), unrolled(x, training=training)) <= TOLERANCE
    assert_same_weights(stacked, unrolled, TOLERANCE)
    assert trainable_parameters(stacked) == trainable_parameters(unrolled) == 1_727_962
    assert stacked.count_params() == unrolled.count_params()
    assert len(stacked.layers) < 50 < len(unrolled.layers)


def test_one_step_of_a_deep_stacked_net():
    model = net(True, blocks=(150,), widths=(4,), recompute=True)  # 302 layers
    compiled(model, 0.01)
    before = model.get_weights()
    loss = model.train_on_batch(images(2, *SHAPE), np.array([1, 2]))
    assert np.isfinite(loss)
    for old, new in zip(before, model.get_weights(), strict=True):
        assert np.isfinite(new).all()
        assert (old != new).any()


def test_open_sizes():
    unrolled, stacked = twins(input_shape=(None, None, 3))
    for size in ((8, 8), (5, 9)):
        x = images(2, *size, 3)
        assert distance(stacked(x), unrolled(x)) <= TOLERANCE


# --- penalties -------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("tests")
class LargestSquared(keras.regularizers.Regularizer):
    """Not additive: the penalty of two kernels is not that of both laid together."""

    def __call__(self, x):
        return 0.1 * ops.square(ops.max(ops.abs(x)))

    def get_config(self):
        return {}


@keras.saving.register_keras_serializable("tests")
class L2OfTheMean(keras.regularizers.L2):
    """An L2 by its class that does not add up like one."""

    def __call__(self, x):
        return self.l2 * ops.mean(ops.square(x))


REGULARIZERS = {
    "l1": keras.regularizers.L1(0.01),
    "l2": keras.regularizers.L2(0.02),
    "l1_l2": keras.regularizers.L1L2(0.01, 0.02),
    "largest": LargestSquared(),
    "a subclass of l2": L2OfTheMean(0.5),
}


@pytest.mark.parametrize("name", REGULARIZERS)
def test_penalties(name):
    options = one_stage(kernel_regularizer=REGULARIZERS[name])
    unrolled, stacked = twins(**options)
    found = []
    for model in (stacked, unrolled):
        with tf.GradientTape() as tape:
            penalty = ops.sum(ops.stack([ops.sum(loss) for loss in model.losses]))
        if model is stacked:
            kernels = [stacks(model)[0].sliced_weights()[0][2].value]
        else:
            kernels = [model.get_layer(f"conv2_block{i}_1_conv").kernel.value for i in (2, 3)]
        slices = tape.gradient(penalty, kernels)
        found.append((penalty, slices[0] if model is stacked else np.stack(slices)))
    (penalty, slices), (expected, expected_slices) = found
    assert float(penalty) == pytest.approx(float(expected), rel=TOLERANCE)
    assert distance(slices, expected_slices) <= TOLERANCE
    assert float(penalty) > 1e-3


def test_penalty_of_dense_kernels():
    dense = keras.layers.Dense(4, kernel_regularizer="orthogonal_regularizer")
    stack = BlockStack(pattern(dense), 3)
    stack(images(2, 4))
    regularizer = keras.regularizers.get("orthogonal_regularizer")
    kernels = next(variable for _, name, variable in stack.sliced_weights() if name == "kernel")
    expected = sum(float(regularizer(kernel)) for kernel in ops.convert_to_numpy(kernels))
    assert len(stack.losses) == 1
    assert float(stack.losses[0]) == pytest.approx(expected, rel=TOLERANCE)


# --- dropout ---------------------------------------------------------------------------------


def dropout_stack(repeats=2):
    """Blocks that do nothing but drop one half: a number that survives is doubled by each."""
    keep = keras.layers.Dense(8, kernel_initializer="identity")
    return BlockStack(pattern(keras.layers.Dropout(0.5), keep, shape=(8,)), repeats)


def test_masks_differ_between_blocks_and_calls():
    stack = dropout_stack()
    x = np.ones((500, 8), "float32")
    first, second = (ops.convert_to_numpy(stack(x, training=True)) for _ in range(2))
    assert set(np.unique(first)) == {0.0, 4.0}
    # One mask for both blocks would leave one half, not a quarter. Of 4000, +- 0.007.
    assert np.mean(first > 0) == pytest.approx(0.25, abs=0.035)
    assert np.mean((first > 0) & (second > 0)) == pytest.approx(0.0625, abs=0.02)
    np.testing.assert_array_equal(stack(x, training=False), x)


def test_masks_differ_between_many_blocks():
    # The share that survives n independent masks is 2^-n; its doubling keeps the mean at one.
    survived = ops.convert_to_numpy(dropout_stack(4)(np.ones((4000, 8), "float32"), training=True))
    assert set(np.unique(survived)) == {0.0, 16.0}
    assert survived.mean() == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_masks_repeat_after_the_same_seed(recompute):
    outcomes = []
    for seed in (7, 7, 8):
        keras.utils.set_random_seed(seed)
        model = net(True, **one_stage(dropout=0.3), recompute=recompute)
        y, by_layer, _ = gradients(model, images(2, *SHAPE))
        outcomes.append(np.concatenate([ops.convert_to_numpy(y), *by_layer["predictions"][:1]]))
    np.testing.assert_array_equal(outcomes[0], outcomes[1])
    assert (outcomes[0] != outcomes[2]).any()


def test_recomputing_drops_the_same():
    # With another mask the second time the gradient would not be that of the output.
    results = []
    for recompute in (False, True):
        keras.utils.set_random_seed(3)
        model = net(True, **one_stage(dropout=0.3), recompute=recompute)
        results.append(gradients(model, images(2, *SHAPE)))
    assert distance(results[1][0], results[0][0]) <= TOLERANCE
    assert_same_by_layer(results[1][1], results[0][1], TOLERANCE)


def test_masks_differ_between_calls_of_a_compiled_function():
    stack = dropout_stack()
    call = tf.function(lambda x: stack(x, training=True))
    x = np.ones((50, 8), "float32")
    assert (call(x) != call(x)).numpy().any()


# --- stochastic depth ------------------------------------------------------------------------


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_every_block_drops_at_its_own_rate(recompute):
    """Each block multiplies by 1 / (1 - its rate) or by zero, whatever the pattern's own rate."""
    block = pattern(StochasticDepth(0.9), keras.layers.Dense(4, kernel_initializer="identity"))
    rates = [0.2, 0.0, 0.5]
    stack = BlockStack(block, 3, recompute=recompute, drop_rates=rates)
    x = np.ones((8000, *block.input_shape[1:]), "float32")
    survived = ops.convert_to_numpy(stack(x, training=True))[..., 0].reshape(len(x), -1)
    assert sorted(set(np.unique(survived.round(5)))) == [0.0, 2.5]
    assert (survived == survived[:, :1]).all()  # all of an image or nothing
    # Of 8000 draws at 0.4, three standard deviations.
    assert np.mean(survived[:, 0] > 0) == pytest.approx(0.8 * 0.5, abs=0.017)
    np.testing.assert_array_equal(stack(x, training=False), x)
    assert next(layer.rate for layer in block.layers if hasattr(layer, "rate")) == 0.9


def test_one_rate_for_each_block():
    block = pattern(StochasticDepth(0.5))
    with refused("`drop_rates`", "drop_rates=[0.1]"):
        BlockStack(block, 2, drop_rates=[0.1])


# --- frozen ----------------------------------------------------------------------------------


def frozen_by(how, model):
    if how == "layer":
        stacks(model)[0].trainable = False
    else:
        model.trainable = False
    return model


@pytest.mark.parametrize("how", ["layer", "model"])
def test_frozen(how):
    unrolled, stacked = twins(**one_stage())
    frozen_by(how, stacked)
    for layer in unrolled.layers:
        if how == "model" or layer.name.startswith(("conv2_block2", "conv2_block3")):
            layer.trainable = False
    assert stacks(stacked)[0].trainable_variables == []
    assert trainable_parameters(stacked) == trainable_parameters(unrolled)
    before = stacks(stacked)[0].get_weights()
    x = images(3, *SHAPE)
    assert distance(stacked(x, training=True), unrolled(x, training=True)) <= TOLERANCE
    assert_same_weights(stacked, unrolled, TOLERANCE)
    for old, new in zip(before, stacks(stacked)[0].get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_frozen_and_thawed():
    unrolled, stacked = twins(**one_stage())
    x = images(3, *SHAPE)
    stacked.trainable = False
    stacked(x, training=True)
    stacked.trainable = True
    assert distance(stacked(x, training=True), unrolled(x, training=True)) <= TOLERANCE
    assert_same_weights(stacked, unrolled, TOLERANCE)
    assert trainable_parameters(stacked) == trainable_parameters(unrolled)


@pytest.mark.parametrize("copy", ["saved", "cloned"])
def test_a_frozen_stack_stays_frozen_and_thaws_again(copy, tmp_path):
    model = frozen_by("layer", net(True, **one_stage()))
    trainable = trainable_parameters(model)
    if copy == "saved":
        model.save(tmp_path / "net.keras")
        again = keras.models.load_model(tmp_path / "net.keras")
    else:
        again = keras.models.clone_model(model)
    assert not stacks(again)[0].trainable
    assert trainable_parameters(again) == trainable
    for either in (model, again):
        stacks(either)[0].trainable = True
    assert trainable_parameters(again) == trainable_parameters(model) > trainable
    again(images(2, *SHAPE), training=True)
    mean = next(v for _, name, v in stacks(again)[0].sliced_weights() if name == "moving_mean")
    assert ops.convert_to_numpy(mean).any()


# --- initial values --------------------------------------------------------------------------


def test_slices_start_unlike_with_hes_variance():
    model = net(True, blocks=(5,), widths=(16,), zero_init_residual=True)
    for layer, name, variable in stacks(model)[0].sliced_weights():
        values = ops.convert_to_numpy(variable)
        assert values.shape[0] == 4
        if name == "kernel":
            he = 2.0 / np.prod(values.shape[1:4])
            size = values[0].size
            for i, kernel in enumerate(values):
                # The variance of n normal numbers varies by sqrt(2 / n) of itself.
                assert kernel.var() == pytest.approx(he, rel=5 * np.sqrt(2 / size))
                for other in values[:i]:
                    assert abs(np.corrcoef(kernel.ravel(), other.ravel())[0, 1]) < 5 / size**0.5
        else:
            initial = {"gamma": 1.0, "beta": 0.0, "moving_mean": 0.0, "moving_variance": 1.0}[name]
            initial = 0.0 if (layer, name) == ("conv2_block2_2_bn", "gamma") else initial
            np.testing.assert_array_equal(values, np.full(values.shape, initial))


# --- copies ----------------------------------------------------------------------------------


def test_config_round_trip():
    stack = stacks(net(True, **one_stage(dropout=0.2), recompute=True))[0]
    config = keras.saving.serialize_keras_object(stack)
    assert config["registered_name"] == "keras_resnet>BlockStack"
    again = keras.saving.deserialize_keras_object(config)
    assert (again.name, again.repeats, again.recompute) == (stack.name, 2, True)
    # The pattern holds its own input layer and seeds; all else comes back to the letter.
    assert again.block.get_config()["layers"] == stack.block.get_config()["layers"]
    assert [w.path for w in again.weights] == [w.path for w in stack.weights]
    assert [w.shape for w in again.weights] == [w.shape for w in stack.weights]


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_regularizer": LargestSquared()},
        {"recompute": True, "dropout": 0.2, "stochastic_depth": 0.5},
    ],
    ids=["penalty", "rates"],
)
def test_clone_and_load(options, tmp_path):
    model = randomize(net(True, **one_stage(**options)))
    path = tmp_path / "net.keras"
    model.save(path)
    cloned = keras.models.clone_model(model)
    assert (cloned.get_weights()[0] != model.get_weights()[0]).any()
    cloned.set_weights(model.get_weights())
    loaded = keras.models.load_model(path, safe_mode=True)
    x = images(2, *SHAPE)
    for again in (cloned, loaded):
        assert_same_weights(again, model)
        np.testing.assert_array_equal(again(x), model(x))
        assert stacks(again)[0].drop_rates == stacks(model)[0].drop_rates
        assert float(sum(again.losses)) == pytest.approx(float(sum(model.losses)), rel=1e-6)
    # A clone shares nothing with the model.
    cloned(x, training=True)
    assert_same_weights(loaded, model)


def test_clone_and_original_train_apart():
    unrolled, stacked = twins(**one_stage())
    cloned = keras.models.clone_model(stacked)
    cloned.set_weights(stacked.get_weights())
    x = images(2, *SHAPE)
    cloned.trainable = False
    cloned(x, training=True)
    assert distance(stacked(x, training=True), unrolled(x, training=True)) <= TOLERANCE
    assert_same_weights(stacked, unrolled, TOLERANCE)


def test_depth_1202(no_draws, tmp_path):
    limit = sys.getrecursionlimit()
    assert limit == 1000  # Python's own
    model = keras_resnet.ResNet1202(input_shape=(8, 8, 3))
    found = [(s.name, s.repeats) for s in stacks(model)]
    assert found == [(f"conv{stage}_stack", 199) for stage in range(2, 5)]
    for stack in stacks(model):
        for _, name, variable in stack.sliced_weights():
            if name == "moving_mean":  # values that tell the slices apart
                variable.assign(np.random.default_rng(0).normal(size=variable.shape))
    path = tmp_path / "net.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    for value, expected in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)
    cloned = keras.models.clone_model(model)
    assert [w.shape for w in cloned.weights] == [w.shape for w in model.weights]
    y = loaded.predict(images(1, 8, 8, 3), verbose=0)
    assert y.shape == (1, 10)
    assert np.isfinite(y).all()
    assert sys.getrecursionlimit() == limit


@pytest.mark.slow
def test_depth_2000(no_draws):
    assert sys.getrecursionlimit() == 1000
    model = keras_resnet.CifarResNet(2000, input_shape=(8, 8, 3))
    assert [s.repeats for s in stacks(model)] == [332] * 3
    cloned = keras.models.clone_model(model)
    assert [w.shape for w in cloned.weights] == [w.shape for w in model.weights]


# --- arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize("repeats", [0, -1, 2.0, True, "3", None])
def test_repeats(repeats):
    with refused("`repeats`", f"repeats={repeats!r}"):
        BlockStack(pattern(keras.layers.Dense(4)), repeats)


def test_blocks_without_weights():
    stack = BlockStack(pattern(keras.layers.Rescaling(2.0)), 3)
    np.testing.assert_array_equal(stack(np.ones((1, 4), "float32")), np.full((1, 4), 8.0))


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (lambda: pattern(keras.layers.Dense(5)), ("shape", "Functional")),
        (lambda: keras.layers.Dense(4), ("functional", "Dense")),
        (lambda: pattern(keras.layers.Dense(4, kernel_constraint="non_neg")), ("'dense'",)),
        (lambda: pattern(keras.layers.Dense(4, activity_regularizer="l2")), ("'dense'",)),
    ],
    ids=["shape", "functional", "constraint", "activity"],
)
def test_what_cannot_be_stacked(block, words):
    with refused("`block`", *words):
        BlockStack(block(), 3)
