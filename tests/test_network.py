"""A model remembers its network through building, saving, loading and cloning."""

from __future__ import annotations

import json

import keras
import pytest

import keras_resnet
from keras_resnet.architectures import ARCHITECTURES, Stem
from keras_resnet.layers import BatchNormalization, Remembering
from keras_resnet.network import (
    Network,
    NetworkConfig,
    class_names_of,
    network_of,
    remembered,
)
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.surgery import rebuild, with_logits
from tests.helpers import assert_same_weights, refused

SMALL = {"input_shape": (16, 16, 3), "classes": 3}
OBJECTS = {
    "activation": keras.layers.LeakyReLU(negative_slope=0.2),
    "kernel_regularizer": keras.regularizers.L2(1e-4),
    "classifier_activation": None,
}
STANDARDIZED = {"include_preprocessing": Preprocessing((33.0,), (21.0,), image_size=8)}
BACKBONE = {"include_top": False, "classes": None, "features": ["C2", "C4"]}

# One network for each way in which an argument is kept, and what it is called.
NETWORKS = {
    "named": ("ResNet20", (), {}, "ResNet20"),
    "variant": ("ResNet20", (), {"shortcut": "B"}, "ResNet20_B"),
    "of any depth": ("CifarResNet", (8,), {}, "ResNet8"),
    "wide": ("CifarWideResNet", (10, 2), {}, "WideResNet10_2"),
    "dense": ("CifarDenseNet", (10, 4), {}, "DenseNetBC10_4"),
    "dense stack": ("CifarDenseNet", (10, 4), {"stack_blocks": True}, "DenseNetBC10_4"),
    "of its own": ("ResNet", ((1, 2),), {"widths": (4, 8), "stem": Stem(3, 1, True)}, "ResNet"),
    "objects": ("CifarResNet", (8,), OBJECTS, "ResNet8_leakyrelu"),
    "group normalization": ("CifarResNet", (8,), {"normalization": "group"}, "ResNet8_group"),
    "grey": ("CifarResNet", (8,), {"input_shape": (8, 8, 1), **STANDARDIZED}, "ResNet8"),
    "backbone": ("CifarResNet", (8,), BACKBONE, "ResNet8"),
}


def without_memory(layer):
    """Keras's own layer in place of the one that remembers."""
    if isinstance(layer, Remembering):
        return keras.layers.BatchNormalization(name=layer.name)
    return type(layer).from_config(layer.get_config())


@pytest.mark.parametrize("kind", NETWORKS)
def test_saved_loaded_and_cloned(kind, tmp_path):
    builder, arguments, options, name = NETWORKS[kind]
    model = getattr(keras_resnet, builder)(*arguments, **{**SMALL, **options})
    assert model.network.architecture.name == name
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    for other in (loaded, keras.models.clone_model(model), keras.models.clone_model(loaded)):
        assert type(other) is type(model)
        assert other.network.to_json() == model.network.to_json()
        assert other.network.function() == model.network.function()
        assert other.preprocessing == model.preprocessing


def test_an_entry_of_the_table_is_found_again():
    general = keras_resnet.ResNet(
        (3, 3, 3), block="basic", widths=(16, 32, 64), stem="cifar", shortcut="A"
    )
    assert general.network.architecture is ARCHITECTURES["ResNet20"]
    assert general.name == "resnet"


def test_preprocessing_is_that_of_the_weights(tmp_path):
    assert keras_resnet.CifarResNet(8).preprocessing is None
    standard = keras_resnet.CifarResNet(8, include_preprocessing=True)
    assert standard.preprocessing == Preprocessing(image_size=32)  # its own size
    own = Preprocessing((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), image_size=32)
    source = keras_resnet.CifarResNet(8, include_preprocessing=own)
    source.save(tmp_path / "source.keras")
    # The standardization comes with the weights, inside of the model or beside it.
    inside = keras_resnet.CifarResNet(
        8, weights=tmp_path / "source.keras", include_preprocessing=True
    )
    assert inside.preprocessing == own
    assert inside.get_layer("preprocessing").get_config()["mean"] == list(own.mean)
    beside = keras_resnet.CifarResNet(8)
    keras_resnet.weights.load_weights(beside, tmp_path / "source.keras")
    assert beside.preprocessing == own


def test_the_policy_and_the_tensor_it_was_built_on():
    keras.config.set_dtype_policy("mixed_bfloat16")
    inputs = keras.Input((16, 16, 3))
    model = keras_resnet.CifarResNet(8, input_tensor=keras.layers.Rescaling(1 / 255)(inputs))
    assert (model.network.dtype_policy, model.network.on_tensor) == ("mixed_bfloat16", True)


def test_models_that_are_no_network():
    model = keras_resnet.CifarResNet(8, **SMALL)
    part = keras.Model(model.input, model.get_layer("conv2_block1_out").output, name="part")
    assert not isinstance(part, Network) and remembered(part) is None
    for other in (part, keras.Sequential(name="part"), "part"):
        with refused("`model`", "part"):
            network_of(other)
    plain = keras.models.clone_model(model, clone_function=without_memory)
    assert remembered(plain) is None
    with refused("`model`", model.name):
        network_of(plain)


def test_config_round_trip():
    config = keras_resnet.CifarResNet(8, **SMALL).network
    again = NetworkConfig.from_json(config.to_json())
    assert again.arguments["blocks"] == (1, 1, 1) and again.arguments["classes"] == 3
    assert not {"weights", "input_tensor", "name"} & set(again.arguments)


def test_the_preprocessing_that_earlier_versions_stored():
    """Every attribute as it is, and of an old file those that there were."""
    stored = {
        "mean": [123.68, 116.779, 103.939],
        "std": [1.0, 1.0, 1.0],
        "image_size": [8, 6],
        "resize": 7,
        "interpolation": "bicubic",
        "class_names": ["cat", "dog"],
        "source": "timm/x",
        "resizes": [[16, 18], [[24, 20], 22]],
        "bgr": True,
        "threshold": 0.25,
        "bits": 16,
    }
    names, resizes = ("cat", "dog"), ((16, 18), ((24, 20), 22))
    mean = (123.68, 116.779, 103.939)
    full = Preprocessing(
        mean, (1.0,) * 3, (8, 6), 7, "bicubic", names, "timm/x", resizes, True, 0.25, 16
    )
    model = keras_resnet.CifarResNet(
        8, input_shape=(8, 6, 3), classes=2, include_preprocessing=full
    )
    text = json.loads(model.network.to_json())
    assert text["preprocessing"] == text["arguments"]["include_preprocessing"] == stored
    again = NetworkConfig.from_json(json.dumps(text))
    assert again.preprocessing == again.arguments["include_preprocessing"] == full
    text["preprocessing"] = {name: stored[name] for name in ("mean", "std", "image_size", "resize")}
    old = NetworkConfig.from_json(json.dumps(text)).preprocessing
    assert old == Preprocessing(mean, (1.0,) * 3, (8, 6), 7)


def test_a_model_from_before_an_option_has_its_default():
    saved = json.loads(keras_resnet.ResNet20(shortcut="B").network.to_json())
    del saved["arguments"]["squeeze_excitation"]
    again = NetworkConfig.from_json(json.dumps(saved))
    assert again.architecture == keras_resnet.ResNet20(shortcut="B").network.architecture


def test_arguments_cannot_be_changed():
    with pytest.raises(TypeError):
        keras_resnet.CifarResNet(8).network.arguments["bn_epsilon"] = 1.0


def test_layers_in_front_belong_to_no_network():
    inputs = keras.Input((8, 8, 3))
    front = BatchNormalization(name="front")(inputs)
    models = [keras_resnet.CifarResNet(8, shortcut=s, input_tensor=front) for s in ("A", None)]
    assert [m.network.architecture.name for m in models] == ["ResNet8", "PlainNet8"]


def enlarged(arguments):
    """An object in place of the activation that takes memory when it is read."""
    return arguments | {"activation": keras.saving.serialize_keras_object(huge())}


def huge():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])


@pytest.mark.parametrize(
    "change",
    [
        lambda network: "[]",
        lambda network: "5",
        lambda network: "{",
        lambda network: '{"builder":' * 50_000,
        lambda network: json.dumps(network | {"builder": "Foo"}),
        lambda network: json.dumps(network | {"arguments": {}}),
        lambda network: json.dumps(network | {"arguments": enlarged(network["arguments"])}),
    ],
    ids=["list", "number", "cut", "nested", "builder", "arguments", "model"],
)
def test_nonsense_is_refused_when_it_is_read(change, tmp_path):
    model = keras_resnet.CifarResNet(8, input_shape=(8, 8, 3))
    text = change(json.loads(model.network.to_json()))
    with refused("`network`"):
        NetworkConfig.from_json(text)
    model.get_layer("conv1_bn").network = text
    model.save(tmp_path / "model.keras")
    with refused("`path`", "model.keras"):
        keras_resnet.weights.load_model(tmp_path / "model.keras")


def test_functions_that_keras_does_not_find_by_name(tmp_path):
    model = keras_resnet.CifarResNet(8, activation=lambda x: keras.ops.relu(x))
    assert network_of(model).architecture.name == "ResNet8_lambda"
    with refused("`network`"):
        NetworkConfig.from_json(model.network.to_json())
    # They keep no weights from being loaded.
    model.save(tmp_path / "model.keras")
    other = keras_resnet.CifarResNet(8, weights=tmp_path / "model.keras")
    assert_same_weights(other, model)


def test_class_names_are_kept_with_their_classifier(tmp_path):
    names = ("apple", "bee", "c[at]\u202e\ud800")
    model = keras_resnet.CifarResNet(8, **SMALL, include_preprocessing=True)
    model.remember(model.network.with_class_names(list(names)))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    like = {**SMALL, "weights": tmp_path / "model.keras", "include_preprocessing": True}
    kept = [loaded, keras.models.clone_model(loaded), rebuild(loaded, output_stride=2)]
    for other in (*kept, with_logits(loaded), keras_resnet.CifarResNet(8, **like)):
        assert class_names_of(other) == names
        assert other.preprocessing.same_numbers(Preprocessing())
    with pytest.warns(UserWarning, match="classifier"):
        others = keras_resnet.CifarResNet(8, **{**like, "classes": 4})
    headless = rebuild(loaded, include_top=False, classes=None)
    for other in (others, headless, rebuild(loaded, classes=4), keras.Sequential()):
        assert class_names_of(other) is None


def test_a_model_from_before_class_names_has_none():
    saved = json.loads(keras_resnet.CifarResNet(8, include_preprocessing=True).network.to_json())
    del saved["preprocessing"]["class_names"]
    assert NetworkConfig.from_json(json.dumps(saved)).preprocessing == Preprocessing().at(32)
    for wrong in (5, "abc", [1, 2], [["a"]]):
        saved["preprocessing"]["class_names"] = wrong
        with refused("`network`", "`class_names`"):
            NetworkConfig.from_json(json.dumps(saved))


def test_the_summary_says_what_is_done_to_an_image():
    lines: list[str] = []
    model = keras_resnet.CifarResNet(8, include_preprocessing=Preprocessing(resize=256))
    model.summary(print_fn=lambda text, **_: lines.append(text))
    assert "conv2_block1_add" in "".join(lines) and lines[-1] == f" Images: {model.preprocessing}"
    told = Preprocessing(source="\x1b[31m")
    keras_resnet.CifarResNet(8, include_preprocessing=told).summary(
        print_fn=lambda text, **_: lines.append(text)
    )
    assert "\x1b" not in lines[-1]
    assert model.preprocessing == Preprocessing(image_size=32, resize=37, resizes=((224, 256),))
