"""Networks by name, their published and measured accuracies, and the two figures."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest

import keras_resnet
from keras_resnet.analysis.comparison import Entry, compare, read_accuracy
from keras_resnet.analysis.cost import Cost, Phase
from keras_resnet.analysis.counting import Complexity, LayerCost, built_without_values, complexity
from keras_resnet.analysis.defaults import DEFAULT_MODELS
from keras_resnet.analysis.networks import application_names, find_network
from keras_resnet.analysis.plots import accuracy_against_operations, cost_against_batch
from keras_resnet.analysis.published import APPLICATIONS, PAPER, Accuracy, published_accuracy
from keras_resnet.utils.tables import text_table
from keras_resnet.weights import PRETRAINED
from tests.analysis.conftest import written
from tests.helpers import refused

MEASURED = Accuracy(0.8, 0.95, 224, "single crop", "ImageNet", "metrics.json", measured=True)

# Millions of parameters and of multiply-adds, as tests/analysis/test_counting.py finds them.
SIZES = {
    **{"ResNet18": (11.7, 1814), "ResNet34": (21.8, 3664), "ResNet50": (25.6, 3858)},
    **{"ResNet101": (44.5, 7570), "ResNet152": (60.2, 11282), "PlainNet34": (21.6, 3640)},
    **{"VGG16": (138.4, 15470), "VGG19": (143.7, 19632), "InceptionV3": (23.8, 5713)},
    **{"Xception": (22.9, 8357), "DenseNet121": (8.0, 2834), "DenseNet201": (20.0, 4291)},
    **{"MobileNet": (4.2, 569), "MobileNetV2": (3.5, 301), "EfficientNetB0": (5.3, 386)},
}


def entry(name, accuracy=None):
    parameters, multiply_adds = (int(millions * 1e6) for millions in SIZES[name])
    layer = LayerCost("all", "Conv2D", (1,), parameters, 0, multiply_adds, 1, 4 * parameters)
    network, cost = find_network(name), Complexity((layer,), 0, 0)
    return Entry(network, (network.size(),) * 2 + (3,), cost, accuracy or network.published)


@pytest.mark.parametrize(
    ("name", "library", "label", "top1"),
    [
        ("ResNet34", "keras_resnet", "ResNet34", 0.73314),
        ("ResNet50", "keras_resnet", "ResNet50", 0.749),
        ("ResNet50_v1.5", "keras_resnet", "ResNet50_v1.5", 0.7613),
        ("ResNeXt50_32x4d", "keras_resnet", "ResNeXt50_32x4d", 0.77618),
        ("ResNeXt50_32x4d_C", "keras_resnet", "ResNeXt50_32x4d_C", None),
        ("SEResNet50", "keras_resnet", "SEResNet50", None),
        ("ResNet34_C", "keras_resnet", "ResNet34_C", 0.7581),
        ("ResNet110", "keras_resnet", "ResNet110", 0.9357),
        ("keras.applications.ResNet50", "keras.applications", "ResNet50 (Keras)", 0.749),
        ("VGG16", "keras.applications", "VGG16", 0.713),
        ("DenseNet264", "keras_resnet", "DenseNet264", None),
        ("MobileNetV3Small", "keras.applications", "MobileNetV3Small", None),
        ("runs/digits/model.keras", "file", "digits/model", None),
    ],
)
def test_names(name, library, label, top1):
    network = find_network(name)
    assert (network.library, network.label) == (library, label)
    assert (network.published and network.published.top1) == top1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ResNet51", ["`model`", "'ResNet18', ", "'VGG16'", "model='ResNet51'"]),
        ("keras.applications.ResNet18", ["`model`", "model='ResNet18'"]),
        ("ResNet50_D", ["`model`", "model='ResNet50_D'"]),
        ("get_file", ["`model`", "model='get_file'"]),
    ],
)
def test_unknown_names(name, words):
    with refused(*words):
        find_network(name)


def test_suffixes_reach_the_builder():
    model = built_without_values(find_network("ResNet18_C").build, 32)
    expected = keras_resnet.ResNet18(shortcut="C", input_shape=(32, 32, 3))
    assert model.count_params() == expected.count_params()
    assert model.input_shape == (None, 32, 32, 3)


def test_sizes_that_a_network_does_not_take():
    with refused("`image_size`", "InceptionV3", "image_size=32"):
        list(compare(["InceptionV3"], image_size=32))


def test_every_published_name_can_be_built():
    assert set(APPLICATIONS) <= set(application_names())
    assert all(find_network(name).library == "keras_resnet" for name in PAPER)
    # ImageNet's protocol images, and errors that are shares, not percentages.
    for accuracy in (*APPLICATIONS.values(), *PAPER.values()):
        assert 0.6 < accuracy.top1 < (accuracy.top5 or 1) <= 1
        assert accuracy.source and not accuracy.measured


def test_published_figures_of_the_paper():
    assert PAPER["PlainNet34"].top1 == pytest.approx(1 - 0.2854)
    assert PAPER["PlainNet34"].protocol == "10 crops"
    assert PAPER["ResNet34_A"].top5 == pytest.approx(1 - 0.0776)
    cifar = {name: a.top1 for name, a in PAPER.items() if a.dataset == "CIFAR-10"}
    assert cifar["ResNet56"] == pytest.approx(1 - 0.0697) and len(cifar) == 6


def test_accuracies_of_networks_with_weights_come_from_the_table_of_weights():
    weights = PRETRAINED["timm/resnet50.tv_in1k"]
    accuracy = published_accuracy("ResNet50_v1.5")
    top1, top5 = weights.metrics[224]
    assert (accuracy.top1, accuracy.top5) == pytest.approx((top1 / 100, top5 / 100))
    assert accuracy.source == f"{weights.recipe} ({weights.name})"
    assert APPLICATIONS["ResNet50"] == published_accuracy("ResNet50")
    assert published_accuracy("ResNet50D") is None  # published for a stronger recipe only


def test_compare_counts_and_finds_accuracies():
    first, second = compare(["ResNet20", "MobileNetV2"], accuracies={"ResNet20": MEASURED})
    assert first.complexity == complexity(keras_resnet.ResNet20())
    assert first.image_shape == (32, 32, 3) and first.accuracy is MEASURED
    assert second.complexity.parameters == 3_504_872
    row = second.row()
    assert (row["accuracy_is"], row["top1_accuracy"]) == ("published", 0.713)
    assert row["source"].startswith("https://keras.io")
    assert "unavailable" not in text_table([first.summary(), second.summary()])


def test_published_accuracies_belong_to_their_image_size():
    for size, shape in ((64, (64, 64, 3)), ("224x64", (224, 64, 3))):
        (resized,) = compare(["ResNet18"], image_size=size)
        assert resized.image_shape == shape and resized.accuracy is None
    assert "unavailable" in text_table([resized.summary()])


def test_saved_models_and_open_sides(tmp_path):
    model = keras_resnet.CifarResNet(8, input_shape=(None, None, 1), classes=4)
    model.save(tmp_path / "model.keras")
    (loaded,) = compare([str(tmp_path / "model.keras")], image_size=(12, 8))
    assert loaded.image_shape == (12, 8, 1)
    assert loaded.complexity == complexity(model, (12, 8, 1))


@pytest.mark.parametrize(
    ("names", "options", "received"),
    [
        ([], {}, "models=[]"),
        (["VGG16", "VGG16"], {}, "models=['VGG16', 'VGG16']"),
        (["VGG16"], {"accuracies": {"VGG19": MEASURED}}, "accuracy='VGG19'"),
        (["VGG16"], {"image_size": 0}, "image_size=0"),
    ],
)
def test_wrong_comparisons(names, options, received):
    with refused(f"`{received.partition('=')[0]}`", received):
        compare(names, **options)


def test_accuracies_from_the_command_line(tmp_path):
    name, accuracy = read_accuracy("ResNet50=0.75")
    assert (name, accuracy.top1, accuracy.measured) == ("ResNet50", 0.75, True)

    def read(metrics):
        path = tmp_path / "metrics.json"
        path.write_text(json.dumps(metrics))
        return read_accuracy(f"runs=a/model.keras={path}")

    name, accuracy = read({"test_accuracy": 0.9, "validation_accuracy": 0.8})
    assert (name, accuracy.top1, accuracy.protocol) == ("runs=a/model.keras", 0.9, "test split")
    assert read({"validation_accuracy": 0.8})[1].protocol == "validation split"
    evaluation = {"top1_error": 0.25, "top5_error": 0.05, "dataset": "d", "protocol": {"name": "p"}}
    accuracy = read(evaluation)[1]
    assert (accuracy.top1, accuracy.top5) == (0.75, 0.95)
    assert (accuracy.dataset, accuracy.protocol) == ("d", "p")
    with refused("`accuracy`", "`top1_error`", "metrics.json"):
        read({"loss": 1})
    (tmp_path / "nested.json").write_text("[" * 100_000)
    with refused("`accuracy`", "nested.json"):
        read_accuracy(f"x={tmp_path / 'nested.json'}")
    with refused("`accuracy`", "NAME=VALUE", "accuracy='0.75'"):
        read_accuracy("0.75")
    with refused("`accuracy`", "[0, 1]", "accuracy=74.9"):
        read_accuracy("ResNet50=74.9")
    with pytest.raises(FileNotFoundError):
        read_accuracy("ResNet50=none.json")


def test_no_label_covers_another_in_the_default_comparison(tmp_path, figures):
    entries = [entry(name) for name in (*DEFAULT_MODELS, "PlainNet34")]
    assert accuracy_against_operations(entries, tmp_path / "comparison.png")
    (fig,) = figures
    fig.set_dpi(144)
    fig.canvas.draw()
    (axes,) = fig.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert {text.get_text() for text in axes.texts} == {*DEFAULT_MODELS, "PlainNet34"}
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    window = axes.get_window_extent()
    for box in boxes:
        assert window.x0 < box.x0 and box.x1 < window.x1
        assert window.y0 < box.y0 and box.y1 < window.y1


def test_no_line_strikes_a_label_through(tmp_path, figures):
    entries = [entry(name) for name in ("ResNet34", "ResNet50", "ResNet101", "ResNet152")]
    accuracy_against_operations(entries, tmp_path / "comparison.png")
    (axes,) = figures[0].axes
    family = axes.lines[0]
    assert len(family.get_xdata()) == 3  # another source has published ResNet34's accuracy
    path = family.get_transform().transform_path(family.get_path())
    for text in axes.texts:
        assert not path.intersects_bbox(text.get_window_extent(), filled=False), text


def test_the_figure_says_what_it_shows(tmp_path):
    entries = [entry("ResNet50", MEASURED), entry("VGG16"), entry("PlainNet34")]
    entries.append(dataclasses.replace(entry("MobileNet"), accuracy=None))
    accuracy_against_operations(entries, tmp_path / "comparison.png")
    table, text = written(tmp_path / "comparison.png")
    for label in (
        *("multiply-adds of one image of 224x224x3", "top-1 accuracy on ImageNet (%)"),
        *("parameters", "25 M", "published", "measured", "10 crops"),
        *("ResNet50", "VGG16", "PlainNet34"),
    ):
        assert label in text
    assert "<!-- MobileNet -->" not in text  # it has no accuracy
    rows = {row["model"]: row for row in table}
    assert rows["ResNet50"]["accuracy_is"] == "measured"
    assert rows["MobileNet"]["top1_accuracy"] == ""
    assert float(rows["VGG16"]["multiply_adds"]) == entries[1].complexity.multiply_adds


def test_without_accuracies_there_is_a_table_and_no_figure(tmp_path):
    bare = dataclasses.replace(entry("VGG16"), accuracy=None)
    assert not accuracy_against_operations([bare], tmp_path / "comparison.png")
    assert [path.name for path in tmp_path.iterdir()] == ["comparison.csv"]


def costs(joules=None, training=True):
    for name, batch_size in itertools.product(("ResNet18", "VGG16"), (1, 8)):
        phase = Phase(0.1, 0.09, 0.13, 5, batch_size * 2**20, joules)
        machine = ((224, 224, 3), "float32", "CPU", None)
        yield Cost(name, batch_size, *machine, phase, phase if training else None)


def test_cost_figure(tmp_path, figures):
    assert cost_against_batch(list(costs(joules=2.5)), tmp_path / "cost.png")
    assert len(figures[0].axes) == 6  # time, memory and energy of both kinds of step
    rows, text = written(tmp_path / "cost.png")
    assert "unavailable" not in text
    assert [row["batch_size"] for row in rows] == ["1", "8"] * 2
    assert float(rows[1]["training_memory_bytes"]) == 8 * 2**20
    assert float(rows[0]["forward_joules_per_image"]) == 2.5


def test_energy_without_a_meter_is_unavailable(tmp_path, figures):
    cost_against_batch(list(costs(training=False)), tmp_path / "cost.png")
    time, memory = figures[0].axes
    assert time.lines and memory.lines
    assert figures[0].get_suptitle().endswith("unavailable: energy per image")
    assert list(memory.lines[0].get_ydata()) == [1.0, 8.0]  # MiB
    labels = [axes.get_ylabel() for axes in figures[0].axes]
    assert [label.split("(")[1] for label in labels] == ["s)", "MiB)"]
    assert not cost_against_batch([], tmp_path / "none.png")


def test_energy_known_of_some_steps_alone(tmp_path, figures):
    some = [
        dataclasses.replace(cost, training=one.training)
        for cost, one in zip(costs(joules=2.5), costs(), strict=True)
    ]
    cost_against_batch(some, tmp_path / "cost.png")
    energy, none = figures[0].axes[2::3]
    assert energy.lines and not energy.texts
    assert not none.lines and [text.get_text() for text in none.texts] == ["unavailable"]


def test_one_batch_size_is_no_logarithmic_axis(tmp_path, figures):
    cost_against_batch(list(costs())[:1], tmp_path / "cost.png")
    assert {axes.get_xscale() for axes in figures[0].axes} == {"linear"}


def test_numbers_in_a_text_table():
    rows = [{"model": "a", "multiply_adds": 1234567, "joules": None}]
    heading, rule, line = text_table(rows).splitlines()
    assert heading.split() == ["model", "multiply-adds", "joules"]
    assert set(rule) == {"-", " "} and line.split() == ["a", "1,234,567", "unavailable"]
    assert text_table([]) == ""
