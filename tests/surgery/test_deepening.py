"""A deepened net computes the same as the net it was made of, and can learn more."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import deepen
from keras_resnet.training import sgd
from tests.helpers import assert_same_weights, distance, images, randomize, refused

X = images(16, 8, 8, 1)
BOTTLENECK = {"block": "bottleneck", "shortcut": "B"}
CIFAR = {"input_shape": (8, 8, 1), "classifier_activation": None}


def small(blocks, **options):
    """Builds a net of two narrow stages, giving logits."""
    defaults = {"block": "basic", "stem": "cifar", "widths": (4, 8), "shortcut": "A"}
    return keras_resnet.ResNet(blocks, **{**CIFAR, **defaults, **options})


def copied(model):
    copy = keras.models.clone_model(model)
    keras_resnet.copy_weights(model, copy)
    return copy


def differences(model, deeper, x=X):
    """Returns how far the outputs differ in inference and in training mode."""
    # In training mode moving statistics move: not those of the caller's model.
    model, deeper = copied(model), copied(deeper)
    return [distance(deeper(x, training=mode), model(x, training=mode)) for mode in (False, True)]


def comparable(config):
    """Returns a model's layers with what a deepened net shares with one that was built so deep."""

    def clean(value):
        if isinstance(value, dict):
            if value.get("class_name") == "__keras_tensor__":
                return clean(value["config"]["keras_history"])
            return {k: clean(v) for k, v in value.items() if k != "build_config"}
        if isinstance(value, (list, tuple)):
            return [clean(v) for v in value]
        # Keras counts inputs through.
        return "input" if isinstance(value, str) and value.startswith("input_layer") else value

    return {clean(layer["name"]): clean(layer) for layer in config["layers"]}


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("shortcut", "stacked"), [("A", False), ("A", True), ("B", False), slow("B", True)]
)
def test_residual_net_answers_the_same_in_training_too(shortcut, stacked):
    model = randomize(small((1, 2), shortcut=shortcut, stack_blocks=stacked))
    deeper = deepen(model, (3, 4))
    assert max(differences(model, deeper)) <= 1e-6
    assert deeper.name == "resnet_deeper"


@pytest.mark.parametrize(
    ("shortcut", "stacked"), [("C", False), ("C", True), (None, False), slow(None, True)]
)
def test_path_with_weights_is_an_identity_given_images(shortcut, stacked):
    model = randomize(small((1, 2), shortcut=shortcut, stack_blocks=stacked))
    assert max(differences(model, deepen(model, (3, 4), images=X))) <= 1e-5
    in_inference, in_training = differences(model, deepen(model, (3, 4)))
    assert in_inference <= 1e-5
    # As the docstring says of nets deepened without images.
    assert in_training > 0.01


@pytest.mark.parametrize("blocks", [(3, 1, 1), (1, 3, 1), (2, 1, 2)])
def test_each_stage_has_the_statistics_of_its_own_maps(blocks):
    """One stage grows, or others than the first ones: all stages have the same width."""
    model = randomize(small((1, 1, 1), shortcut=None, widths=(4, 4, 4)))
    assert max(differences(model, deepen(model, blocks, images=X))) <= 1e-5


@pytest.mark.parametrize("version", ["v1", "v1.5"])
def test_bottleneck(version):
    options = {**BOTTLENECK, "version": version}
    model = randomize(small((2, 1), **options))
    deeper = deepen(model, (3, 2))
    assert max(differences(model, deeper)) <= 1e-6
    assert deeper.count_params() == small((3, 2), **options).count_params()


# Parts that the wider family adds to a block, and stages that it can grow from.
VARIANTS = {
    "v2": ((1, 2), {"version": "v2"}),
    "v2, bottleneck": ((2, 2), {"version": "v2", **BOTTLENECK}),
    "biases": ((1, 1), {"conv_bias": True, "shortcut": "B"}),
    "v2 with biases": ((1, 1), {"conv_bias": True, "version": "v2"}),
    "gates": ((1, 1), {"squeeze_excitation": 4, "shortcut": "B"}),
    "D": ((1, 1), {"shortcut": "B", "shortcut_pool": True, "deep_stem": True}),
    "groups": ((1, 2), {**BOTTLENECK, "groups": 2, "width_per_group": 32}),
    "group normalization": ((2, 1), {"normalization": "group"}),
}


@pytest.mark.parametrize(
    ("name", "stacked"),
    [(name, False) for name in VARIANTS] + [("v2", True), ("gates", True)],
)
def test_variants(name, stacked):
    blocks, options = VARIANTS[name]
    model = randomize(small(blocks, stack_blocks=stacked, **options))
    deeper = deepen(model, (3, 3))
    assert max(differences(model, deeper)) <= 1e-6
    built = small((3, 3), stack_blocks=stacked, **options).get_config()
    assert comparable(deeper.get_config()) == comparable(built)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"version": "v2", "shortcut": "C"}, "shortcut='C'"),
        ({"version": "v2-keras"}, "version='v2-keras'"),
        ({"version": "v2", "normalization": "group"}, "normalization='group'"),
        ({"activation": "silu"}, "activation=silu"),
        ({"shortcut": "C", "normalization": "group"}, "normalization='group'"),
        ({"shortcut": None, "normalization": "group"}, "normalization='group'"),
        ({"shortcut": None, "block": "bottleneck"}, "block='bottleneck'"),
    ],
)
def test_variants_that_cannot_be_deepened(options, named):
    with refused("`model`", named):
        deepen(small((2, 2), **options), (3, 3))


@pytest.mark.parametrize(
    ("block", "shortcut", "blocks"),
    [
        ("basic", "A", (1, 1)),
        ("basic", "C", (1, 1)),
        ("basic", None, (1, 2)),
        ("bottleneck", "A", (1, 2)),
        ("bottleneck", "B", (1, 1)),
        ("bottleneck", "C", (2, 1)),
    ],
)
def test_layers_are_those_of_a_net_built_that_deep(block, shortcut, blocks):
    options = {
        **{"block": block, "shortcut": shortcut, "version": "v1.5", "dropout": 0.1},
        "kernel_regularizer": keras.regularizers.L2(1e-4),
    }
    grown = deepen(small(blocks, **options), (3, 2)).get_config()
    assert comparable(grown) == comparable(small((3, 2), **options).get_config())


def test_deeper_than_keras_can_build_unrolled():
    deeper = deepen(small((2, 2)), (200, 200))
    assert {"conv2_stack", "conv3_stack"} <= {layer.name for layer in deeper.layers}


@pytest.mark.parametrize("stacked", [False, True], ids=["unrolled", "stacked"])
def test_stochastic_depth_and_dropout_go_on(stacked):
    model = randomize(small((2, 2), stack_blocks=stacked, stochastic_depth=0.4, dropout=0.2))
    deeper = deepen(model, (4, 2))
    assert differences(model, deeper)[0] <= 1e-6
    if stacked:
        rates = deeper.get_layer("conv2_stack").drop_rates
    else:
        rates = [deeper.get_layer(f"conv2_block{i}_drop").rate for i in (2, 3, 4)]
    # Along the line of a network built that deep.
    assert rates == pytest.approx([0.4 * i / 6 for i in (2, 3, 4)])


def test_deepened_net_learns_without_a_jump():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 64)
    x = (rng.normal(0, 1, (10, 8, 8, 1))[labels] + rng.normal(0, 0.5, (64, 8, 8, 1))).astype("f")

    def fit(model, epochs, rate):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(sgd(rate), loss, jit_compile=False)
        return model.fit(x, labels, 32, epochs, verbose=0, shuffle=False).history["loss"]

    for shortcut in ("A", None):
        model = small((1, 1), shortcut=shortcut)
        before = fit(model, 10, 0.05)
        deeper = deepen(model, (2, 2), images=x, batch_size=32)
        after = fit(deeper, 6, 0.05)
        assert np.isfinite(after).all()
        # The first epoch is not above the last one by more than noise, and the loss keeps falling.
        assert after[0] <= before[-1] + 0.1
        assert after[-1] < before[-1] - 0.05
        # The added blocks have begun to work.
        kernel = deeper.get_layer("conv3_block2_2_conv").kernel
        start = deepen(model, (2, 2)).get_layer("conv3_block2_2_conv").kernel
        assert distance(kernel, start) > 1e-4


def test_everything_around_the_blocks_goes_on(tmp_path):
    inputs = keras.Input((8, 8, 1))
    normalization = keras.layers.Normalization(name="preprocessing")
    normalization.adapt(np.arange(64.0).reshape(1, 8, 8, 1))
    options = {"input_shape": None, "input_tensor": normalization(inputs), "classes": 3}
    model = small((1, 1), **options)
    randomize(model).get_layer("conv2_block1_1_conv").trainable = False
    deeper = deepen(model, (2, 2))
    x = images(4, 8, 8, 1, low=0.0, high=64.0)
    assert max(differences(model, deeper, x)) <= 1e-6
    assert not deeper.get_layer("conv2_block1_1_conv").trainable
    assert deeper.output_shape == (None, 3)
    deeper.save(tmp_path / "deeper.keras")
    again = keras.models.load_model(tmp_path / "deeper.keras", safe_mode=True)
    assert_same_weights(again, deeper)
    assert distance(again(x), deeper(x)) <= 1e-6


def test_added_blocks_are_frozen_with_their_stage():
    model = small((1, 1))
    keras_resnet.freeze(model, 2)
    deeper = deepen(model, (2, 2))
    trainable = {layer.name: layer.trainable for layer in deeper.layers}
    assert not trainable["conv2_block2_1_conv"] and not trainable["conv3_block2_1_bn"]
    assert trainable["conv3_block2_1_conv"]


def test_feature_maps_without_a_top():
    model = randomize(keras_resnet.CifarResNet(8, include_top=False, input_shape=(None, None, 3)))
    deeper = deepen(model, (1, 1, 2))
    assert [o.name for o in deeper.operations][-1] == "conv4_block2_out"
    assert max(differences(model, deeper, images(2, 9, 12, 3))) <= 1e-6


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = randomize(small((1, 1)))
    deeper = deepen(model, (2, 2))
    assert deeper.get_layer("conv2_block2_1_conv").compute_dtype == "bfloat16"
    assert differences(model, deeper) == [0.0, 0.0]


def test_model_is_left_as_it_is():
    model = randomize(small((1, 1), shortcut=None, dropout=0.3))
    before, config = copied(model), model.get_config()
    deepen(model, (2, 2), images=X)
    assert_same_weights(model, before)
    assert model.get_config() == config


def test_images_may_be_batches_with_weights():
    model = randomize(small((1, 1), shortcut=None))
    halves = [(X[:8], np.zeros(8)), (X[8:], np.zeros(8), np.ones(8))]
    # The second half of the first batch fills it up.
    filled = [(np.concatenate([X[:8], X[:8]]), np.zeros(16), np.repeat([1.0, 0.0], 8)), halves[1]]
    nets = [deepen(model, (2, 2), images=i, batch_size=8) for i in (X, halves, filled)]
    for layer in ("conv2_block2_1_bn", "conv3_block2_2_bn"):
        expected, *others = (np.array(net.get_layer(layer).get_weights()) for net in nets)
        for other in others:
            np.testing.assert_allclose(other, expected, rtol=1e-5, atol=1e-6)


def test_names():
    assert deepen(keras_resnet.CifarResNet(8, **CIFAR), (2, 2, 2)).name == "resnet14"
    assert deepen(keras_resnet.CifarResNet(8, shortcut="B", **CIFAR), (2,) * 3).name == "resnet14_b"
    plain = keras_resnet.CifarResNet(8, shortcut=None, **CIFAR)
    assert deepen(plain, [2, 2, 2]).name == "plainnet14"
    assert deepen(plain, (2, 2, 1)).name == "plainnet8_deeper"
    assert deepen(plain, np.array([1, 1, 2]), name="mine").name == "mine"


@pytest.mark.parametrize(
    ("blocks", "named"),
    [
        ((1, 2), "(2, 2)"),
        ((3, 3, 3), "blocks=(3, 3, 3)"),
        (9, "blocks=9"),
        ("999", "blocks='999'"),
        ((2, 2.5), "blocks=2.5"),
    ],
)
def test_wrong_blocks(blocks, named):
    with refused("blocks", named):
        deepen(small((2, 2)), blocks)


def test_wrong_models_and_images():
    dense = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    net = small((1, 1), shortcut=None)
    for model, given, named in (
        (dense, None, "`model`"),
        ("net", None, "model='net'"),
        (net, images(4, 9, 9, 3), "images of shape (4, 9, 9, 3)"),
        (net, [], "at least one image"),
    ):
        with refused(named):
            deepen(model, (2, 2), images=given)
