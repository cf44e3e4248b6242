"""The report: what is on the page, that it is whole, and that it loads nothing."""

import base64
import html.parser
import json
import math
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib import colormaps

from keras_resnet.analysis import class_activation_maps
from keras_resnet.data import ArrayDataset, BadImageWarning, check_data, load_dataset
from keras_resnet.evaluation import LabelCandidate, evaluate
from keras_resnet.experiment import Experiment, build_model, data_summary
from keras_resnet.experiment.evaluation_files import write_evaluation
from keras_resnet.experiment.factories import make_trainer, make_transform
from keras_resnet.experiment.page import write_report
from keras_resnet.experiment.pictures import (
    drawn_width,
    mistakes,
    training_batch,
    worst_mistakes,
)
from keras_resnet.utils.statistics import wilson_interval
from tests.helpers import randomize, refused

NAMES = ("<script>alert(1)</script>", '" onerror="x', "a & b\n{{ 7*7 }}\x1b[2J")
VOID = {"meta", "img", "br"}
LOADING = ("src", "href", "srcset", "data", "action", "poster", "background", "formaction")


class Page(html.parser.HTMLParser):
    """Tags, headings, tables and text of a page, which is checked as it is read."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.headings, self.tables = [], [], [], {}
        self.text = {}
        source = path.read_text(encoding="utf-8")
        self.feed(source)
        assert self.open == []
        self._expect_self_contained()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "button"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self.caption] = self.rows

    def handle_data(self, data):
        if data.strip():
            here = self.open[-1]
            self.text[here] = self.text.get(here, "") + data
        if self.open and self.open[-1] in ("td", "button"):
            self.rows[-1][-1] += data
        elif self.open and self.open[-1] == "caption":
            self.caption = data
        elif self.open and self.open[-1] == "h2":
            self.headings.append(data)

    def _expect_self_contained(self):
        kinds = [tag for tag, _ in self.tags]
        assert kinds.count("script") == 1 and not {"link", "iframe", "object", "base"} & {*kinds}
        for tag, attributes in self.tags:
            for name, value in attributes.items():
                assert not name.startswith("on")
                if name in LOADING:
                    assert value.startswith("#") if tag == "a" else value.startswith("data:image/")
            if tag == "img":
                assert attributes["alt"].strip()
            if tag == "div" and "tabindex" in attributes:
                assert attributes["aria-label"]
        assert "url(" not in self.text["style"] and "@import" not in self.text["style"]
        assert "http" not in self.text["script"] + self.text["style"]
        policies = [own["content"] for _, own in self.tags if "http-equiv" in own]
        assert len(policies) == 1 and policies[0].startswith("default-src 'none'; img-src data:;")

    def images(self):
        return [attributes for tag, attributes in self.tags if tag == "img"]


@pytest.fixture(scope="module")
def case():
    """A tiny data set with names of others, an untrained model, and its evaluation."""
    rng = np.random.default_rng(0)
    splits = {
        split: (rng.integers(0, 256, (n, 8, 8, 3), np.uint8), np.arange(n) % 3)
        for split, n in (("train", 12), ("test", 30))
    }
    dataset = ArrayDataset("<i>data</i>", splits, NAMES)
    keras.utils.set_random_seed(0)
    model = randomize(build_model(Experiment.from_flat(depth=8), dataset))
    result = evaluate(model, dataset, batch_size=30)
    return dataset, model, result, splits["test"]


def test_page_has_the_figures_of_a_run_and_escapes_the_text_of_others(case, tmp_path):
    dataset, model, result, (images, labels) = case
    settings = Experiment.from_flat(workdir=str(tmp_path), batch_size=6, seed=3).recorded()
    (tmp_path / "config.json").write_text(json.dumps(settings))
    rows = [
        {"kind": "interval", "step": 2, "epoch": 1, "loss": 2.0, "images_per_second": 40.0},
        {"kind": "interval", "step": 4, "epoch": 2, "loss": 2.0, "images_per_second": 60.0},
        {"kind": "epoch", "step": 4, "epoch": 2, "loss": 0.25, "accuracy": 0.5},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    accuracy = 1 - result.top1_error
    metrics = {
        **{"split": "test", "test_accuracy": accuracy, "test_images": 30, "test_loss": 1.5},
        **{"parameters": 75000, "multiply_adds": None, "train_seconds": 75.0, "epochs": 2},
        **{"command": "train --x '<b>'", "versions": {"keras": "3"}, "steps": 4, "threads": 1},
        **{"images_seen": 24, "trained_multiply_adds": None, "energy_joules": 1234},
        **{"energy_counters": ["RAPL"], "energy_seconds": 75.0},
    }
    write_evaluation(result, tmp_path, "<u>title</u>")
    path = write_report(
        tmp_path,
        title="<u>title</u>",
        metrics=metrics,
        model=model,
        dataset=dataset,
        result=result,
    )
    assert path == tmp_path / "report.html" and list(tmp_path.glob(".writing*")) == []
    page = Page(path)
    assert page.headings == [
        *("Training", "Classes", "Worst mistakes", "Data", "Settings", "Cost", "Environment")
    ]
    low, high = (100 * end for end in wilson_interval(accuracy, 30))
    assert f"{100 * accuracy:.2f} %" in page.text["dd"] and "1 min 15 s" in page.text["dd"]
    assert f"{low:.1f} to {high:.1f} % at 95 %, 30 images" in page.text["dd"]

    shown = [NAMES[0], NAMES[1], "a & b\\n{{ 7*7 }}\\x1b[2J"]
    predicted = model(images.astype("float32"), training=False).numpy().argmax(axis=1)
    heading, *classes = page.tables["Classes, with 95 % intervals of their errors"]
    assert heading[:3] == ["class", "images", "error %"]
    for number, row in enumerate(classes):
        error = 100 * np.mean(predicted[labels == number] != number)
        assert row[:3] == [shown[number], "10", f"{error:.2f}"]
    assert page.tables["Cost"][1:] == [
        ["trainable parameters", "75,000"],
        ["training time (s)", "75"],
        ["training steps", "4"],
        ["images seen in training", "24"],
        ["training images/s, median", "50"],
        ["energy of training (J)", "1,234"],
        ["evaluation images/s", f"{result.images_per_second:.4g}"],
    ]
    counted = "1.234 kJ in 75 s, counted by RAPL (processors and their memory)"
    assert "1.234 kJ" in page.text["dd"] and "counted by RAPL" in page.text["dd"]
    assert f"Energy of training: {counted}. The counters are of whole" in page.text["p"]
    assert ["4", "2", "0.25", "0.5"] in page.tables["Figures of every epoch"]
    assert ["batch_size", "6", "128"] in page.tables["Chosen, other than the default"]
    assert ["decay", "l2"] in page.tables["Left at their default"]
    assert ["command", "train --x '<b>'"] in page.tables["Versions and machine"]
    # Plots; mistakes with two maps each; the training images.
    wrong = min(12, int(np.sum(predicted != labels)))
    assert wrong and len(page.images()) == 3 + 3 * wrong + 12
    assert "<b>" not in path.read_text() and "<u>" not in path.read_text()


def test_worst_mistakes_are_the_wrong_ones_of_the_highest_scores(case):
    dataset, model, result, (images, labels) = case
    scores = model(images.astype("float32"), training=False).numpy()
    wrong = [i for i in range(30) if scores[i].argmax() != labels[i]]
    expected = sorted(wrong, key=lambda i: -scores[i].max())[:4]
    assert worst_mistakes(result, 4).tolist() == expected
    found = mistakes(result, dataset, 4, model)
    maps = class_activation_maps(model, images[expected], resize=True)
    for one, i in zip(found, expected, strict=True):
        assert np.array_equal(decoded(one.image.uri), images[i])
        assert one.true == NAMES[labels[i]] and one.predicted == NAMES[scores[i].argmax()]
        assert one.score == f"{100 * scores[i].max():.1f} %" and one.place == f"image {i} of test"
        assert [decoded(own.uri).shape for own in one.maps] == [(8, 8, 3)] * 2
        # The map that is shown first is that of the predicted class: its ends are the colors' ends.
        own = maps[found.index(one)]
        for place, end in ((own.argmin(), 0.0), (own.argmax(), 1.0)):
            gray = images[i].reshape(64, 3)[place].mean()
            mixed = 0.6 * 255 * np.array(colormaps["inferno"](end)[:3]) + 0.4 * gray
            assert abs(decoded(one.maps[0].uri).reshape(64, 3)[place] - mixed).max() <= 1


def test_a_network_without_maps_has_mistakes_without_them(case):
    dataset, _, result, _ = case
    x = keras.Input((8, 8, 3))
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(x))
    model = keras.Model(x, keras.layers.Dense(3, activation="softmax")(flat))
    found = mistakes(result, dataset, 3, model)
    assert [one.maps for one in found] == [()] * 3


def test_training_batch_is_that_of_the_data_set(case):
    dataset = case[0]
    found = training_batch(dataset, 5, seed=3)
    images, labels = next(iter(dataset.train_batches(5, seed=3)))
    assert [picture.caption for picture in found] == [NAMES[i] for i in labels.numpy()]
    pixels = np.stack([decoded(picture.uri) for picture in found])
    assert np.array_equal(pixels, images.numpy())


def test_training_batch_is_changed_as_the_trainer_changes_it(case):
    dataset = case[0]
    assert make_transform({"augment": "pad_and_crop", "mixup": 0.0}, dataset) is None
    plain = [decoded(one.uri) for one in training_batch(dataset, 5, 3)]
    settings = {"augment": "trivial", "seed": 3}
    found = training_batch(dataset, 5, 3, make_transform(settings, dataset))
    own = make_trainer(
        Experiment.from_flat(augment="trivial", seed=3, depth=8),
        tf.distribute.get_strategy(),
        build_model(Experiment.from_flat(depth=8), dataset),
        dataset,
        1,
    )._step.transform
    images, labels = next(iter(dataset.train_batches(5, seed=3)))
    expected, _ = own(images, labels, tf.constant([0, 0], tf.int64))
    pixels = np.stack([decoded(one.uri) for one in found])
    assert np.array_equal(pixels, np.rint(expected).astype(np.uint8))
    assert not np.array_equal(pixels, plain)
    assert [one.caption for one in found] == [NAMES[i] for i in labels.numpy()]


def test_training_batch_is_drawn_as_the_trainer_draws_it(tmp_path):
    images, labels = np.full((40, 4, 4, 3), 9, np.uint8), np.repeat([0, 1], [36, 4])
    dataset = ArrayDataset("unequal", {"train": (images, labels)}, ("many", "few"))
    drawn = {
        sampling: sum(
            one.caption == "few" for one in training_batch(dataset, 40, sampling=sampling)
        )
        for sampling in (None, "balanced")
    }
    assert drawn == {None: 4, "balanced": 20}
    page = write_report(tmp_path, dataset=dataset, settings={"sampling": "balanced"})
    assert "drawn by balanced sampling, augmented at random" in page.read_text(encoding="utf-8")


def test_no_training_batch_is_drawn_where_nothing_was_trained(case, tmp_path, monkeypatch):
    monkeypatch.setattr(case[0], "train_batches", lambda *_, **__: pytest.fail("drawn"))
    page = write_report(tmp_path, dataset=case[0])
    assert "augmented at random" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixed_images_are_said_to_be_mixed(case, tmp_path, kind):
    dataset = case[0]
    settings = {kind: 1.0}
    found = training_batch(dataset, 5, 0, make_transform(settings, dataset))
    shares = [sum(map(int, re.findall(r"(\d+) %", one.caption))) for one in found]
    assert max(shares) and all(99 <= share <= 101 for share in shares if share)
    for given, told in ((settings, True), ({"seed": 0}, False)):
        path = write_report(tmp_path, dataset=dataset, settings=given)
        text = path.read_text(encoding="utf-8")
        assert ("mixed with each other" in text) is told and "augmented at random" in text


def test_a_large_image_becomes_a_small_jpeg():
    images = np.full((2, 40, 400, 3), (200, 100, 50), np.uint8)
    dataset = ArrayDataset("wide", {"train": (images, np.array([0, 1]))}, ("a", "b"))
    picture = training_batch(dataset, 2)[0]
    assert picture.uri.startswith("data:image/jpeg;base64,") and not picture.small
    image = decoded(picture.uri).astype(int)
    assert image.shape == (19, 192, 3) and abs(image - (200, 100, 50)).max() <= 4


def test_folders_with_less_have_a_page_of_what_is_there(case, tmp_path):
    page = Page(write_report(tmp_path / "nothing", title="Empty"))
    assert page.text["h1"] == "Empty" and page.headings == [] and page.images() == []

    # Of an evaluation that was written by an earlier version.
    old = tmp_path / "old"
    write_evaluation(case[2], old, "old")
    (old / "metrics.json").write_text('{"split": "test", "top1_error": 0.25, "images": 30}')
    page = Page(write_report(old))
    # 3 classes are drawn 4.46 inches wide, the others 7.
    widths = [round(96 * (2.6 + 3 * 0.42 + 0.6)), 96 * 7, 96 * 7]
    assert [int(image["width"]) for image in page.images()] == widths
    names = ("confusion", "reliability", "per_class")
    assert [drawn_width(old / f"{name}.png") for name in names] == widths
    assert page.headings == ["Classes"] and "test top-1 error" in page.text["dt"]
    rows = page.tables["Classes, with 95 % intervals of their errors"]
    errors = [row["error"] for row in case[2].per_class()]
    assert [row[2] for row in rows[1:]] == [f"{100 * error:.2f}" for error in errors]

    (old / "metrics.json").write_text("{")
    with refused("metrics.json", "Received:"):
        write_report(old)


def test_a_comparison_and_a_study_have_their_tables(tmp_path):
    models = [{"model": "ResNet18", "parameters": 11689512, "top1_accuracy": None}]
    costs = [{"model": "ResNet18", "batch_size": 1, "forward_joules_per_image": 0.5}]
    held = {"models": models, "costs": costs, "failures": ["VGG16: <no memory>"]}
    (tmp_path / "comparison.json").write_text(json.dumps(held))
    (tmp_path / "table.json").write_text('{"rows": [{"network": "A", "test_error": 0.125}]}')
    page = Page(write_report(tmp_path))
    assert page.headings == ["Comparison"] and "VGG16: <no memory>" in page.text["p"]
    assert page.tables["Networks, for one image"] == [
        ["model", "parameters"],
        ["ResNet18", "11,689,512"],
    ]
    assert page.tables["Measured on this machine"][1] == ["ResNet18", "1", "0.5"]
    assert page.tables["Networks of the study"][1] == ["A", "0.125"]


def test_a_search_has_its_trials_and_its_space(tmp_path):
    held = {"best": "1", "rows": [{"trial": "0", "val_accuracy": 0.5}, {"trial": "1"}]}
    (tmp_path / "table.json").write_text(json.dumps(held))
    settings = {"epochs": 2, "space": {"repeats": [1, 2]}, "tuner": "random"}
    (tmp_path / "search.json").write_text(json.dumps(settings))
    metrics = {"command": "tune", "versions": {"keras": "3"}}
    page = Page(write_report(tmp_path, metrics=metrics))
    assert page.headings == ["Comparison", "Settings", "Environment"]
    assert "The best is trial 1" in page.text["p"]
    assert page.tables["Trials"][1:] == [["0", "0.5"], ["1", ""]]
    chosen = page.tables["Chosen, other than the default"]
    assert ["repeats", "1, 2", ""] in chosen and ["epochs", "2", "60"] in chosen
    assert ["command", "tune"] in page.tables["Versions and machine"]


def test_responses_have_their_networks_and_layers(tmp_path):
    layers = [{"name": name, "order": i, "rank": i, "std": i / 4} for i, name in enumerate("abc")]
    held = {"dataset": "<d>", "split": "test", "images": 1234, "layers": "3x3"}
    (tmp_path / "responses.json").write_text(json.dumps({**held, "responses": {"net": layers}}))
    options = {"settings": {"batch_size": 8, "layers": "3x3"}, "defaults": {"layers": "3x3"}}
    page = Page(write_report(tmp_path, **options))
    assert page.headings == ["Responses", "Settings"]
    assert "the 3x3 layers to 1,234 test images of <d>" in page.text["p"]
    table = page.tables["Standard deviations by network"]
    assert table[1:] == [["net", "3", "0.25", "0", "0.5"]]
    assert page.tables["Standard deviation of every layer"][3] == ["net", "c", "2", "2", "0.5"]
    assert page.tables["Chosen, other than the default"][1:] == [["batch_size", "8", ""]]


def test_findings_of_the_data_are_listed(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "data" / "train" / name).mkdir(parents=True)
        image = tf.io.encode_png(np.zeros((4, 4, 3), np.uint8)).numpy()
        (tmp_path / "data" / "train" / name / "1.png").write_bytes(image)
    (tmp_path / "data" / "train" / "a" / "<i>.png").write_bytes(b"")
    dataset = load_dataset("folder", tmp_path / "data", image_size=4)
    assert dataset.locate("train", 2) == str(tmp_path / "data" / "train" / "b" / "1.png")
    page = Page(write_report(tmp_path, check=check_data(tmp_path / "data")))
    faults = page.tables["Faults and notes"]
    assert ["warning", "zero-byte", "1", "skipped with a warning"] in faults
    assert ["train/a/<i>.png", "zero-byte", ""] in page.tables["1 files and folders with faults"]


def test_likely_wrong_labels_are_listed_by_file(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        image = tf.io.encode_png(np.zeros((4, 4, 3), np.uint8)).numpy()
        (tmp_path / "data" / name / "1.png").write_bytes(image)
    wrong = [LabelCandidate(tmp_path / "data" / "a" / "1.png", "a", "b", 0.9375, 0.0625)]
    page = Page(write_report(tmp_path, check=check_data(tmp_path / "data"), wrong_labels=wrong))
    assert page.tables["1 images whose label is likely wrong"] == [
        ["file", "given label", "suggested label", "probability %", "of the given label %"],
        ["a/1.png", "a", "b", "93.75", "6.25"],
    ]
    numbers = [own.get("data-number") for tag, own in page.tags if tag == "td"]
    assert numbers[:5] == [None, None, None, "93.75", "6.25"]


def test_a_run_tells_what_it_knows_of_its_data(tmp_path):
    """Counts, sizes and unreadable files, with nothing read but some of the training images."""
    sizes = {"train/a": (8, 40, 40), "train/b": (9,), "test/a": (8,), "test/b": (8,)}
    for place, sides in sizes.items():
        (tmp_path / "data" / place).mkdir(parents=True)
        for number, side in enumerate(sides):
            image = tf.io.encode_png(np.zeros((side, 50, 3), np.uint8)).numpy()
            (tmp_path / "data" / place / f"{number}.png").write_bytes(image)
    (tmp_path / "data" / "train" / "b" / "bad.png").write_bytes(b"no image")
    dataset = load_dataset("folder", tmp_path / "data", image_size=4)
    with pytest.warns(BadImageWarning):
        list(dataset.eval_batches("train", 5))
    settings = {"dataset": "folder", "data_dir": str(tmp_path / "data"), "seed": 0}
    page = Page(write_report(tmp_path, dataset=dataset, settings=settings))
    assert page.tables["Images of each class"][1:] == [["a", "3", "1"], ["b", "2", "1"]]
    name = "Shorter sides in pixels, of 4 training images"
    assert page.tables[name][1:] == [["below 32", "2"], ["32 to 63", "2"]]
    ((path, fault),) = page.tables["1 images that cannot be read"][1:]
    assert path.endswith("bad.png") and fault == "unreadable"
    assert "from 2 (b) to 3 (a) training images" in page.text["p"]
    assert "8 to 40 pixels" in page.text["p"] and "keras-resnet check-data" in page.text["p"]


def test_classes_of_many_records_are_not_counted(case, tmp_path, monkeypatch):
    dataset = case[0]
    monkeypatch.setattr(dataset, "reads_labels", True)
    monkeypatch.setattr(data_summary, "_COUNTED", 41)
    page = Page(write_report(tmp_path, dataset=dataset))
    assert "Images of each class" not in page.tables and "not counted" in page.text["p"]


def test_numbers_sort_by_value_and_others_as_text(case, tmp_path):
    rows = [{"network": name, "n": n} for name, n in (("b", 1000), ("a", None), ("c", 2.5))]
    (tmp_path / "table.json").write_text(json.dumps({"rows": rows}))
    page = Page(write_report(tmp_path))
    cells = [own for tag, own in page.tags if tag == "td"]
    assert [cell.get("data-number") for cell in cells] == [None, "1000.0", None, None, None, "2.5"]
    classes = [own.get("class") for tag, own in page.tags if tag == "th"]
    assert classes == [None, "number"]
    assert [cell.get("class") for cell in cells] == 3 * ["short", "number"]
    rows.append({"network": 21 * "x"})
    (tmp_path / "table.json").write_text(json.dumps({"rows": rows}))
    cells = [own for tag, own in Page(write_report(tmp_path)).tags if tag == "td"]
    assert [cell.get("class") for cell in cells] == 4 * [None, "number"]


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(case, tmp_path, width):
    api = pytest.importorskip("playwright.sync_api")
    dataset, model, result, _ = case
    write_evaluation(result, tmp_path, "A title")
    path = write_report(tmp_path, model=model, dataset=dataset, result=result)
    system = shutil.which("chromium") or shutil.which("google-chrome")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=system, args=options)
        except api.Error as error:
            pytest.skip(f"no browser: {error}")
        page = browser.new_page(viewport={"width": width, "height": 800})
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path.as_uri())
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") == width
        broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
        assert page.evaluate(broken) == 0
        smallest = """Math.min(...[...document.querySelectorAll("body *")].map(
            e => parseFloat(getComputedStyle(e).fontSize)))"""
        assert page.evaluate(smallest) >= 12
        # By keyboard: rising, then falling.
        table = page.locator("table", has_text="95 % intervals of their errors")
        button = table.locator("th button", has_text="error %")
        for key, order in (("Enter", 1), ("Space", -1)):
            button.press(key)
            shown = [float(text) for text in table.locator("td:nth-child(3)").all_inner_texts()]
            assert shown == sorted(shown, reverse=order < 0) and len(shown) == 3
            state = button.locator("..").get_attribute("aria-sort")
            assert state == ("ascending" if order > 0 else "descending")
        assert said == []
        browser.close()


def decoded(uri):
    """Returns the pixels of a data URI."""
    kind, data = re.fullmatch(r"data:image/(png|jpeg);base64,(.*)", uri).groups()
    image = tf.io.decode_image(base64.b64decode(data)).numpy()
    assert kind in ("png", "jpeg") and math.prod(image.shape)
    return image
