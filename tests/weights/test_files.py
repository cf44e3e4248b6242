"""Weights files: read by layer name, between stacked and unrolled nets, or refused.

A refused file must leave the model as it was.
"""

from __future__ import annotations

import dataclasses
import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.architectures import Stem
from keras_resnet.weights import (
    Preprocessing,
    find_weights,
    layer_weights,
    load_model,
    load_weights,
    save_torch_weights,
)
from tests.helpers import (
    assert_same_by_layer,
    assert_same_weights,
    distance,
    images,
    randomize,
    refused,
)
from tests.utils.zips import overlapping, zipped
from tests.weights.damages import DAMAGES

SHAPE = (8, 8, 3)


def net(name="resnet14", **options):
    """A small CIFAR net with weights of its own."""
    model = keras_resnet.CifarResNet(14, input_shape=SHAPE, name=name, **options)
    randomize(model)
    return model


def loaded(path, **options):
    return keras_resnet.CifarResNet(14, weights=path, **{"input_shape": SHAPE, **options})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """One net, unrolled and stacked, in files of both kinds."""
    folder = tmp_path_factory.mktemp("weights")
    models = {"unrolled": net(), "stacked": net(stack_blocks=True)}
    keras_resnet.copy_weights(models["unrolled"], models["stacked"])
    for name, model in models.items():
        model.save(folder / f"{name}.keras")
        model.save_weights(folder / f"{name}.weights.h5")
    return folder, models["unrolled"]


FILES = [
    f"{kind}.{ending}" for kind in ("unrolled", "stacked") for ending in ("keras", "weights.h5")
]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("stack_blocks", [False, True], ids=["into unrolled", "into stacked"])
def test_builder_loads(saved, file, stack_blocks):
    folder, original = saved
    model = loaded(folder / file, stack_blocks=stack_blocks)
    assert_same_weights(model, original)
    x = images(2, *SHAPE)
    assert distance(model(x), original(x)) < 1e-6


def test_path_as_string_and_other_input_size(saved):
    folder, original = saved
    model = loaded(str(folder / "unrolled.keras"), input_shape=(None, None, 3))
    assert_same_weights(model, original)


@pytest.mark.parametrize("kind", ["unrolled", "stacked"])
def test_kerass_own_reading_agrees(saved, kind):
    folder, original = saved
    model = net(stack_blocks=kind == "stacked")
    model.load_weights(folder / f"{kind}.weights.h5")
    assert_same_weights(model, original)


def test_a_file_saved_after_training_and_under_mixed_precision(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    trained = net()
    trained.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    trained.train_on_batch(images(2, *SHAPE), np.array([1, 2]))
    trained.save(tmp_path / "trained.keras")
    keras.config.set_dtype_policy("float32")
    assert_same_weights(loaded(tmp_path / "trained.keras"), trained)


def test_dropout_and_preprocessing_have_no_weights_to_load(tmp_path):
    options = {"include_preprocessing": True, "stack_blocks": True}
    trained = net(dropout=0.2, **options)
    trained.save_weights(tmp_path / "trained.weights.h5")
    model = net(**options)
    load_weights(model, tmp_path / "trained.weights.h5")
    assert_same_weights(model, trained)


def test_find_weights(saved):
    folder, original = saved
    for file in FILES:
        found = find_weights(folder / file, "resnet14")
        assert found.name == "resnet14"
        assert_same_by_layer(found.layers, layer_weights(original), 0.0)


@pytest.mark.parametrize("file", FILES)
def test_without_the_top(saved, file):
    folder, original = saved
    model, x = loaded(folder / file, include_top=False, pooling="avg"), images(2, *SHAPE)
    features = keras.Model(original.input, original.get_layer("avg_pool").output)
    assert distance(model(x), features(x)) < 1e-6


@pytest.mark.parametrize("file", FILES)
def test_a_classifier_of_another_size_keeps_the_backbone_and_says_so(saved, file):
    folder, original = saved
    with pytest.warns(UserWarning, match="resnet14.* 7 .* 10"):
        model = loaded(folder / file, classes=7)
    layers, expected = layer_weights(model), layer_weights(original)
    kernel, bias = layers.pop("predictions")
    assert (kernel.shape, bias.shape) == ((64, 7), (7,))
    assert 0.005 < kernel.std() < 0.015  # as it was drawn
    expected.pop("predictions")
    assert_same_by_layer(layers, expected, 0.0)


def test_a_file_without_a_classifier(tmp_path):
    backbone, path = net(include_top=False), tmp_path / "backbone.weights.h5"
    backbone.save_weights(path)
    with pytest.warns(UserWarning, match=r"10 .*backbone"):
        model = loaded(path)
    layers = layer_weights(model)
    layers.pop("predictions")
    assert_same_by_layer(layers, layer_weights(backbone), 0.0)


@pytest.mark.parametrize("include", [True, False])
def test_the_preparation_of_images_comes_with_the_weights(tmp_path, include):
    names = tuple("abcdefghij")
    told = Preprocessing(image_size=8, resize=12, interpolation="bicubic", class_names=names)
    net(include_preprocessing=told).save(tmp_path / "net.keras")
    model = net(include_preprocessing=include)
    load_weights(model, tmp_path / "net.keras")
    assert model.preprocessing == told and model.network.standardizes is include
    # Of other channels the model's numbers stay: they are in its layer.
    own = Preprocessing((9.0,), (3.0,), class_names=names[::-1])
    gray = keras_resnet.CifarResNet(14, input_shape=(8, 8, 1), include_preprocessing=own)
    load_weights(gray, tmp_path / "net.keras")
    assert gray.preprocessing == dataclasses.replace(told, mean=(9.0,), std=(3.0,))
    # A classifier that is kept keeps its names.
    net(include_top=False, include_preprocessing=told).save(tmp_path / "maps.keras")
    with pytest.warns(UserWarning, match="10 classes"):
        load_weights(model, tmp_path / "maps.keras")
    assert model.preprocessing == told
    # What a builder is given is not the file's.
    given = dataclasses.replace(told, resize=8, class_names=None)
    assert loaded(tmp_path / "net.keras", include_preprocessing=given).preprocessing == given


def test_weights_that_are_not_finite_are_told_of(tmp_path):
    diverged = net()
    diverged.get_layer("conv3_block1_1_bn").gamma.assign(np.full(32, np.nan))
    diverged.save(tmp_path / "net.keras")
    message = r"net.keras .* conv3_block1_1_bn/gamma"
    with pytest.warns(UserWarning, match=message):
        loaded(tmp_path / "net.keras")
    with pytest.warns(UserWarning, match=message) as told:
        load_model(tmp_path / "net.keras")
    assert told[-1].filename == __file__
    model = net()
    with pytest.warns(UserWarning, match=message) as told:
        load_weights(model, tmp_path / "net.keras")
    assert told[-1].filename == __file__


def test_weights_of_unknown_origin_do_not_have_the_source_of_those_before(tmp_path):
    told = Preprocessing(image_size=8, source="timm/resnet14.a1_in1k", threshold=0.5)
    published = net(include_preprocessing=told)
    published.save_weights(tmp_path / "net.weights.h5")
    published.save(tmp_path / "net.keras")
    for include in (told, False):
        model = net(include_preprocessing=include)
        model.remember(dataclasses.replace(model.network, preprocessing=told))
        load_weights(model, tmp_path / "net.weights.h5")
        assert model.preprocessing == dataclasses.replace(told, source="", threshold=None)
        load_weights(model, tmp_path / "net.keras")  # which tells
        assert model.preprocessing == told
        keras_resnet.copy_weights(net(), model)
        assert model.preprocessing == dataclasses.replace(told, source="", threshold=None)
        keras_resnet.copy_weights(published, model)
        assert model.preprocessing == told


def test_what_keras_loads_keeps_the_source_of_equal_weights_alone(tmp_path):
    told = Preprocessing(image_size=8, source="timm/resnet14.a1_in1k", threshold=0.5)
    model = net(include_preprocessing=told)
    model.save_weights(tmp_path / "same.weights.h5")
    model.load_weights(tmp_path / "same.weights.h5")
    assert model.preprocessing == told
    model.save(tmp_path / "net.keras")
    assert load_model(tmp_path / "net.keras").preprocessing == told
    assert keras.saving.load_model(tmp_path / "net.keras").preprocessing == told
    other = net(include_preprocessing=told)
    other.save_weights(tmp_path / "other.weights.h5")
    model.load_weights(tmp_path / "other.weights.h5")
    unknown = dataclasses.replace(told, source="", threshold=None)
    assert model.preprocessing == unknown
    model.save(tmp_path / "net.keras")
    assert load_model(tmp_path / "net.keras").preprocessing == unknown
    with pytest.raises(FileNotFoundError):
        other.load_weights(tmp_path / "none.weights.h5")
    assert other.preprocessing == told


@pytest.fixture(scope="module")
def model():
    """A net for files that are refused, which is unchanged by each of them."""
    return net()


def refuses(model, path, *words):
    """Loading raises an error of one line with these words and leaves the model unchanged."""
    before = model.get_weights()
    with refused("`weights`", *words):
        load_weights(model, path)
    for value, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_a_name_from_before_there_was_one_for_imagenet(tmp_path):
    """CIFAR networks of 26 layers were called "resnet26", as timm's for ImageNet is now."""
    path, options = tmp_path / "old.weights.h5", {"input_shape": (8, 8, 1)}
    model = keras_resnet.CifarResNet(26, name="resnet26", **options)
    model.save_weights(path)
    again = keras_resnet.CifarResNet(26, weights=path, **options)
    assert again.name == "cifarresnet26"
    assert_same_weights(again, model)
    with refused("`weights`"):
        keras_resnet.ResNet26(weights=path, input_shape=(32, 32, 1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 20}, ["conv2_block3_1_conv", "27 layers for 39"]),
        ({"depth": 8}, ["_block2_", "27 layers for 15"]),
        ({"shortcut": "B"}, ["conv3_block1_0_conv", "27 layers for 31"]),
    ],
    ids=str,
)
def test_another_architecture(saved, options, words):
    model = keras_resnet.CifarResNet(**{"depth": 14, "input_shape": SHAPE, **options})
    for file in FILES:
        # Of a file without a config the name of its model tells more than its layers.
        named = file.endswith(".weights.h5") and "input_shape" not in options
        refuses(model, saved[0] / file, *(("'resnet14'",) if named else words))


def test_nets_of_the_same_layers_in_other_widths(saved):
    # Keras's own reading, which goes by order and class, would stop half-way here.
    model = keras_resnet.ResNet(
        (2, 2, 2), block="basic", widths=(16, 32, 48), stem="cifar", input_shape=SHAPE, shortcut="A"
    )
    refuses(model, saved[0] / "unrolled.weights.h5", "(3, 3, 32, 48)", "(3, 3, 32, 64)")


def test_twins_of_the_same_shapes_are_told_apart(tmp_path):
    """By the config of a `.keras` file, by the name of the model in a `.weights.h5` file."""
    options = {"blocks": (1, 1), "widths": (2, 3), "input_shape": (32, 32, 3)}
    v1 = keras_resnet.ResNet(**options, name="resnet50")
    v1_5 = keras_resnet.ResNet(**options, name="resnet50_v1.5", version="v1.5")
    plain, residual = (keras_resnet.CifarResNet(8, shortcut=option) for option in (None, "A"))
    for one, other, differs in (
        (plain, residual, ("shortcut='A'", "shortcut=None")),
        (v1, v1_5, ("version='v1.5'", "version='v1'")),
    ):
        one.save(tmp_path / "one.keras")
        refuses(other, tmp_path / "one.keras", *differs)
        one.save_weights(tmp_path / "one.weights.h5")
        refuses(other, tmp_path / "one.weights.h5", f"'{other.name}'", f"'{one.name}'")
        for name in ("one.keras", "one.weights.h5"):
            load_weights(one, tmp_path / name)


def test_an_activation_that_is_an_object_is_known_again(tmp_path):
    def net(slope):
        leaky = keras.layers.LeakyReLU(negative_slope=slope)
        return keras_resnet.CifarResNet(8, input_shape=(8, 8, 3), activation=leaky)

    net(0.1).save(tmp_path / "leaky.keras")
    save_torch_weights(net(0.1), tmp_path / "leaky.safetensors")
    for name in ("leaky.keras", "leaky.safetensors"):
        load_weights(net(0.1), tmp_path / name)
        refuses(net(0.2), tmp_path / name, "activation=", "0.2", "0.1")


@pytest.mark.parametrize(
    ("option", "one", "other", "more"),
    [
        ("version", "v1", "v1.5", {}),
        ("shortcut", "A", None, {}),
        ("activation", "silu", "relu", {}),
        ("bn_epsilon", 1e-5, 1e-3, {"normalization": "group"}),
    ],
)
@pytest.mark.parametrize("stack_blocks", [False, True], ids=["unrolled", "stacked"])
def test_nets_of_one_name_and_shapes_but_other_options(
    tmp_path, option, one, other, more, stack_blocks
):
    # Only a `.keras` file tells; in a `.weights.h5` file nothing but the name could.
    more = {"blocks": (1, 2), "widths": (2, 3), "input_shape": (32, 32, 3), "name": "mine"} | more
    keras_resnet.ResNet(**more, **{option: one}).save(tmp_path / "first.keras")
    second = keras_resnet.ResNet(**more, **{option: other}, stack_blocks=stack_blocks)
    refuses(second, tmp_path / "first.keras", f"{option}={one!r}")


def test_an_epsilon_that_the_file_tells_goes_into_the_variances(tmp_path):
    original = net(bn_epsilon=1e-2, stack_blocks=True)
    original.save(tmp_path / "net.keras")
    x = images(2, *SHAPE)
    assert distance(loaded(tmp_path / "net.keras")(x), original(x)) < 1e-5


def test_dense_nets_come_stacked_and_unrolled(tmp_path):
    options = {"depth": 10, "growth_rate": 4, "input_shape": SHAPE}
    stacked = keras_resnet.CifarDenseNet(**options, stack_blocks=True)
    stacked.save(tmp_path / "net.keras")
    again = keras_resnet.CifarDenseNet(**options, weights=tmp_path / "net.keras")
    assert_same_weights(again, stacked)
    silu = keras_resnet.CifarDenseNet(**options, activation="silu")
    refuses(silu, tmp_path / "net.keras", "activation='silu'", "activation='relu'")


@pytest.mark.parametrize(
    "name",
    [
        *("resnet14_silu", "resnet14_leaky_relu", "resnet14_b_se16", "resnet20_deep_pool"),
        *("resnet14_group", "resnet14x1.5", "resnet20x2_bottleneck", "plainnet20_no-se"),
        *("densenetbc100_12", "resnext29_8x64d", "resnet50_32x4d", "wideresnet28_10_a"),
        *("resnet164v2", "resnet50d_v1", "seplainnet50", "resnext50_32x4d_plain", "cifarresnet50"),
    ],
)
def test_names_of_other_networks(model, saved, tmp_path, name):
    path = edited(saved, tmp_path, lambda file: file["vars"].attrs.modify("name", name))
    refuses(model, path, "'resnet14'", f"'{name}'")


def test_the_network_counts_not_what_the_model_is_called(tmp_path):
    options = {"input_shape": (32, 32, 3), "include_top": False}
    path = tmp_path / "net.weights.h5"
    source = keras_resnet.ResNet50(version="v1.5", **options)
    source.save_weights(path)
    same = keras_resnet.ResNet50(version="v1.5", name="backbone", weights=path, **options)
    assert same.name == "backbone"
    assert_same_weights(source, same)
    with refused("`weights`", "'resnet50'", "'resnet50_v1.5'"):
        keras_resnet.ResNet50(name="backbone", weights=path, **options)


@pytest.mark.parametrize("name", ["resnet14_mine", "resnet14_1", "mine"])
def test_a_model_of_ones_own_name_is_no_other_network(tmp_path, name):
    source, path = net(name=name), tmp_path / "net.weights.h5"
    source.save_weights(path)
    assert_same_weights(source, loaded(path))


def test_another_stem(tmp_path):
    def small(stem):
        return keras_resnet.ResNet((1,), widths=(4,), stem=stem, input_shape=SHAPE, name="net")

    path = tmp_path / "net.keras"
    small(Stem(3, 2, True)).save(path)
    load_weights(small(Stem(3, 2, True)), path)
    for stem in (Stem(3, 1, True), Stem(3, 2, False)):
        with refused("`weights`", "custom_stem="):
            load_weights(small(stem), path)


def test_bfloat16_weights(tmp_path):
    keras.config.set_dtype_policy("bfloat16")
    model = net()
    model.save(tmp_path / "a.keras")
    model.save_weights(tmp_path / "a.weights.h5")
    for name in ("a.keras", "a.weights.h5"):
        again = net(weights=tmp_path / name)
        load_weights(again, tmp_path / name)
        assert_same_weights(again, model)
    assert {w.dtype for w in model.weights} == {"bfloat16"}


@pytest.mark.parametrize(
    "weights", ["cifar10", "weights.npz", "imagenet.txt", "", 3, True, ["a.keras"]]
)
def test_what_names_no_weights(weights):
    with refused("`weights`", "'.safetensors'", f"weights={weights!r}"):
        keras_resnet.ResNet20(weights=weights)


@pytest.mark.parametrize("file", ["none.keras", "none.weights.h5", "folder.keras"])
def test_no_such_file(model, tmp_path, file):
    (tmp_path / "folder.keras").mkdir()
    refuses(model, tmp_path / file, f"weights='{tmp_path / file}'")


def noise_in_its_middle(content):
    third = len(content) // 3
    return content[:third] + np.random.default_rng(0).bytes(third) + content[2 * third :]


# Numbers overwritten in place show by the checksum of a `.keras` file; a bare HDF5 file has none.
DAMAGED = [(damage, ending) for damage in DAMAGES.values() for ending in ("keras", "weights.h5")]
DAMAGED.append((noise_in_its_middle, "keras"))


@pytest.mark.parametrize(("damage", "ending"), DAMAGED)
def test_damaged_files(model, saved, tmp_path, ending, damage):
    path = tmp_path / f"damaged.{ending}"
    path.write_bytes(damage((saved[0] / f"unrolled.{ending}").read_bytes()))
    refuses(model, path, path)


def test_files_of_one_kind_under_the_name_of_the_other(model, saved, tmp_path):
    for file, other in (("unrolled.keras", "a.weights.h5"), ("unrolled.weights.h5", "a.keras")):
        shutil.copy(saved[0] / file, tmp_path / other)
        refuses(model, tmp_path / other, "Keras", tmp_path / other)


def test_a_zip_that_holds_no_weights(model, tmp_path):
    path = tmp_path / "empty.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    refuses(model, path, "Keras", path)


def edited(saved, tmp_path, edit):
    """A copy of the stacked weights file, with `edit` applied to its contents."""
    path = tmp_path / "edited.weights.h5"
    shutil.copy(saved[0] / "unrolled.weights.h5", path)
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def first_layer(file):
    """The name of the first layer with weights, and the group of these."""
    layers = file["layers"].items()
    return next((name, layer["vars"]) for name, layer in layers if len(layer.get("vars", ())))


def cleared(file):
    """The weights of the first layer without the first of them, and the shape that this had."""
    _, group = first_layer(file)
    shape = group["0"].shape
    del group["0"]
    return group, shape


def layers_not_a_group(file):
    del file["layers"]
    file["layers"] = np.zeros(3)


def text_for_a_weight(file):
    group, shape = cleared(file)
    group["0"] = np.full(shape, b"text")


def external_storage(file):
    (group, shape), elsewhere = cleared(file), f"{file.filename}.bin"
    np.full(shape, 42.0, "float32").tofile(elsewhere)
    group.create_dataset("0", shape, "float32", external=elsewhere)


def other_file(file, shape):
    """Another file with an array that would fit."""
    elsewhere = f"{file.filename}.other"
    with h5py.File(elsewhere, "w") as other:
        other["secret"] = np.full(shape, 42.0, "float32")
    return elsewhere


def external_link(file):
    group, shape = cleared(file)
    group["0"] = h5py.ExternalLink(other_file(file, shape), "/secret")


def external_link_to_a_layer(file):
    name, elsewhere = f"layers/{first_layer(file)[0]}", f"{file.filename}.other"
    with h5py.File(elsewhere, "w") as other:
        file.copy(name, other, "secret")
    del file[name]
    file[name] = h5py.ExternalLink(elsewhere, "/secret")


def virtual_dataset(file):
    group, shape = cleared(file)
    layout = h5py.VirtualLayout(shape, "float32")
    layout[...] = h5py.VirtualSource(other_file(file, shape), "secret", shape)
    group.create_virtual_dataset("0", layout)


def odd_keys(file):
    first_layer(file)[1]["surprise.x"] = np.zeros(2)


def unallocated(file):
    """A terabyte that is nowhere: reading it would fill the memory with zeros."""
    cleared(file)[0].create_dataset("0", (1 << 38,), "float32", chunks=(1 << 20,))


def compressed(file):
    values = np.zeros((1 << 20,), "float32")
    cleared(file)[0].create_dataset("0", data=values, compression="gzip")


def one_array_by_many_names(file):
    _, group = first_layer(file)
    for name in set(group) - {"0"}:
        del group[name]
    group["1"] = np.zeros(1 << 16, "float32")
    for i in range(2, 10):
        group[str(i)] = group["1"]


def endless_in_no_bytes(file):
    cleared(file)[0].create_dataset("conv2_block2_1_conv.0", (1 << 40, 0), "float32")


SWELLING = [unallocated, compressed, one_array_by_many_names]
EDITS = [
    pytest.param(lambda file: first_layer(file)[1].attrs.pop("name"), id="without a name"),
    pytest.param(lambda file: file.pop("layers"), id="without layers"),
    pytest.param(lambda file: cleared(file)[0].create_group("0"), id="a group for a weight"),
    pytest.param(cleared, id="one weight less"),
    *(layers_not_a_group, text_for_a_weight, odd_keys, *SWELLING, endless_in_no_bytes),
    # These would read other files of the machine under the name of weights.
    *(external_storage, external_link, external_link_to_a_layer, virtual_dataset),
]


@pytest.mark.parametrize("edit", EDITS)
def test_tampered_files(model, saved, tmp_path, edit):
    refuses(model, edited(saved, tmp_path, edit))


@pytest.mark.parametrize("edit", SWELLING)
def test_swelling_files_of_keras_1_and_2(model, tmp_path, edit):
    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/conv1_conv/vars")  # as `first_layer` finds it
        group["0"] = np.zeros(3)
        edit(file)
        file["conv1_conv"] = group
        group.attrs["weight_names"] = [name.encode() for name in group]
        del file["layers"]
    refuses(model, path, path, "bytes")


def test_more_names_than_weights(model, tmp_path):
    # All of them could be one text of a megabyte.
    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as file:
        names = file.create_group("conv1_conv").attrs
        names.create("weight_names", ["kernel"] * 17, dtype=h5py.string_dtype())
    refuses(model, path, "weight_names of /conv1_conv")


def test_compressed_and_swelling_models_are_refused_before_keras_reads_them(model, saved, tmp_path):
    with zipfile.ZipFile(saved[0] / "unrolled.keras") as source:
        members = {name: source.read(name) for name in source.namelist()}
    swelling = {**members, "model.weights.h5": edited(saved, tmp_path, unallocated).read_bytes()}
    nested = {**members, "config.json": b'{"config":' * 50_000 + b"1" + b"}" * 50_000}
    # Keras would write assets to the disk.
    assets = [f"assets/{i}.txt" for i in range(30)]
    path = tmp_path / "odd.keras"
    for content, *words in (
        (zipped(members, zipfile.ZIP_DEFLATED), "model.weights.h5"),
        (zipped(swelling), path, "bytes"),
        (zipped(nested), path),
        (overlapping(zipped(members), assets), path, "'assets/28.txt'"),
    ):
        path.write_bytes(content)
        refuses(model, path, *words)
        with refused("`path`", *words):
            load_model(path)


def test_builder_refuses_too(saved):
    for file, words in {"keras": "27 layers for 39", "weights.h5": "resnet14"}.items():
        with refused("`weights`", words):
            keras_resnet.ResNet20(weights=saved[0] / f"unrolled.{file}", name="other")


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5])
def test_torchs_files_mean_its_own_epsilon(tmp_path, epsilon):
    pytest.importorskip("safetensors")
    options = {"input_shape": (8, 8, 1), "bn_epsilon": epsilon}
    model = keras_resnet.CifarResNet(8, **options)
    randomize(model)
    save_torch_weights(model, tmp_path / "a.safetensors")
    x = images(2, 8, 8, 1)
    for other in (options, {"input_shape": (8, 8, 1)}):
        again = keras_resnet.CifarResNet(8, weights=tmp_path / "a.safetensors", **other)
        np.testing.assert_allclose(again(x), model(x), rtol=1e-5, atol=1e-6)
