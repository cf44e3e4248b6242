"""Backbones: their maps, the features that describe these, and a head that learns on them."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.network import Backbone, Feature
from keras_resnet.surgery import backbone
from tests.helpers import distance, images, randomize, refused


def network(**options):
    """A small network for photographs, with all of its four stages."""
    options = {"block": "basic", "widths": (4, 6, 8, 10), "include_top": False, **options}
    return keras_resnet.ResNet((1, 1, 1, 1), **options)


def sides(model, height, width):
    """Height and width of every map, without computing them."""
    shapes = model.compute_output_shape((2, height, width, 3))
    return {name: tuple(shape[1:3]) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def maps():
    return backbone(network())


@pytest.mark.parametrize("size", [(64, 64), (65, 47), (33, 96), (97, 31), (1, 2), (224, 225)])
def test_sides_are_those_of_the_image_divided_and_rounded_up(maps, size):
    expected = {f"C{i}": tuple(-(-side // 2**i) for side in size) for i in (2, 3, 4, 5)}
    assert sides(maps, *size) == expected
    if max(size) < 100:
        found = maps(images(1, *size, 3))
        assert {name: tuple(found[name].shape[1:3]) for name in found} == expected


def test_cifar_networks_have_three_maps():
    model = backbone("ResNet20", stack_blocks=True)
    found = [(f.name, f.stride, f.channels) for f in model.features]
    assert found == [("C2", 1, 16), ("C3", 2, 32), ("C4", 4, 64)]
    assert sides(model, 33, 29) == {"C2": (33, 29), "C3": (17, 15), "C4": (9, 8)}


def test_densenets_round_down_after_the_first():
    model = backbone(keras_resnet.DenseNet((1, 1, 1), growth_rate=4, include_top=False))
    assert sides(model, 65, 64) == {"C2": (17, 16), "C3": (8, 8), "C4": (4, 4)}
    assert sides(model, 64, 96) == {"C2": (16, 24), "C3": (8, 12), "C4": (4, 6)}


@pytest.mark.parametrize(
    "name",
    ["ResNet18", *(pytest.param(n, marks=pytest.mark.slow) for n in ("resnet50d", "DenseNet121"))],
)
def test_by_name(name):
    model = backbone(name, ("C5", "C3"), output_stride=8, stack_blocks=True)
    assert (model.name, model.input_shape) == (name.lower(), (None, None, None, 3))
    channels = {"ResNet18": (128, 512), "resnet50d": (512, 2048), "DenseNet121": (512, 1024)}
    assert [(f.name, f.stride) for f in model.features] == [("C3", 8), ("C5", 8)]
    assert tuple(f.channels for f in model.features) == channels[name]
    assert sides(model, 65, 47) == {"C3": (9, 6), "C5": (9, 6)} or name == "DenseNet121"


def test_features_are_read_off_the_layers(maps, tmp_path):
    expected = (
        Feature("C2", 4, 4, "conv2_block1_out"),
        Feature("C3", 8, 6, "conv3_block1_out"),
        Feature("C4", 16, 8, "conv4_block1_out"),
        Feature("C5", 32, 10, "conv5_block1_out"),
    )
    maps.save(tmp_path / "maps.keras")
    again = keras.models.load_model(tmp_path / "maps.keras")
    x = images(1, 40, 33, 3)
    for model in (maps, again, keras.models.clone_model(maps)):
        assert isinstance(model, Backbone) and model.features == expected
    assert distance(again(x)["C5"], maps(x)["C5"]) == 0
    assert not hasattr(network(), "features")


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        ({}, ("conv2_block1_out", "conv3_block2_out")),
        ({"shortcut": None}, ("conv2_block1_out", "conv3_block2_out")),
        # A sum that is not normalized, and the input of the classifier.
        ({"version": "v2"}, ("conv2_block1_out", "post_relu")),
        ({"stack_blocks": True}, ("conv2_block1_out", "conv3_stack")),
        ({"squeeze_excitation": 4, "activation": "silu"}, ("conv2_block1_out", "conv3_block2_out")),
    ],
    ids=["v1", "plain", "v2", "stacked", "gates"],
)
def test_maps_are_the_ends_of_the_stages(options, ends):
    sizes = {"widths": (4, 6), "stem": "cifar", "classes": 3, "input_shape": (8, 8, 3)}
    net = randomize(keras_resnet.ResNet((1, 2), block="basic", **sizes, **options))
    model, x = backbone(net), images(2, 8, 8, 3)
    expected = keras.Model(net.input, [net.get_layer(name).output for name in ends])(x)
    for found, value in zip(model(x).values(), expected, strict=True):
        assert distance(found, value) == 0
    assert tuple(f.layer for f in model.features) == ends
    # It has weights of its own, and takes images of any size.
    net.get_layer("conv1_conv").kernel.assign(0 * net.get_layer("conv1_conv").kernel)
    assert distance(model(x)["C3"], expected[1]) == 0
    assert model(images(1, 9, 5, 3))["C3"].shape[1:3] == (5, 3)


STEMS = {
    "plain": ({}, "conv1_relu", 2, 4),
    "deep": ({"deep_stem": True, "activation": "silu"}, "conv1_3_silu", 2, 4),
    "cifar": ({"stem": "cifar", "version": "v2"}, "conv1_relu", 1, 4),
    "dense": ({"builder": "DenseNet", "growth_rate": 4}, "conv1_relu", 2, 8),
    "dense cifar": ({"builder": "DenseNet", "growth_rate": 4, "stem": "cifar"}, "conv1_conv", 1, 8),
}


@pytest.mark.parametrize("case", STEMS)
def test_maps_by_number_the_stems_included(case):
    options, layer, stride, channels = STEMS[case]
    options = {"blocks": (1, 1), "block": "basic", "widths": (4, 6), **options}
    general = getattr(keras_resnet, options.pop("builder", "ResNet"))
    if general is keras_resnet.DenseNet:
        del options["block"], options["widths"]
    net = randomize(general(input_shape=(16, 20, 3), classes=3, **options))
    model, x = backbone(net, [1, 3]), images(2, 16, 20, 3)
    first, last = model.features
    assert first == Feature("C1", stride, channels, layer) and last.name == "C3"
    found, expected = model(x), keras.Model(net.input, net.get_layer(layer).output)(x)
    assert list(found) == ["C1", "C3"] and distance(found["C1"], expected) == 0
    assert found["C1"].shape[1:3] == (16 // stride, 20 // stride)
    assert distance(found["C3"], backbone(net, ["C3"])(x)["C3"]) == 0
    assert set(backbone(net)(x)) == {"C2", "C3"}  # as before there was a C1
    again = keras.models.clone_model(model)
    assert again.features == model.features
    for endpoints in ([0], [4], ["C0"], [True], [1.0]):
        with refused("`endpoints`", repr(endpoints[0])):
            backbone(net, endpoints)


def test_of_a_densenet_and_without_the_stages_behind_the_last():
    net = keras_resnet.DenseNet((1, 2), growth_rate=4, stem="cifar", input_shape=(8, 8, 3))
    model = backbone(net)
    assert [f.layer for f in model.features] == ["conv2_block1_concat", "post_relu"]
    first = backbone(net, ["C2"])
    assert list(first(images(1, 8, 8, 3))) == ["C2"]
    assert [layer for layer in first.layers if layer.name.startswith(("conv3", "post"))] == []


def test_a_published_name_gets_its_weights(tmp_path):
    net = randomize(keras_resnet.ResNet20(stack_blocks=True))
    net.save(tmp_path / "net.keras")
    options = {"weights": tmp_path / "net.keras", "stack_blocks": True}
    model = backbone("ResNet20", ["C4"], output_stride=2, **options)
    x = images(1, 32, 32, 3)
    expected = keras.Model(net.input, net.get_layer("conv4_stack").output)(x)
    assert distance(model(x)["C4"][:, ::2, ::2], expected) < 1e-6


# --- frozen stages ---------------------------------------------------------------------------


@pytest.mark.parametrize("output_stride", [None, 8])
def test_frozen_stages_stay_and_the_others_learn(output_stride):
    model = backbone(network(), ["C3", "C5"], output_stride=output_stride)
    scores = keras.layers.Conv2D(2, 1, name="head")(model.output["C5"])
    net = keras.Model(model.input, scores)
    keras_resnet.freeze(net, 3)
    net.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    x = images(2, 32, 32, 3)
    before = {weight.path: weight.numpy() for weight in net.weights}
    net.train_on_batch(x, np.ones(net.compute_output_shape(x.shape)))
    moved = {w.path for w in net.weights if not np.array_equal(before[w.path], w.numpy())}
    assert {path.split("_")[0].split("/")[0] for path in moved} == {"conv4", "conv5", "head"}
    assert not any("_bn/" in path for path in moved)
    assert {weight.path for weight in net.trainable_weights} == moved


# --- a head ----------------------------------------------------------------------------------


def shapes(count, seed):
    """Noise with a square and a cross of any colors in each image; the class of each pixel."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32]
    pictures = rng.normal(0, 0.3, (count, 32, 32, 3)).astype("float32")
    labels = np.zeros((count, 32, 32), "int32")
    for picture, label in zip(pictures, labels, strict=True):
        for kind in (1, 2):
            y, x = rng.integers(6, 26, 2)
            down, across = np.abs(rows - y), np.abs(columns - x)
            inside = np.maximum(down, across) <= rng.integers(4, 7)
            if kind == 2:
                inside &= np.minimum(down, across) <= 1
            picture[inside] += rng.uniform(-2, 2, 3)
            label[inside] = kind
    return pictures, labels


def test_a_segmentation_head_learns():
    net = keras_resnet.ResNet(
        (1, 1, 1), block="basic", widths=(8, 16, 32), stem="cifar", include_top=False
    )
    maps = backbone(net, ["C2", "C4"], output_stride=2)
    fine, coarse = (keras.layers.Conv2D(3, 1)(maps.output[name]) for name in ("C2", "C4"))
    coarse = keras.layers.UpSampling2D(2, interpolation="bilinear")(coarse)
    segmenter = keras.Model(maps.input, keras.layers.Add()([fine, coarse]))
    pictures, labels = shapes(256, seed=1)
    rate = keras.optimizers.schedules.CosineDecay(0.02, 48)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    segmenter.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)
    segmenter.fit(pictures, labels, batch_size=32, epochs=6, verbose=0)

    pictures, labels = shapes(64, seed=2)
    found = np.argmax(segmenter.predict(pictures, verbose=0), axis=-1)
    overlaps = [
        np.sum((found == c) & (labels == c)) / np.sum((found == c) | (labels == c))
        for c in range(3)
    ]
    # Calling everything background is right for 5 pixels in 6, and has a mean overlap of 0.28.
    assert np.mean(labels == 0) < 0.84
    assert np.mean(overlaps) > 0.55 and min(overlaps) > 0.3, overlaps


# --- wrong arguments -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("ResNet51", {}, ("model", "DenseNetBC100_12")),
        (keras.Sequential([keras.Input((4,))]), {}, ("model",)),
        (5, {}, ("model", "model=5")),
        ("ResNet20", {"endpoints": "C3"}, ("endpoints", "'C2', 'C3', 'C4'")),
        ("ResNet20", {"endpoints": []}, ("endpoints", "[]")),
        ("ResNet20", {"endpoints": ["C5"]}, ("endpoints", "'C5'")),
        ("ResNet20", {"pooling": "avg"}, ("pooling", "'avg'")),
        ("ResNet20", {"include_top": True}, ("include_top", "True")),
        ("ResNet20", {"classes": 5}, ("classes", "5")),
        (None, {"weights": "imagenet"}, ("weights", "imagenet")),
        (None, {"output_stride": 12}, ("output_stride", "4, 8, 16, 32", "12")),
        (None, {"output_stride": 2}, ("output_stride", "4, 8, 16, 32", "2")),
    ],
)
def test_wrong_arguments(maps, model, options, words):
    with refused(*words):
        backbone(maps if model is None else model, **options)
