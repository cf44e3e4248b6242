"""Folded nets have the outputs of the nets they were made of, without normalization."""

import keras
import pytest

import keras_resnet
from keras_resnet.export import fold_batch_norm
from keras_resnet.layers import BlockStack
from keras_resnet.weights.transfer import layer_weights
from tests.helpers import assert_same_by_layer, distance, images, randomize, refused

# The issue allows 1e-4; measured are a few roundings of float32.
TOLERANCE = 1e-5


def variant(**options):
    defaults = {"blocks": (2, 1), "widths": (4, 8), "stem": "cifar", "block": "basic"}
    return keras_resnet.ResNet(**{**defaults, **options}, input_shape=(9, 8, 3), classes=3)


NETS = {
    "A": lambda: keras_resnet.CifarResNet(14, input_shape=(9, 8, 3)),
    "B, with preprocessing": lambda: keras_resnet.CifarResNet(
        8, shortcut="B", include_preprocessing=True, input_shape=(None, None, 3)
    ),
    "C, stacked": lambda: keras_resnet.CifarResNet(20, shortcut="C", stack_blocks=True),
    "plain": lambda: keras_resnet.CifarResNet(8, shortcut=None, dropout=0.1),
    "bottlenecks": lambda: variant(block="bottleneck", version="v1.5", stochastic_depth=0.2),
    "v2": lambda: variant(version="v2"),
    "v2-keras": lambda: variant(version="v2-keras", conv_bias=True),
    "biases": lambda: variant(conv_bias=True),
    "gates": lambda: variant(squeeze_excitation=2),
    "groups": lambda: variant(block="bottleneck", groups=2, width_per_group=32),
    "D": lambda: variant(deep_stem=True, shortcut_pool=True),
}
# In front of a block, in the stem's place, and at the end; all others are gone.
LEFT = {"v2": ["conv2_block2_preact_bn", "conv3_block1_preact_bn", "post_bn"]}
LEFT["v2-keras"] = ["conv2_block1_preact_bn", *LEFT["v2"]]


def norms(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


@pytest.mark.parametrize("name", NETS)
def test_same_answers_without_normalization(name):
    model = randomize(NETS[name]())
    folded = fold_batch_norm(model)
    side = [s or 11 for s in model.input_shape[1:3]]
    x = images(3, *side, 3, low=0.0, high=255.0)
    assert distance(folded(x), model(x)) < TOLERANCE
    assert norms(model) and [norm.name for norm in norms(folded)] == LEFT.get(name, [])
    for layer in folded.layers:
        if isinstance(layer, BlockStack):
            assert not norms(layer.block)
    assert folded.count_params() < model.count_params()


def test_round_trip(tmp_path):
    folded = fold_batch_norm(NETS["C, stacked"]())
    folded.save(tmp_path / "folded.keras")
    x = images(2, 32, 32, 3)
    assert distance(keras.models.load_model(tmp_path / "folded.keras")(x), folded(x)) == 0.0


def test_what_cannot_be_folded_stays():
    """A normalization of the input, of a tensor that others read too, and after an activation."""
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.BatchNormalization(name="of_the_input")(inputs)
    shared = keras.layers.Conv2D(4, 3, padding="same")(x)
    x = keras.layers.BatchNormalization(name="of_a_shared_one")(shared)
    x = keras.layers.Add()([x, shared])
    x = keras.layers.Conv2D(3, 1, activation="relu")(x)
    x = keras.layers.BatchNormalization(name="after_relu")(x)
    x = keras.layers.GroupNormalization(3)(keras.layers.Conv2D(3, 1)(x))
    x = keras.layers.Conv2D(3, 1, use_bias=True)(x)
    x = keras.layers.BatchNormalization(scale=False, name="folded")(x)
    model = randomize(keras.Model(inputs, x))
    folded = fold_batch_norm(model)
    left = [norm.name for norm in norms(folded)]
    assert left == ["of_the_input", "of_a_shared_one", "after_relu"]
    x = images(2, 6, 6, 2)
    assert distance(folded(x), model(x)) < TOLERANCE


def test_keras_applications():
    model = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=5)
    randomize(model)
    folded = fold_batch_norm(model)
    x = images(2, 32, 32, 3)
    # Those after depthwise convolutions stay.
    assert 0 < len(norms(folded)) < len(norms(model))
    assert distance(folded(x), model(x)) < TOLERANCE


def test_the_model_is_left_as_it_was():
    model = NETS["A"]()
    before = layer_weights(model)
    fold_batch_norm(model)
    assert_same_by_layer(layer_weights(model), before, 0.0)


def test_not_functional():
    with refused("`model`", "Sequential"):
        fold_batch_norm(keras.Sequential([keras.layers.Dense(3)]))
