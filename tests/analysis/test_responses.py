"""Responses of layers are the standard deviations of outputs of normalization."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.analysis import layer_responses, plots
from keras_resnet.utils.statistics import Moments
from tests.analysis.conftest import written
from tests.helpers import images, randomize, refused

X = images(11, 8, 8, 1)


def net(blocks=(1, 1), shortcut="A", **options):
    options |= {"block": "basic", "stem": "cifar", "widths": (4, 8), "input_shape": (8, 8, 1)}
    model = keras_resnet.ResNet(blocks, shortcut=shortcut, **options)
    randomize(model)
    return model


def directly(model, x):
    """Returns the standard deviation of every normalization's output, by convolution."""
    norms = [layer for layer in model.layers if layer.name.endswith("_bn")]
    outputs = keras.Model(model.input, [norm.output for norm in norms])(x)
    return {
        norm.name.removesuffix("_bn") + "_conv": np.asarray(output).astype("float64").std()
        for norm, output in zip(norms, outputs, strict=True)
    }


@pytest.mark.parametrize("stacked", [False, True], ids=["unrolled", "stacked"])
def test_preactivation_and_group_normalization(stacked):
    """The response of a block's last convolution, which has no normalization, is its output."""
    model = net((3, 1), version="v2", normalization="group", stack_blocks=stacked)
    unrolled = net((3, 1), version="v2", normalization="group")
    ends = [f"conv{i}_block{j}" for i, j in ((2, 1), (2, 2), (2, 3), (3, 1))]
    layers = ["conv1_gn", *(f"{end}_{part}" for end in ends for part in ("1_gn", "2_conv"))]
    keras_resnet.copy_weights(model, unrolled)
    outputs = [unrolled.get_layer(layer).output for layer in layers]
    expected = [np.asarray(y).std() for y in keras.Model(unrolled.input, outputs)(X)]
    found = layer_responses(model, X)
    assert [r.name for r in found] == [layer.replace("_gn", "_conv") for layer in layers]
    np.testing.assert_allclose([r.std for r in found], expected, rtol=1e-4)


@pytest.mark.parametrize("shortcut", ["B", None])
def test_equal_a_direct_computation(shortcut):
    model = net(shortcut=shortcut)
    expected = directly(model, X)
    for layers in ("3x3", "all"):
        found = layer_responses(model, X, layers=layers)
        wanted = [n for n in expected if layers == "all" or "_0_" not in n]
        assert [layer.name for layer in found] == wanted
        for layer in found:
            assert layer.std == pytest.approx(expected[layer.name], rel=1e-6)


def test_order_and_rank():
    found = layer_responses(net((2, 1)), X)
    names = ["conv1_conv", "conv2_block1_1_conv", "conv2_block1_2_conv"]
    assert [layer.name for layer in found[:3]] == names
    assert [layer.order for layer in found] == list(range(1, 8))
    by_rank = sorted(found, key=lambda layer: layer.rank)
    assert [layer.rank for layer in by_rank] == list(range(1, 8))
    assert [layer.std for layer in by_rank] == sorted((layer.std for layer in found), reverse=True)


def test_stacked_equals_unrolled():
    unrolled = net((3, 1), shortcut="C")
    stacked = net((3, 1), shortcut="C", stack_blocks=True)
    keras_resnet.copy_weights(unrolled, stacked)
    before = [np.array(w) for w in stacked.get_weights()]
    found = layer_responses(stacked, X, layers="all")
    for layer, other in zip(found, layer_responses(unrolled, X, layers="all"), strict=True):
        assert (layer.name, layer.order) == (other.name, other.order)
        assert layer.std == pytest.approx(other.std, rel=1e-6)
    for weight, own in zip(stacked.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, own)


def test_streaming_equals_one_batch():
    model = net((2, 1), stack_blocks=True)
    whole = layer_responses(model, X)
    filled = np.concatenate([X[8:], X[:1]])
    batches = [
        (X[:4], np.zeros(4)),
        (X[4:8], np.zeros(4), np.ones(4)),
        (filled, np.zeros(4), np.array([1.0, 1.0, 1.0, 0.0])),
    ]
    for images_, options in ((X, {"batch_size": 3}), (iter(batches), {})):
        for layer, other in zip(layer_responses(model, images_, **options), whole, strict=True):
            assert layer.std == pytest.approx(other.std, rel=1e-6)


def test_bottlenecks_are_measured_at_their_3x3():
    model = keras_resnet.ResNet((2, 1), widths=(4, 8), stem="imagenet", input_shape=(32, 32, 3))
    found = layer_responses(model, images(2, 32, 32, 3))
    blocks = ("conv2_block1", "conv2_block2", "conv3_block1")
    assert [layer.name for layer in found] == [f"{block}_2_conv" for block in blocks]
    assert len(layer_responses(model, images(2, 32, 32, 3), layers="all")) == 1 + 3 * 3 + 2


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    unrolled, stacked = net((2, 1)), net((2, 1), stack_blocks=True)
    keras_resnet.copy_weights(unrolled, stacked)
    expected = directly(unrolled, X)
    for model in (unrolled, stacked):
        for layer in layer_responses(model, X):
            # A response is rounded to 8 bits; two graphs may round otherwise.
            assert layer.std == pytest.approx(expected[layer.name], rel=1e-2)


def test_moments_merge_exactly_far_from_zero():
    values = np.random.default_rng(0).normal(1e4, 1e-2, (60, 5))
    moments = Moments()
    for part in (values[:1], values[1:7], values[7:]):
        ones = np.ones_like(part)
        moments.add(ones, part, np.zeros_like(part))
    np.testing.assert_allclose(moments.mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, values.var(axis=0), rtol=1e-6)
    assert (moments.count == 60).all()


def test_wrong_arguments():
    model, wild = net(), net()
    wild.get_layer("conv2_block1_1_bn").gamma.assign(np.full(4, np.inf))
    dense = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    for network, inputs, options, named in (
        (model, X, {"layers": "5x5"}, "layers='5x5'"),
        (model, X[:, :4], {}, "images of shape (11, 4, 8, 1)"),
        (model, X[0], {}, "images of shape (8, 8, 1)"),
        (model, X[:0], {}, "`images`"),
        (model, X, {"batch_size": 0}, "batch_size=0"),
        (dense, X, {}, "model='sequential'"),
        (wild, X, {}, "conv2_block1_1_conv"),
    ):
        with refused(named):
            layer_responses(network, inputs, **options)


def test_figure_and_table(tmp_path, figures):
    networks = {
        "without": layer_responses(net(shortcut=None), X),
        "plainly residual": layer_responses(net((2, 1)), X),
    }
    path = tmp_path / "r.png"
    plots.responses(networks, path, title="responses on noise", plain={"without"})
    styles = {line.get_label(): line.get_linestyle() for line in figures[0].axes[0].lines}
    assert styles == {"without": "--", "plainly residual": "-"}
    rows, text = written(tmp_path / "r.png")
    for label in (*networks, "responses on noise", "std of responses"):
        assert label in text
    assert len(rows) == 5 + 7
    assert float(rows[0]["std"]) == networks["without"][0].std
    assert (tmp_path / "r.png").stat().st_size > 10_000
