"""Slimmed networks: their outputs where nothing but zeros went, what they cost, what is refused."""

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.analysis import complexity
from keras_resnet.surgery import deepen, slim
from keras_resnet.surgery.channels import channel_groups
from keras_resnet.surgery.slimming import _loss_changes
from tests.helpers import distance, images, randomize, refused

SHAPE = (16, 16, 3)
NETWORKS = {
    "A": {"shortcut": "A"},
    "B": {"shortcut": "B"},
    "C": {"shortcut": "C"},
    "plain": {"shortcut": None},
    "v1.5": {"block": "bottleneck", "version": "v1.5"},
    "v2": {"version": "v2"},
    "v2-keras": {"block": "bottleneck", "version": "v2-keras"},
    "se": {"squeeze_excitation": 4},
    "groups": {"block": "bottleneck", "groups": 4, "widths": (16, 32, 64)},
    "bias": {"conv_bias": True},
    "dense": {},
}


def network(kind, **options):
    if kind == "dense":
        common = {"stem": "cifar", "input_shape": SHAPE, "classes": 5, "growth_rate": 8}
        return randomize(keras_resnet.DenseNet((2, 3, 2), **common, **options))
    common = {"stem": "cifar", "input_shape": SHAPE, "classes": 5, "block": "basic"}
    return randomize(keras_resnet.ResNet((2, 2, 2), **(common | NETWORKS[kind] | options)))


def kill_channels(model, share, seed=0):
    """Sets scale and offset of a share of the channels that may go to zero."""
    groups = channel_groups(model)
    free = np.flatnonzero(~groups.fixed)
    dead = np.zeros(len(groups.fixed), bool)
    dead[np.random.default_rng(seed).choice(free, int(share * len(free)), replace=False)] = True
    for channels in groups.layers.values():
        if isinstance(channels.layer, keras.layers.BatchNormalization):
            values = channels.layer.get_weights()
            values[0][dead[channels.outputs]] = values[1][dead[channels.outputs]] = 0
            channels.layer.set_weights(values)


@pytest.mark.parametrize("kind", NETWORKS)
def test_without_dead_channels_outputs_are_the_same(kind):
    model = network(kind)
    kill_channels(model, 0.3)
    before = complexity(model)
    small = slim(model, 0.75, least=0.01)
    x = images(4, *SHAPE)
    # Sums over fewer zeros differ by rounding.
    assert distance(small(x), model(x)) < 1e-6
    after = complexity(small)
    assert after.multiply_adds < 0.95 * before.multiply_adds
    assert after.parameters < 0.9 * before.parameters


def test_multiply_adds_are_those_asked_for():
    model = network("B")
    total = complexity(model).multiply_adds
    for share in (0.8, 0.5, 0.2):
        limit = int(share * total)
        left = complexity(slim(model, max_multiply_adds=limit)).multiply_adds
        # A channel more would be too many: none has more than 5 %.
        assert 0.95 * limit - 0.02 * total < left <= limit
    with refused("max_multiply_adds", "1000"):
        slim(model, max_multiply_adds=1000)


@pytest.mark.parametrize("keep", [0.9, 0.6])
def test_of_equal_channels_all_layers_lose_as_many(keep):
    model = keras_resnet.CifarResNet(8, input_shape=SHAPE, classes=5)
    small = slim(model, keep)
    for layer in small.layers:
        if hasattr(layer, "filters"):
            assert abs(layer.filters - keep * model.get_layer(layer.name).filters) <= 1
    left = complexity(small).multiply_adds / complexity(model).multiply_adds
    assert left == pytest.approx(keep**2, abs=0.03)


@pytest.mark.parametrize(("divisor", "least"), [(4, 0.125), (8, 0.5)])
def test_layers_keep_multiples_and_a_least_share(divisor, least):
    model = network("A")
    before = {layer.name: layer.filters for layer in model.layers if hasattr(layer, "filters")}
    small = slim(model, 0.3, divisor=divisor, least=least)
    for layer in small.layers:
        if hasattr(layer, "filters"):
            assert layer.filters % divisor == 0
            assert layer.filters >= least * before[layer.name]
    assert small.get_layer("conv3_block1_1_conv").filters < before["conv3_block1_1_conv"]


def test_it_is_a_network_like_any_other(tmp_path):
    model = network("B")
    model.get_layer("conv1_bn").trainable = False
    small = slim(model, 0.6)
    assert small.name == f"{model.name}_slim"
    assert not small.get_layer("conv1_bn").trainable
    x = images(2, *SHAPE)
    expected = small(x)
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    assert distance(loaded(x), expected) == 0
    assert loaded.network.arguments["filters"] == small.network.arguments["filters"]
    deeper = deepen(loaded, (3, 2, 4))
    assert distance(deeper(x), expected) < 1e-6
    assert keras_resnet.replace_classifier(loaded, 7).output_shape == (None, 7)
    again = slim(loaded, 0.8)
    assert complexity(again).parameters < complexity(small).parameters
    maps = keras_resnet.backbone(loaded)(x)
    assert maps["C4"].shape[-1] == small.layers[-2].output.shape[-1]


def test_blocks_that_respond_least_go_first():
    model = keras_resnet.ResNet(
        (4, 3, 2), stem="cifar", input_shape=SHAPE, classes=5, block="basic"
    )
    randomize(model)
    for name in ("conv2_block2", "conv2_block4", "conv3_block3"):
        norm = model.get_layer(f"{name}_2_bn")
        gamma, beta, *moving = norm.get_weights()
        norm.set_weights([0 * gamma, 0 * beta, *moving])
    x, y = images(8, *SHAPE), np.arange(8) % 5
    small = slim(model, blocks=(2, 2, 2), batches=(x, y))
    assert small.network.arguments["blocks"] == (2, 2, 2)
    assert distance(small(x), model(x)) < 1e-6
    both = slim(model, 0.7, blocks=(2, 2, 2), batches=[(x, y)])
    assert complexity(both).parameters < complexity(small).parameters
    with refused("blocks", "(2, 2, 3)"):
        slim(model, blocks=(2, 2, 3), batches=(x, y))
    with refused("blocks", "(4, 1, 1)"):
        slim(network("C"), blocks=(4, 1, 1), batches=(x, y))
    with refused("batches", "None"):
        slim(model, blocks=(2, 2, 2))


def test_blocks_stay_frozen_where_those_before_them_go():
    model = keras_resnet.ResNet(
        (3, 1, 1), stem="cifar", input_shape=SHAPE, classes=5, block="basic"
    )
    for part in ("bn", "conv"):  # block 2 adds nothing, so that it goes
        layer = model.get_layer(f"conv2_block2_2_{part}")
        layer.set_weights([np.zeros_like(values) for values in layer.get_weights()])
    frozen = ("conv2_block1_1_bn", "conv2_block2_1_conv", "conv2_block3_2_bn")
    for name in frozen:
        model.get_layer(name).trainable = False
    small = slim(model, blocks=(2, 1, 1), batches=(images(2, *SHAPE), np.arange(2)))
    left = [layer.name for layer in small.layers if not layer.trainable]
    assert left == ["conv2_block1_1_bn", "conv2_block2_2_bn"]


def test_loss_changes_are_those_of_the_loss():
    """By differences: scale and offset of one channel made a little smaller."""
    model = network("B")
    x, y = images(6, *SHAPE), np.arange(6) % 5
    loss = keras.losses.get("sparse_categorical_crossentropy")
    changes = _loss_changes(model, [(x, y)], loss)["conv3_block1_1_bn"]
    norm, step = model.get_layer("conv3_block1_1_bn"), 1e-2
    gamma, beta, *moving = norm.get_weights()

    def loss_with(factor, channel):
        factors = np.where(np.arange(len(gamma)) == channel, factor, 1).astype("float32")
        norm.set_weights([gamma * factors, beta * factors, *moving])
        return float(np.mean(loss(y, model(x, training=False))))

    largest = int(np.argmax(changes))
    slope = (loss_with(1 + step, largest) - loss_with(1 - step, largest)) / (2 * step)
    # Differences of float32 losses have three digits here.
    assert abs(slope) == pytest.approx(changes[largest], rel=2e-2)


def test_ranking_by_loss_keeps_what_the_loss_needs():
    """A channel that nothing reads goes, whatever its scale."""
    model = network("B")
    name = "conv2_block1_1"
    gamma, beta, *moving = model.get_layer(f"{name}_bn").get_weights()
    gamma[3] = 10
    model.get_layer(f"{name}_bn").set_weights([gamma, beta, *moving])
    reader = model.get_layer("conv2_block1_2_conv")
    kernel, *bias = reader.get_weights()
    kernel[:, :, 3] = 0
    reader.set_weights([kernel, *bias])
    x, y = images(8, *SHAPE), np.arange(8) % 5
    by_scale = slim(model, 0.8).get_layer(f"{name}_bn").get_weights()[0]
    by_loss = slim(model, 0.8, batches=(x, y)).get_layer(f"{name}_bn").get_weights()[0]
    assert 10 in by_scale
    assert 10 not in by_loss


def test_what_is_refused():
    model = network("B")
    with refused("keep", "keep=None"):
        slim(model)
    with refused("keep", "keep=0.5"):
        slim(model, 0.5, max_multiply_adds=10)
    with refused("keep", "1.5"):
        slim(model, 1.5)
    with refused("normalization", "group"):
        slim(network("B", normalization="group"), 0.5)
    with refused("layer", "BlockStack"):
        slim(network("B", stack_blocks=True), 0.5)
    with refused("filters", "conv1_conv"):
        network("B", filters={"conv2_block1_1_conv": 4})
    with refused("filters", "stack_blocks=True"):
        network("B", filters={"conv1_conv": 4}, stack_blocks=True)
    with refused("model", "sequential"):
        slim(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), 0.5)
