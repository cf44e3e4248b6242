"""Model cards."""

import pytest

from keras_resnet.experiment.card import model_card
from keras_resnet.experiment.headline import headline_figures
from keras_resnet.utils.statistics import wilson_interval
from tests.evaluation.test_classes import colors

METRICS = {
    "split": "test",
    "test_accuracy": 0.5,
    "test_images": 4,
    "test_loss": 1.0,
    "train_accuracy": 0.5,
    "train_seconds": 1.0,
    "steps": 2,
    "seed": 0,
    "parameters": 3,
    "multiply_adds": None,
    "versions": {},
    "command": "python train.py --data-dir '```<b>\n# x'",
}


def test_text_of_others_is_text(tmp_path):
    dataset = colors(["<script>", "[a](http://b)", "c\x1b[2J\n\n# d | *e*"])
    dataset.name = "![p](q) <b>"
    settings = {"data_dir": "a`b</p>\n# x", "seed": 0, "export": True}
    card = model_card("__n__", "A network", dataset, settings, METRICS)
    assert r"Classes: &lt;script&gt;, \[a\](http://b), c\\x1b\[2J\\n\\n# d \| \*e\*." in card
    assert card.startswith(r"# \_\_n\_\_ trained on !\[p\](q) &lt;b&gt;" + "\n")
    assert r"Settings: data_dir a\`b&lt;/p&gt;\\n# x, seed 0, export True." in card
    assert "\n````bash\npython train.py --data-dir '```<b>\\n# x'\n````\n" in card


def test_of_several_labels_the_images_that_are_all_right_count():
    metrics = {
        **METRICS,
        "test_accuracy": 0.9,
        "train_accuracy": 0.95,
        "test_subset_accuracy": 0.25,
        "train_subset_accuracy": 0.75,
    }
    card = model_card("n", "A network", colors(["a", "b", "c"]), {"export": False}, metrics)
    assert "| test subset accuracy (single crop, 4 images) | 25.00 % |" in card
    assert "| training subset accuracy, last epoch | 75.00 % |" in card
    assert "| test loss (binary cross-entropy, mean over outputs, nats) | 1.0000 |" in card
    assert "90.00 %" not in card and "95.00 %" not in card
    found = {name: value for name, value, _ in headline_figures(metrics)}
    assert found["test subset accuracy"] == "25.00 %"
    assert found["training subset accuracy"] == "75.00 %"
    assert "test accuracy" not in found
    # An evaluation's figures, too, leave that name as it is.
    both = [name for name, *_ in headline_figures(metrics | {"top1_error": 0.1})]
    assert both[:3] == ["test subset accuracy", "test top-1 error", "training subset accuracy"]
    (note,) = (
        note for name, _, note in headline_figures(metrics) if name == "test subset accuracy"
    )
    low, high = wilson_interval(0.25, 4)
    assert note == f"{100 * low:.1f} to {100 * high:.1f} % at 95 %, 4 images"


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        ("cross_entropy", "cross-entropy, nats"),
        ("bce", "binary cross-entropy, mean over outputs, nats"),
    ],
)
def test_the_loss_has_its_own_name(loss, text):
    settings = {"export": False, "loss": loss}
    card = model_card("n", "A network", colors(["a", "b", "c"]), settings, METRICS)
    assert f"| test loss ({text}) |" in card
    assert ("test loss", "1.0000", text) in headline_figures(METRICS, settings)


@pytest.mark.parametrize(
    ("chosen", "settings", "text"),
    [
        ("last", {}, "may have steered the learning rate"),
        ("last", {"patience": 3}, "chose the epoch"),
        ("best", {}, "chose the epoch"),
    ],
)
def test_images_that_chose_the_epoch_are_said_to(chosen, settings, text):
    metrics = {name.replace("test_", "validation_"): value for name, value in METRICS.items()}
    metrics |= {"split": "validation", "final_weights": chosen}
    metrics |= {"best_epoch": 1, "monitor": "val_accuracy"}
    settings = {"export": False, **settings}
    assert text in model_card("n", "A network", colors(["a", "b", "c"]), settings, metrics)
    of_test = METRICS | {name: metrics[name] for name in ("final_weights", "best_epoch", "monitor")}
    card = model_card("n", "A network", colors(["a", "b", "c"]), settings, of_test)
    assert "Nothing was chosen by these images." in card
