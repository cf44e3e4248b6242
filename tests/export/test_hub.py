from __future__ import annotations

import contextlib
import functools
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_resnet
from keras_resnet.export import HubLayer, export, export_hub, hub, load_exported, serving
from keras_resnet.export.mismatch import ExportMismatchError
from keras_resnet.surgery import score_map
from tests.export.conftest import (
    LABELS,
    assert_same_in_threads,
    close,
    features_of,
    moved,
    random_images,
    small_net,
    stage_ends,
)
from tests.helpers import refused


def load(path):
    return tf.saved_model.load(str(path))


def values(variables):
    return [variable.numpy() for variable in variables]


@pytest.mark.parametrize("batch", [1, 5])
def test_features_are_the_models(net, feature_vector, batch):
    images = random_images(batch)
    received = load(feature_vector)(images)
    assert received.shape == (batch, 64)
    assert np.count_nonzero(received) > 32 * batch
    close(received, features_of(net)(images * 255))


def test_classification_gives_logits(net, classification):
    images = random_images()
    logits = load(classification)(images)
    assert np.max(np.abs(np.sum(logits, axis=1) - 1)) > 0.01  # no probabilities
    close(tf.nn.softmax(logits), net(images * 255, training=False))


def test_feature_maps_are_those_of_the_stages(net, feature_maps):
    images = random_images()
    module, maps = load(feature_maps), stage_ends(net)
    expected = maps(images * 255)
    outputs = [
        module(images),
        module(images, training=False),
        module.signatures["serving_default"](images=tf.constant(images)),
    ]
    shapes = {"C2": (5, 8, 8, 16), "C3": (5, 4, 4, 32), "C4": (5, 2, 2, 64)}
    for received in outputs:
        assert {name: tuple(value.shape) for name, value in received.items()} == shapes
        for name, value in received.items():
            close(value, expected[name])
    assert len(module.trainable_variables) == len(maps.trainable_variables)
    before = values(module.variables)
    module(images, training=True)
    assert len(moved(before, module.variables)) == len(maps.non_trainable_weights)


def test_feature_maps_of_a_backbone_with_named_outputs(net, tmp_path):
    outputs = stage_ends(net).output
    backbone = keras.Model(net.input, {"C3": outputs["C3"], "top": outputs["C4"]})
    module = load(export_hub(backbone, tmp_path / "m", "feature_maps"))
    received, images = module(random_images()), random_images()
    assert set(received) == {"C3", "top"}
    close(received["top"], backbone(images * 255)["top"])


def test_feature_maps_of_a_dilated_backbone(net, tmp_path):
    backbone = keras_resnet.backbone(net, ["C2", "C4"], output_stride=2)
    module, images = load(export_hub(backbone, tmp_path / "m", "feature_maps")), random_images()
    received = module(images)
    shapes = {name: tuple(value.shape) for name, value in received.items()}
    assert shapes == {"C2": (5, 8, 8, 16), "C4": (5, 4, 4, 64)}
    strided = stage_ends(net)(images * 255)["C4"]
    np.testing.assert_allclose(received["C4"][:, ::2, ::2], strided, rtol=1e-4, atol=1e-5)
    # Images may have any size, as those of the backbone.
    assert module(random_images(1, (9, 7, 1)))["C4"].shape == (1, 5, 4, 64)


def test_no_output_has_the_name_of_errors(net, tmp_path):
    maps = stage_ends(net).output
    backbone = keras.Model(net.input, {"error": maps["C3"], "top": maps["C4"]})
    with refused("`model`", "error, top"):
        export_hub(backbone, tmp_path / "m", "feature_maps")
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_feature_maps_of_stacked_blocks(tmp_path):
    net = small_net((3, 2), stack_blocks=True)
    module, images = load(export_hub(net, tmp_path / "m", "feature_maps")), random_images()
    expected = keras.Model(net.input, net.get_layer("conv3_stack").output)(images * 255)
    close(module(images)["C3"], expected)
    assert set(module(images)) == {"C2", "C3"}


def test_imagenet_standardization_can_be_put_in_front(tmp_path):
    net = keras_resnet.CifarResNet(8, input_shape=(8, 8, 3), include_top=False, pooling="avg")
    module = load(export_hub(net, tmp_path / "m", preprocessing="imagenet"))
    images = random_images(shape=(8, 8, 3))
    expected = net(keras_resnet.preprocess_input(images * 255))
    close(module(images), expected)


def test_a_model_may_take_images_as_they_are(tmp_path):
    inputs = keras.Input((4, 4, 3))
    net = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    module = load(export_hub(net, tmp_path / "m", preprocessing="none"))
    images = random_images(shape=(4, 4, 3))
    np.testing.assert_allclose(module(images), np.mean(images * 255, axis=(1, 2)), rtol=1e-5)


def test_has_the_reusable_interface(net, feature_vector):
    module = load(feature_vector)
    backbone = features_of(net)
    assert len(module.variables) == len(backbone.variables)
    assert len(module.trainable_variables) == len(backbone.trainable_variables)
    everything = {variable.ref() for variable in module.variables}
    assert {variable.ref() for variable in module.trainable_variables} <= everything
    assert len({variable.name for variable in module.variables}) == len(everything)
    losses = [loss() for loss in module.regularization_losses]
    np.testing.assert_allclose(losses, backbone.losses, rtol=1e-6)
    assert len(losses) == 7


def test_without_regularizer_there_are_no_losses(tmp_path):
    net = small_net((1,), kernel_regularizer=None)
    assert not load(export_hub(net, tmp_path / "m")).regularization_losses


def test_statistics_move_in_training_only_and_as_the_models(net, feature_vector):
    module, images = load(feature_vector), random_images()
    before = values(module.variables)
    module(images)
    module(images, training=False)
    assert moved(before, module.variables) == []

    twin = keras.models.clone_model(net)
    twin.set_weights(net.get_weights())
    outputs = features_of(twin)(images * 255, training=True)
    close(module(images, training=True), outputs)
    assert all("moving" in name for name in moved(before, module.variables))
    for received, expected in zip(module.variables, features_of(twin).variables, strict=True):
        close(received, expected)


def test_gradients_are_the_models(net, feature_vector):
    module, images, backbone = load(feature_vector), random_images(), features_of(net)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(module(images, training=False) ** 2)
        loss += tf.add_n([loss() for loss in module.regularization_losses])
    received = tape.gradient(loss, module.trainable_variables)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(backbone(images * 255, training=False) ** 2) + sum(backbone.losses)
    expected = tape.gradient(loss, [weight.value for weight in backbone.trainable_weights])
    for ours, theirs in zip(received, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5 * np.max(np.abs(theirs)))


def test_frozen_layers_stay_frozen(tmp_path):
    net = small_net((1,))
    for layer in net.layers[:-1]:
        layer.trainable = False
    module = load(export_hub(net, tmp_path / "m", "classification"))
    assert len(module.trainable_variables) == 2
    assert len(module.regularization_losses) == 1
    before = values(module.variables)
    np.testing.assert_allclose(module(random_images(), training=True), module(random_images()))
    assert moved(before, module.variables) == []


def test_the_model_is_not_changed(tmp_path):
    net = small_net((1,))
    before, config = net.get_weights(), net.get_config()
    export_hub(net, tmp_path / "m", "classification")
    assert net.get_config() == config
    assert net.get_layer("predictions").activation is keras.activations.softmax
    for old, new in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_signatures_take_images_and_files(classification):
    module = load(classification)
    pixels = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)
    images = tf.constant(pixels / 255, tf.float32)
    from_images = module.signatures["serving_default"](images=images)["logits"]
    files = [tf.io.encode_png(image) for image in pixels]
    from_files = module.signatures["serving_bytes"](encoded=tf.stack(files))["logits"]
    close(from_files, from_images)
    close(module(images), from_images)


def test_an_empty_batch_has_empty_outputs(net, feature_vector, classification, feature_maps):
    images, files = random_images(0), tf.constant([], tf.string)
    for path, shapes in (
        (feature_vector, {"features": (0, 64)}),
        (classification, {"logits": (0, 10)}),
        (feature_maps, {"C2": (0, 8, 8, 16), "C3": (0, 4, 4, 32), "C4": (0, 2, 2, 64)}),
    ):
        module = load(path)
        called = tf.nest.flatten(module(images))
        assert [tuple(rows.shape) for rows in called] == list(shapes.values())
        from_images = module.signatures["serving_default"](images=tf.constant(images))
        from_files = module.signatures["serving_bytes"](encoded=files)
        for rows in (from_images, from_files):
            received = {name: tuple(value.shape) for name, value in rows.items()}
            assert received == shapes | ({"error": (0,)} if rows is from_files else {})


@pytest.mark.parametrize("name", ["classification", "feature_maps"])
def test_a_broken_file_is_an_error_of_its_own_row(name, request):
    module = load(request.getfixturevalue(name))
    pixels = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 1), dtype=np.uint8)
    files = [tf.io.encode_png(image).numpy() for image in pixels]
    whole = module.signatures["serving_bytes"](encoded=tf.constant(files))
    broken = [b"", files[0], files[1][:-20], files[1]]
    rows = module.signatures["serving_bytes"](encoded=tf.constant(broken))
    assert [bool(error) for error in rows.pop("error").numpy()] == [True, False, True, False]
    for output, values in rows.items():
        close(values[1::2], whole[output])
        assert not values[::2].numpy().any()


def test_files_that_become_other_images_are_noticed(tmp_path, monkeypatch):
    def other(image_bytes, transforms):
        images, readable = decode(image_bytes, transforms)
        return images[:, ::-1], readable

    decode = serving.decode_files
    monkeypatch.setattr(serving, "decode_files", other)
    with refused("`model`", "'resnet'", error=ExportMismatchError):
        export_hub(small_net((1,)), tmp_path / "m")
    assert os.listdir(tmp_path) == []


def test_files_become_as_large_and_gray_as_the_model_takes_them(classification):
    module = load(classification)
    pixels = np.random.default_rng(1).integers(0, 256, (20, 12, 3), dtype=np.uint8)
    file = tf.io.encode_jpeg(pixels, quality=90)
    gray = tf.cast(tf.io.decode_jpeg(file, 1, dct_method="INTEGER_ACCURATE"), tf.float32)
    # The center of the image with its shorter side of 12 resized to 8: 13x8.
    resized = tf.round(tf.image.resize(gray[None], (13, 8), antialias=True))
    images = resized[:, 2:10] / 255
    received = module.signatures["serving_bytes"](encoded=file[None])["logits"]
    close(received, module(images))


def test_any_size_with_a_model_of_any_size(tmp_path):
    net = small_net((1, 1), input_shape=(None, None, 3))
    module = load(export_hub(net, tmp_path / "m"))
    for shape in [(9, 12, 3), (16, 8, 3)]:
        images = random_images(2, shape)
        expected = features_of(net)(images * 255)
        close(module(images), expected)
    # Files become as large as a model of unknown preprocessing takes them by default.
    file = tf.io.encode_png(tf.zeros((11, 9, 3), tf.uint8))
    received = module.signatures["serving_bytes"](encoded=tf.stack([file, file]))["features"]
    close(received, module(tf.zeros((2, 224, 224, 3))))


def test_labels_and_card_travel_along(classification):
    module = load(classification)
    with open(module.labels.asset_path.numpy(), encoding="utf-8") as file:
        assert file.read().splitlines() == LABELS
    assert (classification / "assets" / "card.md").read_text(encoding="utf-8") == "# Dïgits\n"


def test_features_in_front_of_a_separate_softmax(tmp_path):
    net = small_net((1,), classifier_activation=None)
    probabilities = keras.Model(net.input, keras.layers.Softmax()(net.output))
    module = load(export_hub(probabilities, tmp_path / "m", labels=LABELS))
    images = random_images()
    close(module(images), features_of(net)(images * 255))
    module = load(export_hub(probabilities, tmp_path / "logits", "classification", labels=LABELS))
    close(module(images), net(images * 255))


def ending_in(*layers):
    """Returns a model whose layers have none of the names here."""
    images = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(images))
    for layer in layers:
        x = layer(x)
    return keras.Model(images, x)


L = keras.layers
POOL, DENSE = L.GlobalAveragePooling2D, functools.partial(L.Dense, 3)
# By name: a model, the index of the layer whose outputs are the logits, and of the features.
MODELS = {
    "dense": (lambda: ending_in(POOL(), DENSE(activation="softmax", name="head")), None, -2),
    "softmax": (lambda: ending_in(POOL(), DENSE(), L.Softmax()), -2, -3),
    "activation": (lambda: ending_in(POOL(), DENSE(), L.Activation("softmax")), -2, -3),
    "dropout": (lambda: ending_in(POOL(), L.Dropout(0.5), DENSE(), L.Softmax()), -2, -4),
    "convolution": (lambda: ending_in(L.Conv2D(3, 1), POOL(), L.Activation("sigmoid")), -2, -1),
    "flattened": (lambda: ending_in(L.Flatten(), DENSE()), -1, -2),
    "sigmoid": (lambda: ending_in(POOL(), L.Dense(1, "sigmoid", name="score")), None, -2),
    "map": (lambda: ending_in(L.Conv2D(3, 1, activation="sigmoid")), "refused", "refused"),
    "vector": (lambda: ending_in(POOL()), "refused", -1),
    "relu": (lambda: ending_in(POOL(), L.Dense(5, activation="relu")), "refused", -1),
    "score map": (lambda: score_map(small_net((1, 1))), "refused", "refused"),
    "sequential": (
        lambda: keras.Sequential([*ending_in(POOL(), DENSE(activation="sigmoid")).layers]),
        None,
        -2,
    ),
}


# Four modules are written and loaded for each.
FAST = ("convolution", "sequential")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in MODELS],
)
def test_takes_what_export_takes(name, tmp_path):
    build, logits, features = MODELS[name]
    model, images = build(), random_images()
    export(model, tmp_path / "saved_model")
    path = export_hub(model, tmp_path / "outputs", "outputs")
    close(load(path)(images), model(images * 255))
    opened = load_exported(path)
    assert opened.output == "outputs"
    close(opened(images * 255), load_exported(tmp_path / "saved_model")(images * 255))
    for kind, layer in (("classification", logits), ("feature_vector", features)):
        if layer == "refused":
            with refused("`model`", "'outputs'", f"{model.output_shape[1:]}"):
                export_hub(model, tmp_path / kind, kind)
            continue
        module = load(export_hub(model, tmp_path / kind, kind))
        if layer is None:  # The activation is a part of the layer, whose logits are made by hand.
            end = model.layers[-1]
            expected = end.activation(module(images))
            close(expected, model(images * 255))
        else:
            part = keras.Model(model.inputs[0], model.layers[layer].output)
            close(module(images), part(images * 255))


def test_a_network_inside_of_another_model(tmp_path):
    net, images = small_net((1, 1), include_top=True), keras.Input((8, 8, 1))
    outer = keras.Model(images, net(L.Rescaling(1.0)(images)))
    module = load(export_hub(outer, tmp_path / "m", "classification", labels=LABELS))
    x = random_images()
    close(tf.nn.softmax(module(x)), net(x * 255))
    layer = HubLayer(tmp_path / "m", trainable=True)
    assert len(layer.trainable_weights) == len(net.trainable_weights)


def test_a_card_may_be_a_file(tmp_path):
    (tmp_path / "README.md").write_text("# Card")
    path = export_hub(small_net((1,)), tmp_path / "m", card=tmp_path / "README.md")
    assert (path / "assets" / "card.md").read_text() == "# Card"


def test_stacked_blocks_can_be_fine_tuned(tmp_path):
    net = small_net((3,), recompute=True, dropout=0.1)
    module, images = load(export_hub(net, tmp_path / "m")), random_images()
    close(module(images), features_of(net)(images * 255))
    before = values(module.variables)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(module(images, training=True) ** 2)
        loss += tf.add_n([loss() for loss in module.regularization_losses])
    gradients = tape.gradient(loss, module.trainable_variables)
    for variable, gradient in zip(module.trainable_variables, gradients, strict=True):
        variable.assign_sub(1e-3 * gradient)
    assert len(moved(before, module.variables)) == len(module.variables)


@pytest.mark.parametrize(
    ("policy", "stack_blocks"),
    [("mixed_bfloat16", False), ("mixed_bfloat16", True), ("bfloat16", False)],
)
def test_is_float32_whatever_the_training_precision(tmp_path, policy, stack_blocks):
    keras.config.set_dtype_policy(policy)
    net = small_net((2,), stack_blocks=stack_blocks)
    path = export_hub(net, tmp_path / "m", "classification")
    assert net.layers[1].dtype_policy.name == policy
    keras.config.set_dtype_policy("float32")
    reference = small_net((2,), stack_blocks=stack_blocks)
    keras_resnet.copy_weights(net, reference)
    module, images = load(path), random_images()
    assert {v.dtype for v in module.trainable_variables} == {tf.float32}
    probabilities = tf.nn.softmax(module(images))
    np.testing.assert_allclose(probabilities, reference(images * 255), rtol=1e-4, atol=1e-5)
    # In 16 bits, as far as they go.
    np.testing.assert_allclose(probabilities, net(images * 255), atol=0.05)


def test_an_adapted_normalization_keeps_what_it_measured(tmp_path):
    images = random_images()
    inputs, normalization = keras.Input((8, 8, 1)), keras.layers.Normalization()
    normalization.adapt(images * 255)
    outputs = keras.layers.GlobalAveragePooling2D()(normalization(inputs) ** 2)
    net = keras.Model(inputs, outputs)
    module = load(export_hub(net, tmp_path / "m"))
    np.testing.assert_allclose(np.mean(module(images)), 1, rtol=1e-4)


def test_replaces_a_saved_model_only_when_told(net, feature_vector, tmp_path):
    path = shutil.copytree(feature_vector, tmp_path / "m")
    old = (path / "fingerprint.pb").read_bytes()
    with refused("`path`", "overwrite=True", path):
        export_hub(net, path, "classification")
    assert (path / "fingerprint.pb").read_bytes() == old
    export_hub(net, path, "classification", overwrite=True)
    assert load(path)(random_images()).shape == (5, 10)
    assert os.listdir(tmp_path) == ["m"]
    (tmp_path / "fresh").mkdir()
    assert path.stat().st_mode == (tmp_path / "fresh").stat().st_mode


@pytest.mark.parametrize("as_file", [True, False])
def test_never_replaces_anything_else(net, tmp_path, as_file):
    path = tmp_path / "mine"
    precious = path if as_file else path / "precious"
    precious.parent.mkdir(exist_ok=True)
    precious.write_text("precious")
    with refused("`path`", "SavedModel", path):
        export_hub(net, path, overwrite=True)
    assert precious.read_text() == "precious"


def test_the_last_digits_may_differ_as_in_other_formats(tmp_path, monkeypatch):
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    for difference, kept in ((9e-5, True), (2e-4, False), (float("nan"), False)):
        monkeypatch.setattr(hub.verification, "largest_difference", lambda *_, it=difference: it)
        expected = contextlib.nullcontext() if kept else refused(error=ExportMismatchError)
        with expected:
            export_hub(model, tmp_path / "m", "outputs", preprocessing="none", overwrite=True)


def test_a_wrong_module_leaves_nothing_behind(net, tmp_path, monkeypatch):
    def wrong(source, **options):
        copy = hub_copy(source, **options)
        kernel = copy.get_layer("conv1_conv").kernel
        kernel.assign(kernel * 1.01)
        return copy

    hub_copy = hub.float32_copy
    monkeypatch.setattr(hub, "float32_copy", wrong)
    with refused("`model`", "'resnet'", error=ExportMismatchError):
        export_hub(net, tmp_path / "m")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("failing", ["save", "second rename"])
def test_a_failure_leaves_the_existing_module_as_it_was(
    net, feature_vector, tmp_path, monkeypatch, failing
):
    path = shutil.copytree(feature_vector, tmp_path / "m")
    old = (path / "fingerprint.pb").read_bytes()
    rename = os.replace

    def no_space(source, target, *_):
        if failing == "save" or source.parent != tmp_path:
            raise OSError("No space left on device")
        return rename(source, target)

    module, name = (tf.saved_model, "save") if failing == "save" else (os, "replace")
    monkeypatch.setattr(module, name, no_space)
    with pytest.raises(OSError, match="space"):
        export_hub(net, path, overwrite=True)
    assert os.listdir(tmp_path) == ["m"]
    assert (path / "fingerprint.pb").read_bytes() == old
    assert load(path)(random_images()).shape == (5, 64)


def test_wrong_arguments_are_named(net, tmp_path):
    maps = keras_resnet.CifarResNet(8, input_shape=(8, 8, 1), include_top=False)
    subclassed = type("Mine", (keras.Model,), {})()
    vector = keras.Input((3,))
    as_it_is = {"preprocessing": "none"}
    photos = keras.Input((8, 8, 3))
    rescaled = keras.layers.Rescaling(1 / 255, name="preprocessing")(photos)
    scaled = keras.Model(photos, keras.layers.Flatten()(rescaled))
    named = keras.Model(photos, {"a": scaled.output})
    unnamed = keras.Model(photos, rescaled)
    for model, arguments, *words in (
        (net, {"kind": "features"}, "`kind`", "'feature_vector', 'classification'", "'features'"),
        (net, {"labels": ["a", "b"]}, "`labels`", "(10 ", "2 labels"),
        (net, {"labels": ["a\nb"] * 10}, "`labels`", "10 labels, 0 "),
        (net, {"labels": "0123456789"}, "`labels`", "1 labels"),
        (net, {"card": tmp_path / "none.md"}, "`card`", "none.md"),
        (maps, as_it_is, "`model`", "pooling='avg'", "(2, 2, 64)"),
        (maps, {**as_it_is, "kind": "classification"}, "`model`", "'outputs'"),
        (maps, {}, "`model`", "preprocessing='imagenet'"),
        (scaled, {"preprocessing": "imagenet"}, "`model`", "'preprocessing'"),
        (net, {"preprocessing": "torch"}, "`preprocessing`", "'inside'", "'torch'"),
        (named, {}, "`model`", "kind='feature_maps'", "outputs a"),
        (unnamed, {"kind": "feature_maps"}, "`model`", "conv2_"),
        (subclassed, {}, "`model`", "Mine"),
        (keras.Model(vector, keras.layers.Dense(2)(vector)), {}, "`model`", "(None, 3)"),
    ):
        with refused(*words):
            export_hub(model, tmp_path / "m", **arguments)
    with refused("`path`", "n\\udcff"):
        export_hub(net, tmp_path / "n\udcff")
    assert os.listdir(tmp_path) == []


def test_eight_threads_get_the_outputs_of_one(feature_vector):
    batches = [random_images(1 + i % 3) * (1 + i) / 32 for i in range(32)]
    assert_same_in_threads(load(feature_vector), batches)


DOWNSTREAM = """
import sys
sys.modules["keras_resnet"] = None  # whoever imports it fails
import numpy as np, tensorflow as tf

module = tf.saved_model.load(sys.argv[1])
images, expected = (np.load(path) for path in sys.argv[2:])
np.testing.assert_allclose(module(images), expected, rtol=1e-5, atol=1e-5)
before = [variable.numpy() for variable in module.variables]
losses = []
for _ in range(5):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((module(images, training=True) - 1.0) ** 2)
        total = loss + tf.add_n([loss() for loss in module.regularization_losses])
    losses.append(float(loss))
    gradients = tape.gradient(total, module.trainable_variables)
    for variable, gradient in zip(module.trainable_variables, gradients):
        variable.assign_sub(0.01 * gradient)
assert losses[-1] < losses[0], losses
assert not any(np.array_equal(old, new) for old, new in zip(before, module.variables))
"""


def test_another_program_fine_tunes_it_without_us(net, feature_vector, subprocess_python, tmp_path):
    images = random_images()
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "features.npy", features_of(net)(images * 255))
    files = [tmp_path / "images.npy", tmp_path / "features.npy"]
    subprocess_python(DOWNSTREAM, feature_vector, *files, env={"PYTHONPATH": ""})
