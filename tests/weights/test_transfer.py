"""Weights by layer name: the same for stacked and unrolled nets, all assigned or none."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.weights import assign_weights, copy_weights, layer_weights
from tests.helpers import assert_same_weights, images, randomize, refused


def net(stack_blocks, **options):
    defaults = {"blocks": (3,), "block": "bottleneck", "widths": (2,), "stem": "cifar"}
    defaults |= {"input_shape": (6, 6, 3), "classes": 4}
    return keras_resnet.ResNet(**{**defaults, **options}, stack_blocks=stack_blocks)


def drawn(*args, **options):
    model = net(*args, **options)
    randomize(model)
    return model


def test_names_of_a_stack_are_those_of_the_unrolled_net():
    unrolled, stacked = (layer_weights(net(stack)) for stack in (False, True))
    assert sorted(unrolled) == sorted(stacked)
    for name, values in unrolled.items():
        assert [v.shape for v in values] == [v.shape for v in stacked[name]]
    assert {name for name in stacked if "block3" in name} == {
        f"conv2_block3_{i}_{part}" for i in (1, 2, 3) for part in ("conv", "bn")
    }


@pytest.mark.parametrize("to", [False, True], ids=["to unrolled", "to stacked"])
@pytest.mark.parametrize("of", [False, True], ids=["of unrolled", "of stacked"])
def test_copy(of, to):
    source, target = drawn(of, shortcut="C"), net(to, shortcut="C")
    copy_weights(source, target)
    assert_same_weights(target, source)
    x = images(2, 6, 6, 3)  # Other outputs, if the blocks were in another order.
    np.testing.assert_allclose(target(x), source(x), rtol=1e-5)


def test_copies_between_models_of_other_origin():
    def mlp():
        inputs = keras.Input((3,))
        outputs = keras.layers.Dense(2, name="b")(keras.layers.Dense(4, name="a")(inputs))
        return keras.Model(inputs, outputs)

    source, target = mlp(), mlp()
    copy_weights(source, target)
    assert_same_weights(target, source)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda weights: weights.pop("conv2_block2_1_bn"), "conv2_block2_1_bn"),
        (lambda weights: weights.update(conv9=[np.zeros(3)]), "conv9"),
        (lambda weights: weights["predictions"].__setitem__(1, np.zeros(5)), "'predictions'"),
        (lambda weights: weights["predictions"].pop(), "'predictions'"),
    ],
    ids=["missing", "left over", "other shape", "one less"],
)
@pytest.mark.parametrize("stack_blocks", [False, True], ids=["unrolled", "stacked"])
def test_all_or_none(stack_blocks, change, named):
    model = drawn(stack_blocks)
    before = model.get_weights()
    weights = layer_weights(drawn(False))
    change(weights)
    weights["conv1_conv"] = [0 * weights["conv1_conv"][0]]
    with refused("`weights`", named):
        assign_weights(model, weights)
    for value, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_copy_between_architectures_is_refused():
    with refused("`weights`", "'resnet'", "conv2_block4_1_conv"):
        copy_weights(net(False), net(True, blocks=(4,)))


def test_copied_weights_are_copies():
    source, target = drawn(True), net(False)
    copy_weights(source, target)
    kept = layer_weights(target)
    source.set_weights([np.zeros_like(w) for w in source.get_weights()])
    for name, values in layer_weights(target).items():
        for value, expected in zip(values, kept[name], strict=True):
            np.testing.assert_array_equal(value, expected)
