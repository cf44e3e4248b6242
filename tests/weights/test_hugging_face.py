"""Networks of the Hugging Face hub: configs as timm and transformers write them, a local hub."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import keras_resnet
from keras_resnet.export import load_exported
from keras_resnet.models import load_model
from keras_resnet.network import class_names_of
from keras_resnet.surgery import with_logits
from keras_resnet.utils import download
from keras_resnet.weights import PRETRAINED, Preprocessing
from keras_resnet.weights.hugging_face import find_network, from_timm, from_transformers, torch_name
from keras_resnet.weights.pytorch import to_torch
from tests.helpers import assert_same_weights, distance, images, randomize, refused
from tests.hub import local_hub

numpy_files = pytest.importorskip("safetensors.numpy")
pytest.importorskip("huggingface_hub")

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# As microsoft/resnet-50 has them, smaller.
TRANSFORMERS = {
    "architectures": ["ResNetForImageClassification"],
    "depths": [2, 1],
    "downsample_in_first_stage": False,
    "embedding_size": 6,
    "hidden_act": "relu",
    "hidden_sizes": [16, 32],
    "id2label": {"0": "tench, Tinca tinca", "2": "hen", "1": "goldfish"},
    "label2id": {"goldfish": 1, "hen": 2, "tench, Tinca tinca": 0},
    "layer_type": "bottleneck",
    "model_type": "resnet",
    "num_channels": 3,
    "torch_dtype": "float32",
    "transformers_version": "4.18.0.dev0",
}
PROCESSOR = {
    "crop_pct": 0.875,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "ConvNextFeatureExtractor",
    "image_mean": MEAN,
    "image_std": STD,
    "resample": 3,
    "size": 32,
}
# As timm/resnet50.a1_in1k has them.
TIMM = {
    "architecture": "resnet18",
    "num_classes": 3,
    "num_features": 512,
    "global_pool": "avg",
    "pretrained_cfg": {
        "tag": "a1_in1k",
        "custom_load": False,
        "input_size": [3, 32, 32],
        "test_input_size": [3, 288, 288],
        "fixed_input_size": False,
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "test_crop_pct": 1.0,
        "crop_mode": "center",
        "mean": MEAN,
        "std": STD,
        "num_classes": 3,
        "pool_size": [7, 7],
        "first_conv": "conv1",
        "classifier": "fc",
    },
}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with local_hub(monkeypatch, tmp_path / "cache") as hub:
        yield hub


def transformers_name(name: str) -> str:
    """The name of transformers for one of torchvision: another way than that of the package."""
    module, _, weight = name.rpartition(".")
    norms = {"bn": "normalization", "conv": "convolution"}
    if module == "fc":
        return f"classifier.1.{weight}"
    if module in ("conv1", "bn1"):
        return f"resnet.embedder.embedder.{norms[module[:-1]]}.{weight}"
    stage, block, part, *index = module.split(".")
    place = f"resnet.encoder.stages.{int(stage[5:]) - 1}.layers.{block}"
    if part == "downsample":
        return f"{place}.shortcut.{('convolution', 'normalization')[int(index[0])]}.{weight}"
    return f"{place}.layer.{int(part[-1]) - 1}.{norms[part[:-1]]}.{weight}"


def small_resnet(**options):
    options = {"widths": (4, 8), "stem_filters": 6, "classes": 3, **options}
    return randomize(keras_resnet.ResNet((2, 1), input_shape=(32, 32, 3), **options))


def put(hub, name, config, state, *, processor=None, file="model.safetensors"):
    files = {"config.json": json.dumps(config).encode(), file: numpy_files.save(state)}
    if processor is not None:
        files["preprocessor_config.json"] = json.dumps(processor).encode()
    hub.repositories[name] = files


def standardized(x, mean=MEAN, std=STD):
    return ((x / 255 - np.array(mean)) / np.array(std)).astype("float32")


@pytest.mark.parametrize("kind", ["v1.5", "v1", "basic"])
def test_transformers(hub, kind):
    options = {"block": "basic", "widths": (16, 32)} if kind == "basic" else {"version": kind}
    net = small_resnet(**options)
    state = {transformers_name(name): value for name, value in to_torch(net).items()}
    config = TRANSFORMERS | {"downsample_in_bottleneck": kind == "v1"}
    put(hub, "microsoft/resnet-50", config | {"layer_type": net.network.arguments["block"]}, state)
    put(hub, "own/prepared", *list_of(hub, "microsoft/resnet-50", state), processor=PROCESSOR)
    x = images(2, 32, 32, 3, low=0, high=255)
    model = load_model("hf://own/prepared")
    assert distance(model(x), net(standardized(x))) < 1e-5
    assert class_names_of(model) == ("tench, Tinca tinca", "goldfish", "hen")
    expected = Preprocessing(image_size=32, interpolation="bicubic")
    assert model.preprocessing.same_numbers(expected)
    prepared = model.preprocessing
    told = [prepared.image_size, prepared.resize, prepared.interpolation]
    assert told == [32, 36, "bicubic"] and model.input_shape == (None, 32, 32, 3)
    # Without a processor, images are as the network itself takes them, of any size.
    bare = load_model("hf://microsoft/resnet-50")
    assert distance(bare(standardized(x)), net(standardized(x))) < 1e-5
    assert bare.input_shape == (None, None, None, 3) and bare.preprocessing is None


def list_of(hub, name, state):
    return json.loads(hub.repositories[name]["config.json"]), state


def test_weights_of_a_builder(hub):
    net = randomize(keras_resnet.ResNet18(classes=3, input_shape=(32, 32, 3)))
    put(hub, "timm/resnet18.mine", TIMM, to_torch(net))
    options = {"classes": 3, "input_shape": (32, 32, 3)}
    model = keras_resnet.ResNet18(weights="hf://timm/resnet18.mine@main", **options)
    assert_same_weights(model, net)
    assert model.preprocessing.resize == 33 and not model.network.standardizes
    state = {transformers_name(name): value for name, value in to_torch(net).items()}
    config = {"depths": [2] * 4, "hidden_sizes": [64, 128, 256, 512], "embedding_size": 64}
    put(hub, "a/b", TRANSFORMERS | config | {"layer_type": "basic"}, state)
    assert_same_weights(keras_resnet.ResNet18(weights="hf://a/b", **options), net)
    with refused("`weights`", "a/b"):
        keras_resnet.ResNet34(weights="hf://a/b", **options)


def test_timm_as_it_writes_configs(hub):
    net = randomize(keras_resnet.ResNet18(classes=3, input_shape=(32, 32, 3)))
    named = {"label_names": ["n01", "n02", "n03"], "label_descriptions": {"n02": "goldfish"}}
    put(hub, "timm/resnet18.a1_in1k", TIMM | named, to_torch(net))
    x = images(2, 32, 32, 3, low=0, high=255)
    model = load_model("hf://timm/resnet18.a1_in1k")
    assert distance(model(x), net(standardized(x))) < 1e-5
    assert class_names_of(model) == ("n01", "goldfish", "n03")
    assert (model.preprocessing.resize, model.preprocessing.interpolation) == (33, "bicubic")
    assert model.preprocessing.at(288).resize == 288  # as timm tests it
    exported = load_exported("hf://timm/resnet18.a1_in1k")
    assert exported.labels == ("n01", "goldfish", "n03") and exported.preprocessing.resize == 33
    # Without a classifier, and on one level as in old files.
    state = {k: v for k, v in to_torch(net).items() if not k.startswith("fc.")}
    old = {k: v for k, v in TIMM.items() if k != "pretrained_cfg"} | TIMM["pretrained_cfg"]
    put(hub, "timm/old", old | {"num_classes": 0}, state)
    features = load_model("hf://timm/old")
    assert features.output_shape == (None, 512)


@pytest.mark.parametrize(
    "name",
    [
        "resnet10t",
        "resnet50_gn",
        "resnetblur50",
        "resnet99",
        "resnext50",
        "vit_small",
        "resnet50_2",
        "resnetv2_50x1_bit",
        "resnetv2_50c",
        "legacy_resnet50",
        "legacy_seresnet18",
        "densenet264",
    ],
)
def test_other_networks_of_timm_are_refused(hub, name):
    put(hub, "timm/other", {**TIMM, "architecture": name}, {"a": np.zeros(1, "float32")})
    with refused("`weights`", name, "hf://timm/other"):
        load_model("hf://timm/other")
    assert not any("safetensors" in path for path in hub.asked)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "gelu"},
        {"downsample_in_first_stage": True},
        {"layer_type": "dense"},
        {"hidden_sizes": [10, 20]},
        {"hidden_sizes": None},
        {"model_type": "vit"},
        {"depths": 3},
        {"num_channels": 10**12},
    ],
    ids=str,
)
def test_other_networks_of_transformers_are_refused(hub, changes):
    state = {"a": np.zeros(1, "float32")}
    put(hub, "a/b", TRANSFORMERS | changes, state, processor=PROCESSOR)
    with refused("`weights`", "hf://a/b"):
        load_model("hf://a/b")


def test_what_processors_say():
    def prepared(**changes):
        return from_transformers(TRANSFORMERS, PROCESSOR | changes)["include_preprocessing"]

    assert prepared(size={"shortest_edge": 224}).image_size == 224
    assert prepared(resample=2).interpolation == "bilinear"
    assert prepared(crop_pct=None).resize == 36  # 32 / 0.875
    assert prepared(do_normalize=False).std == (255.0,) * 3
    assert prepared(do_rescale=False).mean == tuple(MEAN)
    assert prepared(image_mean=0.5, image_std=0.5).mean == (127.5,) * 3
    cropped = {"feature_extractor_type": "ViTFeatureExtractor", "do_center_crop": True}
    cropped |= {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}
    found = prepared(**cropped)
    assert (found.image_size, found.resize) == (224, 256)
    # Of what cannot be done here there is a warning.
    for squashed in ({"size": 384}, {"feature_extractor_type": "", "size": {"height": 64}}):
        with pytest.warns(UserWarning, match="center"):
            found = prepared(**squashed)
        assert found.resize == found.image_size
    labels = {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}
    arguments = from_transformers(TRANSFORMERS | labels, PROCESSOR)
    assert arguments["include_preprocessing"].class_names is None and arguments["classes"] == 2
    for problem, activation in (("multi_label_classification", "sigmoid"), ("regression", None)):
        arguments = from_transformers(TRANSFORMERS | {"problem_type": problem}, None)
        assert arguments["classifier_activation"] == activation


@pytest.mark.parametrize("legacy", [False, True])
def test_other_names_of_weights(hub, legacy):
    """Where they, and not the config, tell the version and the stem's pool."""
    name, build, options = (
        ("legacy_seresnet50", keras_resnet.SEResNet50, {"stem_pool": "ceil"})
        if legacy
        else ("resnetv2_18", keras_resnet.ResNet18V2, {"stem_pool": "first"})
    )
    net = randomize(build(classes=3, input_shape=(32, 32, 3), **options))
    put(hub, "timm/other", {**TIMM, "architecture": name}, to_torch(net))
    model = load_model("hf://timm/other")
    x = images(2, 32, 32, 3, low=0, high=255)
    assert distance(model(x), net(standardized(x))) < 1e-5
    assert model.network.function() == net.network.function()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (
            "resnet50.tv2_in1k",
            {"input_size": [3, 176, 176], "interpolation": "bilinear"}
            | {"crop_pct": 0.875, "test_input_size": [3, 224, 224], "test_crop_pct": 0.965},
        ),
        ("resnet50.a1_in1k", {"input_size": [3, 224, 224]}),
        (
            "resnet26.bt_in1k",
            {"input_size": [3, 224, 224], "crop_pct": 0.875, "test_crop_pct": 0.95},
        ),
        (
            "seresnext50_32x4d.racm_in1k",
            {"input_size": [3, 224, 224], "crop_pct": 0.875, "test_crop_pct": 0.95},
        ),
    ],
)
def test_addresses_and_published_names_prepare_images_alike(name, changes):
    about = TIMM["pretrained_cfg"] | changes
    config = {**TIMM, "architecture": name.partition(".")[0], "pretrained_cfg": about}
    _, arguments = from_timm(config)
    told, published = arguments["include_preprocessing"], PRETRAINED[f"timm/{name}"].preprocessing
    assert told.same_numbers(published)
    for size in (224, 288):
        found, expected = told.at(size), published.at(size)
        fields = ("image_size", "resize", "interpolation", "resizes")
        assert [getattr(found, f) for f in fields] == [getattr(expected, f) for f in fields]
    assert arguments["input_shape"] == (224, 224, 3)


def test_a_rectangle_keeps_both_sides(hub):
    about = TIMM["pretrained_cfg"] | {"input_size": [3, 64, 32]}
    _, arguments = from_timm({**TIMM, "pretrained_cfg": about})
    assert arguments["input_shape"] == (64, 32, 3)
    told = arguments["include_preprocessing"]
    assert (told.image_size, told.resize) == ((64, 32), 33)  # 32 / 0.95
    put(hub, "a/b", TIMM, {"a": np.zeros(1, "float32")})
    assert find_network("hf://a/b").preprocessing.source.startswith("hf://a/b")


def test_filters_that_there_are_not_here():
    def told(filter_):
        about = TIMM["pretrained_cfg"] | {"interpolation": filter_}
        return from_timm({**TIMM, "pretrained_cfg": about})[1]["include_preprocessing"]

    for known in ("bilinear", "bicubic"):
        assert told(known).interpolation == known
    for other in ("nearest", "lanczos", "random"):
        with pytest.warns(UserWarning, match=other):
            assert told(other).interpolation == "bicubic"
    nearest = PROCESSOR | {"resample": 0}
    with pytest.warns(UserWarning, match="interpolation 0"):
        arguments = from_transformers(TRANSFORMERS, nearest)
    assert arguments["include_preprocessing"].interpolation == "bicubic"


@pytest.mark.parametrize(
    "changes",
    [
        {"crop_pct": 0},
        {"crop_pct": 1e-320},
        {"test_crop_pct": 0},
        {"test_crop_pct": -1},
        {"std": [0, 1, 1]},
        {"mean": [1e400, 1, 1]},
        {"interpolation": []},
    ],
    ids=str,
)
def test_numbers_that_prepare_no_image(hub, changes):
    put(hub, "a/b", {**TIMM, "pretrained_cfg": TIMM["pretrained_cfg"] | changes}, {})
    with refused("`weights`", "hf://a/b"):
        load_model("hf://a/b")


@pytest.mark.parametrize("factor", [0, 1e-320])
def test_factors_that_prepare_no_image(hub, factor):
    put(hub, "a/b", TRANSFORMERS, {}, processor=PROCESSOR | {"rescale_factor": factor})
    with refused("`weights`", "hf://a/b"):
        load_model("hf://a/b")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"depths": [10**9, 1]}, "1,000,000,001 blocks"),
        ({"hidden_sizes": [16, 4 * 10**9]}, "more weights than it has bytes"),
        ({"embedding_size": 10**9}, "more weights than it has bytes"),
        ({"embedding_size": 10**40}, ""),
    ],
    ids=str,
)
def test_networks_larger_than_their_file_are_not_built(hub, changes, word):
    state = {transformers_name(name): value for name, value in to_torch(small_resnet()).items()}
    put(hub, "a/b", TRANSFORMERS | changes, state)
    with refused("`path`", "hf://a/b", word):
        load_model("hf://a/b")


def test_files_alone_are_loaded_below_the_builders():
    with refused("`path`", "keras_resnet.load_model", "hf://a/b"):
        keras_resnet.weights.load_model("hf://a/b")


def test_names_of_a_model_without_a_head():
    assert torch_name("embedder.embedder.convolution.weight") == "conv1.weight"
    name = "encoder.stages.3.layers.2.shortcut.normalization.running_mean"
    assert torch_name(name) == torch_name(f"resnet.{name}") == "layer4.2.downsample.1.running_mean"


def test_files_are_verified_and_of_one_commit(hub):
    put(hub, "a/b", TIMM, {"a": np.zeros(1, "float32")})
    assert find_network("hf://a/b").address == f"hf://a/b@{hub.commit}"
    assert [path.split("/")[4] for path in hub.asked] == ["main", hub.commit]
    for file, checksum in (("config.json", "0" * 40), ("model.safetensors", "0" * 64)):
        hub.repositories[f"a/{file}"] = hub.repositories["a/b"]
        hub.recorded = {file: checksum}
        with refused(file, checksum):
            find_network(f"hf://a/{file}")
    hub.recorded = {"config.json": "no checksum"}
    hub.repositories["a/none"] = hub.repositories["a/b"]
    with refused("config.json", "verified"):
        find_network("hf://a/none")


def test_pickled_weights_where_there_are_no_others(hub, tmp_path):
    put(hub, "a/b", TIMM, {}, file="pytorch_model.bin")
    assert find_network("hf://a/b").file.name == "pytorch_model.bin"
    del hub.repositories["a/b"]["pytorch_model.bin"]
    hub.repositories["a/c"] = hub.repositories["a/b"]
    with pytest.raises(OSError, match="a/c/pytorch_model.bin"):
        find_network("hf://a/c")


def test_wrong_addresses_are_named(hub):
    for address in ("hf://", "hf://resnet", "hf://a/b/c", "hf://a/../b", "hf://a/b@"):
        with refused("`weights`", address):
            load_model(address)
    with pytest.raises(OSError, match="a/none/config.json"):
        load_model("hf://a/none")
    for number, content in enumerate((b"[1]", b"{", b"[" * 10_000)):
        hub.repositories[f"a/{number}"] = {"config.json": content}
        with refused("`weights`", f"hf://a/{number}"):
            load_model(f"hf://a/{number}")


# --- against transformers itself ---------------------------------------------------------------

STORED = Path(__file__).with_name("transformers")


@pytest.mark.parametrize("kind", ["bottleneck", "v1", "basic"])
def test_outputs_are_those_of_transformers(hub, kind):
    """Of files that it wrote; see `transformers/make.py`."""
    files = ("config.json", "model.safetensors")
    hub.repositories["a/b"] = {name: (STORED / kind / name).read_bytes() for name in files}
    with np.load(STORED / "outputs.npz", allow_pickle=False) as outputs:
        x, logits = outputs[f"{kind}/images"], outputs[f"{kind}/logits"]
    model = with_logits(load_model("hf://a/b"))
    assert np.ptp(logits, axis=0).min() > 0.01  # which images make, not biases alone
    assert distance(model(x), logits) < 1e-5


def test_what_is_cached_is_loaded_offline(hub, monkeypatch):
    """Files that the repository lacks are known to be missing then, too."""
    net = small_resnet()
    state = {transformers_name(name): value for name, value in to_torch(net).items()}
    put(hub, "a/b", TRANSFORMERS, state)
    calls = []
    fetch = download.fetch_from_hub
    monkeypatch.setattr(download, "fetch_from_hub", lambda *a: calls.append(a[1]) or fetch(*a))
    first = load_model("hf://a/b")
    assert calls == ["config.json", "preprocessor_config.json", "model.safetensors"]
    hub.repositories.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert_same_weights(load_model("hf://a/b"), first)
    with pytest.raises(OSError, match="a/none/config.json"):
        load_model("hf://a/none")
